-- Applications, beside those of the configuration file. The secrets are what applications sign with: they can be read here. Every
-- change, also one by hand, moves the version of the table, by which brokers notice it, and rings the bell that they listen to: changes
-- are rare, so here the ring may be part of the write.

CREATE TABLE holdline.app (
  id                    text        PRIMARY KEY CHECK (octet_length(id) BETWEEN 1 AND 200),
  key                   text        NOT NULL UNIQUE CHECK (octet_length(key) BETWEEN 1 AND 200),
  secret                text        NOT NULL CHECK (secret <> ''),
  previous_secret       text        CHECK (previous_secret <> ''),
  previous_secret_until timestamptz,
  enabled               boolean     NOT NULL DEFAULT true,
  settings              jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(settings) = 'object'),
  version               bigint      NOT NULL DEFAULT 1,
  updated_at            timestamptz NOT NULL DEFAULT clock_timestamp(),
  CHECK ((previous_secret IS NULL) = (previous_secret_until IS NULL))
);

CREATE TABLE holdline.app_change (single boolean PRIMARY KEY DEFAULT true CHECK (single), version bigint NOT NULL);
INSERT INTO holdline.app_change (version) VALUES (0);

CREATE FUNCTION holdline.app_changed() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  UPDATE holdline.app_change SET version = version + 1;
  PERFORM pg_notify('holdline', 'app');
  RETURN NULL;
END $$;
CREATE TRIGGER app_changed AFTER INSERT OR UPDATE OR DELETE OR TRUNCATE ON holdline.app
  FOR EACH STATEMENT EXECUTE FUNCTION holdline.app_changed();
