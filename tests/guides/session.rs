//! Runs what a page says, in order, in a directory of its own: `sh` in a shell that goes on from block to block, files where the page
//! says that they are written, and a `text` block compared with what was printed before it.
//!
//! What the text calls port 6001 is a free port here (`<!-- ports: 6001 -->`), and what it calls by a name that only its reader has is
//! something of ours (`<!-- instead: A => B -->`); in what is printed both are turned back before it is compared.

use std::{
    collections::BTreeMap,
    fs::{self, File},
    os::unix::{fs::symlink, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use super::{
    compare,
    page::{Block, Fault, Item, Note, Page},
};
use crate::support::{holdline, postgres, proxy::runtime};

/// The longest that a block may take, the longest that something in the background is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// In place of cargo: builds nothing, since the program is there. `cargo run … -- ARGS` is `holdline ARGS`.
const CARGO: &str = r#"#!/bin/sh
case "$*" in
  "build --release") mkdir -p target/release && ln -sf "$(command -v holdline)" target/release/holdline ;;
  "run --release") exec holdline ;;
  "run --release -- "*) shift 3; exec holdline "$@" ;;
  *) echo "the runner does not know: cargo $*" >&2; exit 97 ;;
esac
"#;

/// Around each block: what the one before has exported, and where it has gone to.
const AROUND: &str = r#"set -eo pipefail
. "$RUNNER/state" 2> /dev/null || true
cd "$(cat "$RUNNER/place")"
trap 'export -p | grep -v "declare -x RUNNER=" > "$RUNNER/state"; pwd > "$RUNNER/place"' EXIT
"#;

/// Something that runs in the background.
struct Job {
    child: Child,
    guard: Child,
    output: PathBuf,
}

impl Job {
    fn signal(&self, name: &str) {
        let group = format!("-{}", self.child.id());
        let _ = Command::new("kill").args([name, "--", &group]).stderr(Stdio::null()).status();
    }
}

impl Drop for Job {
    fn drop(&mut self) {
        self.signal("-KILL");
        let _ = self.child.wait();
        let _ = self.guard.kill();
        let _ = self.guard.wait();
    }
}

pub(crate) struct Session<'p> {
    page: &'p Page,
    home: TempDir,
    jobs: BTreeMap<String, Job>,
    /// What the text says, and what is used in its place.
    instead: Vec<(String, String)>,
    /// What the last block that ran has printed.
    printed: Option<String>,
    database: Option<String>,
    outputs: usize,
}

