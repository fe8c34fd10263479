-- One process has this file, which a lock on the data directory proves: a new incarnation is the end of all earlier ones. The tables
-- are those of PostgreSQL; the logic is in src/lifecycle/store/sqlite. Times are milliseconds since 1970.

CREATE TABLE setting (name TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;
INSERT INTO setting VALUES ('shards', '1');

CREATE TABLE node (
  incarnation  INTEGER PRIMARY KEY AUTOINCREMENT,
  name         TEXT    NOT NULL CHECK (length(name) > 0),
  boot         BLOB    NOT NULL UNIQUE,
  state        TEXT    NOT NULL DEFAULT 'alive' CHECK (state IN ('alive', 'draining', 'fenced', 'swept')),
  heartbeat    INTEGER NOT NULL DEFAULT 0,
  ttl_ms       INTEGER NOT NULL CHECK (ttl_ms >= 3000),
  started_at   INTEGER NOT NULL,
  heartbeat_at INTEGER NOT NULL,
  fenced_at    INTEGER,
  fenced_by    INTEGER,
  end_cause    TEXT CHECK (end_cause IN ('superseded', 'shutdown', 'node_death')),
  CHECK ((state IN ('fenced', 'swept')) = (end_cause IS NOT NULL))
) STRICT;
