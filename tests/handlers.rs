//! The real server inside this process, for the `handlers_…` modules, which give it handlers of their own.
//!
//! `Live` runs it on a free port and a thread of its own. When it ends, every connection that was opened must have been closed,
//! once, and every context dropped, once: each test that uses it tests that, too.

use std::{
    net::SocketAddr,
    sync::{Arc, Once, mpsc},
    thread::JoinHandle,
    time::Duration,
};

use holdline::{
    Broker, Handler, Server, ServerError, Settings, StopHandle,
    config::AppSettings,
    protocol::{ChannelName, ChannelPattern},
};

use crate::{
    handlers_script::{Answer, Call, Journal, ON_PURPOSE, Scripted},
    support::{APP, Frame, Http, OTHER, Ws, until},
};

/// Settings for a test: a free port, one worker (so that nothing can hide behind a second one), a short stop, two applications.
pub(crate) fn settings(change: impl FnOnce(&mut Settings)) -> Settings {
    let mut settings = Settings::default();
    settings.store.url = "memory".into();
    settings.server.port = 0;
    settings.server.workers = 1;
    // No test is meant to run into these, however slow the machine is; those that are have limits of their own.
    settings.drain.grace = Duration::from_secs(25);
    settings.server.hook_timeout = Duration::from_secs(60);
    settings.server.ping_interval = Duration::from_secs(600);
    settings.store.acquire_timeout = Duration::from_secs(10);
    settings.drain.spread = Duration::ZERO;
    settings.apps = [APP, OTHER].map(|app| AppSettings { client_events: true, ..AppSettings::new(app.id, app.key, app.secret) }).to_vec();
    change(&mut settings);
    settings
}

pub(crate) fn channel(name: &str) -> ChannelName {
    ChannelName::parse(name, 200).expect("a channel name")
}

pub(crate) fn pattern(text: &str) -> ChannelPattern {
    ChannelPattern::parse(text).expect("a pattern")
}

/// The next frames are an error and a close with this code; does not wait for the socket to end, which takes a second. Gives
/// the text.
pub(crate) fn told_off(ws: &mut Ws, code: u16) -> String {
    let message = ws.error(code);
    assert_eq!(close_frame(ws), Frame::Close(Some(code), message.clone()));
    message
}

/// The next frame that is not a ping.
pub(crate) fn close_frame(ws: &mut Ws) -> Frame {
    loop {
        match ws.frame() {
            Frame::Ping(_) => {}
            frame => return frame,
        }
    }
}

/// A broker that runs inside this process until it is dropped.
pub(crate) struct Live {
    pub(crate) address: SocketAddr,
    pub(crate) broker: Broker,
    journal: Arc<Journal>,
    stop: StopHandle,
    thread: Option<JoinHandle<Result<(), ServerError>>>,
}

impl Live {
    /// A script on the usual settings.
    pub(crate) fn following(journal: &Arc<Journal>, script: impl Fn(&Call<'_>) -> Answer + Send + Sync + 'static) -> Live {
        Live::start(journal, Server::new(settings(|_| {})).handler(Scripted::new(journal, script)))
    }

    pub(crate) fn start<H: Handler>(journal: &Arc<Journal>, server: Server<H>) -> Live {
        silence_panics_on_purpose();
        let (tell, started) = mpsc::channel();
        let thread = std::thread::spawn(move || {
            actix::System::new().block_on(async move {
                let application = server.build().await?;
                let handles = (application.addrs()[0], application.broker(), application.stop_handle());
                tell.send(handles).expect("the test waits for it");
                application.run_until_stopped().await
            })
        });
        let (address, broker, stop) = started.recv().expect("the server starts");
        Live { address, broker, journal: Arc::clone(journal), stop, thread: Some(thread) }
    }

    /// An established connection.
    pub(crate) fn ws(&self) -> Ws {
        Ws::open(self.address)
    }

    /// The same, under a name for the journal.
    pub(crate) fn ws_as(&self, who: &str) -> Ws {
        Ws::open_at(self.address, &format!("/app/app-key?protocol=7&as={who}"), &[])
    }

    pub(crate) fn http(&self) -> Http {
        Http::connect(self.address)
    }

    pub(crate) fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// Whether `run_until_stopped` has not returned yet.
    pub(crate) fn running(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    /// Waits until `run_until_stopped` has returned; somebody has to have asked for the stop.
    pub(crate) fn stopped(&mut self) {
        let Some(thread) = self.thread.take() else { return };
        until("the server has stopped", || thread.is_finished());
        thread.join().expect("the server does not panic").expect("the server stops without an error");
    }

    /// Opened and closed connections of all applications, as the broker counts them.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let hubs = self.broker.apps();
        let totals = hubs.iter().map(|hub| hub.totals()).map(|(opened, closed)| (opened, closed.map(|(_, n)| n).sum::<u64>()));
        totals.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1))
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        self.stop.stop();
        if std::thread::panicking() {
            return;
        }
        self.stopped();
        let (opened, closed) = self.totals();
        assert_eq!(opened, closed, "opened and closed connections");
        let (made, dropped) = self.journal.contexts();
        assert_eq!(made, dropped, "contexts made and dropped");
        let closes = self.journal.closes().iter().filter(|closed| closed.label.is_empty()).count();
        assert_eq!(self.journal.count("open"), closes, "on_open and on_close: {:?}", self.journal.lines());
    }
}

/// Tests that make a handler panic would fill the output with backtraces that say nothing.
fn silence_panics_on_purpose() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let print = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if info.payload_as_str().is_none_or(|text| !text.contains(ON_PURPOSE)) {
                print(info);
            }
        }));
    });
}
