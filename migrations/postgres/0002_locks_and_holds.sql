-- Locks are durable and have a fence; a hold is one connection's grip on a lock. The functions append to the log of 0003:
-- PL/pgSQL looks tables up when it runs.
--
-- The row of a shard in shard_head is two things: whoever has it locked is alone with the shard's locks and its end of the log, and
-- it allocates the positions, so that positions are dense and in commit order.

CREATE TABLE holdline.shard_head (
  shard          smallint PRIMARY KEY,
  last_position  bigint NOT NULL DEFAULT 0,
  first_position bigint NOT NULL DEFAULT 1                           -- moves when retention deletes a prefix
) WITH (fillfactor = 10);
INSERT INTO holdline.shard_head (shard)
SELECT generate_series(0, (SELECT value::integer - 1 FROM holdline.setting WHERE name = 'shards'));

CREATE SEQUENCE holdline.fence;

CREATE TABLE holdline.lock (
  fence       bigint   PRIMARY KEY,
  shard       smallint NOT NULL,
  app         text     NOT NULL CHECK (octet_length(app) BETWEEN 1 AND 200),
  resource    text     NOT NULL CHECK (octet_length(resource) BETWEEN 1 AND 512),
  mode        text     NOT NULL CHECK (mode IN ('exclusive', 'shared')),
  principal   text     NOT NULL CHECK (octet_length(principal) BETWEEN 1 AND 512),
  state       text     NOT NULL CHECK (state IN ('held', 'grace', 'released')),
  topic       text     NOT NULL CHECK (octet_length(topic) BETWEEN 1 AND 200),  -- what its events are called: see event_type()
  context     jsonb    NOT NULL CHECK (octet_length(context::text) <= 1048576),
  grace_ms    integer  NOT NULL CHECK (grace_ms >= 0),
  grace_until timestamptz,
  acquired_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  released_at timestamptz,
  socket_id   text     NOT NULL,                                     -- who took it; once nobody holds it, who let go last
  cause       text CHECK (cause IN ('unsubscribed', 'released', 'force_released', 'client_closed', 'gone', 'idle', 'slow_consumer',
    'protocol_error', 'refused', 'kicked', 'handler_failed', 'taken_over', 'shutdown', 'superseded', 'node_death', 'reconciled')),
  detected_ms_before_commit integer,
  CHECK ((state = 'grace') = (grace_until IS NOT NULL)),
  CHECK ((state = 'released') = (released_at IS NOT NULL)),
  CHECK ((state = 'held') = (cause IS NULL))
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE UNIQUE INDEX lock_one_exclusive ON holdline.lock (app, resource)            WHERE mode = 'exclusive' AND state <> 'released';
CREATE UNIQUE INDEX lock_one_shared    ON holdline.lock (app, resource, principal) WHERE mode = 'shared' AND state <> 'released';
CREATE INDEX lock_live  ON holdline.lock (app, resource)      WHERE state <> 'released';
CREATE INDEX lock_grace ON holdline.lock (shard, grace_until) WHERE state = 'grace';
CREATE INDEX lock_old   ON holdline.lock (released_at)        WHERE state = 'released';

CREATE TABLE holdline.hold (
  hold        uuid     PRIMARY KEY,                                  -- minted by the node: a replay is recognised by it
  fence       bigint   NOT NULL,
  shard       smallint NOT NULL,
  incarnation bigint   NOT NULL,                                     -- no foreign key: it would lock the heartbeat row
  socket_id   text     NOT NULL CHECK (octet_length(socket_id) BETWEEN 1 AND 200),
  outcome     text     NOT NULL CHECK (outcome IN ('granted', 'attached', 'resumed')),
  created_at  timestamptz NOT NULL DEFAULT clock_timestamp()
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX hold_by_fence       ON holdline.hold (fence);
CREATE INDEX hold_by_incarnation ON holdline.hold (incarnation, shard);

-- Holds that have ended where their own node may not know it: a commit that arrives later must find them gone.
CREATE TABLE holdline.tombstone (
  hold uuid PRIMARY KEY,
  at   timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX tombstone_old ON holdline.tombstone (at);

-- 'Order' gives OrderLocked and OrderUnlocked; a pair, 'UserOnline/UserOffline', gives just these.
CREATE FUNCTION holdline.event_type(p_topic text, p_kind text) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN p_topic LIKE '%/%' THEN split_part(p_topic, '/', CASE p_kind WHEN 'locked' THEN 1 ELSE 2 END)
              ELSE p_topic || CASE p_kind WHEN 'locked' THEN 'Locked' ELSE 'Unlocked' END END
$$;

CREATE FUNCTION holdline.lock_shards(p_shards smallint[]) RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE
  v_head record;
  v_heads bigint[] := '{}';
  v_count integer := 0;
BEGIN
  FOR v_head IN SELECT shard, last_position FROM holdline.shard_head WHERE shard = ANY (p_shards) ORDER BY shard FOR UPDATE LOOP
    v_heads[v_head.shard + 1] := v_head.last_position;
    v_count := v_count + 1;
  END LOOP;
  IF v_count <> cardinality(p_shards) THEN
    RAISE EXCEPTION 'no such shard in %', p_shards USING ERRCODE = 'HL003';
  END IF;
  RETURN v_heads;
END $$;

CREATE FUNCTION holdline.shards_of(p_ops jsonb) RETURNS smallint[] LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(array_agg(DISTINCT (part ->> 'shard')::smallint), '{}')
    FROM jsonb_array_elements(p_ops) o, jsonb_array_elements((o -> 'holds') || (o -> 'events')) part
$$;

-- All that is alive on a resource, for whoever is refused.
CREATE FUNCTION holdline.holders(p_app text, p_resource text) RETURNS jsonb LANGUAGE sql STABLE AS $$
  SELECT jsonb_agg(jsonb_build_object('fence', l.fence, 'principal', l.principal, 'mode', l.mode, 'state', l.state,
           'since_ms', (extract(epoch FROM l.acquired_at) * 1000)::bigint) ORDER BY l.fence)
    FROM holdline.lock l WHERE l.app = p_app AND l.resource = p_resource AND l.state <> 'released'
$$;

-- Most of a batch does not depend on the rest of it, and is decided and written in one statement. Left to commit(), op by op, are: ops
-- that take a lock from somebody; ops of which one may write what decides about another, since both mention a resource; and whatever
-- shares a socket with these, so that a connection's entries stay in order. Ops that write nothing are in nobody's way: refused by what
-- was there before, gone, replayed. p_heads: the last position of each shard, as lock_shards() returns it.
CREATE FUNCTION holdline.commit_independent(p_incarnation bigint, p_ops jsonb, p_heads bigint[])
RETURNS TABLE (op integer, hold uuid, outcome text, fence bigint, holders jsonb) LANGUAGE plpgsql AS $$
#variable_conflict use_column
BEGIN
  RETURN QUERY
  WITH asked AS MATERIALIZED (
    SELECT (o.ordinality - 1)::integer AS op, o.value AS op_json, (o.value ->> 'id')::uuid AS id, o.value ->> 'socket' AS socket,
           o.value ->> 'app' AS app
      FROM jsonb_array_elements(p_ops) WITH ORDINALITY o
  ), part AS (                                                       -- what the ops mention: a hold each, or an event
    SELECT a.op, a.id, a.socket, a.app, h.*, NULL AS kind, NULL AS type, false AS logged, dead.found AS dead, former.fence AS former_fence,
           former.outcome AS former_outcome, own.fence AS own_fence, own.state AS own_state, others.found AS conflicts,
           others.found AND (h.if_taken = 'take' OR (h.if_taken = 'take-if-in-grace' AND NOT others.held)) AS takes, others.misplaced
      FROM asked a
     CROSS JOIN LATERAL ROWS FROM (jsonb_to_recordset(a.op_json -> 'holds') AS (hold uuid, shard smallint, resource text, mode text,
             if_taken text, principal text, topic text, grace_ms integer))
           WITH ORDINALITY h (hold, shard, resource, mode, if_taken, principal, topic, grace_ms, number)
     CROSS JOIN LATERAL (SELECT count(*) > 0 AS found FROM holdline.tombstone t WHERE t.hold = h.hold) dead
      LEFT JOIN LATERAL (SELECT f.fence, f.outcome FROM holdline.hold f WHERE f.hold = h.hold LIMIT 1) former ON true
      LEFT JOIN LATERAL (SELECT l.fence, l.state FROM holdline.lock l WHERE l.app = a.app AND l.resource = h.resource
                            AND l.mode = h.mode AND l.principal = h.principal AND l.state <> 'released' LIMIT 1) own ON true
     CROSS JOIN LATERAL (SELECT coalesce(bool_or(l.fence IS DISTINCT FROM own.fence AND (l.mode = 'exclusive' OR h.mode = 'exclusive')),
                                         false) AS found,
                                coalesce(bool_or(l.fence IS DISTINCT FROM own.fence AND l.state = 'held'), false) AS held,
                                coalesce(bool_or(l.shard <> h.shard), false) AS misplaced
                           FROM holdline.lock l WHERE l.app = a.app AND l.resource = h.resource AND l.state <> 'released') others
    UNION ALL
    SELECT a.op, a.id, a.socket, a.app, NULL, e.shard, e.key, NULL, NULL, e.principal, NULL, NULL, e.number, e.kind,
           e.type, logged.found, false, NULL, NULL, NULL, NULL, false, false, false
      FROM asked a
     CROSS JOIN LATERAL ROWS FROM (jsonb_to_recordset(a.op_json -> 'events') AS (shard smallint, kind text, type text, key text,
             principal text)) WITH ORDINALITY e (shard, kind, type, key, principal, number)
     CROSS JOIN LATERAL (SELECT count(*) > 0 AS found FROM holdline.event f WHERE f.operation = a.id) logged
  ), decided AS (
    SELECT p.*, CASE WHEN bool_or(dead) OVER o THEN 'gone'
                     WHEN count(hold) OVER o = count(former_fence) OVER o AND (count(hold) OVER o > 0 OR bool_or(logged) OVER o)
                       THEN 'replayed'
                     WHEN count(former_fence) OVER o > 0 THEN 'gone'
                     WHEN bool_or(conflicts AND NOT takes) OVER o THEN 'denied' ELSE 'written' END AS verdict,
           count(hold) OVER o AS holds, min(number) FILTER (WHERE conflicts AND NOT takes) OVER o AS refused
      FROM part p WINDOW o AS (PARTITION BY op)
  ), entangled AS MATERIALIZED (
    SELECT d.*, d.misplaced OR (d.verdict IN ('written', 'denied') AND bool_or(d.takes) OVER about)
                OR (d.verdict = 'denied' AND bool_or(d.verdict = 'written' AND d.hold IS NOT NULL) OVER about)
                OR (d.verdict = 'written' AND bool_or(d.verdict = 'written' AND d.hold IS NOT NULL) OVER about
                    AND min(d.op) FILTER (WHERE d.verdict = 'written') OVER about
                     <> max(d.op) FILTER (WHERE d.verdict = 'written') OVER about) AS hard
      FROM decided d WINDOW about AS (PARTITION BY d.app, d.resource)
  ), done AS MATERIALIZED (
    SELECT i.*, CASE WHEN i.verdict = 'replayed' THEN i.former_fence
                     WHEN i.verdict = 'written' AND i.hold IS NOT NULL THEN coalesce(i.own_fence, nextval('holdline.fence')) END AS fence,
           CASE WHEN i.verdict = 'written' THEN
             CASE WHEN i.hold IS NULL THEN p_ops -> i.op -> 'events' -> (i.number - 1)::integer -> 'payload'
                  ELSE p_ops -> i.op -> 'holds' -> (i.number - 1)::integer -> 'context' END END AS payload
      FROM (SELECT * FROM entangled WHERE socket NOT IN (SELECT e.socket FROM entangled e WHERE e.hard)
             ORDER BY op, hold IS NULL, number) i
  ), locked AS (
    INSERT INTO holdline.lock (fence, shard, app, resource, mode, principal, state, topic, context, grace_ms, socket_id)
    SELECT d.fence, d.shard, d.app, d.resource, d.mode, d.principal, 'held', d.topic, d.payload, d.grace_ms, d.socket
      FROM done d WHERE d.verdict = 'written' AND d.hold IS NOT NULL AND d.own_fence IS NULL
  ), resumed AS (
    UPDATE holdline.lock l SET state = 'held', grace_until = NULL, cause = NULL, detected_ms_before_commit = NULL, socket_id = d.socket
      FROM done d WHERE d.verdict = 'written' AND d.own_state = 'grace' AND l.fence = d.own_fence
  ), held AS (
    INSERT INTO holdline.hold (hold, fence, shard, incarnation, socket_id, outcome)
    SELECT d.hold, d.fence, d.shard, p_incarnation, d.socket,
           CASE d.own_state WHEN 'held' THEN 'attached' WHEN 'grace' THEN 'resumed' ELSE 'granted' END
      FROM done d WHERE d.verdict = 'written' AND d.hold IS NOT NULL
  ), entry AS MATERIALIZED (
    SELECT d.*, p_heads[d.shard + 1] + row_number() OVER (PARTITION BY d.shard ORDER BY d.op, d.hold IS NULL, d.number) AS position
      FROM done d WHERE d.verdict = 'written' AND d.own_fence IS NULL AND NOT d.logged
  ), head AS (
    UPDATE holdline.shard_head s SET last_position = e.last
      FROM (SELECT shard, max(position) AS last FROM entry GROUP BY shard) e WHERE s.shard = e.shard
  ), logged AS (
    INSERT INTO holdline.event (shard, position, kind, type, app, resource, fence, principal, socket_id, incarnation, payload, operation,
                                operation_index)
    SELECT e.shard, e.position, coalesce(e.kind, 'locked'), coalesce(e.type, holdline.event_type(e.topic, 'locked')), e.app, e.resource,
           e.fence, e.principal, e.socket, p_incarnation, e.payload, CASE WHEN e.hold IS NULL THEN e.id END,
           CASE WHEN e.hold IS NULL THEN e.number END
      FROM entry e
  )
  SELECT d.op, CASE WHEN d.verdict <> 'gone' THEN d.hold END,
         CASE WHEN d.verdict IN ('gone', 'denied') THEN d.verdict WHEN d.hold IS NULL THEN 'committed'
              WHEN d.verdict = 'replayed' THEN d.former_outcome
              ELSE CASE d.own_state WHEN 'held' THEN 'attached' WHEN 'grace' THEN 'resumed' ELSE 'granted' END END,
         d.fence,
         CASE WHEN d.verdict = 'denied' THEN holdline.holders(d.app, d.resource) END
    FROM done d
   WHERE CASE d.verdict WHEN 'denied' THEN d.hold IS NOT NULL AND d.number = d.refused
                        WHEN 'gone' THEN d.hold IS NOT NULL AND d.number = 1
                        ELSE d.hold IS NOT NULL OR (d.holds = 0 AND d.number = 1) END;
END $$;

-- One connection's outcome per op: all of its holds and events, or none; a refused op leaves the others of the batch alone.
-- Rows: one per hold ('granted', 'attached', 'resumed'), or one per op: 'denied' with the holders, 'gone', 'committed' (no holds).
CREATE FUNCTION holdline.commit(p_incarnation bigint, p_ops jsonb)
RETURNS TABLE (op integer, hold uuid, outcome text, fence bigint, displaced bigint[], holders jsonb)
LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_op      record;
  v_new     record;
  v_shards  smallint[] := holdline.shards_of(p_ops);
  v_heads   bigint[];
  v_done    integer[] := '{}';
  v_holds   uuid[];
  v_outcomes text[];
  v_holders jsonb[];
  v_fences  bigint[];
  v_found   integer;
  v_live    boolean;
  v_taken   record;
  v_fence   bigint;
  v_state   text;
BEGIN
  PERFORM holdline.enter(p_incarnation);
  v_heads := holdline.lock_shards(v_shards);
  IF jsonb_array_length(p_ops) > 2 THEN                               -- one or two are faster one by one
    SELECT array_agg(i.op), array_agg(i.hold), array_agg(i.outcome), array_agg(i.fence), array_agg(i.holders)
      INTO v_done, v_holds, v_outcomes, v_fences, v_holders
      FROM holdline.commit_independent(p_incarnation, p_ops, v_heads) i;
    RETURN QUERY SELECT d.op, d.hold, d.outcome, d.fence, '{}'::bigint[], d.holders
      FROM unnest(v_done, v_holds, v_outcomes, v_fences, v_holders) d (op, hold, outcome, fence, holders);
    IF (SELECT count(DISTINCT d) FROM unnest(v_done) d) = jsonb_array_length(p_ops) THEN RETURN; END IF;
    v_heads := holdline.lock_shards(v_shards);
  END IF;
  <<each_op>>
  FOR v_op IN
    SELECT (o.ordinality - 1)::integer AS number, (o.value ->> 'id')::uuid AS id, o.value ->> 'socket' AS socket,
           o.value ->> 'app' AS app, o.value -> 'holds' AS holds, o.value -> 'events' AS events
      FROM jsonb_array_elements(p_ops) WITH ORDINALITY o
     WHERE (o.ordinality - 1)::integer NOT IN (SELECT d FROM unnest(v_done) d)
  LOOP
    op := v_op.number; hold := NULL; fence := NULL; displaced := '{}'; holders := NULL;

    -- A replay answers as it did before. Whoever ends a hold behind its node's back leaves a tombstone.
    v_holds := ARRAY(SELECT (h ->> 'hold')::uuid FROM jsonb_array_elements(v_op.holds) h);
    IF cardinality(v_holds) > 0 THEN
      IF EXISTS (SELECT 1 FROM holdline.tombstone t WHERE t.hold = ANY (v_holds)) THEN
        outcome := 'gone'; RETURN NEXT; CONTINUE;
      END IF;
      SELECT count(*) INTO v_found FROM holdline.hold h WHERE h.hold = ANY (v_holds);
      IF v_found = cardinality(v_holds) THEN
        RETURN QUERY SELECT v_op.number, h.hold, h.outcome, h.fence, '{}'::bigint[], NULL::jsonb
          FROM holdline.hold h WHERE h.hold = ANY (v_holds);
        CONTINUE;
      ELSIF v_found > 0 THEN
        outcome := 'gone'; RETURN NEXT; CONTINUE;
      END IF;
    ELSIF EXISTS (SELECT 1 FROM holdline.event e WHERE e.operation = v_op.id) THEN
      outcome := 'committed'; RETURN NEXT; CONTINUE;
    END IF;

    -- Is any of it refused? Then nothing of the op is written. The holds of one op name different resources.
    v_live := false;
    FOR v_new IN SELECT * FROM jsonb_to_recordset(v_op.holds)
      AS h (hold uuid, shard smallint, resource text, mode text, if_taken text, principal text)
    LOOP
      SELECT count(*) AS live, count(*) FILTER (WHERE shard <> v_new.shard) AS misplaced,
             count(*) FILTER (WHERE conflicts) AS conflicting, count(*) FILTER (WHERE conflicts AND state = 'held') AS held
        INTO v_taken
        FROM (SELECT l.shard, l.state, NOT (l.mode = v_new.mode AND (l.mode = 'shared' OR l.principal = v_new.principal)) AS conflicts
                FROM holdline.lock l WHERE l.app = v_op.app AND l.resource = v_new.resource AND l.state <> 'released') c;
      IF v_taken.misplaced > 0 THEN
        RAISE EXCEPTION 'resource % of app % is in another shard than %', v_new.resource, v_op.app, v_new.shard USING ERRCODE = 'HL003';
      END IF;
      v_live := v_live OR v_taken.live > 0;
      IF v_taken.conflicting > 0 AND NOT (v_new.if_taken = 'take' OR (v_new.if_taken = 'take-if-in-grace' AND v_taken.held = 0)) THEN
        outcome := 'denied'; hold := v_new.hold; holders := holdline.holders(v_op.app, v_new.resource);
        RETURN NEXT; CONTINUE each_op;
      END IF;
    END LOOP;

    FOR v_new IN SELECT * FROM jsonb_to_recordset(v_op.holds)
      AS h (hold uuid, shard smallint, resource text, mode text, principal text, topic text, context jsonb, grace_ms integer)
    LOOP
      hold := v_new.hold; displaced := '{}';
      IF v_live THEN
        SELECT l.fence, l.state INTO v_fence, v_state FROM holdline.lock l
         WHERE l.app = v_op.app AND l.resource = v_new.resource AND l.mode = v_new.mode AND l.principal = v_new.principal
           AND l.state <> 'released';
        IF FOUND THEN                                                -- another tab, or back within the grace
          IF v_state = 'grace' THEN
            UPDATE holdline.lock l SET state = 'held', grace_until = NULL, cause = NULL, detected_ms_before_commit = NULL,
                   socket_id = v_op.socket WHERE l.fence = v_fence;
          END IF;
          fence := v_fence; outcome := CASE v_state WHEN 'grace' THEN 'resumed' ELSE 'attached' END;
          INSERT INTO holdline.hold (hold, fence, shard, incarnation, socket_id, outcome)
          VALUES (hold, v_fence, v_new.shard, p_incarnation, v_op.socket, outcome);
          RETURN NEXT; CONTINUE;
        END IF;
        FOR v_taken IN                                               -- whatever still conflicts is taken over
          UPDATE holdline.lock l SET state = 'released', released_at = clock_timestamp(), grace_until = NULL, cause = 'taken_over',
                 detected_ms_before_commit = NULL
           WHERE l.app = v_op.app AND l.resource = v_new.resource AND l.state <> 'released'
             AND (l.mode = 'exclusive' OR v_new.mode = 'exclusive')
          RETURNING l.*
        LOOP
          WITH ended AS (DELETE FROM holdline.hold h WHERE h.fence = v_taken.fence RETURNING h.hold)
          INSERT INTO holdline.tombstone (hold) SELECT ended.hold FROM ended ON CONFLICT DO NOTHING;
          v_heads[v_taken.shard + 1] := v_heads[v_taken.shard + 1] + 1;
          INSERT INTO holdline.event (shard, position, kind, type, app, resource, fence, principal, socket_id, incarnation, cause, payload)
          VALUES (v_taken.shard, v_heads[v_taken.shard + 1], 'unlocked', holdline.event_type(v_taken.topic, 'unlocked'),
                  v_taken.app, v_taken.resource, v_taken.fence, v_taken.principal, v_taken.socket_id, p_incarnation, 'taken_over',
                  v_taken.context);
          displaced := displaced || v_taken.fence;
        END LOOP;
      END IF;
      fence := nextval('holdline.fence'); outcome := 'granted';
      INSERT INTO holdline.lock (fence, shard, app, resource, mode, principal, state, topic, context, grace_ms, socket_id)
      VALUES (fence, v_new.shard, v_op.app, v_new.resource, v_new.mode, v_new.principal, 'held', v_new.topic, v_new.context,
              v_new.grace_ms, v_op.socket);
      INSERT INTO holdline.hold (hold, fence, shard, incarnation, socket_id, outcome)
      VALUES (hold, fence, v_new.shard, p_incarnation, v_op.socket, outcome);
      v_heads[v_new.shard + 1] := v_heads[v_new.shard + 1] + 1;
      INSERT INTO holdline.event (shard, position, kind, type, app, resource, fence, principal, socket_id, incarnation, payload)
      VALUES (v_new.shard, v_heads[v_new.shard + 1], 'locked', holdline.event_type(v_new.topic, 'locked'), v_op.app, v_new.resource, fence,
              v_new.principal, v_op.socket, p_incarnation, v_new.context);
      RETURN NEXT;
    END LOOP;

    FOR v_new IN SELECT e.* FROM ROWS FROM (jsonb_to_recordset(v_op.events) AS (shard smallint, kind text, type text, key text,
      principal text, payload jsonb)) WITH ORDINALITY e (shard, kind, type, key, principal, payload, number)
       WHERE NOT EXISTS (SELECT 1 FROM holdline.event f WHERE f.operation = v_op.id)
    LOOP
      v_heads[v_new.shard + 1] := v_heads[v_new.shard + 1] + 1;
      INSERT INTO holdline.event (shard, position, kind, type, app, resource, principal, socket_id, incarnation, payload, operation,
                                  operation_index)
      VALUES (v_new.shard, v_heads[v_new.shard + 1], v_new.kind, v_new.type, v_op.app, v_new.key, v_new.principal, v_op.socket,
              p_incarnation, v_new.payload, v_op.id, v_new.number);
    END LOOP;
    IF cardinality(v_holds) = 0 THEN
      outcome := 'committed'; RETURN NEXT;
    END IF;
  END LOOP;
  UPDATE holdline.shard_head s SET last_position = v_heads[s.shard + 1]
   WHERE s.shard = ANY (v_shards) AND s.last_position <> v_heads[s.shard + 1];
END $$;
