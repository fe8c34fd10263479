-- Publishes over HTTP that carry an Idempotency-Key: whose key it is, and what was answered. A claim without an answer is at work as long
-- as its node lives and its time lasts; after that the next one takes it over.

CREATE TABLE idempotency (
  app         TEXT    NOT NULL,
  key         TEXT    NOT NULL,
  fingerprint BLOB    NOT NULL,
  attempt     BLOB    NOT NULL,
  incarnation INTEGER NOT NULL,
  claimed_at  INTEGER NOT NULL,
  answer      TEXT,
  expires_at  INTEGER NOT NULL,
  PRIMARY KEY (app, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_expires ON idempotency (expires_at);
