//! Brokers of one store whose application has a webhook, the log they write, and who receives it.

use serde_json::Value;
use tempfile::TempDir;

use super::{Broker, Launch, Receiver, eventually, one_app, postgres::fresh_database, run_to_end, stored::wait};

/// See the module.
pub(crate) struct Feed {
    pub(crate) directory: TempDir,
    pub(crate) store: String,
    pub(crate) receiver: Receiver,
    /// How long somebody may be away.
    pub(crate) delay: &'static str,
    /// More keys of the application.
    pub(crate) app: String,
    /// More keys of the endpoint.
    pub(crate) endpoint: String,
    /// More keys of the store.
    pub(crate) keys: &'static str,
    /// More sections, such as `[drain]`.
    pub(crate) more: String,
}

impl Feed {
    pub(crate) fn sqlite() -> Feed {
        Feed::on("sqlite")
    }

    /// A database of its own.
    pub(crate) fn postgres() -> Feed {
        Feed::on(&wait(fresh_database()).0)
    }

    /// `memory`, `none`, or a URL.
    pub(crate) fn on(store: &str) -> Feed {
        Feed {
            directory: tempfile::tempdir().expect("a temporary directory"),
            store: store.to_owned(),
            receiver: Receiver::start(),
            delay: "0s",
            app: "client_events = true".to_owned(),
            endpoint: String::new(),
            keys: "",
            more: String::new(),
        }
    }

    /// A broker of the first data directory.
    pub(crate) fn start(&self) -> Broker {
        self.launch(0).start()
    }

    /// The broker of a data directory.
    pub(crate) fn launch(&self, node: usize) -> Launch {
        let Feed { store, delay, app, endpoint, keys, more, .. } = self;
        let data_dir = self.data_dir(node);
        let app = one_app(&format!("{app}\n[[apps.webhooks]]\nurl = \"{}\"\n{endpoint}", self.receiver.url("/hooks")));
        Launch::config(format!("[store]\nurl = {store:?}\ndata_dir = {data_dir:?}\n{keys}\n[webhooks]\ndelay = \"{delay}\"\n{more}\n{app}"))
    }

    fn data_dir(&self, node: usize) -> String {
        self.directory.path().join(format!("data-{node}")).display().to_string()
    }

    /// The webhooks in the log, as a command prints them.
    pub(crate) fn entries(&self) -> Vec<Value> {
        let mut args = vec!["events", "list", "--json"];
        let data_dir = self.data_dir(0);
        let mut env = vec![("HOLDLINE_STORE__DATA_DIR", data_dir.as_str())];
        if self.store.starts_with("postgres") {
            env.push(("DATABASE_URL", &self.store));
        }
        args.extend(["--app", super::APP.id]);
        let ended = run_to_end(self.directory.path(), &args, &env);
        assert_eq!(ended.code, 0, "{}", ended.said());
        let entries = ended.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON"));
        entries.filter(|entry| entry["kind"] == "webhook").collect()
    }

    /// The same, each as `name channel user_id`.
    pub(crate) fn log(&self) -> Vec<String> {
        self.entries().iter().map(|entry| line(&entry["type"], &entry["resource"], &entry["context"]["user_id"])).collect()
    }

    /// Waits until the log has so many lines, and gives them.
    pub(crate) fn lines(&self, count: usize) -> Vec<String> {
        eventually(&format!("{count} webhooks are in the log"), || Some(self.log()).filter(|log| log.len() >= count))
    }

    /// Waits until the log has this line, and gives all.
    pub(crate) fn until_line(&self, line: &str) -> Vec<String> {
        eventually(&format!("{line} is in the log"), || Some(self.log()).filter(|log| log.iter().any(|found| found == line)))
    }

    /// Somebody comes to a channel of its own and leaves: when that is told, everything before it is, too. The log without that.
    pub(crate) fn mark(&self, broker: &Broker, name: &str) -> Vec<String> {
        let mut ws = broker.ws();
        ws.subscribe(name);
        ws.unsubscribe(name);
        let mut log = self.until_line(&format!("channel_vacated {name}"));
        log.retain(|line| !line.contains("marker"));
        log
    }

    /// What the receiver has taken, each as `name channel user_id`.
    pub(crate) fn received(&self) -> Vec<String> {
        self.receiver.events().iter().map(|event| line(&event["name"], &event["channel"], &event["user_id"])).collect()
    }
}

fn line(name: &Value, channel: &Value, user: &Value) -> String {
    let words = [name, channel, user].into_iter().filter_map(Value::as_str);
    words.collect::<Vec<_>>().join(" ")
}
