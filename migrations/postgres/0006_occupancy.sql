-- Who is on which channels, as far as webhooks tell of it. A key is a channel (its member is '') or a member of one. The first node that
-- sees it makes an entry of the log, and so does the last that stops, once the key has been away for its delay: who comes back before
-- that was never gone. All of an application is in one shard, whose head every writer has locked.

CREATE TABLE holdline.occupant (
  app         text     NOT NULL CHECK (octet_length(app) BETWEEN 1 AND 200),
  channel     text     NOT NULL CHECK (octet_length(channel) BETWEEN 1 AND 512),
  member      text     NOT NULL CHECK (octet_length(member) <= 1024),
  incarnation bigint   NOT NULL,                                     -- who sees it
  shard       smallint NOT NULL,
  PRIMARY KEY (app, channel, member, incarnation)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX occupant_by_incarnation ON holdline.occupant (incarnation, shard, (member = ''));

-- One row per key from its first entry to its second.
CREATE TABLE holdline.occupancy (
  app          text     NOT NULL,
  channel      text     NOT NULL,
  member       text     NOT NULL,
  shard        smallint NOT NULL,
  delay_ms     integer  NOT NULL CHECK (delay_ms >= 0),
  vacant_until timestamptz,                                          -- set while nobody sees it
  PRIMARY KEY (app, channel, member)
) WITH (autovacuum_vacuum_scale_factor = 0.05, autovacuum_analyze_scale_factor = 0.05);
CREATE INDEX occupancy_vacant ON holdline.occupancy (shard, vacant_until, (member = '')) WHERE vacant_until IS NOT NULL;

-- The last batch of each incarnation: a replay of it, or an older one that arrives late, changes nothing.
CREATE TABLE holdline.recorded (
  incarnation bigint PRIMARY KEY,
  number      bigint NOT NULL
) WITH (fillfactor = 50);

CREATE FUNCTION holdline.occupancy_event(p_member text, p_present boolean) RETURNS text LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN p_member = '' THEN CASE WHEN p_present THEN 'channel_occupied' ELSE 'channel_vacated' END
              ELSE CASE WHEN p_present THEN 'member_added' ELSE 'member_removed' END END
$$;

CREATE FUNCTION holdline.occupancy_payload(p_member text) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT CASE WHEN p_member = '' THEN '{}' ELSE jsonb_build_object('user_id', p_member) END
$$;

-- What one node saw on the channels of one application, in order: {"present": true or false, "channel", "member"}, or what only happens:
-- {"channel", "name", "payload"}. Returns how many entries the log got.
CREATE FUNCTION holdline.record(p_incarnation bigint, p_shard smallint, p_app text, p_number bigint, p_delay_ms integer, p_seen jsonb)
RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
  v_now   timestamptz;                                               -- one for all: what goes at once is at once due
  v_head  bigint;
  v_count bigint;
BEGIN
  PERFORM holdline.enter(p_incarnation);
  v_head := (holdline.lock_shards(ARRAY[p_shard]))[p_shard + 1];
  INSERT INTO holdline.recorded AS r (incarnation, number) VALUES (p_incarnation, p_number)
  ON CONFLICT (incarnation) DO UPDATE SET number = excluded.number WHERE r.number < excluded.number;
  IF NOT FOUND THEN RETURN 0; END IF;
  v_now := clock_timestamp();
  WITH sighting AS MATERIALIZED (
    SELECT s.number, s.present, s.channel, coalesce(s.member, '') AS member, s.name, s.payload
      FROM ROWS FROM (jsonb_to_recordset(p_seen) AS (present boolean, channel text, member text, name text, payload jsonb))
           WITH ORDINALITY s (present, channel, member, name, payload, number)
  ), step AS (                                                       -- own, others, known: before this batch
    SELECT s.number, s.present, s.channel, s.member, seen.others, former.known,
           s.present <> coalesce(lag(s.present) OVER (PARTITION BY s.channel, s.member ORDER BY s.number), seen.own) AS changes
      FROM sighting s
     CROSS JOIN LATERAL (SELECT coalesce(bool_or(o.incarnation = p_incarnation), false) AS own,
                                coalesce(bool_or(o.incarnation <> p_incarnation), false) AS others
                           FROM holdline.occupant o WHERE o.app = p_app AND o.channel = s.channel AND o.member = s.member) seen
     CROSS JOIN LATERAL (SELECT count(*) > 0 AS known
                           FROM holdline.occupancy y WHERE y.app = p_app AND y.channel = s.channel AND y.member = s.member) former
     WHERE s.present IS NOT NULL
  ), change AS MATERIALIZED (
    SELECT c.*, row_number() OVER key = 1 AS first, lead(c.number) OVER key IS NULL AS last
      FROM step c WHERE c.changes WINDOW key AS (PARTITION BY c.channel, c.member ORDER BY c.number)
  ), came AS (
    INSERT INTO holdline.occupant (app, channel, member, incarnation, shard)
    SELECT p_app, c.channel, c.member, p_incarnation, p_shard FROM change c WHERE c.last AND c.present
    ON CONFLICT DO NOTHING
  ), went AS (
    DELETE FROM holdline.occupant WHERE ctid = ANY (ARRAY(            -- a join would be planned over all of the application
      SELECT o.ctid FROM change c
       CROSS JOIN LATERAL (SELECT o.ctid FROM holdline.occupant o WHERE o.app = p_app AND o.channel = c.channel
                              AND o.member = c.member AND o.incarnation = p_incarnation LIMIT 1) o
       WHERE c.last AND NOT c.present))
  ), kept AS (
    INSERT INTO holdline.occupancy AS y (app, channel, member, shard, delay_ms, vacant_until)
    SELECT p_app, c.channel, c.member, p_shard, p_delay_ms,
           CASE WHEN NOT c.present THEN v_now + p_delay_ms * interval '1 ms' END
      FROM change c WHERE c.last AND NOT c.others AND (c.present OR p_delay_ms > 0)
    ON CONFLICT (app, channel, member) DO UPDATE SET delay_ms = excluded.delay_ms, vacant_until = excluded.vacant_until
  ), ended AS (
    DELETE FROM holdline.occupancy WHERE ctid = ANY (ARRAY(
      SELECT y.ctid FROM change c
       CROSS JOIN LATERAL (SELECT y.ctid FROM holdline.occupancy y WHERE y.app = p_app AND y.channel = c.channel
                              AND y.member = c.member LIMIT 1) y
       WHERE c.last AND NOT c.others AND NOT c.present AND p_delay_ms = 0))
  ), entry AS MATERIALIZED (
    SELECT e.*, v_head + row_number() OVER (ORDER BY e.number) AS position
      FROM (SELECT c.number, holdline.occupancy_event(c.member, c.present) AS type, c.channel,
                   holdline.occupancy_payload(c.member) AS payload
              FROM change c
             WHERE NOT c.others
               AND CASE WHEN c.present THEN NOT (c.first AND c.known) AND (c.first OR p_delay_ms = 0) ELSE p_delay_ms = 0 END
            UNION ALL
            SELECT s.number, s.name, s.channel, s.payload FROM sighting s WHERE s.present IS NULL) e
  ), head AS (
    UPDATE holdline.shard_head h SET last_position = l.position
      FROM (SELECT max(position) AS position FROM entry) l WHERE h.shard = p_shard AND l.position IS NOT NULL
  )
  INSERT INTO holdline.event (shard, position, kind, type, app, resource, incarnation, payload)
  SELECT p_shard, e.position, 'webhook', e.type, p_app, e.channel, p_incarnation, e.payload FROM entry e;
  GET DIAGNOSTICS v_count = ROW_COUNT;
  RETURN v_count;
END $$;

-- The occupants of fenced nodes go, what they leave vacant begins its delay, and vacancies that are over are ended, up to p_limit of
-- each. Members go and end before their channel. The caller has the shard head.
CREATE FUNCTION holdline.sweep_occupancy(p_by bigint, p_shard smallint, p_limit integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
  v_now      timestamptz := clock_timestamp();
  v_apps     text[];
  v_channels text[];
  v_members  text[];
  v_ended    integer;
BEGIN
  WITH victim AS (
    SELECT o.ctid FROM holdline.node n
     CROSS JOIN LATERAL (SELECT o.ctid, o.member FROM holdline.occupant o
                          WHERE o.incarnation = n.incarnation AND o.shard = p_shard ORDER BY o.member = '' LIMIT p_limit) o
     WHERE n.state = 'fenced' ORDER BY n.incarnation, o.member = '' LIMIT p_limit
  ), dropped AS (
    DELETE FROM holdline.occupant WHERE ctid = ANY (ARRAY(SELECT v.ctid FROM victim v)) RETURNING app, channel, member
  )
  SELECT coalesce(array_agg(app), '{}'), array_agg(channel), array_agg(member) INTO v_apps, v_channels, v_members FROM dropped;
  IF v_apps <> '{}' THEN
    UPDATE holdline.occupancy SET vacant_until = v_now + delay_ms * interval '1 ms' WHERE ctid = ANY (ARRAY(
      SELECT y.ctid FROM unnest(v_apps, v_channels, v_members) d (app, channel, member)
       CROSS JOIN LATERAL (SELECT y.ctid, y.vacant_until FROM holdline.occupancy y
                            WHERE y.app = d.app AND y.channel = d.channel AND y.member = d.member LIMIT 1) y
       CROSS JOIN LATERAL (SELECT count(*) AS left FROM holdline.occupant o
                            WHERE o.app = d.app AND o.channel = d.channel AND o.member = d.member) o
       WHERE y.vacant_until IS NULL AND o.left = 0));
  END IF;
  UPDATE holdline.occupancy SET vacant_until = v_now + delay_ms * interval '1 ms'             -- the clock was set back
   WHERE shard = p_shard AND vacant_until > v_now + delay_ms * interval '1 ms';
  WITH due AS (
    SELECT d.*, row_number() OVER (ORDER BY d.vacant_until, d.member = '', d.app, d.channel, d.member) AS number
      FROM (SELECT y.ctid AS place, y.app, y.channel, y.member, y.vacant_until FROM holdline.occupancy y
             WHERE y.shard = p_shard AND y.vacant_until <= v_now
               -- Not before the last of its members, which a change of clock or delay may have put behind it.
               AND NOT (y.member = '' AND EXISTS (SELECT 1 FROM holdline.occupancy m WHERE m.app = y.app AND m.channel = y.channel
                                                     AND m.member <> '' AND m.vacant_until > y.vacant_until))
             ORDER BY y.vacant_until, y.member = '' LIMIT p_limit) d
  ), ended AS (
    DELETE FROM holdline.occupancy WHERE ctid = ANY (ARRAY(SELECT d.place FROM due d))
  ), head AS (
    UPDATE holdline.shard_head h SET last_position = h.last_position + c.entries
      FROM (SELECT count(*) AS entries FROM due) c
     WHERE h.shard = p_shard AND c.entries > 0 RETURNING h.last_position - c.entries AS base
  )
  INSERT INTO holdline.event (shard, position, kind, type, app, resource, incarnation, payload)
  SELECT p_shard, head.base + d.number, 'webhook', holdline.occupancy_event(d.member, false), d.app, d.channel, p_by,
         holdline.occupancy_payload(d.member)
    FROM due d CROSS JOIN head;
  GET DIAGNOSTICS v_ended = ROW_COUNT;
  RETURN cardinality(v_apps) + v_ended;
END $$;

-- sweep() is for all that is due: the holds and graces as before, then this.
ALTER FUNCTION holdline.sweep(bigint, smallint, integer) RENAME TO sweep_holds;
CREATE FUNCTION holdline.sweep(p_by bigint, p_shard smallint, p_limit integer) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE v_done integer := holdline.sweep_holds(p_by, p_shard, p_limit);
BEGIN
  RETURN CASE WHEN v_done < 0 THEN v_done ELSE v_done + holdline.sweep_occupancy(p_by, p_shard, p_limit) END;
END $$;

CREATE OR REPLACE FUNCTION holdline.due_shards() RETURNS SETOF smallint LANGUAGE sql STABLE AS $$
  SELECT s.shard FROM holdline.shard_head s
   WHERE EXISTS (SELECT 1 FROM holdline.hold h
                  WHERE h.incarnation = ANY (ARRAY(SELECT incarnation FROM holdline.node WHERE state = 'fenced')) AND h.shard = s.shard)
      OR EXISTS (SELECT 1 FROM holdline.lock l WHERE l.shard = s.shard AND l.state = 'grace' AND l.grace_until <= clock_timestamp())
      OR EXISTS (SELECT 1 FROM holdline.lock l WHERE l.shard = s.shard AND l.state = 'grace'
                  AND l.grace_until > clock_timestamp() + l.grace_ms * interval '1 ms')
      OR EXISTS (SELECT 1 FROM holdline.occupant o
                  WHERE o.incarnation = ANY (ARRAY(SELECT incarnation FROM holdline.node WHERE state = 'fenced')) AND o.shard = s.shard)
      OR EXISTS (SELECT 1 FROM holdline.occupancy y WHERE y.shard = s.shard AND y.vacant_until <= clock_timestamp())
      OR EXISTS (SELECT 1 FROM holdline.occupancy y
                  WHERE y.shard = s.shard AND y.vacant_until > clock_timestamp() + y.delay_ms * interval '1 ms')
   ORDER BY s.shard
$$;

CREATE OR REPLACE FUNCTION holdline.finish_dead(p_by bigint) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE v_count integer;
BEGIN
  PERFORM holdline.enter(p_by);
  WITH swept AS (
    UPDATE holdline.node n SET state = 'swept'
     WHERE n.state = 'fenced' AND NOT EXISTS (SELECT 1 FROM holdline.hold h WHERE h.incarnation = n.incarnation)
       AND NOT EXISTS (SELECT 1 FROM holdline.occupant o WHERE o.incarnation = n.incarnation)
    RETURNING n.incarnation
  ), forgotten AS (                                                  -- it will never write again
    DELETE FROM holdline.recorded r USING swept s WHERE r.incarnation = s.incarnation
  )
  SELECT count(*) INTO v_count FROM swept;
  RETURN v_count;
END $$;

DO $$
DECLARE v_function regprocedure;
BEGIN
  FOREACH v_function IN ARRAY ARRAY['holdline.record(bigint,smallint,text,bigint,integer,jsonb)', 'holdline.due_shards()',
    'holdline.sweep(bigint,smallint,integer)', 'holdline.finish_dead(bigint)']::regprocedure[]
  LOOP
    EXECUTE format('ALTER FUNCTION %s SET plan_cache_mode = force_generic_plan SET enable_seqscan = off SET enable_hashjoin = off
                      SET enable_mergejoin = off SET jit = off', v_function);
  END LOOP;
END $$;
