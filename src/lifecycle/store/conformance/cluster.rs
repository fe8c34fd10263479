//! A PostgreSQL of our own: started once per test run, a fresh database per case, stopped when the process ends.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
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

/// A running server. The shell is its parent: it stops the server, by its number, when this process is gone, however it went, since
/// tests have no end of their own.
struct Server {
    directory: PathBuf,
    _shell: Child,
}

const WATCH: &str = r#""$1" -D "$2/data" -k "$2" -c listen_addresses= -c fsync=off -c max_connections=400 -c log_min_messages=panic &
    server=$!
    while [ -d "/proc/$3" ] && kill -0 "$server"; do sleep 0.3; done
    kill -INT "$server"; wait "$server"; rm -rf "$2""#;

/// The server's socket directory.
pub(in crate::lifecycle) fn directory() -> &'static Path {
    static SERVER: OnceLock<Server> = OnceLock::new();
    let server = SERVER.get_or_init(|| {
        let (bin, owner) = (binaries(), owner());
        let place = tempfile::Builder::new().prefix("holdline-pg-").tempdir().unwrap().keep();
        if let Some((user, group)) = owner {
            std::os::unix::fs::chown(&place, Some(user), Some(group)).unwrap();
        }
        let initdb = command(&bin.join("initdb"), owner)
            .args(["--no-sync", "-A", "trust", "-U", "postgres", "-E", "UTF8", "-D"])
            .arg(place.join("data"))
            .status();
        assert!(initdb.unwrap().success(), "initdb failed");
        let shell = command(Path::new("/bin/sh"), owner)
            .args(["-c", WATCH, "sh"])
            .arg(bin.join("postgres"))
            .arg(&place)
            .arg(std::process::id().to_string())
            .stdin(Stdio::null())
            .process_group(0)
            .spawn()
            .unwrap();
        let deadline = Instant::now() + Duration::from_secs(30);
        while !command(&bin.join("pg_isready"), None).arg("-q").arg("-h").arg(&place).status().unwrap().success() {
            assert!(Instant::now() < deadline, "PostgreSQL does not start");
            std::thread::sleep(Duration::from_millis(50));
        }
        Server { directory: place, _shell: shell }
    });
    &server.directory
}

/// The url of a database on the server, for a role.
pub(in crate::lifecycle) fn url(database: &str, role: &str) -> String {
    format!("postgres://{role}@localhost/{database}?host={}", directory().display())
}

/// Runs a statement.
pub(in crate::lifecycle) async fn run(url: &str, sql: String) {
    use sqlx::Connection;
    let mut connection = sqlx::PgConnection::connect(url).await.unwrap();
    sqlx::raw_sql(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// A fresh, empty database; its url.
pub(in crate::lifecycle) async fn fresh_database() -> (String, String) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let name = format!("case_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
    tokio::task::spawn_blocking(directory).await.unwrap();
    run(&url("postgres", "postgres"), format!("CREATE DATABASE {name}")).await;
    (url(&name, "postgres"), name)
}
