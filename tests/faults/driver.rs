//! Where clients live: in this process, or in one of their own that can be killed and stopped.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    fleet::{Fleet, Order, Sink, Spec},
    journal::{ClientId, Entry, Journal, Leave},
};
use crate::support::proxy::runtime;

/// Names the address that a driver process reports to.
const REPORT_TO: &str = "HOLDLINE_TEST_DRIVER";

/// A driver of clients; what they see goes to a journal.
pub(crate) struct Driver {
    seat: Seat,
}

enum Seat {
    Here(Mutex<Fleet>),
    Process { child: Mutex<Child>, orders: Mutex<TcpStream> },
}

impl Driver {
    /// In this process.
    pub(crate) fn here(journal: &Journal) -> Driver {
        let journal = journal.clone();
        let sink: Sink = Arc::new(move |entry| journal.add(entry));
        Driver { seat: Seat::Here(Mutex::new(Fleet::new(sink))) }
    }

    /// In a process of its own.
    pub(crate) fn process(journal: &Journal) -> Driver {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
        let mut command = Command::new(std::env::current_exe().expect("a test knows where it is"));
        command.args(["--exact", "faults::driver::a_process_of_clients", "--ignored", "--nocapture", "--test-threads=1"]);
        command.env(REPORT_TO, listener.local_addr().expect("an address").to_string());
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().expect("the driver starts");
        let (orders, _) = listener.accept().expect("the driver calls");
        let reports = BufReader::new(orders.try_clone().expect("a second handle"));
        let journal = journal.clone();
        std::thread::spawn(move || {
            for line in reports.lines().map_while(Result::ok) {
                journal.add(serde_json::from_str::<Entry>(&line).expect("an entry"));
            }
        });
        Driver { seat: Seat::Process { child: Mutex::new(child), orders: Mutex::new(orders) } }
    }

    pub(crate) fn tell(&self, order: Order) {
        match &self.seat {
            Seat::Here(fleet) => {
                let _guard = runtime().enter();
                fleet.lock().expect("not poisoned").obey(order);
            }
            Seat::Process { orders, .. } => {
                let mut line = serde_json::to_string(&order).expect("an order is JSON");
                line.push('\n');
                // A driver that was killed hears nothing.
                let _ = orders.lock().expect("not poisoned").write_all(line.as_bytes());
            }
        }
    }

    pub(crate) fn connect(&self, spec: Spec) -> ClientId {
        let client = spec.client;
        self.tell(Order::Connect(Box::new(spec)));
        client
    }

    pub(crate) fn leave(&self, client: ClientId, how: Leave) {
        self.tell(Order::Leave(client, how));
    }

    /// Sends a signal to the process.
    pub(crate) fn signal(&self, name: &str) {
        let Seat::Process { child, .. } = &self.seat else { panic!("these clients have no process of their own") };
        let pid = child.lock().expect("not poisoned").id().to_string();
        assert!(Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs").success());
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.tell(Order::LeaveAll(Leave::Fin));
        if let Seat::Process { child, .. } = &self.seat {
            let mut child = child.lock().expect("not poisoned");
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The process form of a driver: not a test, but the only way into this binary. It ends with whoever started it.
#[test]
#[ignore = "started by tests whose clients need a process of their own"]
fn a_process_of_clients() {
    let Ok(address) = std::env::var(REPORT_TO) else { return };
    let address: SocketAddr = address.parse().expect("an address");
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    let orders = TcpStream::connect(address).expect("whoever started us listens");
    orders.set_nodelay(true).expect("nodelay");
    let reports = Mutex::new(orders.try_clone().expect("a second handle"));
    let sink: Sink = Arc::new(move |entry| {
        let mut line = serde_json::to_string(&entry).expect("an entry is JSON");
        line.push('\n');
        let _ = reports.lock().expect("not poisoned").write_all(line.as_bytes());
    });
    let _guard = runtime().enter();
    let mut fleet = Fleet::new(sink);
    for line in BufReader::new(orders).lines().map_while(Result::ok) {
        fleet.obey(serde_json::from_str(&line).expect("an order"));
    }
    std::thread::sleep(Duration::from_millis(100));
}
