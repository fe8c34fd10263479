-- Who is on which channels, as far as webhooks tell of it. A key is a channel (its member is '') or a member of one.

CREATE TABLE occupant (
  app         TEXT    NOT NULL CHECK (length(app) > 0),
  channel     TEXT    NOT NULL CHECK (length(CAST(channel AS BLOB)) BETWEEN 1 AND 512),
  member      TEXT    NOT NULL CHECK (length(CAST(member AS BLOB)) <= 1024),
  incarnation INTEGER NOT NULL,
  shard       INTEGER NOT NULL,
  PRIMARY KEY (app, channel, member, incarnation)
) STRICT, WITHOUT ROWID;
CREATE INDEX occupant_by_incarnation ON occupant (incarnation, (member = ''));

CREATE TABLE occupancy (
  app          TEXT    NOT NULL,
  channel      TEXT    NOT NULL,
  member       TEXT    NOT NULL,
  shard        INTEGER NOT NULL,
  delay_ms     INTEGER NOT NULL CHECK (delay_ms >= 0),
  vacant_until INTEGER,
  PRIMARY KEY (app, channel, member)
) STRICT, WITHOUT ROWID;
CREATE INDEX occupancy_vacant ON occupancy (vacant_until, (member = '')) WHERE vacant_until IS NOT NULL;

CREATE TABLE recorded (incarnation INTEGER PRIMARY KEY, number INTEGER NOT NULL) STRICT;