impl<'p> Session<'p> {
    pub(crate) fn new(page: &'p Page) -> Session<'p> {
        let home = tempfile::tempdir().expect("a temporary directory");
        let runner = home.path().join("runner");
        fs::create_dir_all(runner.join("bin")).expect("a directory");
        fs::create_dir(home.path().join("place")).expect("a directory");
        fs::write(runner.join("place"), home.path().join("place").to_string_lossy().as_bytes()).expect("a file");
        let binary = holdline(home.path()).get_program().to_owned();
        symlink(binary, runner.join("bin/holdline")).expect("a link");
        fs::write(runner.join("bin/cargo"), CARGO).expect("a file");
        let executable = Command::new("chmod").arg("755").arg(runner.join("bin/cargo")).status();
        assert!(executable.expect("chmod runs").success());
        Session { page, home, jobs: BTreeMap::new(), instead: Vec::new(), printed: None, database: None, outputs: 0 }
    }

    /// Does what the page says, until something is wrong.
    pub(crate) fn run(mut self) -> Result<(), Fault> {
        for item in &self.page.items {
            match item {
                Item::Note(note) => self.note(note)?,
                Item::Block(block) => self.block(block).map_err(|reason| self.page.fault(block.line, reason))?,
            }
        }
        Ok(())
    }

    fn note(&mut self, note: &Note) -> Result<(), Fault> {
        match note.verb.as_str() {
            "ports" => {
                for port in note.rest.split_whitespace() {
                    self.instead.push((port.to_owned(), postgres::free_port().to_string()));
                }
            }
            "instead" => {
                let Some((text, ours)) = note.rest.split_once(" => ") else { return Err(self.page.fault(note.line, "instead: A => B")) };
                let ours = self.expand(ours);
                self.instead.push((text.to_owned(), ours));
            }
            "setup" => {
                let (how, text) = note.rest.split_once(" :: ").unwrap_or(("to the end", &note.rest));
                let text = text.replace("$REPOSITORY", env!("CARGO_MANIFEST_DIR"));
                let run = Note { verb: "run".to_owned(), rest: how.to_owned(), ..note.clone() };
                let (language, attributes) = ("sh".to_owned(), Vec::new());
                let block = Block { line: note.line, language, attributes, text, notes: vec![run] };
                self.block(&block).map_err(|reason| self.page.fault(note.line, reason))?;
            }
            _ => {
                let Some(job) = self.jobs.remove(&note.rest) else { return Err(self.page.fault(note.line, "nothing of this name runs")) };
                self.end(job).map_err(|reason| self.page.fault(note.line, reason))?;
            }
        }
        Ok(())
    }

    /// What Ctrl-C does.
    fn end(&self, mut job: Job) -> Result<(), String> {
        job.signal("-INT");
        let deadline = Instant::now() + LIMIT;
        while job.child.try_wait().map_err(|error| error.to_string())?.is_none() {
            if Instant::now() > deadline {
                return Err(format!("it did not end:\n{}", read(&job.output)));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    /// `$POSTGRES` is a database of this page's own, `$PLACE` its directory, `$REPOSITORY` where this file is.
    fn expand(&mut self, text: &str) -> String {
        let mut text = text.replace("$REPOSITORY", env!("CARGO_MANIFEST_DIR"));
        text = text.replace("$PLACE", &self.place().to_string_lossy());
        if text.contains("$POSTGRES") {
            text = text.replace("$POSTGRES", &self.database());
        }
        if text.contains("$PORT") {
            text = text.replace("$PORT", &postgres::free_port().to_string());
        }
        text
    }

    fn database(&mut self) -> String {
        self.database.get_or_insert_with(|| runtime().block_on(postgres::fresh_database()).0).clone()
    }

    pub(crate) fn place(&self) -> PathBuf {
        PathBuf::from(read(&self.home.path().join("runner/place")).trim())
    }

    fn block(&mut self, block: &Block) -> Result<(), String> {
        let text = self.ours(block)?;
        if let Some(name) = block.note("file").or(block.note("append")) {
            let path = self.place().join(name);
            let before = if block.note("append").is_some() { read(&path) } else { String::new() };
            fs::create_dir_all(path.parent().unwrap_or(Path::new("."))).map_err(|error| error.to_string())?;
            fs::write(&path, before + &text).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        match block.language.as_str() {
            "sh" => self.shell(block, &text),
            "text" => self.compare(block),
            "toml" => self.toml(block, &text),
            "ini" => self.variables(block, &text),
            "sql" => self.sql(block, &text),
            "nginx" => super::consumers::nginx(self.home.path(), &text),
            "yaml" => super::consumers::prometheus(self.home.path(), &text),
            // cargo test --doc compiles them; `inventory` has seen that it gets to this page.
            "rust" => Ok(()),
            // tests/clients/guides.test.mjs runs them; `inventory` has seen that it knows their names.
            _ if block.note("test").is_some() => Ok(()),
            language => Err(format!("there is no way to check a block of \"{language}\"")),
        }
    }

    /// The block's text as it is run here.
    fn ours(&mut self, block: &Block) -> Result<String, String> {
        let mut text = self.theirs_to_ours(&block.text);
        for pair in block.note("with").into_iter().flat_map(|pairs| pairs.split(", ")) {
            let (name, value) = pair.split_once('=').ok_or_else(|| format!("with: {pair} has no ="))?;
            if !text.contains(name) {
                return Err(format!("with: there is no {name} in this block"));
            }
            let value = self.expand(value);
            text = text.replace(name, &value);
        }
        Ok(text)
    }

    fn theirs_to_ours(&self, text: &str) -> String {
        self.instead.iter().fold(text.to_owned(), |text, (theirs, ours)| text.replace(theirs, ours))
    }

    fn ours_to_theirs(&self, text: &str) -> String {
        self.instead.iter().rev().fold(text.to_owned(), |text, (theirs, ours)| text.replace(ours, theirs))
    }

    pub(crate) fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let runner = self.home.path().join("runner");
        let path = format!("{}:{}", runner.join("bin").display(), std::env::var("PATH").unwrap_or_default());
        let mut command = Command::new(program);
        command.env_clear().env("PATH", path).env("HOME", self.home.path()).env("RUNNER", runner).env("LANG", "C.UTF-8");
        // What a reader sees on a terminal.
        command.env("HOLDLINE_LOG__FORMAT", "pretty").current_dir(self.place()).stdin(Stdio::null());
        // Where nothing else says which port it is.
        if let Some((_, port)) = self.instead.iter().find(|(theirs, _)| theirs == "6001") {
            command.env("PORT", port);
        }
        command
    }

    fn shell(&mut self, block: &Block, text: &str) -> Result<(), String> {
        let how = block.note("run").unwrap_or("to the end");
        if how == "exists" {
            return super::consumers::exists(text);
        }
        self.outputs += 1;
        let output = self.home.path().join(format!("output-{}", self.outputs));
        let file = File::create(&output).map_err(|error| error.to_string())?;
        let mut command = self.command("bash");
        command.arg("-c").arg(format!("{AROUND}{text}")).process_group(0);
        command.stdout(file.try_clone().map_err(|error| error.to_string())?).stderr(file);
        let child = command.spawn().map_err(|error| error.to_string())?;
        let mut guard = Command::new("sh");
        guard.args(["-c", "read -r _; kill -9 -- \"-$1\"", "sh", &child.id().to_string()]).stdin(Stdio::piped()).stderr(Stdio::null());
        let guard = guard.spawn().map_err(|error| error.to_string())?;
        let mut job = Job { child, guard, output };
        if let Some(rest) = how.strip_prefix("background ") {
            let (name, sign) = rest.split_once(" until ").ok_or("run: background NAME until TEXT")?;
            self.wait_for(&mut job, sign)?;
            self.printed = Some(String::new());
            self.jobs.insert(name.to_owned(), job);
            return Ok(());
        }
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            match job.child.try_wait().map_err(|error| error.to_string())? {
                Some(status) => break status,
                None if Instant::now() > deadline => return Err(format!("it takes longer than {LIMIT:?}:\n{}", read(&job.output))),
                None => std::thread::sleep(Duration::from_millis(5)),
            }
        };
        let expected = how.strip_prefix("exits ").map_or(Ok(0), str::parse).map_err(|_| format!("unknown: run: {how}"))?;
        let printed = self.ours_to_theirs(&read(&job.output));
        if how != "to the end" && !how.starts_with("exits ") {
            return Err(format!("unknown: run: {how}"));
        }
        if status.code() != Some(expected) {
            return Err(format!("it ended with {status}, and printed:\n{printed}{}", self.what_jobs_say()));
        }
        self.printed = Some(printed);
        Ok(())
    }

    /// What runs in the background, for whoever looks for a fault.
    fn what_jobs_say(&self) -> String {
        self.jobs.iter().map(|(name, job)| format!("\n-- {name} has printed:\n{}", self.ours_to_theirs(&read(&job.output)))).collect()
    }

    fn wait_for(&self, job: &mut Job, sign: &str) -> Result<(), String> {
        let deadline = Instant::now() + LIMIT;
        while !read(&job.output).contains(sign) {
            let ended = job.child.try_wait().map_err(|error| error.to_string())?;
            if ended.is_some() || Instant::now() > deadline {
                return Err(format!("it did not print \"{sign}\":\n{}", self.ours_to_theirs(&read(&job.output))));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(())
    }

    fn compare(&mut self, block: &Block) -> Result<(), String> {
        if block.note("picture").is_some() || block.note("test").is_some() {
            return Ok(());
        }
        let Some(name) = block.note("output") else {
            let printed = self.printed.take().ok_or("there is nothing to compare this with: no command stands before it")?;
            return compare::matches(&block.text, &printed);
        };
        let deadline = Instant::now() + LIMIT;
        loop {
            let job = self.jobs.get(name).ok_or("nothing of this name runs")?;
            let wrong = match compare::matches(&block.text, &self.ours_to_theirs(&read(&job.output))) {
                Ok(()) => return Ok(()),
                Err(wrong) => wrong,
            };
            if Instant::now() > deadline {
                return Err(wrong);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn toml(&mut self, block: &Block, text: &str) -> Result<(), String> {
        if block.note("check") == Some("cargo") {
            return super::consumers::cargo(self.home.path(), text);
        }
        // A page that has the file in parts is checked as a whole.
        let whole = match block.note("append") {
            Some(name) => read(&self.place().join(name)),
            None => text.to_owned(),
        };
        let file = self.home.path().join("checked.toml");
        fs::write(&file, super::consumers::whole(&whole)).map_err(|error| error.to_string())?;
        let output =
            self.command("holdline").args(["config", "check", "--config"]).arg(&file).output().map_err(|error| error.to_string())?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        match block.note("check").and_then(|check| check.strip_prefix("refused ")) {
            Some(reason) if !output.status.success() && said.contains(reason) => Ok(()),
            Some(reason) => Err(format!("config check does not refuse it with \"{reason}\": {said}")),
            None if output.status.success() => Ok(()),
            None => Err(format!("config check: {said}")),
        }
    }

    fn variables(&mut self, block: &Block, text: &str) -> Result<(), String> {
        match block.note("check") {
            Some("broker") => super::consumers::broker_variables(|| self.command("holdline"), text),
            Some("application") => super::consumers::application_variables(|| self.command("holdline"), text),
            _ => Err("check: broker, or check: application?".to_owned()),
        }
    }

    fn sql(&mut self, block: &Block, text: &str) -> Result<(), String> {
        let databases: Vec<&str> = block.note("sql").ok_or("sql: postgres, or sql: sqlite, or both?")?.split_whitespace().collect();
        for name in databases {
            let mut command = match name {
                "postgres" => {
                    let url = self.database();
                    let mut psql = self.command("psql");
                    psql.args(["-X", "-v", "ON_ERROR_STOP=1", "-d", &url, "-c", text]);
                    psql
                }
                "sqlite" => {
                    let mut sqlite = self.command("sqlite3");
                    sqlite.args(["-bail", "-header", "-column", "application.db", text]);
                    sqlite
                }
                _ => return Err(format!("the runner knows no database \"{name}\"")),
            };
            let output = command.output().map_err(|error| format!("{name}: {error}"))?;
            let printed = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
            if !output.status.success() {
                return Err(format!("{name}: {printed}"));
            }
            self.printed = Some(self.ours_to_theirs(&printed));
        }
        Ok(())
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}
