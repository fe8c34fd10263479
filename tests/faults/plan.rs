//! What brokers under fault tests are configured with: short times, and one rule of each kind.

use std::{path::Path, time::Duration};

use super::audit::LISTENER;
use crate::support::{one_app, postgres::ServerOptions};

/// Names as in the reliability notes: lease, heartbeat, sweep, ping, pong, grace.
pub(crate) const L: Duration = Duration::from_secs(3);
pub(crate) const H: Duration = Duration::from_millis(500);
pub(crate) const W: Duration = Duration::from_millis(300);
pub(crate) const P: Duration = Duration::from_secs(2);
pub(crate) const T: Duration = Duration::from_secs(1);
pub(crate) const G: Duration = Duration::from_secs(1);

/// The rules of every broker. Users are named by signed `channel_data`; who has none is its socket.
///
/// `private-order.*`, `-grab.*` and `-vacant.*` are about the same resources with different manners; `-seat.*` and `-room.*` too.
const RULES: &str = r#"
[[apps.holds]]
channel = "private-order.{id}"
resource = "order:{id}"
event = "Order"
grace = "1s"
context = { order_id = "{id}" }

[[apps.holds]]
channel = "private-grab.{id}"
resource = "order:{id}"
event = "Order"
grace = "1s"
if_taken = "take"

[[apps.holds]]
channel = "private-vacant.{id}"
resource = "order:{id}"
event = "Order"
grace = "1s"
if_taken = "take-if-in-grace"

[[apps.holds]]
channel = "private-quick.{id}"
resource = "quick:{id}"
event = "Quick"
grace = "0s"

[[apps.holds]]
channel = "private-long.{id}"
resource = "long:{id}"
event = "Long"
grace = "4s"

[[apps.holds]]
channel = "private-shown.{id}"
resource = "shown:{id}"
event = "Shown"
grace = "1s"
show_holder = true

[[apps.holds]]
channel = "private-seat.{id}"
resource = "room:{id}"
event = "Seat"
mode = "shared"
grace = "1s"

[[apps.holds]]
channel = "private-room.{id}"
resource = "room:{id}"
event = "Room"
grace = "1s"

[[apps.holds]]
channel = "private-open.{id}"
resource = "open:{id}"
event = "Open"
grace = "1s"
fail_open = true
"#;

/// Which database.
pub(crate) enum Base {
    /// A database on the server that all tests share.
    Shared,
    /// A server of the test's own.
    Private(ServerOptions),
    /// One node, one file.
    Sqlite,
}

/// What a cluster is started with.
pub(crate) struct Plan {
    pub(crate) nodes: usize,
    pub(crate) base: Base,
    /// A proxy between each broker and the database.
    pub(crate) behind: bool,
    /// A proxy between clients and each broker.
    pub(crate) front: bool,
    /// A proxy between each broker and the database for the connection that listens.
    pub(crate) bells: bool,
    /// More lines of `[server]`.
    pub(crate) server: String,
    /// More lines of `[store]`.
    pub(crate) store: String,
    /// What comes after everything else: `[[listeners]]`.
    pub(crate) tail: String,
    /// The binary, if not the usual one.
    pub(crate) binary: Option<std::path::PathBuf>,
    /// Its environment.
    pub(crate) environment: Vec<(String, String)>,
    /// Where a lone broker keeps its database, if not in a directory of its own.
    pub(crate) data_dir: Option<std::path::PathBuf>,
    /// How long after the last client has left locks may live on, beyond a lease.
    pub(crate) longest_grace: Duration,
}

impl Plan {
    /// So many brokers on a database of the shared server.
    pub(crate) fn nodes(nodes: usize) -> Plan {
        Plan {
            nodes,
            base: Base::Shared,
            behind: false,
            front: false,
            bells: false,
            server: String::new(),
            store: String::new(),
            tail: String::new(),
            binary: None,
            environment: Vec::new(),
            data_dir: None,
            longest_grace: G,
        }
    }

    /// One broker with SQLite.
    pub(crate) fn sqlite() -> Plan {
        Plan { base: Base::Sqlite, ..Plan::nodes(1) }
    }

    /// On a server of its own.
    pub(crate) fn private(self) -> Plan {
        Plan { base: Base::Private(ServerOptions::default()), ..self }
    }

    pub(crate) fn behind(self) -> Plan {
        Plan { behind: true, ..self }
    }

    pub(crate) fn front(self) -> Plan {
        Plan { front: true, ..self }
    }

    pub(crate) fn bells(self) -> Plan {
        Plan { bells: true, ..self }
    }

    pub(crate) fn tail(self, lines: &str) -> Plan {
        Plan { tail: lines.to_owned(), ..self }
    }

    pub(crate) fn environment(self, name: &str, value: &str) -> Plan {
        Plan { environment: vec![(name.to_owned(), value.to_owned())], ..self }
    }

    /// The configuration of one broker.
    pub(super) fn config(&self, url: &str, direct_url: Option<&str>, data_dir: &Path) -> String {
        let Plan { server, store, tail, .. } = self;
        let seconds = |time: Duration| format!("{}ms", time.as_millis());
        let direct = direct_url.map(|url| format!("direct_url = \"{url}\"\n")).unwrap_or_default();
        // Wherever there is PostgreSQL, a listener applies the log, and is checked like everything else.
        let orders = if url == "sqlite" { String::new() } else { format!("[[listeners]]\nname = \"{LISTENER}\"\nkind = \"orders\"\n") };
        let [ping, pong, heartbeat, lease, sweep] = [P, T, H, L, W].map(seconds);
        format!(
            "[server]\nworkers = 1\nping_interval = \"{ping}\"\npong_timeout = \"{pong}\"\n{server}\n\
             [drain]\nspread = \"200ms\"\n\
             [store]\nurl = \"{url}\"\ndata_dir = \"{}\"\nheartbeat_interval = \"{heartbeat}\"\nlease = \"{lease}\"\n\
             sweep_interval = \"{sweep}\"\n{direct}{store}\n{}\n{orders}{tail}\n",
            data_dir.display(),
            one_app(RULES),
        )
    }
}
