-- Who reads the log, and how far. A consumer row is one named reader of one shard; its epoch fences a worker that lost its lease.

CREATE TABLE holdline.consumer (
  name        text     NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
  shard       smallint NOT NULL,
  position    bigint   NOT NULL DEFAULT 0,                           -- the last entry that is done
  epoch       bigint   NOT NULL DEFAULT 0,
  owner       text,
  lease_until timestamptz,                                           -- only saves work: correctness is epoch and position
  attempts    integer  NOT NULL DEFAULT 0,                           -- at the entry after position
  next_try    timestamptz,
  last_error  text,
  PRIMARY KEY (name, shard)
) WITH (fillfactor = 50);

-- Entries a consumer could not apply, and what came after them for the same resource, in order.
CREATE TABLE holdline.parked (
  name       text     NOT NULL,
  shard      smallint NOT NULL,
  position   bigint   NOT NULL,
  app        text     NOT NULL,
  resource   text     NOT NULL,
  reason     text     NOT NULL CHECK (reason IN ('poison', 'behind-poison')),
  attempts   integer  NOT NULL DEFAULT 0,
  last_error text,
  parked_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
  PRIMARY KEY (name, shard, position)
);
CREATE INDEX parked_resource ON holdline.parked (name, app, resource);

-- Deletes a prefix of one shard's log, bounded, never past the slowest consumer nor a parked entry; then what only the log needed.
CREATE FUNCTION holdline.retain(p_by bigint, p_shard smallint, p_keep_ms bigint, p_limit integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  v_upto  bigint;
  v_first bigint;
  v_count integer;
BEGIN
  PERFORM holdline.enter(p_by);
  PERFORM 1 FROM holdline.shard_head WHERE shard = p_shard FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN RETURN -1; END IF;
  SELECT least((SELECT min(position) FROM holdline.consumer WHERE shard = p_shard),
               (SELECT min(position) - 1 FROM holdline.parked WHERE shard = p_shard),
               (SELECT position - 1 FROM holdline.event WHERE shard = p_shard
                   AND at >= clock_timestamp() - p_keep_ms * interval '1 ms' ORDER BY position LIMIT 1),
               last_position, first_position - 1 + p_limit), first_position
    INTO v_upto, v_first FROM holdline.shard_head WHERE shard = p_shard;
  DELETE FROM holdline.event WHERE shard = p_shard AND position <= v_upto;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  UPDATE holdline.shard_head SET first_position = v_upto + 1 WHERE shard = p_shard AND first_position <= v_upto;
  DELETE FROM holdline.lock WHERE fence IN (
    SELECT l.fence FROM holdline.lock l
     WHERE l.shard = p_shard AND l.state = 'released' AND l.released_at < clock_timestamp() - p_keep_ms * interval '1 ms'
       AND NOT EXISTS (SELECT 1 FROM holdline.event e WHERE e.fence = l.fence) LIMIT p_limit);
  DELETE FROM holdline.tombstone WHERE hold IN (
    SELECT hold FROM holdline.tombstone WHERE at < clock_timestamp() - interval '1 hour' LIMIT p_limit FOR UPDATE SKIP LOCKED);
  DELETE FROM holdline.node WHERE incarnation IN (
    SELECT incarnation FROM holdline.node WHERE state = 'swept' AND fenced_at < clock_timestamp() - interval '30 days'
      FOR UPDATE SKIP LOCKED);
  RETURN v_count;
END $$;

-- What writes looks everything up by an index, whatever the statistics say: plans that are made while a table is small, or while its
-- statistics are, would read all of it when it is large. And they are made once per session: for some, planning costs more than running.
DO $$
DECLARE v_function regprocedure;
BEGIN
  FOREACH v_function IN ARRAY ARRAY['holdline.commit(bigint,jsonb)', 'holdline.release(bigint,jsonb)', 'holdline.due_shards()',
    'holdline.force_release(bigint,bigint,text)', 'holdline.sweep(bigint,smallint,integer)', 'holdline.finish_dead(bigint)',
    'holdline.retain(bigint,smallint,bigint,integer)']::regprocedure[]
  LOOP
    EXECUTE format('ALTER FUNCTION %s SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
                      SET enable_mergejoin = off SET jit = off', v_function);
  END LOOP;
END $$;
