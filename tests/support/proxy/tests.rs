//! The proxy against a server that sends back what it gets.

use std::io::{ErrorKind, Read, Write};

use super::*;

/// A server that sends back what it gets, and ends when it is left.
fn echo() -> SocketAddr {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            std::thread::spawn(move || {
                let mut chunk = [0; 1024];
                while let Ok(count @ 1..) = stream.read(&mut chunk) {
                    stream.write_all(&chunk[..count]).unwrap();
                }
            });
        }
    });
    address
}

fn client(proxy: &Proxy) -> std::net::TcpStream {
    let stream = std::net::TcpStream::connect(proxy.address()).unwrap();
    stream.set_read_timeout(Some(crate::support::WAIT)).unwrap();
    stream
}

/// Says something that is not answered.
fn say_in_vain(stream: &mut std::net::TcpStream, text: &str) {
    stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert_eq!(say(stream, text), Err(ErrorKind::WouldBlock));
    stream.set_read_timeout(Some(crate::support::WAIT)).unwrap();
}

/// Says something and gives what comes back.
fn say(stream: &mut std::net::TcpStream, text: &str) -> Result<String, ErrorKind> {
    stream.write_all(text.as_bytes()).map_err(|error| error.kind())?;
    hear(stream)
}

fn hear(stream: &mut std::net::TcpStream) -> Result<String, ErrorKind> {
    let mut chunk = [0; 1024];
    let count = stream.read(&mut chunk).map_err(|error| error.kind())?;
    Ok(String::from_utf8_lossy(&chunk[..count]).into_owned())
}

#[test]
fn what_is_held_arrives_later_and_in_order() {
    for way in [Way::Up, Way::Down] {
        let proxy = Proxy::to(echo());
        let mut stream = client(&proxy);
        assert_eq!(say(&mut stream, "one"), Ok("one".to_owned()));
        proxy.set(Weather::held(way));
        say_in_vain(&mut stream, "two");
        say_in_vain(&mut stream, "three");
        proxy.heal();
        let mut heard = String::new();
        while heard.len() < "twothree".len() {
            heard += &hear(&mut stream).unwrap();
        }
        assert_eq!(heard, "twothree");
    }
}

#[test]
fn who_connects_into_a_black_hole_waits_and_its_end_is_not_noticed() {
    let proxy = Proxy::to(echo());
    proxy.set(Weather::black_hole());
    let mut stream = client(&proxy);
    say_in_vain(&mut stream, "one");
    proxy.heal();
    assert_eq!(hear(&mut stream), Ok("one".to_owned()));
    proxy.set(Weather::black_hole());
    drop(stream);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(proxy.connections(), 1);
    proxy.heal();
    crate::support::until("the end has arrived", || proxy.connections() == 0);
}

#[test]
fn a_delay_is_a_delay_and_not_a_bottleneck() {
    let proxy = Proxy::to(echo());
    let mut stream = client(&proxy);
    proxy.set(Weather::delayed(Duration::from_millis(600)));
    let started = std::time::Instant::now();
    for _ in 0..5 {
        stream.write_all(b"x").unwrap();
        std::thread::sleep(Duration::from_millis(5));
    }
    let mut heard = 0;
    while heard < 5 {
        heard += hear(&mut stream).unwrap().len();
    }
    let took = started.elapsed();
    // Five one after the other would take six seconds.
    assert!(took >= Duration::from_millis(1_200) && took < Duration::from_millis(5_500), "{took:?}");
}

#[test]
fn a_rate_narrows() {
    let proxy = Proxy::to(echo());
    proxy.set(Weather { up: Flow { rate: 10_000, ..Flow::default() }, ..Weather::default() });
    let mut stream = client(&proxy);
    let started = std::time::Instant::now();
    for _ in 0..3 {
        assert_eq!(say(&mut stream, &"x".repeat(1000)).map(|heard| heard.len()), Ok(1000));
    }
    assert!(started.elapsed() >= Duration::from_millis(200), "{:?}", started.elapsed());
}

#[test]
fn a_reset_and_a_fin_are_told_apart() {
    let proxy = Proxy::to(echo());
    let mut stream = client(&proxy);
    say(&mut stream, "one").unwrap();
    proxy.cut(Cut::Reset);
    assert_eq!(hear(&mut stream), Err(ErrorKind::ConnectionReset));
    let mut stream = client(&proxy);
    say(&mut stream, "one").unwrap();
    proxy.cut(Cut::Fin);
    assert_eq!(hear(&mut stream), Ok(String::new()));
    proxy.refuse(true);
    assert!(say(&mut client(&proxy), "one").is_err_and(|kind| kind != ErrorKind::WouldBlock));
}

#[test]
fn traps_spring_once_and_for_the_connection_that_stepped_in() {
    let proxy = Proxy::to(echo());
    let (mut one, mut other) = (client(&proxy), client(&proxy));
    proxy.trap("cheese", Trap::HoldUp);
    say_in_vain(&mut one, "a piece of cheese");
    assert_eq!((say(&mut other, "more cheese"), proxy.sprung()), (Ok("more cheese".to_owned()), 1));
    proxy.heal();
    assert_eq!(hear(&mut one), Ok("a piece of cheese".to_owned()));
    proxy.trap("cheese", Trap::CutAnswer);
    assert_eq!(say(&mut one, "cheese"), Err(ErrorKind::ConnectionReset));
    assert_eq!(say(&mut other, "still here"), Ok("still here".to_owned()));
}

#[test]
fn a_half_closed_stream_still_answers() {
    let proxy = Proxy::to(echo());
    let mut stream = client(&proxy);
    stream.write_all(b"last").unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    assert_eq!((hear(&mut stream), hear(&mut stream)), (Ok("last".to_owned()), Ok(String::new())));
    crate::support::until("it is over", || proxy.connections() == 0);
}
