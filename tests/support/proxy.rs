//! A TCP proxy that does to connections what networks do: it delays, narrows, swallows, cuts and resets them, each direction for
//! itself, all connections or one. It needs no root and no kernel module.
//!
//! What is held is not lost: it arrives, in order, when the connection is let go, as it would after TCP's retransmissions.

#[cfg(test)]
mod tests;

use std::{
    net::{SocketAddr, TcpListener},
    sync::{
        Arc, Mutex, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        TcpStream,
        tcp::{ReadHalf, WriteHalf},
    },
    runtime::Runtime,
    sync::{mpsc, watch},
    time::Instant,
};

/// The runtime of everything asynchronous in the harness.
pub(crate) fn runtime() -> &'static Runtime {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    RUNTIME.get_or_init(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime"))
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// From the client to the server.
    Up,
    /// From the server to the client.
    Down,
}

/// What happens to the bytes of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Flow {
    /// Nothing comes out, the end of the stream included, until this is taken back.
    pub(crate) held: bool,
    /// How much later everything comes out.
    pub(crate) delay: Duration,
    /// Bytes per second; 0 is as fast as it goes.
    pub(crate) rate: u64,
}

/// What happens to both directions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Weather {
    pub(crate) up: Flow,
    pub(crate) down: Flow,
}

impl Weather {
    /// A black hole in both directions.
    pub(crate) fn black_hole() -> Weather {
        Weather { up: HELD, down: HELD }
    }

    /// A black hole in one direction.
    pub(crate) fn held(way: Way) -> Weather {
        match way {
            Way::Up => Weather { up: HELD, ..Weather::default() },
            Way::Down => Weather { down: HELD, ..Weather::default() },
        }
    }

    /// This much latency in each direction.
    pub(crate) fn delayed(delay: Duration) -> Weather {
        let flow = Flow { delay, ..Flow::default() };
        Weather { up: flow, down: flow }
    }

    fn of(&self, way: Way) -> Flow {
        match way {
            Way::Up => self.up,
            Way::Down => self.down,
        }
    }
}

const HELD: Flow = Flow { held: true, delay: Duration::ZERO, rate: 0 };

/// How a connection is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// Both ends get a FIN.
    Fin,
    /// Both ends get a reset.
    Reset,
}

/// What a trap does to the connection on which it found its text going up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trap {
    /// From this text on, nothing goes up.
    HoldUp,
    /// The text goes up; when the server answers, both ends get a reset in its place.
    CutAnswer,
}

struct Armed {
    text: Vec<u8>,
    trap: Trap,
}

/// One proxied connection.
struct Link {
    number: u64,
    weather: watch::Sender<Weather>,
    cut: watch::Sender<Option<Cut>>,
    cut_on_answer: AtomicBool,
}

#[derive(Default)]
struct State {
    weather: Weather,
    refusing: bool,
    traps: Vec<Armed>,
    links: Vec<Arc<Link>>,
}

struct Inner {
    upstream: SocketAddr,
    state: Mutex<State>,
    sprung: AtomicU64,
    accepted: AtomicU64,
}

/// A running proxy. It ends, with all of its connections, when it is dropped.
pub(crate) struct Proxy {
    address: SocketAddr,
    inner: Arc<Inner>,
    accepting: tokio::task::JoinHandle<()>,
}

impl Proxy {
    /// In front of this server.
    pub(crate) fn to(upstream: SocketAddr) -> Proxy {
        let listener = TcpListener::bind(("127.0.0.1", super::postgres::free_port())).expect("a free port");
        listener.set_nonblocking(true).expect("a listener that does not block");
        let address = listener.local_addr().expect("an address");
        let (sprung, accepted) = (AtomicU64::new(0), AtomicU64::new(0));
        let inner = Arc::new(Inner { upstream, state: Mutex::default(), sprung, accepted });
        let _guard = runtime().enter();
        let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
        let accepting = runtime().spawn(accept(listener, Arc::clone(&inner)));
        Proxy { address, inner, accepting }
    }

    /// Where to connect to.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// From now on, for all connections, those to come included.
    pub(crate) fn set(&self, weather: Weather) {
        let mut state = self.state();
        state.weather = weather;
        for link in &state.links {
            link.weather.send_replace(weather);
        }
    }

    /// Fair weather, no traps, new connections welcome. What was held arrives.
    pub(crate) fn heal(&self) {
        let mut state = self.state();
        state.refusing = false;
        state.traps.clear();
        drop(state);
        self.set(Weather::default());
    }

    /// Resets every new connection, or no longer.
    pub(crate) fn refuse(&self, refusing: bool) {
        self.state().refusing = refusing;
    }

    /// Cuts all connections there are.
    pub(crate) fn cut(&self, how: Cut) {
        for link in self.state().links.drain(..) {
            link.cut.send_replace(Some(how));
        }
    }

    /// Springs once, when a client sends this text (within one read of the proxy).
    pub(crate) fn trap(&self, text: &str, trap: Trap) {
        self.state().traps.push(Armed { text: text.as_bytes().to_vec(), trap });
    }

    /// How many traps have sprung.
    pub(crate) fn sprung(&self) -> u64 {
        self.inner.sprung.load(Ordering::SeqCst)
    }

    /// All connections there are go into a black hole for good; new ones do not.
    pub(crate) fn strand(&self) {
        for link in &self.state().links {
            link.weather.send_replace(Weather::black_hole());
        }
    }

    /// How many connections there were so far.
    pub(crate) fn accepted(&self) -> u64 {
        self.inner.accepted.load(Ordering::SeqCst)
    }

