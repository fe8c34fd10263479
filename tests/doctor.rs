//! `holdline doctor` and `holdline up`: each check is seen to fail, and a broker beside them does not mind. Databases are in
//! `doctor_database.rs`.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use crate::support::postgres::free_port;
use crate::support::{Broker, Certs, Ended, Launch, Receiver, Reply, Ws, holdline, run_to_end, until};

/// A secret that is none of the weak ones.
pub(crate) const SECRET: &str = "4f1c2a9e8b7d6053-4f1c2a9e8b7d6053";

/// What it said.
pub(crate) struct Report {
    pub(crate) code: i32,
    json: Value,
}

impl Report {
    fn of(ended: &Ended) -> Report {
        let said = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!said.contains("panicked"), "{said}");
        let json = serde_json::from_str(&ended.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        let report = Report { code: ended.code, json };
        let failed = report.lines("").iter().filter(|(verdict, _)| verdict == "fail").count();
        assert_eq!((report.json["failed"].as_u64(), report.json["ok"].as_bool()), (Some(failed as u64), Some(failed == 0)));
        assert_eq!(report.code, i32::from(failed > 0), "{}", report.json);
        report
    }

    /// Verdicts and texts of the checks of this name, or of all.
    pub(crate) fn lines(&self, name: &str) -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().expect("a text").to_owned();
        let checks = self.json["checks"].as_array().expect("checks").iter().filter(|check| name.is_empty() || check["name"] == name);
        checks.map(|check| (text(&check["verdict"]), text(&check["text"]))).collect()
    }

    /// Some check of this name came to this, and said all of that.
    #[track_caller]
    pub(crate) fn says(&self, name: &str, verdict: &str, parts: &[&str]) -> &Report {
        let lines = self.lines(name);
        let fits = lines.iter().any(|(found, text)| found == verdict && parts.iter().all(|part| text.contains(part)));
        assert!(fits, "{name} is not {verdict} with {parts:?}: {lines:#?}");
        self
    }
}

/// A configuration with a good secret, on a port that nobody has.
pub(crate) fn config(server: &str, rest: &str) -> String {
    let port = free_port();
    let app = format!("[[apps]]\nid = \"shop\"\nkey = \"shop-key\"\nsecret = \"{SECRET}\"\n");
    // Keys of an application stand directly behind its own.
    match rest.strip_prefix("app:") {
        Some(rest) => format!("[server]\nport = {port}\n{server}\n{app}{rest}\n"),
        None => format!("[server]\nport = {port}\n{server}\n{rest}\n{app}"),
    }
}

fn write(directory: &Path, config: &str) {
    let file = directory.join("holdline.toml");
    std::fs::write(&file, config).unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Looks at a configuration, in a directory of its own.
pub(crate) fn doctor(config: &str, args: &[&str], env: &[(&str, &str)]) -> Report {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), config);
    Report::of(&run_to_end(directory.path(), &[&["doctor", "--json"], args].concat(), env))
}

/// The same from a shell that does something first.
fn doctor_after(script: &str, config: &str) -> Report {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), config);
    std::fs::create_dir(directory.path().join("small")).unwrap();
    let binary = holdline(directory.path()).get_program().to_owned();
    let mut command = std::process::Command::new("unshare");
    command.args(["-Urm", "sh", "-c", &format!("{script} && exec \"$0\" doctor --json")]).arg(binary).current_dir(directory.path());
    let output = command.stdin(Stdio::null()).output().expect("unshare is there");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Report::of(&Ended { code: output.status.code().unwrap(), stdout: text(output.stdout), stderr: text(output.stderr) })
}

/// A configuration that a broker is started with, its data directory and its port.
struct Run {
    directory: tempfile::TempDir,
    config: String,
}

impl Run {
    fn new(server: &str, rest: &str) -> Run {
        let directory = tempfile::tempdir().unwrap();
        let store = format!("[store]\ndata_dir = \"{}/data\"\n", directory.path().display());
        Run { config: config(server, &format!("{store}{rest}")), directory }
    }

    fn start(&self) -> Broker {
        let port = self.config.lines().find_map(|line| line.strip_prefix("port = ")).unwrap();
        Launch::config(self.config.clone()).arg("--port").arg(port).start()
    }

    fn ask(&self, args: &[&str]) -> Ended {
        write(self.directory.path(), &self.config);
        run_to_end(self.directory.path(), args, &[])
    }

