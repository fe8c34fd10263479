-- Who reads the log, and how far; and the entries that wait.

CREATE TABLE consumer (
  name        TEXT    NOT NULL CHECK (length(name) > 0),
  shard       INTEGER NOT NULL,
  position    INTEGER NOT NULL DEFAULT 0,
  epoch       INTEGER NOT NULL DEFAULT 0,
  owner       TEXT,
  lease_until INTEGER,
  attempts    INTEGER NOT NULL DEFAULT 0,
  next_try    INTEGER,
  last_error  TEXT,
  PRIMARY KEY (name, shard)
) STRICT, WITHOUT ROWID;

CREATE TABLE parked (
  name       TEXT    NOT NULL,
  shard      INTEGER NOT NULL,
  position   INTEGER NOT NULL,
  app        TEXT    NOT NULL,
  resource   TEXT    NOT NULL,
  reason     TEXT    NOT NULL CHECK (reason IN ('poison', 'behind-poison')),
  attempts   INTEGER NOT NULL DEFAULT 0,
  last_error TEXT,
  parked_at  INTEGER NOT NULL,
  PRIMARY KEY (name, shard, position)
) STRICT, WITHOUT ROWID;
CREATE INDEX parked_resource ON parked (name, app, resource);