    /// How many connections there are.
    pub(crate) fn connections(&self) -> usize {
        self.state().links.len()
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.inner.state()
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
        self.cut(Cut::Reset);
    }
}

impl Inner {
    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("the proxy's state is not poisoned")
    }

    fn forget(&self, link: &Link) {
        self.state().links.retain(|other| other.number != link.number);
    }

    /// The trap that these bytes spring, if any.
    fn spring(&self, bytes: &[u8]) -> Option<Trap> {
        let mut state = self.state();
        let at = state.traps.iter().position(|armed| bytes.windows(armed.text.len()).any(|window| window == armed.text))?;
        self.sprung.fetch_add(1, Ordering::SeqCst);
        Some(state.traps.remove(at).trap)
    }
}

async fn accept(listener: tokio::net::TcpListener, inner: Arc<Inner>) {
    loop {
        let Ok((client, _)) = listener.accept().await else { continue };
        let number = inner.accepted.fetch_add(1, Ordering::SeqCst);
        let mut state = inner.state();
        if state.refusing {
            reset(&client);
            continue;
        }
        let (weather, cut) = (watch::Sender::new(state.weather), watch::Sender::new(None));
        let link = Arc::new(Link { number, weather, cut, cut_on_answer: AtomicBool::new(false) });
        state.links.push(Arc::clone(&link));
        drop(state);
        tokio::spawn(serve(client, link, Arc::clone(&inner)));
    }
}

/// Makes the drop of this stream a reset.
fn reset(stream: &TcpStream) {
    let _ = socket2::SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

/// One connection, from its first byte to its last.
async fn serve(mut client: TcpStream, link: Arc<Link>, inner: Arc<Inner>) {
    let mut weather = link.weather.subscribe();
    let mut cut = link.cut.subscribe();
    tokio::select! {
        // In a black hole nobody reaches the server.
        _ = weather.wait_for(|weather| !weather.up.held) => {}
        _ = cut.wait_for(Option::is_some) => {
            reset(&client);
            return inner.forget(&link);
        }
    }
    let Ok(mut server) = TcpStream::connect(inner.upstream).await else {
        reset(&client);
        return inner.forget(&link);
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_half, server_half) = (client.split(), server.split());
    let pumps = async {
        tokio::try_join!(
            pump(client_half.0, server_half.1, Way::Up, &link, &inner),
            pump(server_half.0, client_half.1, Way::Down, &link, &inner)
        )
    };
    let how = tokio::select! {
        ended = pumps => if ended.is_ok() { Cut::Fin } else { Cut::Reset },
        how = cut.wait_for(Option::is_some) => how.ok().and_then(|how| *how).unwrap_or(Cut::Reset),
    };
    if how == Cut::Reset {
        reset(&client);
        reset(&server);
    }
    inner.forget(&link);
}

/// What was read of one direction, and when it may come out.
enum Parcel {
    Bytes(Instant, Vec<u8>),
    End,
    Broken,
}

/// The stream broke, at either end.
struct Broken;

/// One direction. Reading goes on while nothing is written, as a network takes what it will not deliver.
async fn pump(from: ReadHalf<'_>, to: WriteHalf<'_>, way: Way, link: &Link, inner: &Inner) -> Result<(), Broken> {
    let (queue, parcels) = mpsc::unbounded_channel();
    let (_, written) = tokio::join!(collect(from, queue, way, link, inner), deliver(to, parcels, way, link));
    written
}

async fn collect(mut from: ReadHalf<'_>, queue: mpsc::UnboundedSender<Parcel>, way: Way, link: &Link, inner: &Inner) {
    let mut chunk = vec![0; 65_536];
    loop {
        let count = tokio::select! {
            count = from.read(&mut chunk) => count,
            () = queue.closed() => return,
        };
        match count {
            Ok(0) => return drop(queue.send(Parcel::End)),
            Err(_) => return drop(queue.send(Parcel::Broken)),
            Ok(count) => {
                let bytes = &chunk[..count];
                match way {
                    Way::Up => match inner.spring(bytes) {
                        Some(Trap::HoldUp) => link.weather.send_modify(|weather| weather.up.held = true),
                        Some(Trap::CutAnswer) => link.cut_on_answer.store(true, Ordering::SeqCst),
                        None => {}
                    },
                    Way::Down if link.cut_on_answer.load(Ordering::SeqCst) => {
                        link.cut.send_replace(Some(Cut::Reset));
                        return;
                    }
                    Way::Down => {}
                }
                let due = Instant::now() + link.weather.borrow().of(way).delay;
                let _ = queue.send(Parcel::Bytes(due, bytes.to_vec()));
            }
        }
    }
}

async fn deliver(mut to: WriteHalf<'_>, mut parcels: mpsc::UnboundedReceiver<Parcel>, way: Way, link: &Link) -> Result<(), Broken> {
    let mut weather = link.weather.subscribe();
    while let Some(parcel) = parcels.recv().await {
        if let Parcel::Bytes(due, _) = parcel {
            tokio::time::sleep_until(due).await;
        }
        let flow = weather.wait_for(|weather| !weather.of(way).held).await.map_err(|_| Broken)?.of(way);
        match parcel {
            Parcel::Bytes(_, bytes) => {
                to.write_all(&bytes).await.map_err(|_| Broken)?;
                if flow.rate > 0 {
                    tokio::time::sleep(Duration::from_secs_f64(bytes.len() as f64 / flow.rate as f64)).await;
                }
            }
            Parcel::End => return to.shutdown().await.map_err(|_| Broken),
            Parcel::Broken => return Err(Broken),
        }
    }
    Ok(())
}
