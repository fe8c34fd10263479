//! Stopping: signals, exit codes, and how soon. Design 2.6.

use std::time::{Duration, Instant};

use crate::support::{Broker, Launch, WAIT, Ws, in_one_of, member, one_app, until};

fn drain(grace: &str, spread: &str) -> String {
    format!("[drain]\ngrace = \"{grace}\"\nspread = \"{spread}\"\n{}", one_app(""))
}

#[test]
fn an_idle_broker_is_gone_within_a_second_of_either_signal() {
    for signal in ["TERM", "INT"] {
        in_one_of(5, || {
            let mut broker = Broker::start();
            let _kept_alive = broker.http().plain("/up");
            let started = Instant::now();
            broker.signal(signal);
            let status = broker.exited(WAIT);
            assert_eq!(status.code(), Some(0), "SIG{signal}");
            let took = started.elapsed();
            if took < Duration::from_secs(1) { Ok(()) } else { Err(format!("SIG{signal}: {took:?}")) }
        });
    }
}

#[test]
fn idle_and_stuck_http_connections_do_not_hold_up_the_stop() {
    let mut broker = Broker::start();
    let mut http = broker.http();
    http.publish("news", "e", "1");
    let (_silent, mut stuck) = (broker.http(), broker.http());
    stuck.send_bytes(b"GET /up HTTP/1.1\r\nHo");
    let started = Instant::now();
    broker.signal("TERM");
    assert_eq!(broker.exited(WAIT).code(), Some(0));
    // The head of a request may take ten seconds, and a stop thirty.
    assert!(started.elapsed() < Duration::from_secs(9), "{:?}", started.elapsed());
}

/// Whoever reloads all services alike, or logs out, does not mean to end this one.
#[test]
fn a_hangup_ends_nothing_and_the_log_says_so() {
    let mut broker = Broker::start();
    let mut ws = broker.ws();
    ws.subscribe("news");
    for hangups in 1..3 {
        broker.signal("HUP");
        until("the log says so", || broker.log_text().matches("Ignoring SIGHUP").count() == hangups);
    }
    broker.http().publish("news", "still-here", "1");
    ws.expect("still-here");
    broker.signal("TERM");
    assert_eq!(broker.exited(WAIT).code(), Some(0));
}

#[test]
fn live_connections_are_told_to_come_back_at_once_with_4200() {
    let mut broker = Broker::with(drain("60s", "200ms"));
    let mut sockets: Vec<Ws> = (0..5).map(|_| broker.ws()).collect();
    broker.signal("TERM");
    for ws in &mut sockets {
        assert_eq!(ws.refused(4200), "Please reconnect immediately");
    }
    assert_eq!(broker.exited(WAIT).code(), Some(0));
}

#[test]
fn closes_are_spread_over_the_configured_time() {
    in_one_of(3, closes_are_spread);
}

