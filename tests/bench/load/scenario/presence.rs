//! A presence channel with 200 members that stay, and 200 more who join all at once and leave all at once, again and again
//! (`--in-flight`: so many at a time). Everybody who is
//! there is told of each of them: frames owed and frames that came are compared after every round.

use std::{io, time::Duration};

use super::{Meter, PATIENCE, subscribe_all};
use crate::{
    app::unsubscribe,
    options::Options,
    report::{Faults, Figure},
    server::Server,
    swarm::{Sink, Swarm},
};

const CHANNEL: &str = "presence-bench";

#[derive(Default)]
struct Notifications {
    joined: u64,
    left: u64,
    welcomed: usize,
}

impl Sink for Notifications {
    fn text(&mut self, _: usize, message: &[u8], _: u64) -> bool {
        // Both kinds, wherever a server puts its fields, differ here; a roster is long, so its beginning is looked at only.
        let head = &message[..message.len().min(120)];
        let has = |word: &[u8]| head.windows(word.len()).any(|window| window == word);
        if has(b"member_added") {
            self.joined += 1;
        } else if has(b"member_removed") {
            self.left += 1;
        } else if has(b"subscription_succeeded") {
            self.welcomed += 1;
        } else {
            return false;
        }
        true
    }
}

pub(crate) fn run(server: &mut Server, options: &Options) -> io::Result<Figure> {
    let members = options.subscribers.unwrap_or(200);
    let seconds = options.seconds.unwrap_or(3.0);
    let mut swarm = server.swarm();
    // The second half is connected to a channel of its own and joins later.
    let user = |socket: usize| Some(format!("u-{socket}"));
    let ids = subscribe_all(&mut swarm, server, members * 2, |socket| {
        if socket < members { (CHANNEL.to_owned(), user(socket)) } else { (format!("waiting-{socket}"), None) }
    })?;
    // What the first ones were told of the later ones may still be on its way.
    settle(&mut swarm)?;
    let joins: Vec<_> = (members..members * 2).map(|n| server.app.subscribe(&ids[n], CHANNEL, user(n).as_deref())).collect();
    let leave = unsubscribe(CHANNEL);
    // Those who are there, and those who came before.
    let owed = |joined: usize| (members * joined + joined * joined.saturating_sub(1) / 2) as u64;
    let at_once = options.in_flight.unwrap_or(members);
    let (mut total, mut faults, mut meter) = (0, Faults::default(), None);
    let warm = swarm.now() + 300_000_000;
    let end = warm + (seconds * 1e9) as u64;
    // At least one round, however slow the machine is.
    while meter.is_none() || total == 0 || swarm.now() < end {
        if meter.is_none() && swarm.now() > warm {
            meter = Some(Meter::start(server));
            total = 0;
        }
        let mut seen = Notifications::default();
        for wave in (members..members * 2).collect::<Vec<_>>().chunks(at_once) {
            wave.iter().for_each(|socket| swarm.send(*socket, &joins[socket - members]));
            let there = wave[wave.len() - 1] + 1 - members;
            wait(&mut swarm, &mut seen, |seen| seen.joined >= owed(there) && seen.welcomed >= there)?;
        }
        for wave in (members..members * 2).collect::<Vec<_>>().chunks(at_once) {
            wave.iter().for_each(|socket| swarm.send(*socket, &leave));
            let still = members * 2 - 1 - wave[wave.len() - 1];
            wait(&mut swarm, &mut seen, |seen| seen.left >= owed(members) - owed(still))?;
        }
        let owed = owed(members);
        faults.lost += 2 * owed - seen.joined.min(owed) - seen.left.min(owed);
        faults.duplicated += seen.joined.saturating_sub(owed) + seen.left.saturating_sub(owed);
        total += seen.joined + seen.left;
    }
    let meter = meter.expect("the warm-up is shorter than the run");
    let figure = meter.stop(server, "presence", "notifications", total);
    let signals = swarm.take_signals();
    assert!(signals.is_empty(), "during the load: {:?}", &signals[..signals.len().min(3)]);
    Ok(Figure { faults, ..figure })
}

fn wait(swarm: &mut Swarm, seen: &mut Notifications, done: impl Fn(&Notifications) -> bool) -> io::Result<()> {
    let deadline = swarm.now() + PATIENCE.as_nanos() as u64 / 3;
    while !done(seen) && swarm.now() < deadline {
        swarm.poll(Duration::from_millis(20), seen)?;
    }
    Ok(())
}

fn settle(swarm: &mut Swarm) -> io::Result<()> {
    let until = swarm.now() + 300_000_000;
    while swarm.now() < until {
        swarm.poll(Duration::from_millis(50), &mut Notifications::default())?;
    }
    swarm.take_signals();
    Ok(())
}
