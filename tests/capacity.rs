//! A node that runs out of open files refuses politely and goes on serving. (Other brokers die near a thousand sockets.)

use crate::support::{Broker, Frame, Launch, WAIT, Ws, server_with, until};

const LIMIT: u32 = 160;

fn cramped() -> Broker {
    // Nobody is pinged: on a slow machine it takes a while until all of them are read.
    Launch { open_files: Some(LIMIT), ..Launch::config(server_with("ping_interval = \"1h\"", "")) }.start()
}

#[test]
fn beyond_the_open_file_limit_new_sockets_get_4100_and_the_others_are_served() {
    let broker = cramped();
    let mut http = broker.http();
    let (mut served, mut refused) = (Vec::new(), 0);
    for _ in 0..LIMIT + 40 {
        let mut ws = Ws::upgrade(broker.address(), "/app/app-key?protocol=7", &[]);
        match ws.frame_within(WAIT) {
            Some(Frame::Text(text)) if text.contains("connection_established") => served.push(ws),
            Some(Frame::Text(text)) if text.contains("4100") => {
                assert!(text.contains("Over capacity"), "{text}");
                refused += 1;
            }
            other => panic!("after {} sockets: {other:?}", served.len()),
        }
    }
    assert!(served.len() > 60 && refused > 0, "{} served, {refused} refused", served.len());
    assert_eq!(http.plain("/accept-traffic").status, 503);
    assert_eq!(broker.http().plain("/up").status, 200, "HTTP is still answered");
    for ws in &mut served {
        ws.subscribe("news");
    }
    http.publish("news", "e", "1");
    for ws in &mut served {
        ws.expect_data("e", "news", "1");
    }
    served.truncate(10);
    until("there is room again", || http.plain("/accept-traffic").status == 200);
    broker.ws().quiet();
}