    fn doctor(&self) -> Report {
        Report::of(&self.ask(&["doctor", "--json"]))
    }
}

#[test]
fn where_all_is_well_it_says_so_line_by_line() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &config("", ""));
    let ended = run_to_end(directory.path(), &["doctor"], &[]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    let (checks, paste) = ended.stdout.split_once("checks, ").unwrap();
    assert!(paste.starts_with("all ok\n"), "{}", ended.stdout);
    assert!(checks.lines().rev().skip(1).all(|line| line.starts_with("ok    ")), "{checks}");
    for name in ["config", "secrets", "files", "memory", "clock", "port", "data", "disk", "schema"] {
        assert!(checks.lines().any(|line| line.split_whitespace().nth(1) == Some(name)), "{name}: {checks}");
    }
    assert!(!ended.stdout.contains('\x1b'), "no colours where nobody sees them");
    assert!(!ended.said().contains(SECRET) && ended.stdout.contains("apps[0].secret in holdline.toml; --show-secret"), "{}", ended.stdout);
    assert!(!directory.path().join("holdline-data").exists(), "it leaves nothing behind");
    assert!(run_to_end(directory.path(), &["doctor", "--show-secret"], &[]).stdout.contains(&format!("PUSHER_APP_SECRET={SECRET}")));
    assert!(!run_to_end(directory.path(), &["doctor", "--json"], &[]).stdout.contains(SECRET));
}

#[test]
fn a_broker_beside_it_answers() {
    let run = Run::new("", "");
    let mut broker = run.start();
    let report = run.doctor();
    let pid = format!("process {}", broker.pid());
    report.says("port", "ok", &["Holdline", "answers", &pid]).says("broker", "ok", &["/ready/holds"]);
    report.says("data", "ok", &["locked by holdline", &pid]).says("files", "ok", &[&pid]).says("schema", "ok", &["knows"]);
    assert_eq!(report.code, 0);
    assert_eq!(broker.http().plain("/ready/holds").status, 200, "and does not mind");
    // One that would use the same directory would not start.
    let second =
        Run { config: run.config.replacen("port = ", &format!("port = {} #", free_port()), 1), directory: tempfile::tempdir().unwrap() };
    second.doctor().says("data", "fail", &["locked by", &pid, "would not start"]);
    broker.signal("TERM");
    broker.exited(Duration::from_secs(25));
    run.doctor().says("port", "ok", &["is free"]).says("data", "ok", &["nobody has it"]);
}

#[test]
fn a_broker_that_leaves_is_not_well() {
    let run = Run::new("", "[drain]\ngrace = \"30s\"\nspread = \"20s\"\n");
    let broker = run.start();
    let _connected: Vec<Ws> = (0..20).map(|_| Ws::upgrade(broker.address(), "/app/shop-key?protocol=7", &[])).collect();
    assert_eq!(run.ask(&["up", "--ready"]).code, 0);
    broker.signal("TERM");
    until("it is not ready", || broker.http().plain("/ready").status == 503);
    run.doctor().says("broker", "fail", &["/ready is 503"]);
    let ended = run.ask(&["up", "--ready"]);
    assert!(ended.code == 1 && ended.stderr.contains("answers /ready with 503"), "{}", ended.said());
    assert_eq!(run.ask(&["up"]).code, 0, "the process lives");
}

#[test]
fn up_asks_with_tls_too() {
    let certs = Certs::new();
    certs.issue("good");
    certs.install("good");
    let run = Run::new("", &certs.config(""));
    assert_eq!(run.ask(&["up"]).code, 1);
    let _broker = run.start();
    let ended = run.ask(&["up"]);
    assert!(ended.code == 0 && ended.stdout.contains("https://127.0.0.1:"), "{}", ended.said());
    run.doctor().says("port", "ok", &["answers at https://"]).says("tls", "ok", &["localhost"]);
}

#[test]
fn a_port_that_somebody_else_has() {
    for reply in [Reply::Status(200), Reply::Bytes("hello\r\n")] {
        let other = Receiver::start();
        other.does(move |_| reply);
        let port = other.url("").rsplit(':').next().unwrap().to_owned();
        let report = doctor(&config("", "").replacen("port = ", &format!("port = {port} #"), 1), &[], &[]);
        report.says("port", "fail", &["server.port"]);
    }
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = format!("[metrics]\nbind = \"{}\"\n", taken.local_addr().unwrap());
    doctor(&config("", &metrics), &[], &[]).says("port", "fail", &["metrics.bind", "taken by another program"]);
    doctor(&config("host = \"192.0.2.1\"", ""), &[], &[]).says("port", "fail", &["192.0.2.1", "no address of this machine"]);
    doctor(&config("unix_socket = \"holdline.toml\"", ""), &[], &[]).says("socket", "fail", &["no socket"]);
    doctor(&config("unix_socket = \"/nowhere/a.sock\"", ""), &[], &[]).says("socket", "fail", &["no directory /nowhere"]);
}

