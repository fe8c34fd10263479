//! The scenarios, and what they have in common.

pub(crate) mod client_events;
pub(crate) mod connects;
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
    proc::Tree,
    report::Figure,
    server::Server,
    swarm::{Quiet, Signal, Swarm},
};

/// So many connections may be in the middle of their handshake.
const OPENING: usize = 64;
/// Longer than anything should take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Opens `count` connections, each subscribed to what `channel` says, and waits until all are. Gives their socket ids.
pub(crate) fn subscribe_all(
    swarm: &mut Swarm,
    server: &Server,
    count: usize,
    channel: impl Fn(usize) -> (String, Option<String>),
) -> io::Result<Vec<String>> {
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
                other => panic!("while subscribing: {other:?}"),
            }
        }
        assert!(Instant::now() < deadline, "{ready} of {count} are subscribed");
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

    /// The part of a figure that every scenario has.
    pub(crate) fn stop(mut self, server: &mut Server, scenario: &str, unit: &'static str, units: u64) -> Figure {
        let seconds = self.began.elapsed().as_secs_f64();
        let cpu = (server.tree.cpu() - self.server_before) as f64 / 1e9;
        let own = (self.own.cpu() - self.own_before) as f64 / 1e9;
        Figure {
            scenario: scenario.to_owned(),
            server: server.name.clone(),
            unit,
            units,
            seconds,
            cpu_us_per_unit: cpu * 1e6 / units.max(1) as f64,
            server_cores: cpu / seconds,
            own_cores: own / seconds,
            rss_mib: server.tree.rss() as f64 / f64::from(1 << 20),
            ..Figure::default()
        }
    }
}

/// One request, answered.
pub(crate) fn ask(swarm: &mut Swarm, server: &mut Server, method: &str, path: &str, query: &str) -> io::Result<(u16, String)> {
    struct Answer(Option<u16>);
    impl crate::swarm::Sink for Answer {
        fn text(&mut self, _: usize, _: &[u8], _: u64) -> bool {
            true
        }
        fn response(&mut self, _: usize, status: u16, _: u64) {
            self.0 = Some(status);
        }
    }
    let request = server.app.request(method, path, query, "");
    let lane = swarm.lanes.iter().position(|lane| !lane.busy).expect("a lane is free");
    swarm.lanes[lane].keep = true;
    swarm.lanes[lane].send(&request);
    let (mut answer, deadline) = (Answer(None), Instant::now() + PATIENCE);
    loop {
        swarm.poll(Duration::from_millis(100), &mut answer)?;
        if let Some(status) = answer.0 {
            return Ok((status, std::mem::take(&mut swarm.lanes[lane].body)));
        }
        assert!(Instant::now() < deadline, "no answer to {method} {path}");
    }
}
