-- Applications, beside those of the configuration file. The secrets are what applications sign with: they can be read here. Every
-- change, also one by hand, moves the version of the table, by which brokers notice it.

CREATE TABLE app (
  id                    TEXT    PRIMARY KEY CHECK (length(id) BETWEEN 1 AND 200),
  key                   TEXT    NOT NULL UNIQUE CHECK (length(key) BETWEEN 1 AND 200),
  secret                TEXT    NOT NULL CHECK (length(secret) > 0),
  previous_secret       TEXT    CHECK (length(previous_secret) > 0),
  previous_secret_until INTEGER,
  enabled               INTEGER NOT NULL DEFAULT 1 CHECK (enabled IN (0, 1)),
  settings              TEXT    NOT NULL DEFAULT '{}' CHECK (json_type(settings) = 'object'),
  version               INTEGER NOT NULL DEFAULT 1,
  updated_at            INTEGER NOT NULL DEFAULT (CAST((julianday('now') - 2440587.5) * 86400000 AS INTEGER)),
  CHECK ((previous_secret IS NULL) = (previous_secret_until IS NULL))
) STRICT;

CREATE TABLE app_change (single INTEGER PRIMARY KEY CHECK (single = 1), version INTEGER NOT NULL) STRICT;
INSERT INTO app_change VALUES (1, 0);

CREATE TRIGGER app_inserted AFTER INSERT ON app BEGIN UPDATE app_change SET version = version + 1; END;
CREATE TRIGGER app_updated  AFTER UPDATE ON app BEGIN UPDATE app_change SET version = version + 1; END;
CREATE TRIGGER app_deleted  AFTER DELETE ON app BEGIN UPDATE app_change SET version = version + 1; END;
