//! A directory from which commands are run, with a store that somebody else has open and writes to, as a broker would.

use tempfile::TempDir;

use super::{
    Ended, run_to_end,
    stored::{Stored, wait},
};

/// Where commands are run.
pub(crate) struct Place {
    pub(crate) directory: TempDir,
    /// What the commands find in their environment.
    pub(crate) env: Vec<(String, String)>,
    pub(crate) stored: Stored,
}

impl Place {
    /// One with the embedded database, as without any configuration, and one with PostgreSQL.
    pub(crate) fn both() -> [Place; 2] {
        [Place::sqlite(), Place::postgres()]
    }

    pub(crate) fn sqlite() -> Place {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let stored = Stored::sqlite(&directory.path().join("holdline-data"));
        Place { directory, env: Vec::new(), stored }
    }

    pub(crate) fn postgres() -> Place {
        let (stored, url) = Stored::postgres();
        Place { directory: tempfile::tempdir().expect("a temporary directory"), env: vec![("DATABASE_URL".to_owned(), url)], stored }
    }

    /// Runs a command that ends by itself.
    pub(crate) fn run(&self, args: &[&str]) -> Ended {
        let env: Vec<(&str, &str)> = self.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        run_to_end(self.directory.path(), args, &env)
    }

    /// Runs a command that must succeed; what it printed.
    pub(crate) fn ok(&self, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, 0, "{args:?}: {}", ended.said());
        ended.stdout
    }

    /// The lines of JSON that a command prints, and nothing else.
    pub(crate) fn json(&self, args: &[&str]) -> Vec<serde_json::Value> {
        let stdout = self.ok(&[args, &["--json"]].concat());
        stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
    }

    /// Runs a command that must fail with this code; what it said, on the standard error only.
    pub(crate) fn refused(&self, code: i32, args: &[&str]) -> String {
        let ended = self.run(args);
        assert_eq!(ended.code, code, "{args:?}: {}", ended.said());
        assert_eq!(ended.stdout, "", "{args:?}");
        assert!(ended.stderr.starts_with("holdline: ") && ended.stderr.lines().count() == 1, "{args:?}: {}", ended.stderr);
        ended.stderr
    }

    /// The place of the log's end, as text.
    pub(crate) fn end(&self) -> String {
        wait(self.stored.store.head()).expect("the store answers").to_string()
    }
}
