//! Rows to values, once for both databases: their drivers' row types have no common trait that is short to say.

/// Defines `event`, `lock`, `holder`, `node`, `consumer`, `claim`, `parked` and `app` for one row type.
#[rustfmt::skip]
macro_rules! row_readers {
    ($row:ty) => {
        /// An entry of the log; columns as in `event_columns!`.
        pub(super) fn event(row: &$row) -> Result<EventRow, StoreError> {
            Ok(EventRow {
                shard: Shard(row.try_get("shard")?),
                position: row.try_get("position")?,
                kind: EventKind::parse(row.try_get("kind")?)?,
                event_type: row.try_get("type")?,
                app: row.try_get("app")?,
                resource: row.try_get("resource")?,
                fence: row.try_get::<Option<i64>, _>("fence")?.map(Fence),
                principal: row.try_get("principal")?,
                socket_id: row.try_get("socket_id")?,
                incarnation: row.try_get::<Option<i64>, _>("incarnation")?.map(Incarnation),
                cause: row.try_get::<Option<&str>, _>("cause")?.map(CloseCause::parse).transpose()?,
                after_grace: row.try_get("after_grace")?,
                detected_ms_before_commit: row.try_get("detected_ms_before_commit")?,
                payload: row.try_get("payload")?,
                at: Timestamp(row.try_get("at_ms")?),
            })
        }

        /// A lock without its holders; columns as in `lock_columns!`.
        pub(super) fn lock(row: &$row) -> Result<LockRow, StoreError> {
            Ok(LockRow {
                fence: Fence(row.try_get("fence")?),
                shard: Shard(row.try_get("shard")?),
                app: row.try_get("app")?,
                resource: row.try_get("resource")?,
                mode: Mode::parse(row.try_get("mode")?)?,
                principal: row.try_get("principal")?,
                state: LockState::parse(row.try_get("state")?)?,
                topic: row.try_get("topic")?,
                context: row.try_get("context")?,
                grace: Duration::from_millis(row.try_get::<i64, _>("grace_ms")?.try_into().unwrap_or(0)),
                grace_until: row.try_get::<Option<i64>, _>("grace_until_ms")?.map(Timestamp),
                acquired_at: Timestamp(row.try_get("acquired_at_ms")?),
                released_at: row.try_get::<Option<i64>, _>("released_at_ms")?.map(Timestamp),
                socket_id: row.try_get("socket_id")?,
                cause: row.try_get::<Option<&str>, _>("cause")?.map(CloseCause::parse).transpose()?,
                holders: Vec::new(),
            })
        }

        /// A hold, and the fence of its lock.
        pub(super) fn holder(row: &$row) -> Result<(Fence, HolderRow), StoreError> {
            let holder = HolderRow {
                hold: HoldId(row.try_get("hold")?),
                socket_id: row.try_get("socket_id")?,
                incarnation: Incarnation(row.try_get("incarnation")?),
                since: Timestamp(row.try_get("created_at_ms")?),
            };
            Ok((Fence(row.try_get("fence")?), holder))
        }

        /// A node.
        pub(super) fn node(row: &$row) -> Result<NodeRow, StoreError> {
            Ok(NodeRow {
                view: NodeView {
                    incarnation: Incarnation(row.try_get("incarnation")?),
                    name: row.try_get("name")?,
                    heartbeat: row.try_get("heartbeat")?,
                    state: NodeState::parse(row.try_get("state")?)?,
                    ttl: Duration::from_millis(row.try_get::<i64, _>("ttl_ms")?.try_into().unwrap_or(0)),
                },
                holds: row.try_get("holds")?,
                started_at: Timestamp(row.try_get("started_at_ms")?),
                heartbeat_at: Timestamp(row.try_get("heartbeat_at_ms")?),
                fenced_at: row.try_get::<Option<i64>, _>("fenced_at_ms")?.map(Timestamp),
                end_cause: row.try_get::<Option<&str>, _>("end_cause")?.map(CloseCause::parse).transpose()?,
            })
        }

        /// A consumer at one shard.
        pub(super) fn consumer(row: &$row) -> Result<ConsumerRow, StoreError> {
            Ok(ConsumerRow {
                name: row.try_get("name")?,
                shard: Shard(row.try_get("shard")?),
                position: row.try_get("position")?,
                last_position: row.try_get("last_position")?,
                owner: row.try_get("owner")?,
                attempts: row.try_get("attempts")?,
                last_error: row.try_get("last_error")?,
                parked: row.try_get("parked")?,
                dead: row.try_get("dead")?,
            })
        }

        /// What a worker got.
        pub(super) fn claim(name: &str, row: &$row) -> Result<Claim, StoreError> {
            Ok(Claim {
                name: name.to_owned(),
                shard: Shard(row.try_get("shard")?),
                position: row.try_get("position")?,
                epoch: row.try_get("epoch")?,
                attempts: row.try_get("attempts")?,
                wait: Duration::from_millis(row.try_get::<i64, _>("wait_ms")?.try_into().unwrap_or(0)),
            })
        }

        /// An entry that waits.
        pub(super) fn parked(row: &$row) -> Result<ParkedRow, StoreError> {
            Ok(ParkedRow {
                name: row.try_get("name")?,
                event: event(row)?,
                reason: ParkReason::parse(row.try_get("reason")?)?,
                attempts: row.try_get("attempts")?,
                last_error: row.try_get("last_error")?,
                parked_at: Timestamp(row.try_get("parked_at_ms")?),
            })
        }

        /// An application; columns as in `app_columns!`.
        pub(super) fn app(row: &$row) -> Result<AppRow, StoreError> {
            let previous: Option<String> = row.try_get("previous_secret")?;
            let until: Option<i64> = row.try_get("previous_secret_until_ms")?;
            Ok(AppRow {
                id: row.try_get("id")?,
                key: row.try_get("key")?,
                secret: row.try_get("secret")?,
                previous_secret: previous.zip(until.map(Timestamp)),
                enabled: row.try_get("enabled")?,
                settings: row.try_get("settings")?,
                version: row.try_get("version")?,
                updated_at: Timestamp(row.try_get("updated_at_ms")?),
            })
        }
    };
}

pub(super) use row_readers;
