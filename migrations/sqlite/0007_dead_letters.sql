-- An entry that is parked need not stop what follows it: 'late' is tried again while later entries about the same pass, 'dead' is not
-- tried any more and waits for an operator. A consumer knows since when nobody has owned it, so that one that is left over can go.

CREATE TABLE parked_anew (
  name       TEXT    NOT NULL,
  shard      INTEGER NOT NULL,
  position   INTEGER NOT NULL,
  app        TEXT    NOT NULL,
  resource   TEXT    NOT NULL,
  reason     TEXT    NOT NULL CHECK (reason IN ('poison', 'behind-poison', 'late', 'dead')),
  attempts   INTEGER NOT NULL DEFAULT 0,
  last_error TEXT,
  parked_at  INTEGER NOT NULL,
  PRIMARY KEY (name, shard, position)
) STRICT, WITHOUT ROWID;
INSERT INTO parked_anew (name, shard, position, app, resource, reason, attempts, last_error, parked_at)
SELECT name, shard, position, app, resource, reason, attempts, last_error, parked_at FROM parked;
DROP TABLE parked;
ALTER TABLE parked_anew RENAME TO parked;
CREATE INDEX parked_resource ON parked (name, app, resource, reason);
CREATE INDEX parked_reason   ON parked (reason, parked_at);
CREATE INDEX parked_place    ON parked (shard, position);

CREATE TABLE consumer_anew (
  name        TEXT    NOT NULL CHECK (length(name) > 0),
  shard       INTEGER NOT NULL,
  position    INTEGER NOT NULL DEFAULT 0,
  epoch       INTEGER NOT NULL DEFAULT 0,
  owner       TEXT,
  lease_until INTEGER,
  attempts    INTEGER NOT NULL DEFAULT 0,
  next_try    INTEGER,
  last_error  TEXT,
  idle_since  INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
  PRIMARY KEY (name, shard)
) STRICT, WITHOUT ROWID;
INSERT INTO consumer_anew (name, shard, position, epoch, owner, lease_until, attempts, next_try, last_error)
SELECT name, shard, position, epoch, owner, lease_until, attempts, next_try, last_error FROM consumer;
DROP TABLE consumer;
ALTER TABLE consumer_anew RENAME TO consumer;
