//! What is shipped for those who watch: the table of all metrics, the dashboard and the alert rules, against a broker at work that a
//! real Prometheus scrapes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{
    APP, Broker, Certs, Launch, Ws, eventually, member,
    postgres::free_port,
    scrape::{Scrape, metrics_address},
    user_auth,
};

fn shipped(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// An endpoint that takes what it gets.
fn endpoint() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut inbox = Vec::new();
                // A request looks like an answer from here on: a first line, headers, a body with a length.
                while request(&mut stream, &mut inbox) {
                    if stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nOK").is_err() {
                        return;
                    }
                }
            });
        }
    });
    address
}

fn request(stream: &mut TcpStream, inbox: &mut Vec<u8>) -> bool {
    let mut chunk = [0; 4096];
    loop {
        if let Some(end) = inbox.windows(4).position(|four| four == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&inbox[..end]).to_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse::<usize>().ok()).unwrap_or(0);
            if inbox.len() >= end + 4 + length {
                inbox.drain(..end + 4 + length);
                return true;
            }
        }
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return false,
            Ok(n) => inbox.extend_from_slice(&chunk[..n]),
        }
    }
}

/// A broker with a store, locks, a listener that posts and a certificate, and somebody who uses all of it.
struct Busy {
    broker: Broker,
    _certs: Certs,
    round: u32,
    /// Who stays.
    _here: Vec<Ws>,
}

impl Busy {
    fn start() -> Busy {
        let certs = Certs::new();
        certs.issue("one");
        certs.install("one");
        let config = format!(
            "{}[metrics]\nbind = \"127.0.0.1:0\"\n[[listeners]]\nname = \"shop\"\nkind = \"http\"\nurl = \"http://{}/\"\n\
             [[apps]]\nid = \"{}\"\nkey = \"{}\"\nsecret = \"{}\"\nclient_events = true\n\
             [[apps.holds]]\nchannel = \"private-order.{{order_id}}\"\nresource = \"order:{{order_id}}\"\nevent = \"Order\"\n\
             principal = \"socket\"\n",
            certs.config("plain_bind = \"127.0.0.1:0\""),
            endpoint(),
            APP.id,
            APP.key,
            APP.secret
        );
        let broker = Launch::config(config).start().without_tls();
        let mut here: Vec<Ws> = (0..3).map(|_| broker.ws()).collect();
        for (n, ws) in here.iter_mut().enumerate() {
            ws.enter("news");
            ws.enter("private-room");
            let id = ws.socket_id.clone();
            ws.join("presence-room", &member(&format!("user-{n}"), None));
            let user = json!({ "id": format!("user-{n}") }).to_string();
            ws.send(&json!({ "event": "pusher:signin", "data": { "auth": user_auth(APP, &id, &user), "user_data": user } }));
        }
        Busy { broker, _certs: certs, round: 0, _here: here }
    }

    /// Everything that is counted, once.
    fn work(&mut self) {
        self.round += 1;
        let mut http = self.broker.http();
        http.publish("news", "e", "1");
        http.get("/channels/news", &[]);
        http.plain("/nowhere");
        let (mut holder, mut other) = (self.broker.ws(), self.broker.ws());
        let channel = format!("private-order.{}", self.round);
        holder.enter(&channel);
        holder.expect("holdline:locked");
        let auth = APP.auth(&format!("{}:{channel}", other.socket_id));
        other.send_subscribe(&channel, Some(&auth), None);
        other.expect("pusher:subscription_error");
        other.send(&json!({ "event": "client-x", "channel": "private-room", "data": "1" }));
        other.expect("pusher:error");
        other.enter("private-room");
        other.send(&json!({ "event": "client-x", "channel": "private-room", "data": "1" }));
        other.quiet();
        Ws::upgrade(self.broker.address(), "/app/nobody?protocol=7", &[]).expect("pusher:error");
    }
}

/// A Prometheus of our own, that scrapes one broker.
struct Prometheus {
    child: Child,
    address: SocketAddr,
    _place: tempfile::TempDir,
}