#[test]
fn the_limit_of_open_files() {
    let few = doctor_after("ulimit -n 300", &config("max_connections = 1000", ""));
    few.says("files", "fail", &["300 files", "server.max_connections is 1000", "LimitNOFILE"]);
    doctor_after("ulimit -n 300", &config("", "")).says("files", "warn", &["room for 236"]);
}

#[test]
fn memory_and_disk() {
    doctor(&config("max_outbox_memory = \"1TiB\"", ""), &[], &[]).says("memory", "fail", &["max_outbox_memory", "would be killed"]);
    doctor(&config("max_outbox_memory = 0", ""), &[], &[]).says("memory", "warn", &["without end"]);
    let full = doctor_after("mount -t tmpfs -o size=16m none small", &config("", "[store]\ndata_dir = \"small/data\"\n"));
    full.says("disk", "fail", &["16", "MiB free at small", "make room"]);
    let little = doctor_after("mount -t tmpfs -o size=200m none small", &config("", "[store]\ndata_dir = \"small/data\"\n"));
    little.says("disk", "warn", &["store.retention"]);
    let read_only = doctor_after("mount -t tmpfs -o ro none small", &config("", "[store]\ndata_dir = \"small/data\"\n"));
    read_only.says("data", "fail", &["cannot write to small/data (which is not there yet: small)", "Read-only"]);
}

#[test]
fn the_data_directory() {
    let place = tempfile::tempdir().unwrap();
    let at = |name: &str| config("", &format!("[store]\ndata_dir = \"{}/{name}\"\n", place.path().display()));
    std::fs::write(place.path().join("file"), "").unwrap();
    doctor(&at("file"), &[], &[]).says("data", "fail", &["cannot write to", "Not a directory"]);
    std::fs::create_dir(place.path().join("open")).unwrap();
    std::fs::set_permissions(place.path().join("open"), std::fs::Permissions::from_mode(0o755)).unwrap();
    doctor(&at("open"), &[], &[]).says("data", "warn", &["mode 755", "chmod 700"]);
    std::fs::write(place.path().join("open/holdline.sqlite"), "this is no database, and long enough to be looked at").unwrap();
    doctor(&at("open"), &[], &[]).says("schema", "fail", &["not a database"]);
    doctor(&config("", "[store]\nmigrate = false\n"), &[], &[]).says("schema", "fail", &["no Holdline schema", "store.migrate is false"]);
    doctor(&config("", "[store]\nurl = \"memory\"\n"), &[], &[]).says("data", "warn", &["end with the broker"]);
}

#[test]
fn a_clock_of_another_year() {
    let library = ["/usr/lib/x86_64-linux-gnu", "/usr/lib/aarch64-linux-gnu"].map(|place| format!("{place}/faketime/libfaketime.so.1"));
    let library = library.iter().find(|path| Path::new(path).exists()).expect("faketime is installed");
    let env = [("LD_PRELOAD", library.as_str()), ("FAKETIME", "@2019-05-05 05:05:05")];
    doctor(&config("", ""), &[], &env).says("clock", "fail", &["2019-05-05", "before this program was made"]);
}

#[test]
fn a_configuration_that_is_none_or_doubtful() {
    let report = doctor(&config("prot = 1", ""), &[], &[]);
    report.says("config", "fail", &["prot", "holdline.toml"]);
    assert_eq!(report.lines("").len(), 1);
    doctor(&config("trusted_proxies = [\"0.0.0.0/0\"]", ""), &[], &[]).says("config", "warn", &["INSECURE: 0.0.0.0/0"]);
    doctor(&config("path_prefix = \"/ws\"", ""), &[], &[]).says("proxies", "warn", &["server.path_prefix", "trusted_proxies is empty"]);
    let behind = doctor(&config("path_prefix = \"/ws\"\ntrusted_proxies = [\"127.0.0.1\"]", ""), &[], &[]);
    behind.says("proxies", "ok", &["127.0.0.1 say who"]);
    doctor(&config("host = \"0.0.0.0\"", ""), &[], &[]).says("proxies", "warn", &["without TLS"]);
}

