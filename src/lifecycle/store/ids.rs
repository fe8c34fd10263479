//! Identities. Numbers that must not be mixed up are types.

use std::{
    fmt,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use uuid::Uuid;

macro_rules! number {
    ($(#[doc = $doc:literal])+ $name:ident($inner:ty)) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number! {
    /// One start of one broker process; never reused.
    Incarnation(i64)
}
number! {
    /// A part of the locks and of the log. All that concerns one resource is in one shard.
    Shard(i16)
}
number! {
    /// Which writer connection to use: calls of one lane run one after the other.
    Lane(u8)
}
number! {
    /// Whole milliseconds since 1970 by the database's clock. For people, and for retention: nothing is decided by comparing it.
    Timestamp(i64)
}

impl Shard {
    /// Where `resource` (or an event's key) of `app` belongs: FNV-1a 64 over app, a zero byte and the resource, modulo `shards`.
    pub fn of(app: &str, resource: &str, shards: u16) -> Self {
        let hash = fnv1a(app.bytes().chain([0]).chain(resource.bytes()));
        // At most 32,767 shards: see `Self::MAX`.
        Self(i16::try_from(hash % u64::from(shards.clamp(1, Self::MAX))).unwrap_or(0))
    }

    /// Where all webhooks of an app are: in one shard, so that they are in order over all its channels, and a batch is one read.
    pub fn of_webhooks(app: &str, shards: u16) -> Self {
        Self::of(app, "", shards)
    }

    /// As many as the column can number.
    pub const MAX: u16 = i16::MAX as u16;
}

impl Lane {
    /// How many writers a node has.
    pub const COUNT: u8 = 4;

    /// The lane of a connection, so that its writes stay in order.
    pub fn of_socket(socket_id: &str) -> Self {
        Self((fnv1a(socket_id.bytes()) % u64::from(Self::COUNT)) as u8)
    }
}

fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

impl Timestamp {
    /// The system's clock.
    pub fn now() -> Self {
        Self(i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_millis()).unwrap_or(i64::MAX))
    }

    /// RFC 3339 in UTC, with milliseconds.
    pub fn to_rfc3339(self) -> String {
        let time = UNIX_EPOCH + Duration::from_millis(u64::try_from(self.0).unwrap_or(0));
        humantime::format_rfc3339_millis(time).to_string()
    }
}

macro_rules! random_id {
    ($(#[doc = $doc:literal])+ $name:ident) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new one.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

random_id! {
    /// One connection's grip on a lock, named by its node before it is taken: a replay is recognised by it.
    HoldId
}
random_id! {
    /// One call for one connection, named before it is sent: a replay is recognised by it.
    OpId
}
random_id! {
    /// One start of a process, named by itself: makes registering idempotent.
    BootId
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_are_fnv_1a_of_app_zero_and_resource() {
        // The published vectors of FNV-1a 64.
        assert_eq!(fnv1a("".bytes()), 0xcbf2_9ce4_8422_2325);
        assert_eq!(fnv1a("foobar".bytes()), 0x8594_4171_f739_67e8);
        assert_eq!(Shard::of("app", "order:42", 16).0, (fnv1a("app\0order:42".bytes()) % 16) as i16);
        assert_ne!(fnv1a("ap\0p".bytes()), fnv1a("a\0pp".bytes()), "the border between app and resource counts");
        assert_eq!(Shard::of("app", "order:42", 1), Shard(0));
        let spread: std::collections::HashSet<_> = (0..1000).map(|n| Shard::of("app", &format!("order:{n}"), 16)).collect();
        assert_eq!(spread.len(), 16);
    }

    #[test]
    fn times_are_printed_for_people() {
        assert_eq!(Timestamp(1_700_000_000_123).to_rfc3339(), "2023-11-14T22:13:20.123Z");
    }
}
