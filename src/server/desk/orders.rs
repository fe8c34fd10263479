//! The orders on the desk: in memory, because they are only there to be fought over, and written under the fence, because that is
//! the point.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::lifecycle::store::{Fence, Timestamp};

/// Longest note, in bytes.
const MAX_NOTE: usize = 500;

/// An order as the page shows it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Order {
    id: u32,
    customer: &'static str,
    items: &'static str,
    total: &'static str,
    stage: Stage,
    note: String,
    saved: Option<Saved>,
}

/// The last save of an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Saved {
    fence: Fence,
    by: String,
    at: String,
}

/// How far an order has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Stage {
    Received,
    Picking,
    Packed,
    Shipped,
}

/// What somebody wants to write, and the lock that is to allow it.
#[derive(Debug, Deserialize)]
pub(super) struct Change {
    fence: i64,
    stage: Stage,
    note: String,
}

impl Change {
    pub(super) fn fence(&self) -> Fence {
        Fence(self.fence)
    }
}

/// Why an order is not written.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum NotSaved {
    /// There is none of this number.
    #[error("There is no such order")]
    Unknown,
    /// The text is too long.
    #[error("A note has at most {MAX_NOTE} bytes")]
    TooLong,
    /// A later lock has written already.
    #[error("Fence {given} is too old: the order was written under fence {seen}")]
    Stale {
        /// What came with the write.
        given: Fence,
        /// The highest that the order has seen.
        seen: Fence,
    },
}

/// All orders, by number.
#[derive(Debug)]
pub(super) struct Orders(BTreeMap<u32, Order>);

impl Orders {
    /// The desk in the morning.
    pub(super) fn new() -> Self {
        let order =
            |(id, customer, items, total, stage)| (id, Order { id, customer, items, total, stage, note: String::new(), saved: None });
        let all = [
            (41, "Lantern Books", "12 notebooks, dotted", "€ 148.80", Stage::Received),
            (42, "Bakery Nord", "3 proofing baskets, 1 scale", "€ 96.50", Stage::Received),
            (43, "Atelier Brandt", "8 m linen, natural", "€ 232.00", Stage::Picking),
            (44, "Café Mirador", "2 grinders, 6 kg espresso", "€ 511.20", Stage::Received),
            (45, "Kite & Sons", "40 m line, 4 swivels", "€ 58.90", Stage::Packed),
            (46, "Studio Okapi", "1 softbox, 2 clamps", "€ 174.00", Stage::Received),
            (47, "Harbour Clinic", "200 specimen bags", "€ 39.00", Stage::Picking),
            (48, "Fern & Field", "24 seed trays", "€ 83.40", Stage::Received),
        ];
        Self(all.into_iter().map(order).collect())
    }

    pub(super) fn all(&self) -> Vec<&Order> {
        self.0.values().collect()
    }

    pub(super) fn has(&self, id: u32) -> bool {
        self.0.contains_key(&id)
    }

    /// Writes an order, unless a later lock has done so before. This comparison, in the same step as the write, is what makes a
    /// fence safe: with SQL it is `UPDATE … SET fence = $1 WHERE id = $2 AND fence <= $1`.
    pub(super) fn save(&mut self, id: u32, change: Change, by: String) -> Result<Order, NotSaved> {
        let order = self.0.get_mut(&id).ok_or(NotSaved::Unknown)?;
        if change.note.len() > MAX_NOTE {
            return Err(NotSaved::TooLong);
        }
        let given = change.fence();
        if let Some(seen) = order.saved.as_ref().map(|saved| saved.fence).filter(|seen| *seen > given) {
            return Err(NotSaved::Stale { given, seen });
        }
        order.stage = change.stage;
        order.note = change.note;
        order.saved = Some(Saved { fence: given, by, at: Timestamp::now().to_rfc3339() });
        Ok(order.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn change(fence: i64, note: &str) -> Change {
        Change { fence, stage: Stage::Packed, note: note.to_owned() }
    }

    #[test]
    fn an_order_is_written_by_the_same_lock_or_a_later_one() {
        let mut orders = Orders::new();
        for (fence, note) in [(17, "a"), (17, "b"), (18, "c")] {
            let order = orders.save(42, change(fence, note), "user:ada".to_owned()).unwrap();
            assert_eq!((order.note.as_str(), order.saved.unwrap().fence), (note, Fence(fence)));
        }
        let stale = orders.save(42, change(17, "late"), "user:ada".to_owned()).unwrap_err();
        assert_eq!(stale, NotSaved::Stale { given: Fence(17), seen: Fence(18) });
        assert_eq!(orders.0[&42].note, "c", "what was refused is not written");
        assert!(orders.save(41, change(1, "another order has fences of its own"), "user:ada".to_owned()).is_ok());
    }

    #[test]
    fn what_is_no_order_or_no_note_is_refused() {
        let mut orders = Orders::new();
        assert_eq!(orders.save(7, change(1, ""), String::new()).unwrap_err(), NotSaved::Unknown);
        assert_eq!(orders.save(42, change(1, &"x".repeat(MAX_NOTE + 1)), String::new()).unwrap_err(), NotSaved::TooLong);
        assert!(orders.save(42, change(1, &"x".repeat(MAX_NOTE)), String::new()).is_ok());
    }
}
