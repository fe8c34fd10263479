-- The log: dense positions per shard, in commit order.

CREATE TABLE event (
  shard       INTEGER NOT NULL,
  position    INTEGER NOT NULL,
  kind        TEXT    NOT NULL CHECK (kind IN ('locked', 'unlocked', 'event', 'webhook')),
  type        TEXT    NOT NULL CHECK (length(type) > 0),
  app         TEXT    NOT NULL CHECK (length(app) > 0),
  resource    TEXT    NOT NULL CHECK (length(CAST(resource AS BLOB)) BETWEEN 1 AND 512),
  fence       INTEGER,
  principal   TEXT,
  socket_id   TEXT,
  incarnation INTEGER,
  cause       TEXT CHECK (cause IN ('unsubscribed', 'released', 'force_released', 'client_closed', 'gone', 'idle', 'slow_consumer',
    'protocol_error', 'refused', 'kicked', 'handler_failed', 'taken_over', 'shutdown', 'superseded', 'node_death', 'reconciled')),
  after_grace INTEGER NOT NULL DEFAULT 0 CHECK (after_grace IN (0, 1)),
  detected_ms_before_commit INTEGER,
  payload     TEXT    NOT NULL,
  operation   BLOB,
  operation_index INTEGER,
  at          INTEGER NOT NULL,
  PRIMARY KEY (shard, position),
  CHECK ((kind IN ('locked', 'unlocked')) = (fence IS NOT NULL)),
  CHECK ((kind = 'unlocked') = (cause IS NOT NULL))
) STRICT, WITHOUT ROWID;
CREATE UNIQUE INDEX event_once           ON event (fence, kind) WHERE fence IS NOT NULL;
CREATE UNIQUE INDEX event_operation_once ON event (operation, operation_index) WHERE operation IS NOT NULL;
