//! `holdline doctor` and PostgreSQL: a real server, with roles and settings that a broker cannot work with, and a pooler in front.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::doctor::{Report, config, doctor};
use crate::support::postgres::{self, Postgres, as_owner, free_port, owner, run};
use crate::support::{Launch, run_to_end, stored::wait, until};

/// A fresh database; its url, and its name.
fn database() -> (String, String) {
    wait(postgres::fresh_database())
}

/// The same with our schema.
fn migrated() -> (String, String) {
    let (url, name) = database();
    let ended = run_to_end(Path::new("/tmp"), &["migrate"], &[("DATABASE_URL", &url)]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    (url, name)
}

fn sql(url: &str, sql: impl Into<String>) {
    wait(run(url, sql.into()));
}

/// A role with what `grants` gives it in this database; its url.
fn role(name: &str, database: &(String, String), options: &str, grants: &str) -> String {
    let name = format!("{name}_{}", database.1);
    sql(&database.0, format!("CREATE ROLE {name} LOGIN {options}; {}", grants.replace("$role", &name)));
    postgres::url(&database.1, &name)
}

fn look(url: &str, store: &str) -> Report {
    doctor(&config("", &format!("[store]\nurl = \"{url}\"\n{store}\n")), &[], &[])
}

#[test]
fn a_database_as_it_should_be() {
    let (url, name) = database();
    let fresh = look(&url, "");
    fresh.says("database", "ok", &["PostgreSQL", &name, "as postgres"]).says("schema", "ok", &["is not there yet", "next start"]);
    fresh.says("rights", "ok", &["may change the schema"]).says("listen", "ok", &["heard at store.url"]).says("pooler", "ok", &[]);
    for check in ["isolation", "durability", "sessions", "clock"] {
        let lines = fresh.lines(check);
        // The servers of these tests do not flush.
        let expected = if check == "durability" { "fail" } else { "ok" };
        assert!(!lines.is_empty() && lines.iter().all(|(verdict, _)| verdict == expected), "{lines:?}");
    }
    let broker = Launch::config(config("", &format!("[store]\nurl = \"{url}\"\n"))).start();
    look(&url, "").says("schema", "ok", &["knows"]).says("rights", "ok", &["has what a broker needs"]);
    assert_eq!(broker.http().plain("/ready/holds").text(), "OK", "a broker beside it does not mind");
}

#[test]
fn nobody_there_or_nobody_who_may_come_in() {
    let url = format!("postgres://ada:hunter2@127.0.0.1:{}/x", free_port());
    let report = look(&url, "");
    report.says("database", "fail", &["ada:<redacted>@127.0.0.1", "does not answer"]);
    assert!(report.lines("").iter().all(|(_, text)| !text.contains("hunter2")));
    let server = Postgres::shared();
    look(&server.url("no_such_database", "postgres"), "").says("database", "fail", &["no_such_database", "does not exist"]);
    look(&server.url("postgres", "nobody"), "").says("database", "fail", &["nobody", "does not exist"]);
}

#[test]
fn rights_that_are_lacking() {
    let place = migrated();
    let stranger = look(&role("stranger", &place, "", ""), "");
    stranger.says("rights", "fail", &["USAGE on schema holdline", "more; GRANT"]).says(
        "schema",
        "fail",
        &["no right to read schema holdline"],
    );
    let reads = "GRANT USAGE ON SCHEMA holdline TO $role; GRANT SELECT ON ALL TABLES IN SCHEMA holdline TO $role";
    let reader = look(&role("reader", &place, "", reads), "");
    reader.says("rights", "fail", &["INSERT, UPDATE, DELETE on holdline."]).says("schema", "ok", &["knows"]);
    let all = "GRANT USAGE ON SCHEMA holdline TO $role; GRANT ALL ON ALL TABLES IN SCHEMA holdline TO $role;
               GRANT ALL ON ALL SEQUENCES IN SCHEMA holdline TO $role";
    let writer = role("writer", &place, "", all);
    look(&writer, "").says("rights", "ok", &["has what a broker needs"]);
    sql(&place.0, "REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA holdline FROM PUBLIC");
    look(&writer, "").says("rights", "fail", &["EXECUTE on holdline."]);
}

#[test]
fn schemas_that_are_missing_older_or_newer() {
    let place = database();
    look(&place.0, "migrate = false").says("schema", "fail", &["no Holdline schema", "store.migrate is false"]);
    look(&role("guest", &place, "", ""), "").says("schema", "fail", &["this role may not", "GRANT CREATE"]);
    let place = migrated();
    let last = "(SELECT max(version) FROM holdline.migration)";
    sql(&place.0, format!("DELETE FROM holdline.migration WHERE version = {last}"));
    look(&place.0, "").says("schema", "ok", &["an older one"]);
    look(&place.0, "migrate = false").says("schema", "fail", &["run `holdline migrate`"]);
    let all = "GRANT USAGE ON SCHEMA holdline TO $role; GRANT ALL ON ALL TABLES IN SCHEMA holdline TO $role";
    look(&role("heir", &place, "", all), "").says("schema", "fail", &["an older one", "this role may not"]);
    let place = migrated();
    sql(&place.0, "INSERT INTO holdline.migration (version, name, checksum) VALUES (999, '0999_later', 'x')");
    look(&place.0, "").says("schema", "fail", &["999", "newer Holdline"]);
    let place = migrated();
    sql(&place.0, "UPDATE holdline.migration SET checksum = 'x' WHERE version = 2");
    look(&place.0, "").says("schema", "fail", &["another text"]);
}

#[test]
fn sessions_that_a_broker_cannot_work_with() {
    let place = migrated();
    for (setting, check, parts) in [
        ("default_transaction_isolation = 'serializable'", "isolation", ["serializable", "ALTER ROLE"]),
        ("synchronous_commit = off", "durability", ["off", "loses locks"]),
        ("default_transaction_read_only = on", "database", ["it only reads", "primary"]),
    ] {
        let name = format!("odd_{check}");
        let url = role(&name, &place, "SUPERUSER", &format!("ALTER ROLE $role SET {setting}"));
        look(&url, "").says(check, "fail", &parts);
    }
    look(&role("limited", &place, "CONNECTION LIMIT 9", ""), "").says("sessions", "warn", &["more are free", "CONNECTION LIMIT"]);
    // Here a crash is survived, and only the role forgets.
    let server = Postgres::start(postgres::ServerOptions { settings: vec!["fsync=on".to_owned()], environment: Vec::new() });
    let url = server.url("postgres", "postgres");
    look(&url, "").says("durability", "ok", &["synchronous_commit is on"]);
    for (level, verdict, text) in [("off", "fail", "synchronous_commit is off"), ("local", "warn", "failover")] {
        sql(&url, format!("ALTER ROLE postgres SET synchronous_commit = {level}"));
        look(&url, "").says("durability", verdict, &[text]);
    }
    let latin = "CREATE DATABASE latin ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0";
    sql(&url, latin);
    look(&server.url("latin", "postgres"), "").says("database", "warn", &["LATIN1", "UTF8"]);
}

#[test]
fn a_clock_that_the_database_does_not_share() {
    let (url, _) = database();
    let libraries = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"].map(|place| format!("{place}/faketime/libfaketime.so.1"));
    let library = libraries.iter().find(|path| Path::new(path).exists()).expect("faketime is installed");
    let config = config("", &format!("[store]\nurl = \"{url}\"\n"));
    let at = |offset: &str| doctor(&config, &[], &[("LD_PRELOAD", library), ("FAKETIME", offset)]);
    at("+1h").says("clock", "fail", &["ahead of the database's", "timestamp_tolerance (10m)"]);
    at("-1m").says("clock", "warn", &["behind the database's", "NTP"]);
}

/// PgBouncer in front of a database, as it is set up for many clients.
struct Pooler {
    child: Child,
    url: String,
    _directory: tempfile::TempDir,
}

impl Pooler {
    fn start(database: &str, mode: &str) -> Pooler {
        let (directory, port, behind) = (tempfile::tempdir().unwrap(), free_port(), Postgres::shared().address());
        let file = directory.path().join("pgbouncer.ini");
        let config = format!(
            "[databases]\n{database} = host=127.0.0.1 port={} dbname={database} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nauth_type = any\npool_mode = {mode}\nunix_socket_dir =\nignore_startup_parameters = extra_float_digits\n",
            behind.port()
        );
        std::fs::write(&file, config).unwrap();
        if let Some((user, group)) = owner() {
            std::os::unix::fs::chown(directory.path(), Some(user), Some(group)).unwrap();
        }
        let mut command: Command = as_owner(Path::new("/usr/sbin/pgbouncer"), owner());
        let child = command.arg(&file).stderr(Stdio::null()).spawn().expect("apt-get install pgbouncer");
        until("the pooler listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
        Pooler { child, url: format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable"), _directory: directory }
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_pooler_per_transaction_needs_a_direct_url() {
    let (direct, name) = migrated();
    let pooler = Pooler::start(&name, "transaction");
    look(&pooler.url, "").says("pooler", "fail", &["per transaction", "set store.direct_url"]);
    look(&pooler.url, "notify = false").says("pooler", "warn", &["store.notify is false"]);
    let both = look(&pooler.url, &format!("direct_url = \"{direct}\""));
    both.says("pooler", "ok", &["direct_url is there"]).says("listen", "ok", &["heard at store.direct_url"]);
    both.says("schema", "ok", &["knows"]);
    look(&pooler.url, &format!("direct_url = \"{}\"", pooler.url)).says("listen", "fail", &["store.direct_url is a pooler"]);
    let (elsewhere, _) = database();
    look(&direct, &format!("direct_url = \"{elsewhere}\"")).says("listen", "fail", &["same database"]);
    let nobody = format!("postgres://postgres@127.0.0.1:{}/x", free_port());
    look(&direct, &format!("direct_url = \"{nobody}\"")).says("listen", "fail", &["store.direct_url", "does not answer"]);
    let session = Pooler::start(&name, "session");
    look(&session.url, "").says("pooler", "ok", &["its own session"]).says("listen", "ok", &[]);
}
