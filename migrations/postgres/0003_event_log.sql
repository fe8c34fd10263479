-- The log: dense positions per shard, in commit order. And everything that ends a lock, since each of those writes to it.

CREATE TABLE holdline.event (
  shard       smallint NOT NULL,
  position    bigint   NOT NULL,
  kind        text     NOT NULL CHECK (kind IN ('locked', 'unlocked', 'event', 'webhook')),
  type        text     NOT NULL CHECK (octet_length(type) BETWEEN 1 AND 208),      -- 'OrderLocked', 'UserOnline', ...
  app         text     NOT NULL CHECK (octet_length(app) BETWEEN 1 AND 200),
  resource    text     NOT NULL CHECK (octet_length(resource) BETWEEN 1 AND 512),  -- what it is about; order holds per resource
  fence       bigint,                                                -- of locked and unlocked
  principal   text,
  socket_id   text,
  incarnation bigint,
  cause       text CHECK (cause IN ('unsubscribed', 'released', 'force_released', 'client_closed', 'gone', 'idle', 'slow_consumer',
    'protocol_error', 'refused', 'kicked', 'handler_failed', 'taken_over', 'shutdown', 'superseded', 'node_death', 'reconciled')),
  after_grace boolean  NOT NULL DEFAULT false,
  detected_ms_before_commit integer,                                 -- how long ago the end was noticed, on the node's own clock
  payload     jsonb    NOT NULL,                                     -- a lock's context, or what the event carries
  operation   uuid,                                                  -- of emitted events: a replay is recognised by it
  operation_index integer,
  at          timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (shard, position),
  CHECK ((kind IN ('locked', 'unlocked')) = (fence IS NOT NULL)),
  CHECK ((kind = 'unlocked') = (cause IS NOT NULL))
) WITH (autovacuum_vacuum_scale_factor = 0.05);
CREATE UNIQUE INDEX event_once           ON holdline.event (fence, kind) WHERE fence IS NOT NULL;  -- one Locked, one Unlocked
CREATE UNIQUE INDEX event_operation_once ON holdline.event (operation, operation_index) WHERE operation IS NOT NULL;

-- One Unlocked per given lock, in the given order. The caller has the shard heads.
CREATE FUNCTION holdline.append_unlocked(p_incarnation bigint, p_fences bigint[], p_after_grace boolean) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE v_count bigint;
BEGIN
  IF cardinality(p_fences) = 0 THEN RETURN 0; END IF;
  WITH ended AS (SELECT l.*, f.number FROM unnest(p_fences) WITH ORDINALITY f (fence, number) JOIN holdline.lock l USING (fence)),
       counted AS (SELECT shard, count(*) AS entries FROM ended GROUP BY shard),
       head AS (UPDATE holdline.shard_head s SET last_position = s.last_position + c.entries FROM counted c
                 WHERE s.shard = c.shard RETURNING s.shard, s.last_position - c.entries AS base)
  INSERT INTO holdline.event (shard, position, kind, type, app, resource, fence, principal, socket_id, incarnation, cause, after_grace,
                              detected_ms_before_commit, payload)
  SELECT e.shard, head.base + row_number() OVER (PARTITION BY e.shard ORDER BY e.number), 'unlocked',
         holdline.event_type(e.topic, 'unlocked'), e.app, e.resource, e.fence, e.principal, e.socket_id, p_incarnation, e.cause, p_after_grace, e.detected_ms_before_commit, e.context
    FROM ended e JOIN head USING (shard);
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END $$;

-- Locks that lost a hold: if it was the last, to grace (an unclean end of a lock that has one) or released. The arrays run in
-- parallel, one entry per lock. The caller has the shard heads.
CREATE FUNCTION holdline.settle(p_incarnation bigint, p_fences bigint[], p_causes text[], p_clean boolean[], p_sockets text[],
                                p_detected_ms integer[]) RETURNS bigint
LANGUAGE plpgsql AS $$
DECLARE v_released bigint[];
BEGIN
  IF cardinality(p_fences) = 0 THEN RETURN 0; END IF;
  WITH ending AS (
    SELECT * FROM unnest(p_fences, p_causes, p_clean, p_sockets, p_detected_ms)
      WITH ORDINALITY e (fence, cause, clean, socket_id, detected_ms, number)
  ), settled AS (
    UPDATE holdline.lock l
       SET state       = CASE WHEN e.clean OR l.grace_ms = 0 THEN 'released' ELSE 'grace' END,
           released_at = CASE WHEN e.clean OR l.grace_ms = 0 THEN clock_timestamp() END,
           grace_until = CASE WHEN e.clean OR l.grace_ms = 0 THEN NULL ELSE clock_timestamp() + l.grace_ms * interval '1 ms' END,
           cause = e.cause, socket_id = coalesce(e.socket_id, l.socket_id), detected_ms_before_commit = e.detected_ms
      FROM ending e
     WHERE l.fence = e.fence AND (l.state = 'held' OR (l.state = 'grace' AND e.clean))
       AND NOT EXISTS (SELECT 1 FROM holdline.hold h WHERE h.fence = l.fence)
    RETURNING l.fence, l.state, e.number
  )
  SELECT coalesce(array_agg(fence ORDER BY number), '{}') INTO v_released FROM settled WHERE state = 'released';
  RETURN holdline.append_unlocked(p_incarnation, v_released, false);
