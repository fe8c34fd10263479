-- Broker processes. An incarnation is one start of one process; it is never reused, and once fenced it can write nothing.
--
-- Every function below that writes is called as one auto-committed statement, SELECT holdline.f(...), so that a broker that stops
-- in the middle of a call never holds a lock on anything. READ COMMITTED only: the check in enter() needs a snapshot taken after
-- its wait. Errors of our own: HL001 the incarnation is fenced, HL002 wrong isolation level, HL003 a shard that does not fit.
--
-- Lock order, in every path: own node key (shared) -> other node's key -> shard heads, ascending -> everything else.

CREATE TABLE holdline.setting (
  name  text PRIMARY KEY,
  value text NOT NULL
);
-- Set by whoever installs, and fixed from then on: a resource's shard follows from it.
INSERT INTO holdline.setting VALUES ('shards', coalesce(nullif(current_setting('holdline.shards', true), ''), '16'));

CREATE TABLE holdline.node (
  incarnation  bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  name         text    NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
  boot         uuid    NOT NULL UNIQUE,                              -- makes register() idempotent
  state        text    NOT NULL DEFAULT 'alive' CHECK (state IN ('alive', 'draining', 'fenced', 'swept')),
  heartbeat    bigint  NOT NULL DEFAULT 0,                           -- alive means: this number moves
  ttl_ms       integer NOT NULL CHECK (ttl_ms >= 3000),
  started_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
  heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),       -- for people; never compared
  fenced_at    timestamptz,
  fenced_by    bigint,
  end_cause    text CHECK (end_cause IN ('superseded', 'shutdown', 'node_death')),
  CHECK ((state IN ('fenced', 'swept')) = (end_cause IS NOT NULL))
) WITH (fillfactor = 50);
CREATE INDEX node_not_swept ON holdline.node (state) WHERE state <> 'swept';

CREATE FUNCTION holdline.node_key(p_incarnation bigint) RETURNS bigint LANGUAGE sql IMMUTABLE AS
$$ SELECT hashtextextended('holdline.node', p_incarnation) $$;

CREATE FUNCTION holdline.check_isolation() RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('transaction_isolation') <> 'read committed' THEN
    RAISE EXCEPTION 'holdline needs READ COMMITTED, this session has %', upper(current_setting('transaction_isolation'))
      USING ERRCODE = 'HL002', HINT = 'set default_transaction_isolation of the role or the database to ''read committed''';
  END IF;
END $$;

-- Every write of a node starts here. Whoever declares it dead waits for the shared lock, and whoever comes later sees the state.
CREATE FUNCTION holdline.enter(p_incarnation bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM holdline.check_isolation();
  PERFORM pg_advisory_xact_lock_shared(holdline.node_key(p_incarnation));
  PERFORM 1 FROM holdline.node WHERE incarnation = p_incarnation AND state IN ('alive', 'draining');
  IF NOT FOUND THEN
    RAISE EXCEPTION 'incarnation % is fenced', p_incarnation USING ERRCODE = 'HL001';
  END IF;
END $$;

-- p_unique_name: the caller holds an exclusive lock on the data directory that has this name, so its predecessor is gone.
CREATE FUNCTION holdline.register(p_name text, p_boot uuid, p_ttl_ms integer, p_unique_name boolean) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE
  v_incarnation bigint;
  v_former      bigint;
BEGIN
  PERFORM holdline.check_isolation();
  INSERT INTO holdline.node (name, boot, ttl_ms) VALUES (p_name, p_boot, p_ttl_ms)
  ON CONFLICT (boot) DO UPDATE SET boot = excluded.boot
  RETURNING incarnation INTO v_incarnation;
  IF p_unique_name THEN
    FOR v_former IN SELECT incarnation FROM holdline.node
       WHERE name = p_name AND incarnation < v_incarnation AND state IN ('alive', 'draining') ORDER BY incarnation
    LOOP
      PERFORM pg_advisory_xact_lock(holdline.node_key(v_former));
      UPDATE holdline.node SET state = 'fenced', fenced_at = clock_timestamp(), fenced_by = v_incarnation, end_cause = 'superseded'
       WHERE incarnation = v_former AND state IN ('alive', 'draining');
    END LOOP;
  END IF;
  RETURN v_incarnation;
END $$;

-- Moves the own counter and returns everybody's, in one round trip.
CREATE FUNCTION holdline.heartbeat(p_incarnation bigint)
RETURNS TABLE (incarnation bigint, name text, heartbeat bigint, state text, ttl_ms integer)
LANGUAGE plpgsql AS $$
BEGIN
  UPDATE holdline.node n SET heartbeat = n.heartbeat + 1, heartbeat_at = clock_timestamp()
   WHERE n.incarnation = p_incarnation AND n.state IN ('alive', 'draining');
  IF NOT FOUND THEN
    RAISE EXCEPTION 'incarnation % is fenced', p_incarnation USING ERRCODE = 'HL001';
  END IF;
  RETURN QUERY SELECT n.incarnation, n.name, n.heartbeat, n.state, n.ttl_ms FROM holdline.node n WHERE n.state <> 'swept';
END $$;

-- p_seen: the counter the caller watched, unchanged, for at least the ttl on its own monotonic clock. No clock is compared here;
-- a start of the database within the ttl only delays the verdict.
CREATE FUNCTION holdline.declare_dead(p_by bigint, p_incarnation bigint, p_seen bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  PERFORM holdline.enter(p_by);
  PERFORM pg_advisory_xact_lock(holdline.node_key(p_incarnation));        -- waits for its writes in flight
  UPDATE holdline.node
     SET state = 'fenced', fenced_at = clock_timestamp(), fenced_by = p_by, end_cause = 'node_death'
   WHERE incarnation = p_incarnation AND incarnation <> p_by AND state IN ('alive', 'draining') AND heartbeat = p_seen
     AND NOT (pg_postmaster_start_time() BETWEEN clock_timestamp() - ttl_ms * interval '1 ms' AND clock_timestamp());
  RETURN FOUND;
END $$;

CREATE FUNCTION holdline.set_draining(p_incarnation bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM holdline.enter(p_incarnation);
  UPDATE holdline.node SET state = 'draining' WHERE incarnation = p_incarnation AND state = 'alive';
END $$;

-- A graceful stop: what is left is handed to the survivors' sweep in one write.
CREATE FUNCTION holdline.deregister(p_incarnation bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
  PERFORM holdline.check_isolation();
  PERFORM pg_advisory_xact_lock(holdline.node_key(p_incarnation));
  UPDATE holdline.node
     SET state = 'fenced', fenced_at = clock_timestamp(), fenced_by = p_incarnation, end_cause = 'shutdown'
   WHERE incarnation = p_incarnation AND state IN ('alive', 'draining');
  RETURN FOUND;
END $$;
