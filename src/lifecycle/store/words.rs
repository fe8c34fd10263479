//! Values that are words in the database, on the wire and in `--json`: one closed list each.

use crate::domain::words;

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
        /// It is tried again, and what follows it passes: it has kept the order for long enough.
        Late = "late",
        /// It is not tried any more, and left to an operator. Nothing waits for it.
        Dead = "dead",
    }
}