fn closes_are_spread() -> Result<(), String> {
    let mut broker = Broker::with(drain("60s", "2s"));
    let sockets: Vec<Ws> = (0..120).map(|_| broker.ws()).collect();
    let started = Instant::now();
    broker.signal("TERM");
    let mut times: Vec<Duration> = std::thread::scope(|scope| {
        let readers: Vec<_> = sockets
            .into_iter()
            .map(|mut ws| {
                scope.spawn(move || {
                    ws.error(4200);
                    let told = started.elapsed();
                    ws.closed(4200);
                    told
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    times.sort();
    assert_eq!(broker.exited(WAIT).code(), Some(0));
    let widest = times.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap();
    let evenly = widest < Duration::from_millis(1500);
    match (times[119] - times[0] > Duration::from_millis(1000), times[119] < Duration::from_secs(4), evenly) {
        (true, true, true) => Ok(()),
        wrong => Err(format!("not in one wave, within the spread, evenly: {wrong:?}, {times:?}")),
    }
}

#[test]
fn members_who_are_still_there_hear_of_those_who_were_closed_before_them() {
    // Two closes may follow right upon each other: then somebody is closed before he is told of the one before him.
    in_one_of(5, || {
        let told = each_is_told_of_those_before();
        assert!(told.iter().enumerate().all(|(at, heard)| *heard <= at), "more than were closed before: {told:?}");
        assert!(told.iter().sum::<usize>() >= 10, "hardly anybody: {told:?}");
        if told == [0, 1, 2, 3, 4, 5] { Ok(()) } else { Err(format!("not one by one, and each told to the rest: {told:?}")) }
    });
}

/// Of how many ends each of six members heard before its own, the fewest first.
fn each_is_told_of_those_before() -> Vec<usize> {
    let mut broker = Broker::with(drain("60s", "1500ms"));
    let mut sockets: Vec<Ws> = (0..6).map(|_| broker.ws()).collect();
    for (at, ws) in sockets.iter_mut().enumerate() {
        ws.join("presence-room", &member(&at.to_string(), None));
    }
    broker.signal("TERM");
    let mut removed_before_the_end: Vec<usize> = std::thread::scope(|scope| {
        let readers: Vec<_> = sockets
            .into_iter()
            .map(|mut ws| {
                scope.spawn(move || {
                    let mut removed = 0;
                    loop {
                        let event = ws.event();
                        match event.name() {
                            "pusher_internal:member_added" => {}
                            "pusher_internal:member_removed" => removed += 1,
                            "pusher:error" => break,
                            other => panic!("{other}"),
                        }
                    }
                    ws.closed(4200);
                    removed
                })
            })
            .collect();
        readers.into_iter().map(|reader| reader.join().unwrap()).collect()
    });
    assert_eq!(broker.exited(WAIT).code(), Some(0));
    removed_before_the_end.sort_unstable();
    removed_before_the_end
}

#[test]
fn while_it_drains_the_node_is_not_ready_and_new_sockets_get_4100() {
    let mut broker = Broker::with(drain("60s", "4s"));
    let mut sockets: Vec<Ws> = (0..10).map(|_| broker.ws()).collect();
    let mut http = broker.http();
    assert_eq!(http.plain("/ready").status, 200);
    broker.signal("TERM");
    until("it says that it is not ready", || http.plain("/ready").status == 503);
    assert_eq!(http.plain("/accept-traffic").status, 503);
    assert_eq!(http.plain("/up").status, 200, "alive it still is");
    http.publish("news", "e", "1");
    Ws::upgrade(broker.address(), "/app/app-key?protocol=7", &[]).refused(4100);
    for ws in &mut sockets {
        ws.refused(4200);
    }
    assert_eq!(broker.exited(WAIT).code(), Some(0));
}

#[test]
fn events_published_before_a_connection_is_closed_still_arrive() {
    let mut broker = Broker::with(drain("60s", "1s"));
    let mut ws = broker.ws();
    ws.subscribe("news");
    let mut http = broker.http();
    for at in 0..50 {
        http.publish("news", "e", &at.to_string());
    }
    broker.signal("TERM");
    for at in 0..50 {
        ws.expect_data("e", "news", &at.to_string());
    }
    ws.refused(4200);
    assert_eq!(broker.exited(WAIT).code(), Some(0));
}

#[test]
fn a_client_that_answers_nothing_cannot_hold_up_the_stop_beyond_the_grace() {
    let mut broker = Broker::with(drain("3s", "100ms"));
    let _silent: Vec<Ws> = (0..3).map(|_| broker.ws()).collect();
    let started = Instant::now();
    broker.signal("TERM");
    // Far less than a silent client has by default: its pings, or the time limit of TCP.
    assert_eq!(broker.exited(Duration::from_secs(15)).code(), Some(0), "{:?}", started.elapsed());
}

#[test]
fn the_stop_takes_no_longer_than_the_clients_need() {
    let mut broker = Broker::with(drain("60s", "100ms"));
    let mut ws = broker.ws();
    broker.signal("TERM");
    ws.refused(4200);
    // The head of a request may take ten seconds, and a stop a minute here.
    assert_eq!(broker.exited(Duration::from_secs(9)).code(), Some(0));
}

#[test]
fn a_stopped_port_can_be_taken_again_and_clients_come_back() {
    let mut broker = Broker::with(drain("60s", "100ms"));
    let port = broker.address().port().to_string();
    let mut ws = broker.ws();
    ws.subscribe("news");
    broker.signal("TERM");
    ws.refused(4200);
    broker.exited(WAIT);
    let again = Launch::config(one_app("")).arg("--port").arg(&port).start();
    let mut ws = again.ws();
    ws.subscribe("news");
    again.http().publish("news", "e", "1");
    ws.expect_data("e", "news", "1");
}
