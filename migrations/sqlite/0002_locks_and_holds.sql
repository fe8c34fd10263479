-- Locks are durable and have a fence, which AUTOINCREMENT never uses twice; a hold is one connection's grip on a lock.

CREATE TABLE shard_head (
  shard          INTEGER PRIMARY KEY,
  last_position  INTEGER NOT NULL DEFAULT 0,
  first_position INTEGER NOT NULL DEFAULT 1
) STRICT;
INSERT INTO shard_head (shard) VALUES (0);

CREATE TABLE lock (
  fence       INTEGER PRIMARY KEY AUTOINCREMENT,
  shard       INTEGER NOT NULL REFERENCES shard_head,
  app         TEXT    NOT NULL CHECK (length(app) > 0),
  resource    TEXT    NOT NULL CHECK (length(CAST(resource AS BLOB)) BETWEEN 1 AND 512),
  mode        TEXT    NOT NULL CHECK (mode IN ('exclusive', 'shared')),
  principal   TEXT    NOT NULL CHECK (length(CAST(principal AS BLOB)) BETWEEN 1 AND 512),
  state       TEXT    NOT NULL CHECK (state IN ('held', 'grace', 'released')),
  topic       TEXT    NOT NULL CHECK (length(topic) > 0),
  context     TEXT    NOT NULL,
  grace_ms    INTEGER NOT NULL CHECK (grace_ms >= 0),
  grace_until INTEGER,
  acquired_at INTEGER NOT NULL,
  released_at INTEGER,
  socket_id   TEXT    NOT NULL,
  cause       TEXT CHECK (cause IN ('unsubscribed', 'released', 'force_released', 'client_closed', 'gone', 'idle', 'slow_consumer',
    'protocol_error', 'refused', 'kicked', 'handler_failed', 'taken_over', 'shutdown', 'superseded', 'node_death', 'reconciled')),
  detected_ms_before_commit INTEGER,
  CHECK ((state = 'grace') = (grace_until IS NOT NULL)),
  CHECK ((state = 'released') = (released_at IS NOT NULL)),
  CHECK ((state = 'held') = (cause IS NULL))
) STRICT;
CREATE UNIQUE INDEX lock_one_exclusive ON lock (app, resource)            WHERE mode = 'exclusive' AND state <> 'released';
CREATE UNIQUE INDEX lock_one_shared    ON lock (app, resource, principal) WHERE mode = 'shared' AND state <> 'released';
CREATE INDEX lock_live  ON lock (app, resource) WHERE state <> 'released';
CREATE INDEX lock_grace ON lock (grace_until)   WHERE state = 'grace';
CREATE INDEX lock_old   ON lock (released_at)   WHERE state = 'released';

CREATE TABLE hold (
  hold        BLOB    PRIMARY KEY,
  fence       INTEGER NOT NULL REFERENCES lock,
  shard       INTEGER NOT NULL,
  incarnation INTEGER NOT NULL,
  socket_id   TEXT    NOT NULL CHECK (length(socket_id) > 0),
  outcome     TEXT    NOT NULL CHECK (outcome IN ('granted', 'attached', 'resumed')),
  created_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX hold_by_fence       ON hold (fence);
CREATE INDEX hold_by_incarnation ON hold (incarnation);

CREATE TABLE tombstone (hold BLOB PRIMARY KEY, at INTEGER NOT NULL) STRICT, WITHOUT ROWID;
CREATE INDEX tombstone_old ON tombstone (at);
