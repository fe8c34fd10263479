-- Who reads the log, and how far. A consumer row is one named reader of one shard; its epoch fences a worker that lost its lease.

CREATE TABLE holdline.consumer (
  name        text     NOT NULL CHECK (octet_length(name) BETWEEN 1 AND 200),
  shard       smallint NOT NULL,
  position    bigint   NOT NULL DEFAULT 0,                           -- the last entry that is done
  epoch       bigint   NOT NULL DEFAULT 0,
  owner       text,
  lease_until timestamptz,                                           -- only saves work: correctness is epoch and position
  owned_from  timestamptz,                                           -- after a hand-over: until then the former owner finishes
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

-- A lease that ends further away than it is long is a clock that was set back: it does not run.
CREATE FUNCTION holdline.lease_runs(p_until timestamptz, p_lease interval) RETURNS boolean LANGUAGE sql VOLATILE AS
$$ SELECT coalesce(p_until BETWEEN clock_timestamp() AND clock_timestamp() + p_lease, false) $$;

-- Claims shards for an owner, its own included unless it is at work on them: what is free, up to its share, which is all shards divided
-- by the owners whose leases run; and what has been free for a whole lease, since somebody does not take its share. p_level: if it is
-- left with less than its share, it becomes the owner of what others have beyond theirs. They hear of it when they renew, and it
-- claims these shards when most of a lease has gone by, so that two are not at work on one.
CREATE FUNCTION holdline.claim(p_name text, p_owner text, p_lease interval, p_at_work smallint[], p_level boolean)
RETURNS TABLE (shard smallint, "position" bigint, epoch bigint, attempts integer, wait_ms bigint) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
  v_now  timestamptz := clock_timestamp();
  v_all  integer;
  v_mine integer;
  v_live integer;
BEGIN
  SELECT count(*), count(*) FILTER (WHERE c.owner = p_owner),
         count(DISTINCT c.owner) FILTER (WHERE c.owner <> p_owner AND holdline.lease_runs(c.lease_until, p_lease)) + 1
    INTO v_all, v_mine, v_live FROM holdline.consumer c WHERE c.name = p_name;
  RETURN QUERY
  WITH free AS (
    SELECT c.shard, c.owner IS NOT DISTINCT FROM p_owner AS own, coalesce(c.lease_until < v_now - p_lease, true) AS long
      FROM holdline.consumer c
     WHERE c.name = p_name AND c.shard <> ALL (p_at_work)
       AND CASE WHEN c.owner = p_owner THEN NOT holdline.lease_runs(c.owned_from, p_lease)
                ELSE c.owner IS NULL OR NOT holdline.lease_runs(c.lease_until, p_lease) END
     ORDER BY c.shard FOR UPDATE SKIP LOCKED
  ), mine AS (
    SELECT f.shard FROM (SELECT *, row_number() OVER (PARTITION BY own ORDER BY shard) AS number FROM free) f
     WHERE f.own OR f.long OR f.number <= ceil(v_all::numeric / v_live) - v_mine
  )
  UPDATE holdline.consumer c SET owner = p_owner, epoch = c.epoch + 1, lease_until = v_now + p_lease, owned_from = NULL
    FROM mine WHERE c.name = p_name AND c.shard = mine.shard
  RETURNING c.shard, c.position, c.epoch, c.attempts,
            greatest((extract(epoch FROM c.next_try - v_now) * 1000)::bigint, 0);
  IF p_level THEN
    UPDATE holdline.consumer c SET owner = p_owner, lease_until = v_now + p_lease, owned_from = v_now + p_lease * 0.75
      FROM (SELECT o.shard
              FROM (SELECT l.shard, count(*) OVER (PARTITION BY l.owner) - row_number() OVER (PARTITION BY l.owner ORDER BY l.shard) AS left
                      FROM holdline.consumer l WHERE l.name = p_name AND l.owner <> p_owner) o
             WHERE o.left >= v_all / v_live
             LIMIT greatest(v_all / v_live - (SELECT count(*) FROM holdline.consumer m WHERE m.name = p_name AND m.owner = p_owner), 0)) s
     WHERE c.name = p_name AND c.shard = s.shard;
  END IF;
END $$;

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
