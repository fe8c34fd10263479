-- Publishes over HTTP that carry an Idempotency-Key: whose key it is, and what was answered. A claim without an answer is at work as long
-- as its node lives and its time lasts; after that the next one takes it over.

CREATE TABLE holdline.idempotency (
  app         text        NOT NULL,
  key         text        NOT NULL CHECK (octet_length(key) BETWEEN 1 AND 255),
  fingerprint bytea       NOT NULL,                                  -- of the request: another one may not have the key
  attempt     uuid        NOT NULL,                                  -- whoever has been taken over finishes nothing
  incarnation bigint      NOT NULL,
  claimed_at  timestamptz NOT NULL,
  answer      text,
  expires_at  timestamptz NOT NULL,
  PRIMARY KEY (app, key)
);
CREATE INDEX idempotency_expires ON holdline.idempotency (expires_at);

-- p_work_ms: how long an attempt may be at work. A claim from the future was made before the clock was set back.
CREATE FUNCTION holdline.claim_key(p_by bigint, p_app text, p_key text, p_fingerprint bytea, p_attempt uuid, p_keep_ms bigint,
                                   p_work_ms bigint, OUT o_verdict text, OUT o_answer text) LANGUAGE plpgsql AS $$
DECLARE
  r     holdline.idempotency;
  v_now timestamptz;
BEGIN
  PERFORM holdline.enter(p_by);
  LOOP
    INSERT INTO holdline.idempotency (app, key, fingerprint, attempt, incarnation, claimed_at, expires_at)
    VALUES (p_app, p_key, p_fingerprint, p_attempt, p_by, clock_timestamp(), clock_timestamp() + p_keep_ms * interval '1 ms')
    ON CONFLICT (app, key) DO NOTHING;
    IF FOUND THEN
      o_verdict := 'claimed';
      RETURN;
    END IF;
    SELECT * INTO r FROM holdline.idempotency i WHERE i.app = p_app AND i.key = p_key FOR UPDATE;
    EXIT WHEN FOUND;                                                 -- or it was given back in between
  END LOOP;
  v_now := clock_timestamp();
  IF r.expires_at > v_now THEN
    IF r.fingerprint <> p_fingerprint THEN
      o_verdict := 'mismatch';
      RETURN;
    ELSIF r.answer IS NOT NULL THEN
      o_verdict := 'answered';
      o_answer := r.answer;
      RETURN;
    ELSIF r.attempt <> p_attempt
      AND r.claimed_at BETWEEN v_now - p_work_ms * interval '1 ms' AND v_now + p_work_ms * interval '1 ms'
      AND EXISTS (SELECT 1 FROM holdline.node n WHERE n.incarnation = r.incarnation AND n.state IN ('alive', 'draining')) THEN
      o_verdict := 'at_work';
      RETURN;
    END IF;
  END IF;
  UPDATE holdline.idempotency i
     SET fingerprint = p_fingerprint, attempt = p_attempt, incarnation = p_by, claimed_at = v_now, answer = NULL,
         expires_at = v_now + p_keep_ms * interval '1 ms'
   WHERE i.app = p_app AND i.key = p_key;
  o_verdict := CASE WHEN r.expires_at > v_now AND r.attempt <> p_attempt THEN 'taken_over' ELSE 'claimed' END;
END $$;
ALTER FUNCTION holdline.claim_key(bigint, text, text, bytea, uuid, bigint, bigint) SET enable_seqscan = off;