#[test]
fn secrets_that_are_none() {
    let with = |secret: &str, server: &str| doctor(&config(server, "").replace(SECRET, secret), &[], &[]);
    with("secret", "host = \"0.0.0.0\"").says("secrets", "fail", &["app shop", "everybody tries first", "openssl rand"]);
    with("secret", "").says("secrets", "warn", &["everybody tries first"]);
    with("shop-key", "trusted_proxies = [\"127.0.0.1\"]").says("secrets", "fail", &["its id or key"]);
    with("0123456789", "host = \"0.0.0.0\"").says("secrets", "warn", &["shorter than 16"]);
    let development = |server: &str| doctor(&format!("[server]\nport = {}\n{server}\n", free_port()), &[], &[]);
    development("").says("secrets", "warn", &["app-id", "on this machine"]);
    development("host = \"0.0.0.0\"").says("secrets", "fail", &["app-id", "everybody knows"]);
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &config("", ""));
    std::fs::set_permissions(directory.path().join("holdline.toml"), std::fs::Permissions::from_mode(0o644)).unwrap();
    let report = Report::of(&run_to_end(directory.path(), &["doctor", "--json"], &[]));
    report.says("secrets", "warn", &["holdline.toml", "chmod o-r"]);
}

#[test]
fn certificates() {
    let certs = Certs::new();
    for (name, days) in [("good", 30), ("soon", 7), ("over", -1), ("other", 30)] {
        certs.issue_with(name, "ec -pkeyopt ec_paramgen_curve:prime256v1", days);
    }
    let look = |name: &str| {
        certs.install(name);
        std::fs::set_permissions(certs.path("tls.key"), std::fs::Permissions::from_mode(0o600)).unwrap();
        doctor(&config("", &certs.config("")), &[], &[])
    };
    look("good").says("tls", "ok", &["localhost, 127.0.0.1", "fit"]);
    look("soon").says("tls", "warn", &["ends in 6 days", "renew it"]);
    look("over").says("tls", "fail", &["expired at"]);
    look("good");
    std::fs::set_permissions(certs.path("tls.key"), std::fs::Permissions::from_mode(0o644)).unwrap();
    doctor(&config("", &certs.config("")), &[], &[]).says("tls", "warn", &["everybody on this machine can read", "tls.key"]);
    certs.copy("other.key", "tls.key");
    doctor(&config("", &certs.config("")), &[], &[]).says("tls", "fail", &["does not belong to"]);
    std::fs::remove_file(certs.path("tls.key")).unwrap();
    doctor(&config("", &certs.config("")), &[], &[]).says("tls", "fail", &["cannot read", "tls.key"]);
}

/// A webhook and a listener at an address.
fn endpoints(url: &str) -> String {
    let webhook = format!("[[apps.webhooks]]\nname = \"hook\"\nurl = \"{url}\"\nheaders = {{ x-key = \"hidden\" }}\n");
    config("", &format!("app:{webhook}[[listeners]]\nname = \"shop\"\nkind = \"http\"\nurl = \"{url}\"\n"))
}

#[test]
fn endpoints_of_webhooks_and_listeners() {
    let receiver = Receiver::start();
    receiver.answer(405);
    let report = doctor(&endpoints(&receiver.url("/")), &[], &[]);
    report.says("webhook", "ok", &["hook of app shop", "HEAD: 405"]).says("listener", "ok", &["shop", "HEAD: 405"]);
    let requests = receiver.got();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert!(request.head.starts_with("HEAD ") && request.body.is_empty(), "{}", request.head);
        assert!(!request.head.contains("hidden") && !request.head.contains("signature"), "{}", request.head);
    }
    doctor(&endpoints(&receiver.url("/")), &["--offline"], &[]).says("webhook", "ok", &["2 endpoints were not asked"]);
    assert_eq!(receiver.got().len(), 2, "nobody asked");
    receiver.answer(302);
    doctor(&endpoints(&receiver.url("/")), &[], &[]).says("webhook", "warn", &["302", "redirects are not followed"]);

    let nobody = format!("http://ada:hunter2@127.0.0.1:{}/", free_port());
    let report = doctor(&endpoints(&nobody), &[], &[]);
    report.says("webhook", "fail", &["is not reached", "refused"]).says("listener", "fail", &["is not reached"]);
    assert!(!report.json.to_string().contains("hunter2"), "{}", report.json);
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", silent.local_addr().unwrap());
    doctor(&endpoints(&url), &[], &[]).says("webhook", "fail", &["no answer within 5s"]);
    let no_tls = receiver.url("/").replacen("http://", "https://", 1);
    doctor(&endpoints(&no_tls), &[], &[]).says("webhook", "fail", &["is not reached"]);
    doctor(&endpoints("http://nobody.invalid/"), &[], &[]).says("webhook", "fail", &["is not reached"]);
}

