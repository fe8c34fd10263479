//! A presence channel with 200 members that stay, and 200 more who join all at once and leave all at once, again and again
//! (`--in-flight`: so many at a time). Everybody who is there is told of each of them, once.

use std::{io, time::Duration};

use hdrhistogram::Histogram;

use super::{Meter, PATIENCE, nothing_else, subscribe_all};
use crate::{
    app::unsubscribe,
    crowd::Crowd,
    options::Options,
    report::{Faults, Figure, Latency},
    server::Server,
    sink::Sink,
    swarm::Swarm,
    tally::microseconds,
};

const CHANNEL: &str = "presence-bench";

/// The crowd, and when the wave was sent that they are told of.
struct Watched {
    crowd: Crowd,
    sent: u64,
    latency: Histogram<u64>,
}

impl Sink for Watched {
    fn text(&mut self, socket: usize, message: &[u8], now: u64) -> bool {
        let Some(new) = self.crowd.told(socket, message) else { return false };
        if new {
            self.latency.saturating_record(now.saturating_sub(self.sent) / 1_000);
        }
        true
    }
}

pub(crate) fn run(server: &mut Server, options: &Options) -> io::Result<Figure> {
    let members = options.subscribers.unwrap_or(200).max(1);
    let seconds = options.seconds.unwrap_or(3.0);
    let mut swarm = server.swarm()?;
    // The second half is connected to a channel of its own and joins later.
    let user = |socket: usize| Some(format!("u-{socket}"));
    let ids = subscribe_all(&mut swarm, server, members * 2, |socket| {
        if socket < members { (CHANNEL.to_owned(), user(socket)) } else { (format!("waiting-{socket}"), None) }
    })?;
    let mut watched = Watched { crowd: Crowd::new(members * 2), sent: 0, latency: microseconds() };
    // What the first ones were told of the later ones may still be on its way.
    let until = swarm.now() + 300_000_000;
    while swarm.now() < until {
        swarm.poll(Duration::from_millis(50), &mut watched)?;
    }
    swarm.take_signals();
    let joins: Vec<_> = (members..members * 2).map(|n| server.app.subscribe(&ids[n], CHANNEL, user(n).as_deref())).collect();
    let leave = unsubscribe(CHANNEL);
    let waves: Vec<usize> = (members..members * 2).collect();
    let waves = || waves.chunks(options.in_flight.unwrap_or(members).max(1));
    // Those who are there, and those who came before.
    let owed = |joined: usize| (members * joined + joined * joined.saturating_sub(1) / 2) as u64;
    let (mut total, mut faults, mut meter) = (0, Faults::default(), None);
    let warm = swarm.now() + 300_000_000;
    let end = warm + (seconds * 1e9) as u64;
    // At least one round, however slow the machine is.
    while meter.is_none() || total == 0 || swarm.now() < end {
        if meter.is_none() && swarm.now() > warm {
            meter = Some(Meter::start(server));
            watched.latency.reset();
            total = 0;
        }
        watched.crowd.begin();
        for wave in waves() {
            watched.sent = swarm.now();
            wave.iter().for_each(|socket| swarm.send(*socket, &joins[socket - members]));
            let there = wave[wave.len() - 1] + 1 - members;
            wait(&mut swarm, &mut watched, |crowd| crowd.joined >= owed(there) && crowd.welcomed >= there)?;
        }
        for wave in waves() {
            watched.sent = swarm.now();
            wave.iter().for_each(|socket| swarm.send(*socket, &leave));
            let still = members * 2 - 1 - wave[wave.len() - 1];
            wait(&mut swarm, &mut watched, |crowd| crowd.left >= owed(members) - owed(still))?;
        }
        faults += watched.crowd.faults(owed(members));
        total += watched.crowd.joined + watched.crowd.left;
    }
    let Some(meter) = meter else { return Err(super::wrong("the run was shorter than its warm-up")) };
    let figure = meter.stop(server, "presence", "notifications", total, members * 2);
    nothing_else(&mut swarm)?;
    Ok(Figure { faults: Some(faults), latency_ms: Some(Latency::of(&watched.latency)), ..figure })
}

fn wait(swarm: &mut Swarm, watched: &mut Watched, done: impl Fn(&Crowd) -> bool) -> io::Result<()> {
    let deadline = swarm.now() + PATIENCE.as_nanos() as u64 / 3;
    while !done(&watched.crowd) && swarm.now() < deadline {
        swarm.poll(Duration::from_millis(20), watched)?;
    }
    Ok(())
}
