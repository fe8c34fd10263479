//! What the generator makes of what it receives: nothing that is lost, doubled or out of order goes unseen, and times are right.

use super::{
    crowd::Crowd,
    frames::{CLOSE, Frame, Mark, TEXT, masked, take, unmasked},
    report::{Faults, Latency},
    sink::{Quiet, Sink},
    tally::{Tally, microseconds},
};

const NONE: Faults = Faults { lost: 0, duplicated: 0, reordered: 0 };

fn message(lane: usize, number: u32, flight: u32) -> Vec<u8> {
    let data = Mark { lane, number, flight }.data(200);
    format!(r#"{{"event":"e","channel":"bench-0","data":"{data}"}}"#).into_bytes()
}

/// One publisher, and `sockets` subscribers of one channel; flights 1, 2, 3 … are its publishes.
struct Load {
    tally: Tally,
    sockets: usize,
}

impl Load {
    fn new(sockets: usize) -> Self {
        Self { tally: Tally::new(sockets, 2, false), sockets }
    }

    fn publish(&mut self, flight: u32, lane: usize) {
        self.tally.launch(flight, 0, self.sockets, lane, false);
    }

    fn reach(&mut self, socket: usize, lane: usize, number: u32, flight: u32) {
        assert!(self.tally.text(socket, &message(lane, number, flight), 5_000), "it is of the load");
    }

    fn faults(&self) -> Faults {
        self.tally.faults(Some(1))
    }
}

#[test]
fn everything_once_and_in_order_is_without_fault() {
    let mut load = Load::new(3);
    for flight in 1..=4 {
        load.publish(flight, 0);
        (0..3).for_each(|socket| load.reach(socket, 0, flight - 1, flight));
        load.tally.response(0, 9_000);
    }
    assert_eq!((load.faults(), load.tally.deliveries, load.tally.requests, load.tally.open), (NONE, 12, 4, 0));
    assert!(!Quiet.text(0, &message(0, 0, 1), 0) && !load.tally.text(0, b"{\"event\":\"pusher:pong\"}", 0), "others are none of it");
}

#[test]
fn what_one_subscriber_never_gets_is_lost_also_when_it_was_the_last() {
    let mut load = Load::new(2);
    (1..=3).for_each(|flight| load.publish(flight, 0));
    (0..3).for_each(|number| load.reach(0, 0, number, number + 1));
    [0, 2].into_iter().for_each(|number| load.reach(1, 0, number, number + 1));
    assert_eq!(load.faults(), Faults { lost: 1, ..NONE });
    let mut load = Load::new(2);
    load.publish(1, 0);
    load.reach(0, 0, 0, 1);
    assert_eq!(load.faults(), Faults { lost: 1, ..NONE });
}

#[test]
fn a_second_copy_for_one_does_not_hide_that_another_has_none() {
    let mut load = Load::new(2);
    load.publish(1, 0);
    load.reach(0, 0, 0, 1);
    load.reach(0, 0, 0, 1);
    assert_eq!(load.faults(), Faults { lost: 1, duplicated: 1, ..NONE });
    load.reach(1, 0, 0, 1);
    assert_eq!((load.faults(), load.tally.deliveries), (Faults { duplicated: 1, ..NONE }, 2));
}

#[test]
fn one_that_is_overtaken_is_out_of_order_and_not_lost() {
    let mut load = Load::new(1);
    (1..=3).for_each(|flight| load.publish(flight, 0));
    [1, 0, 2].into_iter().for_each(|number| load.reach(0, 0, number, number + 1));
    assert_eq!(load.faults(), Faults { reordered: 1, ..NONE });
}

#[test]
fn subscribers_of_a_channel_must_agree_on_the_order_of_two_publishers() {
    let mut load = Load::new(2);
    load.publish(1, 0);
    load.publish(2, 1);
    load.reach(0, 0, 0, 1);
    load.reach(0, 1, 0, 2);
    load.reach(1, 1, 0, 2);
    load.reach(1, 0, 0, 1);
    assert_eq!(load.faults(), Faults { reordered: 1, ..NONE });
    assert_eq!(load.tally.faults(None), NONE, "on channels of their own they need not");
    assert_eq!(load.tally.faults(Some(2)), NONE, "nor on two channels");
}

#[test]
fn a_flight_whose_place_is_taken_before_it_lands_is_lost() {
    let mut load = Load::new(1);
    for flight in 1..=(1 << 16) + 1 {
        load.publish(flight, 0);
        if flight > 1 {
            load.reach(0, 0, flight - 1, flight);
        }
    }
    assert_eq!(load.faults().lost, 1);
}

#[test]
fn a_lane_is_free_when_all_have_it_or_in_an_open_loop_when_it_is_answered() {
    for (open_loop, freed) in [(false, [0, 0, 1]), (true, [0, 1, 1])] {
        let mut tally = Tally::new(2, 1, open_loop);
        tally.launch(1, 0, 2, 0, false);
        let mut seen = Vec::new();
        tally.text(0, &message(0, 0, 1), 0);
        seen.push(tally.landed.len());
        tally.response(0, 0);
        seen.push(tally.landed.len());
        tally.text(1, &message(0, 0, 1), 0);
        seen.push(tally.landed.len());
        assert_eq!((&seen[..], tally.open), (&freed[..], 0), "open loop: {open_loop}");
    }
}

#[test]
fn latency_counts_from_when_it_was_due_and_only_since_the_beginning() {
    let mut tally = Tally::new(1, 1, true);
    tally.launch(1, 1_000_000, 1, 0, false);
    tally.text(0, &message(0, 0, 1), 901_000_000);
    tally.response(0, 901_000_000);
    tally.begin();
    tally.launch(2, 2_000_000, 1, 0, false);
    tally.text(0, &message(0, 1, 2), 5_000_000);
    tally.response(0, 9_000_000);
    let near = |value: f64, wanted: f64| (value / wanted - 1.0).abs() < 0.002;
    assert!(near(tally.latency().p50, 3.0) && near(tally.latency().max, 3.0), "{:?}", tally.latency());
    assert!(near(tally.answers().p99, 7.0), "{:?}", tally.answers());
    assert_eq!((tally.deliveries, tally.requests), (1, 1));
}

#[test]
fn percentiles_are_those_of_the_sample() {
    let mut histogram = microseconds();
    (1..=10_000).rev().for_each(|value| histogram.saturating_record(value * 10));
    let Latency { p50, p90, p99, p999, max } = Latency::of(&histogram);
    for (value, wanted) in [(p50, 50.0), (p90, 90.0), (p99, 99.0), (p999, 99.9), (max, 100.0)] {
        assert!((value / wanted - 1.0_f64).abs() < 0.002, "{value} ms is not {wanted}");
    }
}

#[test]
fn frames_are_cut_where_they_end() {
    let long = "y".repeat(70_000);
    for text in ["", "short", &"x".repeat(126), &long] {
        let bytes = [unmasked(TEXT, text.as_bytes()), vec![0x89, 0]].concat();
        let Some((Frame::Text(payload), length)) = take(&bytes) else { panic!("a text of {} bytes", text.len()) };
        assert_eq!((payload, length), (text.as_bytes(), bytes.len() - 2));
        assert!(matches!(take(&bytes[length..]), Some((Frame::Ping(b""), 2))));
        (0..length.min(20)).for_each(|short| assert!(take(&bytes[..short]).is_none(), "{short} bytes are not all"));
    }
    assert!(matches!(take(&unmasked(CLOSE, &4100_u16.to_be_bytes())), Some((Frame::Close(4100), 4))));
    let frame = masked(TEXT, b"hello");
    let key: [u8; 4] = frame[2..6].try_into().unwrap();
    let payload: Vec<u8> = frame[6..].iter().zip(key.iter().cycle()).map(|(byte, key)| byte ^ key).collect();
    assert_eq!((frame[0], frame[1], &payload[..]), (0x81, 0x85, &b"hello"[..]));
}

#[test]
fn a_mark_is_found_wherever_a_server_puts_the_data() {
    let mark = Mark { lane: 31, number: 1_234_567, flight: 89_012_345 };
    let data = mark.data(200);
    assert_eq!(data.len(), 200);
    let mut place = 0;
    for text in [format!(r#"{{"event":"e","data":"{data}"}}"#), format!(r#"{{"data":"{data}"}}"#), format!(r#"{{"e":1,"data": "{data}"}}"#)]
    {
        assert_eq!(Mark::find(text.as_bytes(), &mut place), Some(mark), "{text}");
    }
    assert_eq!(Mark::find(b"{\"event\":\"pusher:pong\"}", &mut place), None);
    assert_eq!(Mark::find(b"@@0010", &mut 0), None, "half a mark");
}

fn told(crowd: &mut Crowd, socket: usize, kind: &str, user: usize) -> Option<bool> {
    let data = format!(r#"{{\"user_id\":\"u-{user}\",\"user_info\":{{\"name\":\"user u-{user}\"}}}}"#);
    crowd.told(socket, format!(r#"{{"event":"pusher_internal:member_{kind}","channel":"presence-bench","data":"{data}"}}"#).as_bytes())
}

#[test]
fn a_crowd_knows_who_was_told_of_whom() {
    // 0 and 1 are there; 2 comes and goes.
    let mut crowd = Crowd::new(3);
    let clean = |crowd: &mut Crowd| {
        crowd.begin();
        for kind in ["added", "removed"] {
            (0..2).for_each(|socket| assert_eq!(told(crowd, socket, kind, 2), Some(true)));
        }
    };
    clean(&mut crowd);
    assert_eq!((crowd.faults(2), crowd.joined, crowd.left), (NONE, 2, 2));
    clean(&mut crowd);
    assert_eq!(told(&mut crowd, 1, "added", 2), Some(false));
    assert_eq!(crowd.faults(2), Faults { duplicated: 1, ..NONE }, "twice in a round");
    crowd.begin();
    assert_eq!(told(&mut crowd, 0, "added", 2), Some(true));
    assert_eq!(told(&mut crowd, 0, "added", 2), Some(false));
    assert_eq!(crowd.faults(2), Faults { lost: 3, duplicated: 1, ..NONE }, "one told twice is not two told");
    crowd.begin();
    told(&mut crowd, 0, "removed", 2);
    told(&mut crowd, 0, "added", 2);
    assert_eq!(crowd.faults(1), Faults { reordered: 1, ..NONE });
    let roster = br#"{"event":"pusher_internal:subscription_succeeded","channel":"presence-bench","data":"{}"}"#;
    assert_eq!((crowd.told(2, roster), crowd.welcomed), (Some(false), 1));
    assert_eq!(crowd.told(2, b"{\"event\":\"pusher:pong\"}"), None);
}
