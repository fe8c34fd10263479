//! Safety rules that can be taken out of a PostgreSQL store, one at a time, to see that the tests notice. Compiled with the feature
//! `mutants` only, never in a release: a database that a mutant has touched stays altered.
//!
//! `HOLDLINE_MUTANT=<name>` picks one when a store connects.

use sqlx::{Connection, PgConnection};

use super::StoreError;
use crate::domain::words;

words! {
    /// What is taken out.
    Mutant {
        /// A fenced node's writes are carried out.
        NoIncarnationCheck = "no-incarnation-check",
        /// Nothing remembers holds that ended before their commit arrived, and nobody compares memory and table.
        NoTombstones = "no-tombstones",
        /// A release ends whatever holds the resource by then.
        ReleaseIgnoresFence = "release-ignores-fence",
        /// Who comes back within the grace gets a new lock.
        NoResume = "no-resume",
    }
}

const VARIABLE: &str = "HOLDLINE_MUTANT";

impl Mutant {
    /// The one this process is to be.
    fn chosen() -> Result<Option<Self>, StoreError> {
        match std::env::var(VARIABLE) {
            Ok(name) if !name.is_empty() => Ok(Some(Self::parse(&name)?)),
            _ => Ok(None),
        }
    }

    fn sql(self) -> &'static str {
        match self {
            Self::NoIncarnationCheck => NO_INCARNATION_CHECK,
            Self::NoTombstones => NO_TOMBSTONES,
            Self::ReleaseIgnoresFence => RELEASE_IGNORES_FENCE,
            Self::NoResume => NO_RESUME,
        }
    }
}

/// Whether this process must not compare its memory with the table: that would mend what a missing tombstone leaves.
pub(crate) fn reconcile_is_off() -> bool {
    matches!(Mutant::chosen(), Ok(Some(Mutant::NoTombstones)))
}

/// Alters the database's functions, if a mutant is chosen. Any number of nodes may do so.
pub(super) async fn apply(connection: &mut PgConnection) -> Result<(), StoreError> {
    let Some(mutant) = Mutant::chosen()? else { return Ok(()) };
    tracing::error!(mutant = %mutant, "This database loses a safety rule, for a test: {mutant}");
    let mut transaction = Connection::begin(connection).await?;
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('holdline.migration', 0))").execute(&mut *transaction).await?;
    sqlx::raw_sql(mutant.sql()).execute(&mut *transaction).await?;
    transaction.commit().await?;
    Ok(())
}