#[test]
fn applications_of_the_table_are_looked_at_as_those_of_the_file() {
    let mut run = Run::new("", "[app_store]\nenabled = true\n");
    assert!(run.doctor().lines("apps").is_empty(), "there is no table yet");
    let weak = run.directory.path().join("weak");
    std::fs::write(&weak, "secret").unwrap();
    let nobody = format!("webhooks=[{{\"url\":\"http://127.0.0.1:{}/\",\"events\":[\"channel_occupied\"]}}]", free_port());
    for args in [&["crm", "--set", &nobody][..], &["erp", "--secret-file", weak.to_str().unwrap()], &["wiki"]] {
        assert_eq!(run.ask(&[&["apps", "create"], args].concat()).code, 0);
    }
    let report = run.doctor();
    report.says("apps", "ok", &["3 of the 3 applications in the table"]);
    report.says("secrets", "warn", &["app erp", "everybody tries first"]).says("webhook", "fail", &["of app crm", "is not reached"]);
    let pasted = run.ask(&["doctor", "--offline", "--app", "crm"]);
    let lines = ["PUSHER_APP_ID=crm", "PUSHER_APP_SECRET=\"<in the table of applications; --show-secret shows it>\""];
    assert!(lines.iter().all(|line| pasted.stdout.lines().any(|found| found == *line)), "{}", pasted.said());
    let unknown = run.ask(&["doctor", "--offline", "--app", "nobody"]);
    assert!(unknown.code == 2 && unknown.stderr.contains("or of the table"), "{}", unknown.said());
    let listener =
        |app: &str| format!("[[listeners]]\nname = \"{app}\"\nkind = \"http\"\nurl = \"http://127.0.0.1:1/\"\napp = \"{app}\"\n");
    let config = std::mem::take(&mut run.config);
    run.config = format!("{config}{}{}", listener("crm"), listener("crn"));
    let report = run.doctor();
    report.says("apps", "warn", &["listener crn is about app \"crn\""]);
    assert!(!report.lines("apps").iter().any(|(_, text)| text.contains("listener crm")));
    run.config = config.replace("id = \"shop\"", "id = \"wiki\"");
    run.doctor().says("apps", "warn", &["the id of application wiki", "is not served"]).says("apps", "ok", &["2 of the 3"]);
}

#[test]
fn a_wrong_command_line_is_an_error_of_its_own() {
    let directory = tempfile::tempdir().unwrap();
    for (args, text) in [
        (&["doctor", "--app", "nobody"][..], "nobody"),
        (&["doctor", "--public-url", "shop.example"], "shop.example"),
        (&["doctor", "--nope"], "--nope"),
        (&["up", "--nope"], "--nope"),
    ] {
        let ended = run_to_end(directory.path(), args, &[]);
        assert!(ended.code == 2 && ended.stdout.is_empty() && ended.stderr.contains(text), "{args:?}: {}", ended.said());
    }
}

#[test]
fn what_is_to_paste_fits_the_configuration() {
    let directory = tempfile::tempdir().unwrap();
    write(directory.path(), &config("path_prefix = \"/realtime\"\ntrusted_proxies = [\"127.0.0.1\"]", ""));
    let text = |args: &[&str]| run_to_end(directory.path(), &[&["doctor"], args].concat(), &[]).stdout;
    assert!(text(&[]).contains("--public-url"), "{}", text(&[]));
    let public = text(&["--public-url", "https://shop.example/realtime"]);
    for line in [
        "PUSHER_HOST=shop.example",
        "PUSHER_PORT=443",
        "PUSHER_SCHEME=https",
        "# config/broadcasting.php, connections.pusher.options: 'path' => '/realtime'",
        "  wsHost: 'shop.example', wsPort: 443, wssPort: 443, forceTLS: true,",
        "  wsPath: '/realtime',",
    ] {
        assert!(public.lines().any(|found| found == line), "{line}: {public}");
    }
}
