//! Values that are words in the database, on the wire and in `--json`: one closed list each.

use std::fmt;

use super::StoreError;
use crate::domain::CloseCause;

macro_rules! words {
    ($(#[doc = $type_doc:literal])+ $name:ident { $($(#[doc = $doc:literal])+ $variant:ident = $word:literal,)+ }) => {
        $(#[doc = $type_doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, serde::Serialize)]
        pub enum $name {
            $($(#[doc = $doc])+ #[serde(rename = $word)] $variant,)+
        }

        impl $name {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            /// The word.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word,)+ }
            }

            /// Reads the word.
            ///
            /// # Errors
            /// [`StoreError::UnknownWord`] for any other.
            pub fn parse(word: &str) -> Result<Self, StoreError> {
                match word {
                    $($word => Ok(Self::$variant),)+
                    _ => Err(StoreError::UnknownWord { what: stringify!($name), word: word.to_owned() }),
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// How many principals a resource takes.
    Mode {
        /// One principal, with any number of connections.
        Exclusive = "exclusive",
        /// Many principals, one lock each; none beside an exclusive one.
        Shared = "shared",
    }
}

words! {
    /// What to do about a resource that somebody else holds.
    IfTaken {
        /// Refuse.
        Deny = "deny",
        /// Take it if all that stands in the way is in its grace.
        TakeIfInGrace = "take-if-in-grace",
        /// Take it.
        Take = "take",
    }
}

words! {
    /// Where a lock is in its life. Nothing leaves `Released`.
    LockState {
        /// A connection holds it.
        Held = "held",
        /// The last connection went away without a word; its principal may come back.
        Grace = "grace",
        /// Over.
        Released = "released",
    }
}

words! {
    /// How a hold came to be.
    Outcome {
        /// A new lock: an entry `locked` stands in the log.
        Granted = "granted",
        /// One more connection of the same principal.
        Attached = "attached",
        /// Back within the grace: the same fence, no entry in the log.
        Resumed = "resumed",
    }
}

words! {
    /// What an entry of the log is.
    EventKind {
        /// A lock began.
        Locked = "locked",
        /// A lock ended.
        Unlocked = "unlocked",
        /// What a handler emitted.
        Event = "event",
        /// A webhook that is owed.
        Webhook = "webhook",
    }
}

words! {
    /// Where a node is in its life. It never goes back.
    NodeState {
        /// Its counter moves.
        Alive = "alive",
        /// It is stopping.
        Draining = "draining",
        /// It can write nothing any more; its holds are being swept.
        Fenced = "fenced",
        /// Nothing of it is left.
        Swept = "swept",
    }
}

words! {
    /// Why an entry waits.
    ParkReason {
        /// It could not be applied.
        Poison = "poison",
        /// One before it, about the same resource, waits.
        BehindPoison = "behind-poison",
    }
}

words! {
    /// Why a lock ended: the causes of a connection's end, and those that need none.
    EndCause {
        /// The client unsubscribed.
        Unsubscribed = "unsubscribed",
        /// The application's handler released it.
        Released = "released",
        /// An operator released it, by fence.
        ForceReleased = "force_released",
        /// The client sent a close frame.
        ClientClosed = "client_closed",
        /// The TCP connection went away without a word.
        Gone = "gone",
        /// A ping was not answered in time.
        Idle = "idle",
        /// The client did not read what it was owed.
        SlowConsumer = "slow_consumer",
        /// The client broke the protocol.
        ProtocolError = "protocol_error",
        /// A handler refused the connection.
        Refused = "refused",
        /// The application terminated it.
        Kicked = "kicked",
        /// A handler panicked or took too long.
        HandlerFailed = "handler_failed",
        /// Somebody else took it.
        TakenOver = "taken_over",
        /// The broker stopped.
        Shutdown = "shutdown",
        /// The broker started anew before anybody noticed that it had died.
        Superseded = "superseded",
        /// The broker died.
        NodeDeath = "node_death",
        /// The table and the node's memory disagreed.
        Reconciled = "reconciled",
    }
}

impl From<CloseCause> for EndCause {
    fn from(cause: CloseCause) -> Self {
        match cause {
            CloseCause::ClientClosed => Self::ClientClosed,
            CloseCause::Gone => Self::Gone,
            CloseCause::Idle => Self::Idle,
            CloseCause::SlowConsumer => Self::SlowConsumer,
            CloseCause::ProtocolError => Self::ProtocolError,
            CloseCause::Refused => Self::Refused,
            CloseCause::Kicked => Self::Kicked,
            CloseCause::HandlerFailed => Self::HandlerFailed,
            CloseCause::Shutdown => Self::Shutdown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cause_of_a_close_keeps_its_name_in_the_log() {
        for cause in CloseCause::ALL {
            assert_eq!(EndCause::from(*cause).as_str(), cause.as_str());
        }
        for cause in EndCause::ALL {
            assert_eq!(EndCause::parse(cause.as_str()).unwrap(), *cause);
        }
        assert!(EndCause::parse("bored").is_err());
    }
}
