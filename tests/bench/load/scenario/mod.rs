//! The scenarios, and what they have in common.

pub(crate) mod client_events;
pub(crate) mod connects;
pub(crate) mod handler;
pub(crate) mod holds;
pub(crate) mod idle;
pub(crate) mod presence;
pub(crate) mod publishes;
pub(crate) mod stuck;
pub(crate) mod workers;

use std::{
    io,
    time::{Duration, Instant},
};

use crate::{
    proc::{Tree, room_for},
    report::Figure,
    server::Server,
    sink::{Quiet, Sink},
    swarm::{Signal, Swarm},
};

/// So many connections may be in the middle of their handshake.
const OPENING: usize = 64;
/// Longer than anything should take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// What nobody expected of the server.
pub(crate) fn wrong(text: impl Into<String>) -> io::Error {
    io::Error::other(text.into())
}

/// # Errors
/// There are any: nothing but the load was to come.
pub(crate) fn nothing_else(swarm: &mut Swarm) -> io::Result<()> {
    match swarm.take_signals().first() {
        Some(signal) => Err(wrong(format!("during the load there came {signal:?}"))),
        None => Ok(()),
    }
}

/// Opens `count` connections, each subscribed to what `channel` says, and waits until all are. Gives their socket ids.
pub(crate) fn subscribe_all(
    swarm: &mut Swarm,
    server: &Server,
    count: usize,
    channel: impl Fn(usize) -> (String, Option<String>),
) -> io::Result<Vec<String>> {
    room_for(count)?;
    let mut ids = vec![String::new(); count];
    let (mut begun, mut ready) = (0, 0);
    let deadline = Instant::now() + PATIENCE;
    while ready < count {
        while begun < count && begun - ready < OPENING {
            let socket = swarm.open(None)?;
            assert_eq!(socket, begun, "sockets of a fresh swarm are numbered from 0");
            begun += 1;
        }
        swarm.poll(Duration::from_millis(100), &mut Quiet)?;
        for signal in swarm.take_signals() {
            match signal {
                Signal::Open { socket, id } => {
                    let (channel, user) = channel(socket);
                    let frame = server.app.subscribe(&id, &channel, user.as_deref());
                    swarm.send(socket, &frame);
                    ids[socket] = id;
                }
                Signal::Text { text, .. } if text.contains("subscription_succeeded") => ready += 1,
                // Others come and go on presence channels.
                Signal::Text { text, .. } if text.contains("pusher_internal:") => {}
                other => return Err(wrong(format!("when connection {ready} of {count} subscribed, there came {other:?}"))),
            }
        }
        if Instant::now() > deadline {
            return Err(wrong(format!("only {ready} of {count} subscriptions were answered within {PATIENCE:?}")));
        }
    }
    Ok(ids)
}

/// CPU time and wall time of a stretch.
pub(crate) struct Meter {
    own: Tree,
    server_before: u64,
    own_before: u64,
    began: Instant,
}

impl Meter {
    pub(crate) fn start(server: &mut Server) -> Self {
        let mut own = Tree::own();
        let (server_before, own_before) = (server.tree.cpu(), own.cpu());
        Self { own, server_before, own_before, began: Instant::now() }
    }

    /// The part of a figure that every scenario has. `connections` are open.
    pub(crate) fn stop(mut self, server: &mut Server, scenario: &str, unit: &'static str, units: u64, connections: usize) -> Figure {
        let seconds = self.began.elapsed().as_secs_f64();
        let (cpu, own) = (server.tree.cpu(), self.own.cpu());
        let known = server.tree.exists();
        // Whoever cannot see the process knows neither, which is not nothing.
        let seen = |value: u64| if known { value as f64 } else { f64::NAN };
        let cpu = seen(cpu - self.server_before) / 1e9;
        let rss = server.tree.rss();
        let grown = seen(rss.saturating_sub(server.rss_at_start));
        Figure {
            scenario: scenario.to_owned(),
            server: server.name.clone(),
            unit,
            units,
            seconds,
            per_second: units as f64 / seconds,
            cpu_us_per_unit: cpu * 1e6 / units.max(1) as f64,
            server_cores: cpu / seconds,
            own_cores: (own - self.own_before) as f64 / 1e9 / seconds,
            connections,
            rss_mib: rss as f64 / f64::from(1 << 20),
            rss_kib_per_connection: grown / 1024.0 / connections.max(1) as f64,
            ..Figure::default()
        }
    }
}

struct Answer(bool);

impl Sink for Answer {
    fn text(&mut self, _: usize, _: &[u8], _: u64) -> bool {
        true
    }
    fn response(&mut self, _: usize, _: u64) {
        self.0 = true;
    }
}

/// One request, answered.
pub(crate) fn ask(swarm: &mut Swarm, server: &mut Server, path: &str, query: &str) -> io::Result<String> {
    let request = server.app.request("GET", path, query, "");
    let lane = swarm.lanes.iter().position(|lane| !lane.busy).ok_or_else(|| wrong("no lane is free"))?;
    swarm.lanes[lane].keep = true;
    swarm.lanes[lane].send(&request);
    let (mut answer, deadline) = (Answer(false), Instant::now() + PATIENCE);
    while !answer.0 {
        swarm.poll(Duration::from_millis(100), &mut answer)?;
        if Instant::now() > deadline {
            return Err(wrong(format!("no answer to GET {path}")));
        }
    }
    Ok(std::mem::take(&mut swarm.lanes[lane].body))
}
