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

-- Appends what p_ops emit, and one Unlocked per given lock. p_after says which op (from 1) a lock's end comes after; 0 is before all.
-- An op's events come before the ends of its locks. Events of an op that was here before are left out. The caller has the shard heads.
CREATE FUNCTION holdline.append_ends(p_incarnation bigint, p_ops jsonb, p_fences bigint[], p_after bigint[], p_after_grace boolean)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE v_count bigint;
BEGIN
  WITH entry AS (
    SELECT o.number AS op, 0 AS phase, e.number, e.shard, e.kind, e.type, o.value ->> 'app' AS app, e.key AS resource,
           NULL::bigint AS fence, e.principal, o.value ->> 'socket' AS socket_id, NULL AS cause, NULL::integer AS detected_ms, e.payload,
           (o.value ->> 'id')::uuid AS operation
      FROM jsonb_array_elements(p_ops) WITH ORDINALITY o (value, number)
     CROSS JOIN LATERAL ROWS FROM (jsonb_to_recordset(o.value -> 'events') AS (shard smallint, kind text, type text, key text,
             principal text, payload jsonb)) WITH ORDINALITY e (shard, kind, type, key, principal, payload, number)
     WHERE NOT EXISTS (SELECT 1 FROM holdline.event f WHERE f.operation = (o.value ->> 'id')::uuid)
    UNION ALL
    SELECT f.op, 1, f.number, l.shard, 'unlocked', holdline.event_type(l.topic, 'unlocked'), l.app, l.resource, l.fence, l.principal,
           l.socket_id, l.cause, l.detected_ms_before_commit, l.context, NULL
      FROM unnest(p_fences, p_after) WITH ORDINALITY f (fence, op, number) JOIN holdline.lock l USING (fence)
  ), head AS (
    UPDATE holdline.shard_head s SET last_position = s.last_position + c.entries
      FROM (SELECT shard, count(*) AS entries FROM entry GROUP BY shard) c
     WHERE s.shard = c.shard RETURNING s.shard, s.last_position - c.entries AS base
  )
  INSERT INTO holdline.event (shard, position, kind, type, app, resource, fence, principal, socket_id, incarnation, cause, after_grace,
                              detected_ms_before_commit, payload, operation, operation_index)
  SELECT e.shard, head.base + row_number() OVER (PARTITION BY e.shard ORDER BY e.op, e.phase, e.number), e.kind, e.type, e.app, e.resource,
         e.fence, e.principal, e.socket_id, p_incarnation, e.cause, p_after_grace AND e.phase = 1, e.detected_ms, e.payload, e.operation,
         CASE WHEN e.phase = 0 THEN e.number END
    FROM entry e JOIN head USING (shard);
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END $$;

-- Locks that lost a hold: if it was the last, to grace (an unclean end of a lock that has one) or released. The arrays run in
-- parallel, one entry per lock. Returns the numbers of those that are released now, in the order given. The caller has the shard
-- heads and appends.
CREATE FUNCTION holdline.settle(p_fences bigint[], p_causes text[], p_clean boolean[], p_sockets text[], p_detected_ms integer[])
RETURNS bigint[] LANGUAGE plpgsql AS $$
DECLARE v_released bigint[];
BEGIN
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
    RETURNING l.state, e.number
  )
  SELECT coalesce(array_agg(number ORDER BY number), '{}') INTO v_released FROM settled WHERE state = 'released';
  RETURN v_released;
END $$;

-- One op per end: its events and the release of its holds. clean: no grace. unsure: the answer to a commit never came, so a late
-- arrival of it must find the holds gone. If several ops let go of one lock, the last one decides. Idempotent. Returns how many
-- entries the log got.
CREATE FUNCTION holdline.release(p_incarnation bigint, p_ops jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  v_fences bigint[]; v_causes text[]; v_clean boolean[]; v_sockets text[]; v_detected integer[]; v_ops bigint[]; v_released bigint[];
BEGIN
  PERFORM holdline.enter(p_incarnation);
  PERFORM holdline.lock_shards(holdline.shards_of(p_ops));
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
  SELECT array_agg(fence ORDER BY number, fence), array_agg(cause ORDER BY number, fence), array_agg(clean ORDER BY number, fence),
         array_agg(socket ORDER BY number, fence), array_agg(detected_ms ORDER BY number, fence), array_agg(number ORDER BY number, fence)
    INTO v_fences, v_causes, v_clean, v_sockets, v_detected, v_ops FROM last;
  v_released := holdline.settle(v_fences, v_causes, v_clean, v_sockets, v_detected);
  RETURN holdline.append_ends(p_incarnation, p_ops, ARRAY(SELECT v_fences[r] FROM unnest(v_released) r),
                              ARRAY(SELECT v_ops[r] FROM unnest(v_released) r), false);
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
  IF holdline.settle(ARRAY[p_fence], ARRAY[p_cause], ARRAY[true], ARRAY[NULL::text], ARRAY[NULL::integer]) = '{}' THEN RETURN false; END IF;
  RETURN holdline.append_ends(p_by, '[]', ARRAY[p_fence], ARRAY[0], false) = 1;
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
  v_fences bigint[]; v_causes text[]; v_sockets text[]; v_released bigint[]; v_expired bigint[];
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
  IF v_fences <> '{}' THEN
    v_released := holdline.settle(v_fences, v_causes, array_fill(false, ARRAY[cardinality(v_fences)]), v_sockets, '{}');
    PERFORM holdline.append_ends(p_by, '[]', ARRAY(SELECT v_fences[r] FROM unnest(v_released) r), '{}', false);
  END IF;
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
  IF v_expired <> '{}' THEN
    PERFORM holdline.append_ends(p_by, '[]', v_expired, '{}', true);
  END IF;
  RETURN v_dropped + cardinality(v_expired);
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
