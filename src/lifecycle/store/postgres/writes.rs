//! Outcomes and ends, as the functions `commit`, `release` and `force_release` take them.

use serde::Serialize;
use sqlx::types::Json;

use super::session::{Slot, within};
use crate::{
    domain::UnknownWord,
    lifecycle::store::{
        Answer, Certainty, CloseCause, CommitOp, Denied, Ending, Fence, Granted, HoldId, HoldOutcome, Holder, Incarnation, NewEvent,
        ReleaseOp, Shard, StoreError, StoreLimits,
    },
};

#[derive(Serialize)]
struct CommitJson<'a> {
    id: uuid::Uuid,
    socket: &'a str,
    app: &'a str,
    holds: Vec<HoldJson<'a>>,
    events: Vec<EventJson<'a>>,
}

#[derive(Serialize)]
struct HoldJson<'a> {
    hold: uuid::Uuid,
    shard: Shard,
    resource: &'a str,
    mode: &'static str,
    if_taken: &'static str,
    principal: &'a str,
    topic: &'a str,
    context: &'a serde_json::Value,
    grace_ms: i32,
}

#[derive(Serialize)]
struct EventJson<'a> {
    shard: Shard,
    kind: &'static str,
    #[serde(rename = "type")]
    event_type: &'a str,
    key: &'a str,
    principal: Option<&'a str>,
    payload: &'a serde_json::Value,
}

#[derive(Serialize)]
struct ReleaseJson<'a> {
    id: uuid::Uuid,
    socket: &'a str,
    app: &'a str,
    cause: &'static str,
    clean: bool,
    unsure: bool,
    detected_ms: Option<i32>,
    holds: Vec<EndJson>,
    events: Vec<EventJson<'a>>,
}

#[derive(Serialize)]
struct EndJson {
    hold: uuid::Uuid,
    shard: Shard,
}

fn events<'a>(app: &str, events: &'a [NewEvent], shards: u16) -> Vec<EventJson<'a>> {
    let event = |event: &'a NewEvent| EventJson {
        shard: Shard::of(app, &event.key, shards),
        kind: event.kind.as_str(),
        event_type: &event.event_type,
        key: &event.key,
        principal: event.principal.as_deref(),
        payload: &event.payload,
    };
    events.iter().map(event).collect()
}

impl<'a> CommitJson<'a> {
    fn new(op: &'a CommitOp, shards: u16) -> Self {
        let holds = op.holds.iter().map(|hold| HoldJson {
            hold: hold.id.0,
            shard: Shard::of(&op.app, &hold.resource, shards),
            resource: &hold.resource,
            mode: hold.mode.as_str(),
            if_taken: hold.if_taken.as_str(),
            principal: &hold.principal,
            topic: &hold.topic,
            context: &hold.context,
            grace_ms: i32::try_from(hold.grace.as_millis()).unwrap_or(i32::MAX),
        });
        Self { id: op.id.0, socket: &op.socket_id, app: &op.app, holds: holds.collect(), events: events(&op.app, &op.events, shards) }
    }
}

impl<'a> ReleaseJson<'a> {
    fn new(op: &'a ReleaseOp, shards: u16) -> Self {
        let holds = op.holds.iter().map(|(hold, resource)| EndJson { hold: hold.0, shard: Shard::of(&op.app, resource, shards) });
        Self {
            id: op.id.0,
            socket: &op.socket_id,
            app: &op.app,
            cause: op.cause.as_str(),
            clean: op.ending == Ending::Clean,
            unsure: op.certainty == Certainty::Unsure,
            detected_ms: op.detected_ms(),
            holds: holds.collect(),
            events: events(&op.app, &op.events, shards),
        }
    }
}

/// `op, hold, outcome, fence, displaced, holders` of `holdline.commit`.
type AnswerRow = (i32, Option<uuid::Uuid>, String, Option<i64>, Vec<i64>, Option<Json<Vec<Holder>>>);

pub(super) async fn commit(
    slot: &Slot,
    node: Incarnation,
    ops: &[CommitOp],
    limits: &StoreLimits,
    shards: u16,
) -> Result<Vec<Answer>, StoreError> {
    let mut answers = Vec::with_capacity(ops.len());
    let (mut sent, mut wire) = (Vec::with_capacity(ops.len()), Vec::with_capacity(ops.len()));
    for (number, op) in ops.iter().enumerate() {
        match op.validate(limits) {
            Ok(()) => {
                sent.push(number);
                wire.push(CommitJson::new(op, shards));
                answers.push(Answer::Committed(Vec::with_capacity(op.holds.len())));
            }
            Err(invalid) => answers.push(Answer::Invalid(invalid)),
        }
    }
    if wire.is_empty() {
        return Ok(answers);
    }
    let mut session = slot.open().await?;
    let call = sqlx::query_as::<_, AnswerRow>("SELECT op, hold, outcome, fence, displaced, holders FROM holdline.commit($1, $2)")
        .bind(node.0)
        .bind(Json(&wire))
        .fetch_all(&mut session.connection);
    let rows = within(session.limit, call).await;
    for row in session.settle(rows)? {
        let op = usize::try_from(row.0).ok().and_then(|op| sent.get(op)).and_then(|number| answers.get_mut(*number));
        let Some(answer) = op else {
            return Err(StoreError::Refused { source: format!("an answer to op {}, which was not sent", row.0).into() });
        };
        match (row.2.as_str(), row.1, row.3) {
            ("committed", ..) => {}
            ("gone", ..) => *answer = Answer::Gone,
            ("denied", Some(hold), _) => {
                *answer = Answer::Denied(Denied { hold: HoldId(hold), holders: row.5.map(|holders| holders.0).unwrap_or_default() });
            }
            (outcome, Some(hold), Some(fence)) => {
                let outcome = HoldOutcome::parse(outcome)?;
                let displaced = row.4.into_iter().map(Fence).collect();
                if let Answer::Committed(granted) = answer {
                    granted.push(Granted { hold: HoldId(hold), outcome, fence: Fence(fence), displaced });
                }
            }
            (outcome, ..) => return Err(UnknownWord { what: "the answer to a commit", word: outcome.to_owned() }.into()),
        }
    }
    Ok(answers)
}

pub(super) async fn release(
    slot: &Slot,
    node: Incarnation,
    ops: &[ReleaseOp],
    limits: &StoreLimits,
    shards: u16,
) -> Result<u64, StoreError> {
    ops.iter().try_for_each(|op| op.validate(limits))?;
    let wire: Vec<_> = ops.iter().map(|op| ReleaseJson::new(op, shards)).collect();
    let mut session = slot.open().await?;
    let call =
        sqlx::query_scalar::<_, i64>("SELECT holdline.release($1, $2)").bind(node.0).bind(Json(&wire)).fetch_one(&mut session.connection);
    let appended = within(session.limit, call).await;
    session.settle(appended).map(|appended| u64::try_from(appended).unwrap_or(0))
}

pub(super) async fn force_release(slot: &Slot, by: Incarnation, fence: Fence, cause: CloseCause) -> Result<bool, StoreError> {
    let mut session = slot.open().await?;
    let call = sqlx::query_scalar("SELECT holdline.force_release($1, $2, $3)")
        .bind(by.0)
        .bind(fence.0)
        .bind(cause.as_str())
        .fetch_one(&mut session.connection);
    let ended = within(session.limit, call).await;
    session.settle(ended)
}