impl Prometheus {
    fn start(target: SocketAddr) -> Prometheus {
        let place = tempfile::tempdir().unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let config = format!(
            "global: {{ scrape_interval: 1s, evaluation_interval: 1s }}\nrule_files: [{:?}]\n\
             scrape_configs: [{{ job_name: holdline, static_configs: [{{ targets: [\"{target}\"] }}] }}]\n",
            shipped("config/alerts.yml")
        );
        let file = place.path().join("prometheus.yml");
        fs::write(&file, config).unwrap();
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display())).arg(format!("--web.listen-address={address}"));
        command.arg(format!("--storage.tsdb.path={}", place.path().join("data").display())).arg("--log.level=warn");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).stdin(Stdio::null()).spawn();
        let child = child.expect("prometheus starts: tests/run installs it");
        let this = Prometheus { child, address, _place: place };
        eventually("prometheus is ready", || {
            let ready = TcpStream::connect(address).is_ok() && this.get("/-/ready").0 == 200;
            ready.then_some(())
        });
        this
    }

    /// Status and body. In HTTP/1.0 nothing is sent in chunks.
    fn get(&self, target: &str) -> (u16, String) {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream.write_all(format!("GET {target} HTTP/1.0\r\n\r\n").as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
    }

    fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let escaped: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let (_, answer) = self.get(&format!("/api/v1/query?query={escaped}"));
        let json: Value = serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        match json["data"]["result"].as_array() {
            Some(result) if json["status"] == json!("success") => Ok(result.clone()),
            _ => Err(json["error"].to_string()),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Every expression of the dashboard, with its panel, as Grafana would send it.
fn of_dashboard() -> Vec<(String, String)> {
    let dashboard: Value = serde_json::from_str(&fs::read_to_string(shipped("config/grafana-dashboard.json")).unwrap()).unwrap();
    let variables: BTreeSet<String> =
        dashboard["templating"]["list"].as_array().unwrap().iter().map(|variable| variable["name"].as_str().unwrap().to_owned()).collect();
    assert_eq!(variables, ["app", "datasource", "instance"].map(str::to_owned).into());
    let panels = dashboard["panels"].as_array().unwrap();
    let ids: BTreeSet<i64> = panels.iter().map(|panel| panel["id"].as_i64().unwrap()).collect();
    assert_eq!(ids.len(), panels.len(), "every panel has an id of its own");
    let mut found = Vec::new();
    for panel in panels {
        let title = panel["title"].as_str().unwrap();
        for target in panel["targets"].as_array().into_iter().flatten() {
            let expression = target["expr"].as_str().unwrap();
            let expression = expression.replace("$__rate_interval", "1m").replace("$instance", ".*").replace("$app", ".*");
            assert!(!expression.contains('$'), "an unknown variable in {title}: {expression}");
            found.push((title.to_owned(), expression));
        }
    }
    assert!(found.len() > 50, "{}", found.len());
    found
}

/// Name and expression of every rule, as Prometheus has read them.
fn of_rules(prometheus: &Prometheus) -> Vec<(String, String)> {
    let rules: Value = serde_json::from_str(&prometheus.get("/api/v1/rules").1).unwrap();
    let rules = rules["data"]["groups"][0]["rules"].as_array().unwrap();
    for rule in rules {
        let name = rule["name"].as_str().unwrap();
        assert!(["warning", "critical"].contains(&rule["labels"]["severity"].as_str().unwrap_or_default()), "{name} has no severity");
        assert!(
            ["summary", "description"].iter().all(|key| rule["annotations"][*key].as_str().is_some_and(|text| text.len() > 20)),
            "{name}"
        );
    }
    rules.iter().map(|rule| (rule["name"].as_str().unwrap().to_owned(), rule["query"].as_str().unwrap().to_owned())).collect()
}

/// The names of metrics in an expression: words of ours, without what is in quotes.
fn names(expression: &str) -> BTreeSet<String> {
    let unquoted: String = expression.split('"').step_by(2).collect::<Vec<_>>().join(" ");
    let words = unquoted.split(|character: char| !character.is_ascii_alphanumeric() && character != '_');
    words.filter(|word| word.starts_with("holdline_") || word.starts_with("process_")).map(str::to_owned).collect()
}

#[test]
fn every_query_of_dashboard_and_rules_means_something_to_prometheus() {
    let checked = Command::new("promtool").arg("check").arg("rules").arg(shipped("config/alerts.yml")).output();
    let checked = checked.expect("promtool runs: tests/run installs prometheus");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let mut busy = Busy::start();
    let prometheus = Prometheus::start(metrics_address(&busy.broker));
    let scraped = |metric: &str| prometheus.query(&format!("count_over_time({metric}[1m])")).unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    // A rate needs two scrapes with something between them; what is read from the store comes every five seconds.
    let times = |found: &Value| found["value"][1].as_str().and_then(|count| count.parse::<u32>().ok());
    while scraped("holdline_consumer_lag").first().and_then(times) < Some(8) {
        assert!(Instant::now() < deadline, "prometheus does not scrape: {}", prometheus.get("/api/v1/targets").1);
        busy.work();
        std::thread::sleep(Duration::from_millis(500));
    }
    let page = Scrape::of(&busy.broker).names();
    let mut wrong = Vec::new();
    for (title, expression) in of_dashboard() {
        let missing: Vec<_> = names(&expression).into_iter().filter(|name| !page.contains(name)).collect();
        match prometheus.query(&expression) {
            Err(error) => wrong.push(format!("{title}: {expression}: {error}")),
            Ok(result) if result.is_empty() => wrong.push(format!("{title}: {expression}: no data")),
            Ok(_) if !missing.is_empty() => wrong.push(format!("{title}: {missing:?} are not on the page")),
            Ok(_) => {}
        }
    }
    let rules = of_rules(&prometheus);
    assert!(rules.len() >= 15, "{rules:?}");
    for (name, expression) in &rules {
        let missing: Vec<_> = names(expression).into_iter().filter(|name| !page.contains(name)).collect();
        if let Err(error) = prometheus.query(expression) {
            wrong.push(format!("{name}: {expression}: {error}"));
        }
        if !missing.is_empty() {
            wrong.push(format!("{name}: {missing:?} are not on the page"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(prometheus.query("up{job=\"holdline\"}").unwrap()[0]["value"][1], json!("1"));
    let alerts = prometheus.query("ALERTS{alertstate=\"firing\"}").unwrap();
    assert!(alerts.is_empty(), "a healthy broker alarms nobody: {alerts:#?}");
    busy.broker.signal("KILL");
    let down = || prometheus.query("ALERTS{alertname=\"HoldlineDown\"}").ok().filter(|alerts| !alerts.is_empty());
    eventually("somebody notices that it is down", down);
}

#[test]
fn the_page_has_what_the_table_says_and_nothing_else() {
    let mut busy = Busy::start();
    busy.work();
    let read = || Some(Scrape::of(&busy.broker)).filter(|now| now.named("holdline_consumer_lag").next().is_some());
    let now = eventually("the store and the listener are seen", read);
    let text = fs::read_to_string(shipped("src/docs/metrics.md")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    let mut table = BTreeMap::new();
    for (name, rest) in rows {
        let cells: Vec<&str> = rest.split('|').map(str::trim).collect();
        let kind = match cells[0] {
            "c" => "counter",
            "g" | "i" => "gauge",
            "h" => "histogram",
            other => panic!("{name} has the type {other}"),
        };
        let labels = cells[1].split(", ").filter(|label| !label.is_empty());
        let labels: BTreeSet<String> = labels.map(|label| label.trim_matches('`').to_owned()).collect();
        assert!(table.insert(name.to_owned(), (kind.to_owned(), labels)).is_none(), "{name} is there twice");
    }
    let page: BTreeMap<_, _> = now.families.iter().map(|(name, (kind, _))| (name.clone(), kind.clone())).collect();
    let of_table: BTreeMap<_, _> = table.iter().map(|(name, (kind, _))| (name.clone(), kind.clone())).collect();
    assert_eq!(page, of_table, "left is the page, right the table");
    for (name, (kind, labels)) in &table {
        let sample = if kind == "histogram" { format!("{name}_count") } else { name.clone() };
        let mut samples = now.named(&sample).peekable();
        assert!(samples.peek().is_some(), "{name} has no sample");
        for sample in samples {
            assert_eq!(&sample.labels.keys().cloned().collect::<BTreeSet<_>>(), labels, "{name}");
        }
    }
    let helpless: Vec<_> = now.families.iter().filter(|(_, (_, help))| !help.ends_with('.')).collect();
    assert!(helpless.is_empty(), "help texts are sentences: {helpless:?}");
}
