//! The Pusher protocol as values: names, frames, signatures and numbers. Pure: no async, no clock, no logging, no I/O.
//!
//! It may not know that applications, channels or sockets exist beyond their names. Start with [`ClientFrame`] (what a client
//! may say) and [`ServerFrame`] (what it hears); [`Signed`] is what either side proves. Numbers in parentheses in the docs,
//! such as (2.4), are sections of the wire contract this broker was built from.

mod channel_name;
mod channel_pattern;
mod client_frame;
mod close;
pub(crate) mod json;
mod json_out;
pub mod limits;
mod member;
mod receipt_id;
mod server_frame;
mod signature;
mod socket_id;
mod token;
mod wire;

pub(crate) use channel_name::has_legal_characters;
pub use channel_name::{Access, ChannelKind, ChannelName, ChannelNameError, USER_CHANNEL_PREFIX};
pub use channel_pattern::{ChannelPattern, PatternError};
pub use client_frame::{ChannelData, ClientFrame, FrameError, SubscribeRequest};
pub use close::{CloseCode, Reconnect, is_sendable};
pub(crate) use member::signed_field;
pub use member::{Member, MemberError, MemberLimits, SignedUser};
pub use receipt_id::{InvalidReceiptId, ReceiptId};
pub use server_frame::{ServerFrame, SubscriptionError, presence_succeeded};
pub use signature::{Signed, SigningKey, body_md5, canonical_request, constant_time_eq, is_body_md5};
pub use socket_id::{InvalidSocketId, SocketId};
pub use token::{Claims, TokenError};
pub use wire::WireFrame;
pub(crate) use wire::cut;