const NO_INCARNATION_CHECK: &str = "
CREATE OR REPLACE FUNCTION holdline.enter(p_incarnation bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
  PERFORM holdline.check_isolation();
END $$;
";

const NO_TOMBSTONES: &str = "
CREATE OR REPLACE FUNCTION holdline.mutant_nothing() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
CREATE OR REPLACE TRIGGER mutant_no_tombstones BEFORE INSERT ON holdline.tombstone
  FOR EACH ROW EXECUTE FUNCTION holdline.mutant_nothing();
";

const RELEASE_IGNORES_FENCE: &str = "
CREATE TABLE IF NOT EXISTS holdline.mutant_resource (hold uuid PRIMARY KEY, app text NOT NULL, resource text NOT NULL);
CREATE OR REPLACE FUNCTION holdline.mutant_remember() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  INSERT INTO holdline.mutant_resource SELECT new.hold, l.app, l.resource FROM holdline.lock l WHERE l.fence = new.fence
  ON CONFLICT DO NOTHING;
  RETURN NULL;
END $$;
CREATE OR REPLACE TRIGGER mutant_remember AFTER INSERT ON holdline.hold FOR EACH ROW EXECUTE FUNCTION holdline.mutant_remember();
DO $$
BEGIN
  IF to_regproc('holdline.release_by_hold') IS NULL THEN
    ALTER FUNCTION holdline.release(bigint, jsonb) RENAME TO release_by_hold;
  END IF;
END $$;
CREATE OR REPLACE FUNCTION holdline.release(p_incarnation bigint, p_ops jsonb) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE v_ops jsonb;
BEGIN
  PERFORM holdline.enter(p_incarnation);
  PERFORM holdline.lock_shards(holdline.shards_of(p_ops));
  UPDATE holdline.hold h SET incarnation = p_incarnation
    FROM jsonb_array_elements(p_ops) o, jsonb_array_elements(o -> 'holds') e, holdline.mutant_resource m, holdline.lock l
   WHERE m.hold = (e ->> 'hold')::uuid AND l.app = m.app AND l.resource = m.resource AND l.state <> 'released' AND h.fence = l.fence;
  SELECT jsonb_agg(o.value || jsonb_build_object('holds', (
           SELECT coalesce(jsonb_agg(DISTINCT jsonb_build_object('hold', h.hold, 'shard', h.shard)), '[]')
             FROM jsonb_array_elements(o.value -> 'holds') e
             JOIN holdline.mutant_resource m ON m.hold = (e ->> 'hold')::uuid
             JOIN holdline.lock l ON l.app = m.app AND l.resource = m.resource AND l.state <> 'released'
             JOIN holdline.hold h ON h.fence = l.fence)) ORDER BY o.number)
    INTO v_ops FROM jsonb_array_elements(p_ops) WITH ORDINALITY o (value, number);
  RETURN holdline.release_by_hold(p_incarnation, v_ops);
END $$;
";

const NO_RESUME: &str = "
DO $$
BEGIN
  IF to_regproc('holdline.commit_and_resume') IS NULL THEN
    ALTER FUNCTION holdline.commit(bigint, jsonb) RENAME TO commit_and_resume;
  END IF;
END $$;
CREATE OR REPLACE FUNCTION holdline.commit(p_incarnation bigint, p_ops jsonb)
RETURNS TABLE (op integer, hold uuid, outcome text, fence bigint, displaced bigint[], holders jsonb) LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE v_fences bigint[];
BEGIN
  PERFORM holdline.enter(p_incarnation);
  PERFORM holdline.lock_shards(holdline.shards_of(p_ops));
  WITH ended AS (
    UPDATE holdline.lock l SET state = 'released', released_at = clock_timestamp(), grace_until = NULL
      FROM jsonb_array_elements(p_ops) o, jsonb_array_elements(o -> 'holds') h
     WHERE l.app = o ->> 'app' AND l.resource = h ->> 'resource' AND l.mode = h ->> 'mode' AND l.principal = h ->> 'principal'
       AND l.state = 'grace'
    RETURNING l.fence)
  SELECT coalesce(array_agg(e.fence ORDER BY e.fence), '{}') INTO v_fences FROM ended e;
  PERFORM holdline.append_ends(p_incarnation, '[]', v_fences, '{}', true);
  RETURN QUERY SELECT * FROM holdline.commit_and_resume(p_incarnation, p_ops);
END $$;
";

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    /// Runs one case of the conformance suite as a process of its own, which is that mutant; what it said, and whether it passed.
    fn run(mutant: &str, case: &str) -> (bool, String) {
        let case = format!("lifecycle::store::conformance::in_postgres::{case}");
        let output = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", &case])
            .env(VARIABLE, mutant)
            .env("RUST_BACKTRACE", "0")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(said.contains("running 1 test"), "there is no case {case}: {said}");
        (output.status.success(), said)
    }

    fn is_killed_by(mutant: Mutant, cases: &[&str]) {
        for case in cases {
            let (passed, said) = run(mutant.as_str(), case);
            assert!(!passed && said.contains("assertion"), "{mutant} survives {case}: {said}");
        }
        // It is only that rule that is gone.
        let (passed, said) = run(mutant.as_str(), "shared_and_exclusive_exclude_each_other");
        assert!(passed, "{said}");
    }

    #[test]
    fn a_store_that_does_not_check_incarnations_is_noticed() {
        is_killed_by(Mutant::NoIncarnationCheck, &["a_fenced_node_writes_nothing"]);
    }

    #[test]
    fn a_store_without_tombstones_is_noticed() {
        is_killed_by(Mutant::NoTombstones, &["a_release_that_overtakes_its_commit_leaves_nothing_to_take"]);
    }

    #[test]
    fn a_release_by_resource_is_noticed() {
        is_killed_by(
            Mutant::ReleaseIgnoresFence,
            &["a_late_release_of_a_displaced_holder_frees_nobody", "the_last_of_several_tabs_unlocks"],
        );
    }

    #[test]
    fn a_store_that_does_not_resume_is_noticed() {
        is_killed_by(Mutant::NoResume, &["grace_resumes_with_the_same_fence_and_expires_once"]);
    }

    #[test]
    fn a_mutant_that_does_not_exist_is_an_error_and_none_is_none() {
        assert!(!run("no-such-mutant", "a_replay_changes_nothing").0);
        assert!(run("", "a_replay_changes_nothing").0);
    }
}
