//! Keys of publishes that are to be done once: what a node asks a store, and what it hears back.

use std::time::Duration;

use super::OpId;

/// One attempt at a publish that carries a key.
#[derive(Clone, Debug)]
pub struct KeyClaim {
    /// The application's id. Keys of two applications have nothing to do with each other.
    pub app: String,
    /// What the publisher calls the publish.
    pub key: String,
    /// Of the request: the same key with another one is refused.
    pub fingerprint: [u8; 32],
    /// Names the attempt: of two that ask, one may finish.
    pub attempt: OpId,
    /// How long the key is remembered.
    pub keep: Duration,
    /// How long an attempt may be at work before the next one takes over.
    pub work: Duration,
}

/// What a store says to a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyVerdict {
    /// The attempt may publish, and has to say how that went.
    Claimed,
    /// The same; but an earlier attempt did not come to its end, and may have published.
    TakenOver,
    /// It was published, and this was answered.
    Answered(String),
    /// Another attempt is at it.
    AtWork,
    /// The key belongs to another request.
    Mismatch,
}
