//! Triggers that write down, inside a listener's own transaction, what it did and how far it moved: whether each entry took effect
//! once, together with its offset, can then be read afterwards.

use std::collections::{BTreeMap, HashMap, HashSet};

use serde::Deserialize;

use super::ledger::{EventRow, Ledger, Sql};

/// What the listener `orders` made of the log.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct View {
    /// Fences that it shows as held.
    pub(crate) shown: HashSet<i64>,
    /// Rows that came and went, in order.
    pub(crate) changes: Vec<Change>,
    /// Steps of offsets, in order.
    pub(crate) moves: Vec<Move>,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Change {
    pub(crate) fence: i64,
    /// As in the log: `locked` wrote the row, `unlocked` took it away.
    pub(crate) kind: String,
    pub(crate) transaction: i64,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Move {
    pub(crate) name: String,
    pub(crate) shard: i64,
    /// The offset before.
    pub(crate) after: i64,
    pub(crate) upto: i64,
    /// An entry that had been parked, not the offset.
    pub(crate) aside: bool,
    pub(crate) transaction: i64,
}

/// Installed once the schema is there, before anybody holds anything.
const TRIGGERS: &str = "
CREATE SCHEMA audit;
CREATE TABLE audit.change (id bigserial, fence bigint, kind text, transaction bigint DEFAULT pg_current_xact_id()::text::bigint);
CREATE TABLE audit.move (id bigserial, name text, shard bigint, after bigint, upto bigint, aside boolean,
                         transaction bigint DEFAULT pg_current_xact_id()::text::bigint);
CREATE TABLE audit.pause (seconds float8);
CREATE FUNCTION audit.changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  PERFORM pg_sleep(seconds) FROM audit.pause;
  IF TG_OP = 'INSERT' THEN
    INSERT INTO audit.change (fence, kind) VALUES (new.fence, 'locked');
  ELSE
    INSERT INTO audit.change (fence, kind) VALUES (old.fence, 'unlocked');
  END IF;
  RETURN NULL;
END $$;
CREATE FUNCTION audit.moved() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit.move (name, shard, after, upto, aside) VALUES (new.name, new.shard, old.position, new.position, false);
  RETURN NULL;
END $$;
CREATE FUNCTION audit.came_back() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO audit.move (name, shard, after, upto, aside) VALUES (old.name, old.shard, old.position - 1, old.position, true);
  RETURN NULL;
END $$;
CREATE TRIGGER audit AFTER INSERT OR DELETE ON holdline.held FOR EACH ROW EXECUTE FUNCTION audit.changed();
CREATE TRIGGER audit AFTER UPDATE OF position ON holdline.consumer FOR EACH ROW WHEN (old.position <> new.position)
  EXECUTE FUNCTION audit.moved();
CREATE TRIGGER audit AFTER DELETE ON holdline.parked FOR EACH ROW EXECUTE FUNCTION audit.came_back();
";

/// The listener that is watched.
pub(crate) const LISTENER: &str = "orders";

pub(crate) fn install(sql: &Sql) {
    sql.run(TRIGGERS);
}

pub(crate) fn view(sql: &Sql) -> View {
    let text = sql.text(
        "SELECT jsonb_build_object(
           'shown', (SELECT coalesce(jsonb_agg(fence), '[]') FROM holdline.held),
           'changes', (SELECT coalesce(jsonb_agg(to_jsonb(c) ORDER BY id), '[]') FROM audit.change c),
           'moves', (SELECT coalesce(jsonb_agg(to_jsonb(m) ORDER BY id), '[]') FROM audit.move m))::text",
    );
    serde_json::from_str(&text.expect("one row")).expect("JSON")
}

impl View {
    /// All that is wrong with it, given the log.
    pub(crate) fn faults(&self, ledger: &Ledger) -> Vec<String> {
        let mut found = Vec::new();
        let live: HashSet<i64> = ledger.live().map(|lock| lock.fence).collect();
        for fence in self.shown.symmetric_difference(&live) {
            let shown = self.shown.contains(fence);
            found.push(format!("the listener {} fence {fence}", if shown { "still shows" } else { "does not show" }));
        }
        self.steps(&mut found);
        self.effects(ledger, &mut found);
        found
    }

    /// Each offset moves on from where it was: nothing is passed twice, nothing is left out.
    fn steps(&self, found: &mut Vec<String>) {
        let mut last: HashMap<(&str, i64), i64> = HashMap::new();
        for step in self.moves.iter().filter(|step| !step.aside) {
            let former = last.insert((&step.name, step.shard), step.upto);
            if step.upto <= step.after || former.is_some_and(|former| former != step.after) {
                found.push(format!("{step:?} came after {former:?}"));
            }
        }
    }

    /// Each lock's row was written once and taken away once, in the transaction that moved the offset over its entry.
    fn effects(&self, ledger: &Ledger, found: &mut Vec<String>) {
        let mut effects: BTreeMap<(i64, &str), Vec<&Change>> = BTreeMap::new();
        for change in &self.changes {
            effects.entry((change.fence, &change.kind)).or_default().push(change);
        }
        let moved: HashSet<i64> = self.moves.iter().filter(|step| step.name == LISTENER).map(|step| step.transaction).collect();
        let covered = |event: &EventRow, transaction: i64| {
            moved.contains(&transaction)
                && self.moves.iter().filter(|step| step.transaction == transaction).any(|step| {
                    step.name == LISTENER && step.shard == event.shard && step.after < event.position && event.position <= step.upto
                })
        };
        for event in ledger.events.iter().filter(|event| event.fence.is_some()) {
            let fence = event.fence.unwrap_or_default();
            match effects.remove(&(fence, event.kind.as_str())).as_deref() {
                Some([change]) if covered(event, change.transaction) => {}
                Some([change]) => found.push(format!("{change:?} was not committed with its offset")),
                other => found.push(format!("{} of fence {fence} took effect {} times", event.kind, other.map_or(0, <[_]>::len))),
            }
        }
        if ledger.heads.iter().any(|head| head.first_position > 1) {
            // Retention has taken entries away, whose effects remain.
            return;
        }
        found.extend(effects.keys().map(|(fence, kind)| format!("{kind} of fence {fence} took effect and is not in the log")));
    }
}
