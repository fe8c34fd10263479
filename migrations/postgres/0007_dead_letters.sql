-- An entry that is parked need not stop what follows it: 'late' is tried again while later entries about the same pass, 'dead' is not
-- tried any more and waits for an operator. A consumer knows since when nobody has owned it, so that one that is left over can go.

ALTER TABLE holdline.parked DROP CONSTRAINT parked_reason_check,
  ADD CONSTRAINT parked_reason_check CHECK (reason IN ('poison', 'behind-poison', 'late', 'dead'));
DROP INDEX holdline.parked_resource;
CREATE INDEX parked_resource ON holdline.parked (name, app, resource, shard, position) WHERE reason IN ('poison', 'behind-poison');
CREATE INDEX parked_waiting  ON holdline.parked (name, shard, position) WHERE reason <> 'dead';
CREATE INDEX parked_dead     ON holdline.parked (parked_at) WHERE reason = 'dead';
CREATE INDEX parked_place    ON holdline.parked (shard, position);

-- When it was made, or given up. If a lease ran later than that, its end counts.
ALTER TABLE holdline.consumer ADD COLUMN idle_since timestamptz NOT NULL DEFAULT clock_timestamp();

-- Drops a consumer that nobody has owned for so long, all of it or nothing.
CREATE FUNCTION holdline.drop_orphan(p_name text, p_idle interval) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE v_count integer;
BEGIN
  PERFORM 1 FROM holdline.consumer WHERE name = p_name ORDER BY shard FOR UPDATE;            -- a claim passes these over
  IF EXISTS (SELECT 1 FROM holdline.consumer WHERE name = p_name AND greatest(idle_since, lease_until) > clock_timestamp() - p_idle) THEN
    RETURN false;
  END IF;
  DELETE FROM holdline.parked WHERE name = p_name;
  DELETE FROM holdline.consumer WHERE name = p_name;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count > 0;
END $$;

-- Deletes a prefix of one shard's log, bounded, never past the slowest consumer nor an entry that is parked; then what only the log
-- needed. Of dead letters the entries themselves stay, below first_position, for as long as the letters do.
CREATE OR REPLACE FUNCTION holdline.retain(p_by bigint, p_shard smallint, p_keep_ms bigint, p_limit integer) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
  v_upto  bigint;
  v_count integer;
BEGIN
  PERFORM holdline.enter(p_by);
  PERFORM 1 FROM holdline.shard_head WHERE shard = p_shard FOR UPDATE SKIP LOCKED;
  IF NOT FOUND THEN RETURN -1; END IF;
  SELECT least((SELECT min(position) FROM holdline.consumer WHERE shard = p_shard),
               (SELECT min(position) - 1 FROM holdline.parked WHERE shard = p_shard AND reason <> 'dead'),
               (SELECT position - 1 FROM holdline.event WHERE shard = p_shard AND position >= h.first_position
                   AND at >= clock_timestamp() - p_keep_ms * interval '1 ms' ORDER BY position LIMIT 1),
               last_position, first_position - 1 + p_limit)
    INTO v_upto FROM holdline.shard_head h WHERE shard = p_shard;
  DELETE FROM holdline.event e WHERE e.shard = p_shard AND e.position <= v_upto
     AND NOT EXISTS (SELECT 1 FROM holdline.parked q WHERE q.shard = e.shard AND q.position = e.position);
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
ALTER FUNCTION holdline.retain(bigint, smallint, bigint, integer) SET plan_cache_mode = force_generic_plan SET enable_seqscan = off
  SET enable_hashjoin = off SET enable_mergejoin = off SET jit = off;
