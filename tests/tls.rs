//! TLS on the port: which files do, which stop the start, how they are replaced, and who is not hurt by whom. The client is openssl;
//! real Pusher clients are in tests/clients.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::config::{accepted, refused};
use crate::support::{Broker, Certs, Http, Launch, WAIT, Ws, eventually, one_app, run_to_end, scrape::Scrape, until, wire};

/// A broker with the pair that is installed.
fn broker(certs: &Certs, more: &str) -> Broker {
    Broker::with(format!("{}{}", certs.config(more), one_app("client_events = true")))
}

/// What openssl says of a handshake, after `GET /up`: the answer, the certificate, the protocol.
fn visit(certs: &Certs, address: SocketAddr, options: &[&str]) -> String {
    let mut command = Command::new("openssl");
    command.args(["s_client", "-connect", &address.to_string(), "-verify_return_error", "-servername", "localhost"]);
    command.arg("-CAfile").arg(certs.path("ca.pem")).args(["-quiet", "-verify_quiet"].iter().filter(|_| options.is_empty())).args(options);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("openssl is installed");
    let mut stdin = child.stdin.take().unwrap();
    // It may have given up before.
    let _ = stdin.write_all(b"GET /up HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let said = std::thread::spawn(move || child.wait_with_output().unwrap());
    let deadline = Instant::now() + WAIT;
    while !said.is_finished() && Instant::now() < deadline {
        std::thread::sleep(Duration::from_millis(5));
    }
    drop(stdin);
    let output = said.join().unwrap();
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// The name in the certificate that is shown now.
fn shown(certs: &Certs, address: SocketAddr) -> String {
    let said = visit(certs, address, &["-brief"]);
    let line = said.lines().find_map(|line| line.strip_prefix("Peer certificate: CN = ")).unwrap_or_else(|| panic!("{said}"));
    line.to_owned()
}

#[test]
fn every_usual_kind_of_key_is_served_in_every_usual_form() {
    let certs = Certs::new();
    let serves = |name: &str| {
        certs.install(name);
        let broker = broker(&certs, "");
        let said = visit(&certs, broker.address(), &[]);
        assert!(said.contains("HTTP/1.1 200"), "{name}: {said}");
        assert!(broker.log_text().contains("The TLS certificate is for localhost, 127.0.0.1, until 20"), "{}", broker.log_text());
    };
    for (name, key) in [("rsa", "rsa:2048"), ("ec", "ec -pkeyopt ec_paramgen_curve:secp384r1"), ("ed", "ed25519")] {
        certs.issue_with(name, key, 30);
        serves(name);
    }
    certs.openssl("rsa -in rsa.key -traditional -out pkcs1.key");
    certs.copy("rsa.pem", "pkcs1.pem");
    certs.openssl("ec -in ec.key -out sec1.key");
    certs.copy("ec.pem", "sec1.pem");
    for (name, begins) in [("pkcs1", "-----BEGIN RSA PRIVATE KEY"), ("sec1", "-----BEGIN EC PRIVATE KEY")] {
        let text = std::fs::read_to_string(certs.path(&format!("{name}.key"))).unwrap();
        assert!(text.starts_with(begins), "{text}");
        // As openssl writes it without being asked, and with a chain and remarks around it.
        std::fs::write(
            certs.path(&format!("{name}.key")),
            format!("a remark\n-----BEGIN EC PARAMETERS-----\nBggqhkjOPQMBBw==\n-----END EC PARAMETERS-----\n{text}"),
        )
        .unwrap();
        serves(name);
    }
}

#[test]
fn tls_1_2_and_1_3_with_http_1_1_alone() {
    let certs = Certs::new();
    certs.issue("one");
    certs.install("one");
    let broker = broker(&certs, "");
    for (version, name) in [("-tls1_2", "TLSv1.2"), ("-tls1_3", "TLSv1.3")] {
        let said = visit(&certs, broker.address(), &[version, "-alpn", "h2,http/1.1"]);
        assert!(said.contains(name) && said.contains("ALPN protocol: http/1.1"), "{said}");
        assert!(said.contains("Verification: OK") && said.contains("HTTP/1.1 200"), "{said}");
    }
    let old = visit(&certs, broker.address(), &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"]);
    assert!(!old.contains("HTTP/1.1 200"), "{old}");
    let only_h2 = visit(&certs, broker.address(), &["-alpn", "h2"]);
    assert!(only_h2.contains("no application protocol") && !only_h2.contains("HTTP/1.1 200"), "{only_h2}");
}

#[test]
fn files_that_do_not_do_stop_the_start_and_the_check_by_name() {
    let certs = Certs::new();
    certs.issue("one");
    certs.issue("two");
    let write = |name: &str, text: &str| std::fs::write(certs.path(name), text).unwrap();
    let refuses = |named: &[&str]| refused_files(&certs, named);

    refuses(&["cannot read", "tls.pem", "No such file"]);
    certs.install("one");
    std::fs::remove_file(certs.path("tls.key")).unwrap();
    refuses(&["cannot read", "tls.key", "No such file"]);
    certs.install("one");
    write("tls.pem", "");
    refuses(&["there is no certificate in", "tls.pem"]);
    certs.copy("one.key", "tls.pem");
    refuses(&["there is no certificate in", "tls.pem"]);
    write("tls.pem", "-----BEGIN CERTIFICATE-----\nbm90aGluZw==\n-----END CERTIFICATE-----\n");
    refuses(&["the first certificate in", "tls.pem", "cannot be read"]);
    write("tls.pem", "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    refuses(&["tls.pem", "is not PEM"]);
    certs.install("one");
    certs.copy("one.pem", "tls.key");
    refuses(&["there is no private key in", "tls.key"]);
    certs.copy("two.key", "tls.key");
    refuses(&["the private key in", "tls.key", "does not belong to the first certificate in", "tls.pem"]);
    certs.openssl("pkey -in one.key -aes128 -passout pass:x -out tls.key");
    refuses(&["tls.key", "is encrypted"]);
    certs.openssl("ec -in one.key -aes128 -passout pass:x -out tls.key");
    refuses(&["tls.key", "is encrypted"]);
    std::fs::create_dir(certs.path("directory")).unwrap();
    let config = format!("[tls]\ncertificate = \"directory\"\nkey = \"tls.key\"\n{}", one_app(""));
    std::fs::write(certs.path("h.toml"), config).unwrap();
    let ended = run_to_end(certs.directory(), &["config", "check", "--config", "h.toml"], &[]);
    assert!(ended.code == 2 && ended.said().contains("cannot read directory: Is a directory"), "{}", ended.said());
}

/// The check and the start say the same of these files.
fn refused_files(certs: &Certs, named: &[&str]) {
    std::fs::write(certs.path("h.toml"), format!("{}{}", certs.config(""), one_app(""))).unwrap();
    for args in [["config", "check", "--config", "h.toml"].as_slice(), &["serve", "--config", "h.toml", "--port", "0"]] {
        let ended = run_to_end(certs.directory(), args, &[]);
        let said = ended.said();
        assert!(matches!(ended.code, 1 | 2), "{args:?}: {said}");
        assert!(named.iter().all(|word| said.contains(word)), "{named:?} in: {said}");
        assert!(!said.contains("panicked") && !said.contains("Listening"), "{said}");
        assert!(!said.contains("PRIVATE KEY"), "{said}");
    }
}

#[test]
fn keys_that_belong_together() {
    refused("[tls]\ncertificate = \"c.pem\"\n", &["tls.key", "required"]);
    refused("[tls]\nkey = \"c.key\"\n", &["tls.certificate", "required"]);
    refused("[tls]\nplain_bind = \"127.0.0.1:0\"\n", &["tls.certificate", "required"]);
    refused("[tls]\nplain_bind = \"6080\"\n", &["tls.plain_bind"]);
    refused("[tls]\nreload_interval = \"1ms\"\n", &["tls.reload_interval"]);
    let certs = Certs::new();
    certs.issue("one");
    certs.install("one");
    accepted(&certs.config("reload_interval = \"0s\"\nplain_bind = \"[::1]:6080\""));
}

#[test]
fn an_expired_certificate_is_a_warning_with_its_date() {
    let certs = Certs::new();
    certs.issue_with("old", "ec -pkeyopt ec_paramgen_curve:prime256v1", -1);
    certs.install("old");
    let broker = broker(&certs, "");
    let expected = format!("The TLS certificate in {} expired at 20", certs.path("tls.pem").display());
    assert!(broker.log_text().contains(&expected), "{}", broker.log_text());
    std::fs::write(certs.path("h.toml"), certs.config("")).unwrap();
    let ended = run_to_end(certs.directory(), &["config", "check", "--config", "h.toml"], &[]);
    assert_eq!(ended.code, 0);
    assert!(ended.stderr.contains(&format!("warning: {expected}")), "{}", ended.stderr);
}

#[test]
fn the_second_listener_speaks_plainly_and_the_command_line_uses_it() {
    let certs = Certs::new();
    certs.issue("one");
    certs.install("one");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let config = format!("{}{}", certs.config(&format!("plain_bind = \"{free}\"")), one_app("force_tls = false"));
    let broker = Broker::with(config.clone());
    assert_ne!(broker.address(), free);
    until("it says so", || broker.log_text().contains(&format!("Listening on {free} without TLS")));
    let mut ws = Ws::open(free);
    ws.subscribe("news");
    std::fs::write(certs.path("h.toml"), config).unwrap();
    let ended = run_to_end(certs.directory(), &["publish", "--config", "h.toml", "news", "e", "x"], &[]);
    assert_eq!(ended.code, 0, "{}", ended.said());
    ws.expect_data("e", "news", "x");
    std::fs::write(certs.path("h.toml"), certs.config("")).unwrap();
    let ended = run_to_end(certs.directory(), &["publish", "--config", "h.toml", "news", "e", "x"], &[]);
    assert!(ended.code == 2 && ended.said().contains("speaks TLS") && ended.said().contains("tls.plain_bind"), "{}", ended.said());
}

#[test]
fn new_files_are_used_from_the_next_connection_on_and_broken_ones_never() {
    let certs = Certs::new();
    for name in ["one", "two", "three"] {
        certs.issue(name);
    }
    certs.install("one");
    certs.issue_with("two", "ed25519", 60);
    let metrics = "[metrics]\nbind = \"127.0.0.1:0\"\n";
    let mut launch = Launch::config(format!("{}{metrics}{}", certs.config("reload_interval = \"100ms\""), one_app("")));
    launch.errors_expected = true;
    let broker = launch.start();
    let address = broker.address();
    let days_left = || {
        let seconds = Scrape::of(&broker).value("holdline_tls_certificate_expiration_timestamp_seconds", &[]);
        ((seconds - std::time::UNIX_EPOCH.elapsed().unwrap().as_secs_f64()) / 86_400.0).round() as i64
    };
    assert_eq!((shown(&certs, address).as_str(), days_left()), ("one", 30));
    certs.install("two");
    until("the new certificate is shown", || shown(&certs, address) == "two");
    assert_eq!(days_left(), 60, "of the one in use");

    let complaints = || broker.log_lines().iter().filter(|line| line.contains("Keeping the TLS certificate in use")).count();
    let complained = |of: &str, total: usize| {
        eventually(&format!("{of} is complained of"), || (complaints() == total).then_some(()));
        let log = broker.log_text();
        assert!(log.lines().rfind(|line| line.contains("Keeping")).unwrap().contains(of), "{log}");
        assert_eq!(shown(&certs, address), "two");
    };
    certs.copy("three.key", "tls.key");
    complained("does not belong to the first certificate", 1);
    std::fs::write(certs.path("tls.pem"), "nothing").unwrap();
    complained("there is no certificate in", 2);
    std::fs::remove_file(certs.path("tls.pem")).unwrap();
    complained("cannot read", 3);
    // What does not change is complained of once.
    std::thread::sleep(Duration::from_millis(600));
    assert_eq!(complaints(), 3);
    certs.copy("three.pem", "tls.pem");
    until("the pair that fits is shown", || shown(&certs, address) == "three");
    assert_eq!(complaints(), 3);
}

#[test]
fn a_hangup_reads_the_files_at_once_and_ends_nothing() {
    let certs = Certs::new();
    certs.issue("one");
    certs.issue("two");
    certs.install("one");
    let mut broker = broker(&certs, "reload_interval = \"0s\"");
    certs.install("two");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(shown(&certs, broker.address()), "one", "nobody looks by himself");
    broker.signal("HUP");
    until("the new certificate is shown", || shown(&certs, broker.address()) == "two");
    broker.signal("HUP");
    let loaded = || broker.log_lines().iter().filter(|line| line.contains("The TLS certificate is for")).count();
    until("the answer to the second one", || loaded() == 3);
    assert!(broker.is_alive());
}

#[test]
fn what_is_no_tls_hurts_nobody_and_is_no_error() {
    let certs = Certs::new();
    certs.issue("one");
    certs.install("one");
    let broker = broker(&certs, "");
    let said = broker.log_lines().len();
    let mut noise = 1_u32;
    for round in 0..300 {
        let mut stream = TcpStream::connect(broker.address()).unwrap();
        let bytes: Vec<u8> = match round % 4 {
            0 => b"GET /up HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(),
            // The beginning of a handshake, then nothing more of one.
            1 => [&[0x16, 3, 1, 2, 0, 1, 0][..], &[0xff; 100]].concat(),
            2 => Vec::new(),
            _ => (0..200)
                .map(|_| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    noise.to_be_bytes()[0]
                })
                .collect(),
        };
        // Closed before all was sent is an answer, too.
        let _ = stream.write_all(&bytes);
    }
    assert!(visit(&certs, broker.address(), &[]).contains("HTTP/1.1 200"));
    let loud =
        broker.log_lines().into_iter().skip(said).filter(|line| line.contains(r#""level":"ERROR""#) || line.contains(r#""level":"WARN""#));
    assert_eq!(loud.collect::<Vec<_>>(), Vec::<String>::new());
}

#[test]
fn a_handshake_that_never_ends_is_ended_and_holds_no_place() {
    let certs = Certs::new();
    certs.issue("one");
    certs.install("one");
    let broker = broker(&certs, "");
    // It says that it listens before all of its workers do.
    assert!(visit(&certs, broker.address(), &[]).contains("HTTP/1.1 200"));
    let before = eventually("the number of its sockets stays", || {
        let before = broker.sockets();
        std::thread::sleep(Duration::from_millis(200));
        (broker.sockets() == before).then_some(before)
    });
    let began = Instant::now();
    let mut silent: Vec<TcpStream> = (0..50).map(|_| TcpStream::connect(broker.address()).unwrap()).collect();
    for stream in silent.iter_mut().step_by(2) {
        stream.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    }
    until("they are there", || broker.sockets() >= before + 50);
    assert!(visit(&certs, broker.address(), &[]).contains("HTTP/1.1 200"), "others are served");
    until("they are gone", || broker.sockets() <= before);
    assert!((4..25).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
    let mut end = [0];
    assert!(matches!(silent[0].read(&mut end), Ok(0) | Err(_)));
}

#[test]
fn a_reader_that_stops_is_cut_off_below_tls_as_well() {
    let certs = Certs::new();
    certs.issue("one");
    certs.install("one");
    let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let settings = "[server]\ntcp_user_timeout = \"2s\"\noutbox_size = \"256KiB\"\n";
    let tls = certs.config(&format!("plain_bind = \"{plain}\""));
    let broker = Broker::with(format!("{settings}{tls}{}", one_app("")));
    let mut client = Command::new("openssl");
    client.args(["s_client", "-quiet", "-connect", &broker.address().to_string()]);
    let mut client = client.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let upgrade = "GET /app/app-key?protocol=7 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
    let subscribe = wire(1, br#"{"event":"pusher:subscribe","data":{"channel":"firehose"}}"#);
    client.stdin.as_mut().unwrap().write_all(&[upgrade.as_bytes(), &subscribe].concat()).unwrap();
    let mut http = Http::connect(plain);
    until("it is subscribed", || http.subscribers("firehose") == 1);
    // Nobody takes the output of the client any more: it stops reading when the pipe is full.
    let sockets = broker.sockets();
    let body = json!({ "batch": vec![json!({ "channel": "firehose", "name": "e", "data": "x".repeat(10_240) }); 10] }).to_string();
    let dropped = (0..800).any(|_| {
        assert_eq!(http.post("/batch_events", &body).status, 200);
        http.subscribers("firehose") == 0
    });
    assert!(dropped, "it was not closed as a slow consumer");
    let began = Instant::now();
    until("its socket is gone", || broker.sockets() < sockets);
    // By default it would be twenty seconds.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    client.kill().unwrap();
    client.wait().unwrap();
}
