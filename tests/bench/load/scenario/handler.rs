//! What a rule costs that applies to none of the channels in use. Two brokers run side by side, one with the rule and one without, and are
//! driven in turn for a moment each, so that whatever slows the machine slows both; with fresh processes several times, since the place of
//! things in memory is luck.

use std::{io, time::Duration};

use super::{
    Meter,
    connects::{Cycle, Cycles, IN_FLIGHT},
};
use crate::{options::Options, report::Figure, server::Server, server::Setup};

/// Pairs of processes, and moments of each.
const PAIRS: usize = 4;
const TURNS: usize = 8;

/// Both figures, without and with.
pub(crate) fn run(options: &Options, cycles: usize) -> io::Result<[Figure; 2]> {
    let each = (cycles / (PAIRS * TURNS)).max(50);
    let mut sums = [Figure::default(), Figure::default()];
    let (mut least, mut most) = (f64::INFINITY, 0.0_f64);
    for pair in 0..PAIRS {
        let mut order = [0, 1];
        order.rotate_left(pair % 2);
        let start = |holds| Server::start(options, Setup { holds, ..Setup::plain() });
        let mut servers = [start(false)?, start(true)?];
        for which in order {
            slice(&mut servers[which], each.max(500))?;
        }
        let mut spent = [0.0; 2];
        for _ in 0..TURNS {
            for which in order {
                let figure = slice(&mut servers[which], each)?;
                spent[which] += figure.cpu_us_per_unit;
                add(&mut sums[which], figure);
            }
            order.reverse();
        }
        least = least.min(spent[1] / spent[0]);
        most = most.max(spent[1] / spent[0]);
    }
    let [without, with] = sums.map(finish);
    let times = with.cpu_us_per_unit / without.cpu_us_per_unit;
    let with = Figure { server: format!("{}, rule", without.server), ..with };
    let with = with.with("times_without", times).with("times_least_of_a_pair", least).with("times_most_of_a_pair", most);
    Ok([without, with])
}

/// From rest to rest: of a thread that runs, the kernel tells its time only now and then.
fn slice(server: &mut Server, count: usize) -> io::Result<Figure> {
    let view = server.also();
    let mut cycles = Cycles::new(&view, Cycle::Plain, IN_FLIGHT)?;
    let meter = Meter::start(server);
    cycles.run(count, count)?;
    std::thread::sleep(Duration::from_millis(10));
    Ok(meter.stop(server, "handler", "cycles", count as u64, 0))
}

/// Sums; `finish` makes them a figure again.
fn add(sum: &mut Figure, one: Figure) {
    *sum = Figure {
        units: sum.units + one.units,
        seconds: sum.seconds + one.seconds,
        cpu_us_per_unit: sum.cpu_us_per_unit + one.cpu_us_per_unit * one.units as f64,
        own_cores: sum.own_cores + one.own_cores * one.seconds,
        ..one
    };
}

fn finish(sum: Figure) -> Figure {
    let (units, seconds) = (sum.units as f64, sum.seconds);
    Figure {
        per_second: units / seconds,
        server_cores: sum.cpu_us_per_unit / 1e6 / seconds,
        cpu_us_per_unit: sum.cpu_us_per_unit / units,
        own_cores: sum.own_cores / seconds,
        ..sum
    }
}
