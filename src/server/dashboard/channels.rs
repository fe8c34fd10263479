//! The channels of this node, how much goes over each, and who is there.

use std::{
    cmp::Ordering,
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use super::{
    DashboardError,
    input::{Answer, Asked, has, json as answer, page_of},
    overview::{millis, now},
};
use crate::{
    domain::{ChannelGlance, Hub},
    protocol::{ChannelName, limits},
};

/// A list is no older than this; all pages that look share it.
const FRESH_FOR: Duration = Duration::from_secs(1);
/// Events per second over a longer time than this say nothing about now.
const RATE_OVER: Duration = Duration::from_secs(20);
/// Channels that a list may have.
const MOST_CHANNELS: usize = 200_000;
/// Members and connections of one channel that are named.
const MOST_NAMED: usize = 200;
/// Characters of a cached event that are shown.
const MOST_CACHED: usize = 10_000;

const ORDERS: &str = "must be name, subscribers, rate or events";
/// As [`crate::protocol::ChannelKind::as_str`] has them.
const KINDS: [&str; 8] =
    ["public", "private", "private-encrypted", "presence", "cache", "private-cache", "private-encrypted-cache", "presence-cache"];

/// The last list of each application.
#[derive(Debug, Default)]
pub(super) struct ChannelLists(parking_lot::Mutex<HashMap<Arc<str>, Place>>);

/// Where the list of one application is kept; whoever makes a new one has it locked.
type Place = Arc<Mutex<Option<Arc<List>>>>;

/// All occupied channels at one moment, by name.
#[derive(Debug)]
struct List {
    at: Instant,
    rows: Vec<Line>,
    complete: bool,
}

#[derive(Clone, Debug)]
struct Line {
    glance: ChannelGlance,
    /// Events per second since the list before; `None` if that was too long ago.
    per_second: Option<f64>,
}

impl ChannelLists {
    async fn of(&self, hub: &Hub) -> Arc<List> {
        let place = {
            let mut lists = self.0.lock();
            // Those that nobody looks at any more, whose applications may be gone; one that is being made is locked.
            lists.retain(|_, place| place.try_lock().map_or(true, |list| list.as_ref().is_some_and(|list| list.is_of_use())));
            Arc::clone(lists.entry(Arc::clone(hub.id())).or_default())
        };
        // Whoever comes while a list is made waits for that one.
        let mut last = place.lock().await;
        if let Some(list) = last.as_ref().filter(|list| list.at.elapsed() < FRESH_FOR) {
            return Arc::clone(list);
        }
        let list = Arc::new(List::make(hub, last.as_deref()).await);
        *last = Some(Arc::clone(&list));
        list
    }
}

impl List {
    /// Whether the next one can be compared with it.
    fn is_of_use(&self) -> bool {
        self.at.elapsed() <= RATE_OVER
    }

    async fn make(hub: &Hub, before: Option<&Self>) -> Self {
        let (mut glances, mut complete) = (Vec::new(), true);
        for part in 0.. {
            let Some(some) = hub.glance(part) else { break };
            glances.extend(some);
            if glances.len() >= MOST_CHANNELS {
                complete = false;
                break;
            }
            tokio::task::yield_now().await;
        }
        let at = Instant::now();
        glances.sort_unstable_by(|one, other| one.name.cmp(&other.name));
        let before = before.filter(|before| before.is_of_use());
        Self { at, rows: rated(glances, before, at), complete }
    }
}

/// Both lists are in order, so that one walk finds what each channel had before.
fn rated(glances: Vec<ChannelGlance>, before: Option<&List>, at: Instant) -> Vec<Line> {
    let seconds = before.map(|before| at.duration_since(before.at).as_secs_f64().max(0.001));
    let mut earlier = before.into_iter().flat_map(|before| &before.rows).map(|line| &line.glance).peekable();
    let line = |glance: ChannelGlance| {
        while earlier.next_if(|old| old.name < glance.name).is_some() {}
        let old = earlier.next_if(|old| old.name == glance.name).map_or(0, |old| old.events);
        // One that was empty in between counts from the beginning.
        let new = glance.events.checked_sub(old).unwrap_or(glance.events);
        Line { per_second: seconds.map(|seconds| new as f64 / seconds), glance }
    };
    glances.into_iter().map(line).collect()
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    kind: &'static str,
    subscriptions: usize,
    members: Option<usize>,
    events: u64,
    per_second: Option<f64>,
}

impl<'a> Row<'a> {
    fn of(line: &'a Line) -> Self {
        let Line { glance, per_second } = line;
        let kind = glance.name.kind();
        Self {
            name: glance.name.as_str(),
            kind: kind.as_str(),
            subscriptions: glance.subscriptions,
            members: kind.is_presence().then_some(glance.members),
            events: glance.events,
            per_second: per_second.map(|rate| (rate * 100.0).round() / 100.0),
        }
    }
}

/// `GET api/channels?app=&q=&kind=&sort=subscribers&offset=0&limit=100`: occupied channels of this node whose name has `q`.
pub(super) async fn list(asked: Asked) -> Answer {
    let hub = asked.dashboard.app(asked.required("app")?)?;
    let (search, page) = (asked.search()?, asked.page()?);
    let kind = asked.param("kind");
    if kind.is_some_and(|kind| !KINDS.contains(&kind)) {
        return Err(DashboardError::field("kind", format!("must be one of {}", KINDS.join(", "))));
    }
    let order: fn(&&Line, &&Line) -> Ordering = match asked.param("sort").unwrap_or("subscribers") {
        "name" => by_name,
        "subscribers" => |one, other| other.glance.subscriptions.cmp(&one.glance.subscriptions).then_with(|| by_name(one, other)),
        "events" => |one, other| other.glance.events.cmp(&one.glance.events).then_with(|| by_name(one, other)),
        "rate" => |one, other| {
            let rate = |line: &Line| line.per_second.unwrap_or(0.0);
            rate(other).total_cmp(&rate(one)).then_with(|| by_name(one, other))
        },
        _ => return Err(DashboardError::field("sort", ORDERS)),
    };
    let list = asked.dashboard.0.channels.of(&hub).await;
    let is_wanted = |line: &&Line| {
        let name = &line.glance.name;
        has(name.as_str(), search) && kind.is_none_or(|kind| name.kind().as_str() == kind)
    };
    let found: Vec<&Line> = list.rows.iter().filter(is_wanted).collect();
    let matched = found.len();
    let rows = page_of(found, page, order);
    let rows: Vec<Row<'_>> = rows.into_iter().map(Row::of).collect();
    answer(&json!({ "now": now(), "rows": rows, "matched": matched, "total": list.rows.len(), "complete": list.complete }))
}

fn by_name(one: &&Line, other: &&Line) -> Ordering {
    one.glance.name.cmp(&other.glance.name)
}

/// `GET api/channel?app=&name=`: who is on one channel, and what a cache channel keeps.
pub(super) async fn show(asked: Asked) -> Answer {
    let hub = asked.dashboard.app(asked.required("app")?)?;
    let name = parse(&hub, "name", asked.required("name")?)?;
    let kind = name.kind();
    let (glance, members, sockets) = hub
        .attendance(&name, MOST_NAMED)
        .unwrap_or_else(|| (ChannelGlance { name: name.clone(), subscriptions: 0, members: 0, events: 0 }, Vec::new(), Vec::new()));
    let members = members.iter().map(|member| {
        let info = member.user_info.as_deref().and_then(|info| serde_json::from_str::<Value>(info).ok());
        json!({ "id": &*member.user_id, "info": info })
    });
    let cached = hub.channel(&name, Instant::now()).cached.map(|(data, left)| {
        let shown: String = data.chars().take(MOST_CACHED).collect();
        json!({ "data": shown, "cut": shown.len() < data.len(), "expires_in_ms": millis(left) })
    });
    answer(&json!({
        "now": now(),
        "name": name.as_str(),
        "kind": kind.as_str(),
        "subscriptions": glance.subscriptions,
        "events": glance.events,
        "member_count": kind.is_presence().then_some(glance.members),
        "members": members.collect::<Vec<_>>(),
        "sockets": sockets.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "cached": cached,
    }))
}

/// A name that the application's channels may have.
pub(super) fn parse(hub: &Hub, field: &'static str, text: &str) -> Result<ChannelName, DashboardError> {
    let max = hub.app().limits.max_channel_name.max(limits::MAX_CHANNEL_NAME);
    ChannelName::parse(text, max).map_err(|error| DashboardError::field(field, format!("is no channel name: {error}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn glance(name: &str, events: u64) -> ChannelGlance {
        ChannelGlance { name: ChannelName::parse(name, 200).unwrap(), subscriptions: 1, members: 0, events }
    }

    #[test]
    fn rates_are_of_the_time_between_two_lists() {
        let (now, rates) = (Instant::now(), |lines: &[Line]| lines.iter().map(|line| line.per_second).collect::<Vec<_>>());
        let first = rated(vec![glance("a", 10), glance("c", 5), glance("d", 8)], None, now);
        assert_eq!(rates(&first), [None, None, None], "nothing is known yet");
        let list = List { at: now, rows: first, complete: true };
        let second = rated(vec![glance("a", 30), glance("b", 4), glance("d", 2)], Some(&list), now + Duration::from_secs(2));
        assert_eq!(rates(&second), [Some(10.0), Some(2.0), Some(1.0)], "more, new, and made anew");
    }
}
