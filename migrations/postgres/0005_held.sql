-- Who holds what, kept by the built-in listener "orders" from the log: one row per lock, from its Locked to its Unlocked, its grace
-- included. Read it, join it, put triggers on it; write only what you are told to by the log.

CREATE TABLE holdline.held (
  fence     bigint      PRIMARY KEY,
  app       text        NOT NULL,
  resource  text        NOT NULL,                                    -- several rows: a shared lock
  principal text        NOT NULL,
  socket_id text        NOT NULL,                                    -- the connection that took it
  context   jsonb       NOT NULL,
  event     text        NOT NULL,                                    -- the name of its Locked
  since     timestamptz NOT NULL
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE INDEX held_resource ON holdline.held (app, resource);
