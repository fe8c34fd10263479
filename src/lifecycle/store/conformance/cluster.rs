//! A PostgreSQL of our own: started once per test run, a fresh database per case, stopped when the process ends.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// Where Debian puts the server; newest first.
fn binaries() -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .expect("these tests need PostgreSQL: apt-get install postgresql")
        .filter_map(|entry| Some(entry.ok()?.path().join("bin")))
        .filter(|bin| bin.join("postgres").exists())
        .collect();
    found.sort();
    found.pop().expect("these tests need PostgreSQL: apt-get install postgresql")
}

/// The user that may run a server: `postgres`, if we are root.
fn owner() -> Option<(u32, u32)> {
    let number = |flag: &str| {
        let output = Command::new("id").args([flag, "postgres"]).output().ok()?;
        String::from_utf8(output.stdout).ok()?.trim().parse::<u32>().ok()
    };
    let we = Command::new("id").arg("-u").output().ok()?;
    (we.stdout.trim_ascii() == b"0").then(|| number("-u").zip(number("-g"))).flatten()
}

fn command(program: &Path, owner: Option<(u32, u32)>) -> Command {
    let mut command = Command::new(program);
    command.stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    if let Some((user, group)) = owner {
        command.uid(user).gid(group);
    }
    command
}

/// The server's socket directory. A small shell watches this process and stops the server, by its number, when it is gone: tests
/// have no end of their own.
fn directory() -> &'static Path {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    DIRECTORY.get_or_init(|| {
        let (bin, owner) = (binaries(), owner());
        let place = tempfile::Builder::new().prefix("holdline-pg-").tempdir().unwrap().keep();
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(&place, Some(user), Some(group)).unwrap();
        }
        let data = place.join("data");
        let initdb = command(&bin.join("initdb"), owner)
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D"])
            .arg(&data)
            .status();
        assert!(initdb.unwrap().success(), "initdb failed");
        let server = command(&bin.join("postgres"), owner)
            .arg("-D")
            .arg(&data)
            .arg("-k")
            .arg(&place)
            .args(["-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=400", "-c", "log_min_messages=panic"])
            .spawn()
            .unwrap();
        let watch = r#"while kill -0 "$1" 2>/dev/null; do sleep 0.3; done
            kill -INT "$2"; while kill -0 "$2" 2>/dev/null; do sleep 0.1; done; rm -rf "$3""#;
        let watcher = Command::new("sh")
            .args(["-c", watch, "sh", &std::process::id().to_string(), &server.id().to_string()])
            .arg(&place)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        watcher.unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !command(&bin.join("pg_isready"), None).arg("-q").arg("-h").arg(&place).status().unwrap().success() {
            assert!(Instant::now() < deadline, "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        place
    })
}

/// The url of a database on the server, for a role.
pub(super) fn url(database: &str, role: &str) -> String {
    format!("postgres://{role}@localhost/{database}?host={}", directory().display())
}

/// Runs a statement.
pub(super) async fn run(url: &str, sql: String) {
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// A fresh, empty database; its url.
pub(super) async fn fresh_database() -> (String, String) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("case_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    tokio::task::spawn_blocking(directory).await.unwrap();
    run(&url("postgres", "postgres"), format!("CREATE DATABASE {name}")).await;
    (url(&name, "postgres"), name)
}
