//! What one published event costs inside the process: encode once, lock the channel, push to every outbox, drain every outbox.
//! No sockets: the price of the write itself is measured by the load bench. Run with `cargo bench`.

#![expect(clippy::expect_used, reason = "a bench that cannot set up says so and stops")]

mod hub;

use std::{
    collections::VecDeque,
    hint::black_box,
    task::{Context, Waker},
    time::{Duration, Instant},
};

use holdline::{
    domain::{Conn, Delivery, Hub},
    protocol::{ChannelName, ServerFrame},
};

const PAYLOAD: usize = 200;
const ROUNDS: u32 = 200;

/// Empties every outbox, as the writers do; gives the frames drained.
fn drain(conns: &[Conn]) -> usize {
    let mut cx = Context::from_waker(Waker::noop());
    let mut batch = VecDeque::new();
    conns
        .iter()
        .map(|conn| {
            while let std::task::Poll::Ready(true) = conn.outbox().poll_drain(&mut cx, &mut batch) {}
            let frames = batch.len();
            batch.clear();
            frames
        })
        .sum()
}

fn main() {
    let data = "x".repeat(PAYLOAD);
    let event = ServerFrame::Event { event: "e", channel: Some("news"), data: &data, user_id: None };
    let start = Instant::now();
    for _ in 0..100_000 {
        black_box(black_box(&event).encode());
    }
    println!("encode one event of {PAYLOAD} bytes:                {:>8.3} µs", start.elapsed().as_secs_f64() * 10.0);

    let hub = Hub::new(hub::app());
    let channel = ChannelName::parse("news", 200).expect("a legal name");
    let delivery = Delivery { event: "e", data: &data, user_id: None, except: None, sender: None, keep_for: None };
    for (count, burst) in [(1, 1), (1_000, 1), (1_000, 20), (10_000, 1)] {
        let conns: Vec<Conn> = (0..count).map(|n| hub::subscriber(&hub, &channel, n)).collect();
        drain(&conns);
        let (mut push, mut empty) = (Duration::ZERO, Duration::ZERO);
        for _ in 0..ROUNDS {
            let start = Instant::now();
            for _ in 0..burst {
                assert_eq!(hub.deliver(&channel, &delivery, start), conns.len(), "every subscriber takes every frame");
            }
            let pushed = Instant::now();
            assert_eq!(drain(&conns), conns.len() * burst, "nothing is lost");
            push += pushed - start;
            empty += pushed.elapsed();
        }
        let per = |time: Duration| time.as_secs_f64() * 1e6 / (f64::from(ROUNDS) * conns.len() as f64 * burst as f64);
        println!("{count:>6} subscribers, bursts of {burst:>2}: push {:.3} µs, drain {:.3} µs per delivery", per(push), per(empty));
        conns.iter().for_each(|conn| hub.leave(&channel, conn, Instant::now()));
    }
}