END $$;

-- The ends in p_ops, in one pass. If several of them let go of one lock, the last one decides.
CREATE FUNCTION holdline.let_go(p_incarnation bigint, p_ops jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  v_fences bigint[]; v_causes text[]; v_clean boolean[]; v_sockets text[]; v_detected integer[];
BEGIN
  WITH ending AS (
    SELECT (h.value ->> 'hold')::uuid AS hold, o.number, o.value ->> 'cause' AS cause, (o.value ->> 'clean')::boolean AS clean,
           (o.value ->> 'unsure')::boolean AS unsure, o.value ->> 'socket' AS socket, (o.value ->> 'detected_ms')::integer AS detected_ms
      FROM jsonb_array_elements(p_ops) WITH ORDINALITY o (value, number), jsonb_array_elements(o.value -> 'holds') h
  ), buried AS (
    INSERT INTO holdline.tombstone (hold) SELECT hold FROM ending WHERE unsure ON CONFLICT DO NOTHING
  ), dropped AS (
    DELETE FROM holdline.hold h USING ending e WHERE h.hold = e.hold AND h.incarnation = p_incarnation
    RETURNING h.fence, e.number, e.cause, e.clean, e.socket, e.detected_ms
  ), last AS (
    SELECT DISTINCT ON (fence) * FROM dropped ORDER BY fence, number DESC
  )
  SELECT coalesce(array_agg(fence ORDER BY number, fence), '{}'), array_agg(cause ORDER BY number, fence),
         array_agg(clean ORDER BY number, fence), array_agg(socket ORDER BY number, fence), array_agg(detected_ms ORDER BY number, fence)
    INTO v_fences, v_causes, v_clean, v_sockets, v_detected FROM last;
  RETURN holdline.settle(p_incarnation, v_fences, v_causes, v_clean, v_sockets, v_detected);
END $$;

-- One op per end: its events and the release of its holds. clean: no grace. unsure: the answer to a commit never came, so a late
-- arrival of it must find the holds gone. Idempotent. Returns how many entries the log got.
CREATE FUNCTION holdline.release(p_incarnation bigint, p_ops jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  v_op    record;
  v_new   record;
  v_count bigint := 0;
  v_position bigint;
BEGIN
  PERFORM holdline.enter(p_incarnation);
  PERFORM holdline.lock_shards(holdline.shards_of(p_ops));
  IF NOT EXISTS (SELECT 1 FROM jsonb_array_elements(p_ops) o WHERE o -> 'events' <> '[]') THEN
    RETURN holdline.let_go(p_incarnation, p_ops);
  END IF;
  FOR v_op IN SELECT o AS value, (o ->> 'id')::uuid AS id, o ->> 'socket' AS socket, o ->> 'app' AS app FROM jsonb_array_elements(p_ops) o
  LOOP
    IF v_op.value -> 'events' <> '[]' AND NOT EXISTS (SELECT 1 FROM holdline.event e WHERE e.operation = v_op.id) THEN
      FOR v_new IN SELECT e.* FROM ROWS FROM (jsonb_to_recordset(v_op.value -> 'events') AS (shard smallint, kind text, type text,
        key text, principal text, payload jsonb)) WITH ORDINALITY e (shard, kind, type, key, principal, payload, number)
      LOOP
        UPDATE holdline.shard_head s SET last_position = s.last_position + 1 WHERE s.shard = v_new.shard
        RETURNING s.last_position INTO v_position;
        INSERT INTO holdline.event (shard, position, kind, type, app, resource, principal, socket_id, incarnation, payload, operation,
                                    operation_index)
        VALUES (v_new.shard, v_position, v_new.kind, v_new.type, v_op.app, v_new.key, v_new.principal, v_op.socket, p_incarnation,
                v_new.payload, v_op.id, v_new.number);
        v_count := v_count + 1;
      END LOOP;
    END IF;
    v_count := v_count + holdline.let_go(p_incarnation, jsonb_build_array(v_op.value));
  END LOOP;
  RETURN v_count;
END $$;

-- An operator or the application ends one lock, whoever holds it: by fence, never by key.
CREATE FUNCTION holdline.force_release(p_by bigint, p_fence bigint, p_cause text) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v_shard smallint;
BEGIN
  PERFORM holdline.enter(p_by);
  SELECT shard INTO v_shard FROM holdline.lock WHERE fence = p_fence AND state <> 'released';
  IF NOT FOUND THEN RETURN false; END IF;
  PERFORM holdline.lock_shards(ARRAY[v_shard]);
  WITH ended AS (DELETE FROM holdline.hold h WHERE h.fence = p_fence RETURNING h.hold)
  INSERT INTO holdline.tombstone (hold) SELECT hold FROM ended ON CONFLICT DO NOTHING;
  RETURN holdline.settle(p_by, ARRAY[p_fence], ARRAY[p_cause], ARRAY[true], ARRAY[NULL::text], ARRAY[NULL::integer]) > 0;
END $$;

-- Shards with work for sweep(). A read: nothing due, nothing written.
CREATE FUNCTION holdline.due_shards() RETURNS SETOF smallint LANGUAGE sql STABLE AS $$
  SELECT s.shard FROM holdline.shard_head s
   WHERE EXISTS (SELECT 1 FROM holdline.hold h
                  WHERE h.incarnation = ANY (ARRAY(SELECT incarnation FROM holdline.node WHERE state = 'fenced')) AND h.shard = s.shard)
      OR EXISTS (SELECT 1 FROM holdline.lock l WHERE l.shard = s.shard AND l.state = 'grace' AND l.grace_until <= clock_timestamp())
      OR EXISTS (SELECT 1 FROM holdline.lock l WHERE l.shard = s.shard AND l.state = 'grace'
                  AND l.grace_until > clock_timestamp() + l.grace_ms * interval '1 ms')
   ORDER BY s.shard
$$;

-- Any node, any time, bounded: the holds of fenced nodes, and graces that are over. -1: the shard is busy, try another.
CREATE FUNCTION holdline.sweep(p_by bigint, p_shard smallint, p_limit integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  v_fences bigint[]; v_causes text[]; v_sockets text[]; v_expired bigint[];
  v_dropped integer;
BEGIN
  PERFORM holdline.enter(p_by);
  PERFORM 1 FROM holdline.shard_head WHERE shard = p_shard FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN RETURN -1; END IF;
  WITH victim AS (
    SELECT h.hold FROM holdline.hold h
     WHERE h.shard = p_shard AND h.incarnation = ANY (ARRAY(SELECT incarnation FROM holdline.node WHERE state = 'fenced')) LIMIT p_limit
  ), dropped AS (
    DELETE FROM holdline.hold h USING victim v WHERE h.hold = v.hold RETURNING h.fence, h.incarnation, h.socket_id
  ), last AS (
    SELECT DISTINCT ON (fence) fence, incarnation, socket_id FROM dropped ORDER BY fence, incarnation DESC
  )
  SELECT coalesce(array_agg(l.fence ORDER BY l.fence), '{}'), array_agg(n.end_cause ORDER BY l.fence),
         array_agg(l.socket_id ORDER BY l.fence), (SELECT count(*) FROM dropped)
    INTO v_fences, v_causes, v_sockets, v_dropped
    FROM last l JOIN holdline.node n USING (incarnation);
  PERFORM holdline.settle(p_by, v_fences, v_causes, array_fill(false, ARRAY[cardinality(v_fences)]), v_sockets,
                          array_fill(NULL::integer, ARRAY[cardinality(v_fences)]));
  UPDATE holdline.lock SET grace_until = clock_timestamp() + grace_ms * interval '1 ms'       -- the clock was set back
   WHERE shard = p_shard AND state = 'grace' AND grace_until > clock_timestamp() + grace_ms * interval '1 ms';
  WITH due AS (
    SELECT l.fence, l.grace_until FROM holdline.lock l
     WHERE l.shard = p_shard AND l.state = 'grace' AND l.grace_until <= clock_timestamp() ORDER BY l.grace_until LIMIT p_limit
  ), expired AS (
    UPDATE holdline.lock l SET state = 'released', released_at = clock_timestamp(), grace_until = NULL
      FROM due WHERE l.fence = due.fence RETURNING l.fence, due.grace_until
  )
  SELECT coalesce(array_agg(fence ORDER BY grace_until, fence), '{}') INTO v_expired FROM expired;
  RETURN v_dropped + holdline.append_unlocked(p_by, v_expired, true);
END $$;

CREATE FUNCTION holdline.finish_dead(p_by bigint) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE v_count integer;
BEGIN
  PERFORM holdline.enter(p_by);
  UPDATE holdline.node n SET state = 'swept'
   WHERE n.state = 'fenced' AND NOT EXISTS (SELECT 1 FROM holdline.hold h WHERE h.incarnation = n.incarnation);
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END $$;

-- What a node compares with its memory: how many holds, and the exclusive or of their ids.
CREATE FUNCTION holdline.digest(p_incarnation bigint, OUT holds bigint, OUT high bigint, OUT low bigint) LANGUAGE sql STABLE AS $$
  SELECT count(*), coalesce(bit_xor(('x' || substr(id, 1, 16))::bit(64)::bigint), 0),
         coalesce(bit_xor(('x' || substr(id, 17, 16))::bit(64)::bigint), 0)
    FROM (SELECT replace(hold::text, '-', '') AS id FROM holdline.hold WHERE incarnation = p_incarnation) h
$$;
