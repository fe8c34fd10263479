//! A handler that does what a test says and writes down all that it hears, for the `handlers_…` modules.

use std::{
    fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use holdline::{
    Handler,
    domain::{ClientEvent, Closing, Conn, ConnectionError, Handshake, NeverOpened, Outcome, Reject, Subscribe},
    protocol::{ChannelName, SignedUser},
};
use tokio::sync::Semaphore;

use crate::support::{eventually, until};

/// What a panic says that a test wants; all others are printed.
pub(crate) const ON_PURPOSE: &str = "on purpose";

/// One call of a hook.
pub(crate) struct Call<'a> {
    /// `?as=who` in the URL of the client.
    pub(crate) who: &'a str,
    pub(crate) conn: &'a Conn,
    pub(crate) heard: Heard<'a>,
}

/// What a hook hears.
pub(crate) enum Heard<'a> {
    Handshake(&'a Handshake),
    Open,
    Signin(&'a SignedUser),
    Subscribe(&'a Subscribe),
    Unsubscribe(&'a ChannelName),
    Message(&'a ClientEvent),
    Pong(Duration),
    Error(&'a ConnectionError),
    Close(&'a Closing),
}

impl Heard<'_> {
    /// The hook, named as in `on_…`.
    pub(crate) fn hook(&self) -> &'static str {
        match self {
            Self::Handshake(_) => "handshake",
            Self::Open => "open",
            Self::Signin(_) => "signin",
            Self::Subscribe(_) => "subscribe",
            Self::Unsubscribe(_) => "unsubscribe",
            Self::Message(_) => "message",
            Self::Pong(_) => "pong",
            Self::Error(_) => "error",
            Self::Close(_) => "close",
        }
    }
}

/// A line of the journal.
impl fmt::Display for Heard<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.hook())?;
        match self {
            Self::Handshake(_) | Self::Open | Self::Pong(_) => Ok(()),
            Self::Signin(user) => write!(f, " {}", user.id),
            Self::Subscribe(sub) => write!(f, " {}", sub.channel.as_str()),
            Self::Unsubscribe(channel) => write!(f, " {}", channel.as_str()),
            Self::Message(msg) => write!(f, " {} {} {}", msg.channel.as_str(), msg.event, msg.data),
            Self::Error(error) => write!(f, " {}", error.code),
            Self::Close(closing) => write!(f, " {}", closing.cause),
        }
    }
}

/// What a hook does about it. `on_pong` and `on_error` cannot wait or refuse, `on_unsubscribe` and `on_close` cannot refuse.
pub(crate) enum Answer {
    Accept(Outcome),
    Refuse(Reject),
    /// Never comes back.
    Hang,
    /// Waits until the test lets it through, then does this.
    Wait(Gate, Box<Answer>),
}

pub(crate) fn accept() -> Answer {
    Answer::Accept(Outcome::accept())
}

impl Answer {
    async fn given(self) -> Result<Outcome, Reject> {
        let mut answer = self;
        loop {
            match answer {
                Self::Accept(outcome) => return Ok(outcome),
                Self::Refuse(reject) => return Err(reject),
                Self::Hang => std::future::pending().await,
                Self::Wait(gate, then) => {
                    gate.0.acquire().await.expect("a gate is never torn down").forget();
                    answer = *then;
                }
            }
        }
    }
}

/// Holds hooks up until the test lets them through.
#[derive(Clone)]
pub(crate) struct Gate(Arc<Semaphore>);

impl Gate {
    pub(crate) fn shut() -> Gate {
        Gate(Arc::new(Semaphore::new(0)))
    }

    /// Lets this many hooks through.
    pub(crate) fn let_through(&self, hooks: usize) {
        self.0.add_permits(hooks);
    }

    pub(crate) fn wait_then_accept(&self) -> Answer {
        Answer::Wait(self.clone(), Box::new(accept()))
    }
}

/// What happened, in order: `who hook details`. Contexts are counted from their making to their drop.
#[derive(Default)]
pub(crate) struct Journal {
    lines: Mutex<Vec<(String, String)>>,
    closed: Mutex<Vec<Closed>>,
    peers: Mutex<Vec<NeverOpened>>,
    made: AtomicUsize,
    dropped: AtomicUsize,
}

/// What `on_close` got: the closing, and the hooks that had run with the context before.
#[derive(Clone, Debug)]
pub(crate) struct Closed {
    pub(crate) who: String,
    pub(crate) label: &'static str,
    pub(crate) closing: Closing,
    pub(crate) hooks_before: usize,
}

impl Journal {
    pub(crate) fn new() -> Arc<Journal> {
        Arc::default()
    }

    fn write(&self, who: &str, line: String) {
        self.lines.lock().expect("no poison").push((who.to_owned(), line));
    }

    /// Everything, without who.
    pub(crate) fn lines(&self) -> Vec<String> {
        self.lines.lock().expect("no poison").iter().map(|(_, line)| line.clone()).collect()
    }

    /// Everything about one client: `?as=who` in its URL.
    pub(crate) fn of(&self, who: &str) -> Vec<String> {
        let lines = self.lines.lock().expect("no poison");
        lines.iter().filter(|(found, _)| found == who).map(|(_, line)| line.clone()).collect()
    }

    pub(crate) fn count(&self, line: &str) -> usize {
        self.lines.lock().expect("no poison").iter().filter(|(_, found)| found == line).count()
    }

    /// Waits for this line.
    pub(crate) fn wait_for(&self, line: &str) {
        until(&format!("the handler hears `{line}`"), || self.count(line) > 0);
    }

    /// Waits for the close of this client.
    pub(crate) fn closed(&self, who: &str) -> Closed {
        let find = || self.closed.lock().expect("no poison").iter().find(|closed| closed.who == who).cloned();
        eventually(&format!("on_close of {who:?} was called"), find)
    }

    pub(crate) fn closes(&self) -> Vec<Closed> {
        self.closed.lock().expect("no poison").clone()
    }

    /// What `on_disconnect` was told so far.
    pub(crate) fn peers(&self) -> Vec<NeverOpened> {
        self.peers.lock().expect("no poison").clone()
    }

    /// Contexts made, and contexts dropped.
    pub(crate) fn contexts(&self) -> (usize, usize) {
        (self.made.load(Ordering::SeqCst), self.dropped.load(Ordering::SeqCst))
    }
}

type Script = Box<dyn Fn(&Call<'_>) -> Answer + Send + Sync>;

/// A handler that follows a script.
pub(crate) struct Scripted {
    journal: Arc<Journal>,
    /// Stands before its lines, where several handlers write into one journal.
    label: &'static str,
    script: Script,
}

impl Scripted {
    pub(crate) fn new(journal: &Arc<Journal>, script: impl Fn(&Call<'_>) -> Answer + Send + Sync + 'static) -> Scripted {
        Scripted { journal: Arc::clone(journal), label: "", script: Box::new(script) }
    }

    /// Agrees to everything.
    pub(crate) fn agreeing(journal: &Arc<Journal>) -> Scripted {
        Scripted::new(journal, |_| accept())
    }

    pub(crate) fn labelled(mut self, label: &'static str) -> Scripted {
        self.label = label;
        self
    }

    /// Writes down, then asks the script; what that does happens inside the hook.
    fn hear(&self, who: &str, conn: &Conn, heard: Heard<'_>) -> Answer {
        self.note(who, &heard);
        self.ask(who, conn, heard)
    }

    fn note(&self, who: &str, heard: &Heard<'_>) {
        let space = if self.label.is_empty() { "" } else { " " };
        self.journal.write(who, format!("{}{space}{heard}", self.label));
    }

    fn ask(&self, who: &str, conn: &Conn, heard: Heard<'_>) -> Answer {
        (self.script)(&Call { who, conn, heard })
    }
}

/// The context of a connection.
pub(crate) struct Context {
    pub(crate) who: String,
    conn: Conn,
    journal: Arc<Journal>,
    hooks: usize,
}

impl Drop for Context {
    fn drop(&mut self) {
        self.journal.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

impl Handler for Scripted {
    type Conn = Context;

    async fn on_handshake(&self, request: &Handshake) -> Result<Context, Reject> {
        let who = request.query("as").unwrap_or_default().to_owned();
        let answer = self.hear(&who, request.conn(), Heard::Handshake(request));
        let _ = answer.given().await?;
        self.journal.made.fetch_add(1, Ordering::SeqCst);
        Ok(Context { who, conn: request.conn().clone(), journal: Arc::clone(&self.journal), hooks: 0 })
    }

    async fn on_open(&self, context: &mut Context) -> Result<Outcome, Reject> {
        context.hooks += 1;
        self.hear(&context.who, &context.conn, Heard::Open).given().await
    }

    async fn on_signin(&self, context: &mut Context, user: &SignedUser) -> Result<Outcome, Reject> {
        context.hooks += 1;
        self.hear(&context.who, &context.conn, Heard::Signin(user)).given().await
    }

    async fn on_subscribe(&self, context: &mut Context, sub: &Subscribe) -> Result<Outcome, Reject> {
        context.hooks += 1;
        self.hear(&context.who, &context.conn, Heard::Subscribe(sub)).given().await
    }

    async fn on_unsubscribe(&self, context: &mut Context, channel: &ChannelName) -> Outcome {
        context.hooks += 1;
        self.hear(&context.who, &context.conn, Heard::Unsubscribe(channel)).given().await.unwrap_or_default()
    }

    async fn on_message(&self, context: &mut Context, msg: &ClientEvent) -> Result<Outcome, Reject> {
        context.hooks += 1;
        self.hear(&context.who, &context.conn, Heard::Message(msg)).given().await
    }

    fn on_pong(&self, context: &mut Context, round_trip: Duration) {
        context.hooks += 1;
        self.hear(&context.who, &context.conn, Heard::Pong(round_trip));
    }

    fn on_error(&self, context: &mut Context, error: &ConnectionError) {
        context.hooks += 1;
        self.hear(&context.who, &context.conn, Heard::Error(error));
    }

    async fn on_close(&self, context: Context, closing: Closing) -> Outcome {
        let closed = Closed { who: context.who.clone(), label: self.label, closing: closing.clone(), hooks_before: context.hooks };
        {
            // Whoever sees one of the two sees the other. The script is asked afterwards: it may panic.
            let mut all = self.journal.closed.lock().expect("no poison");
            self.note(&context.who, &Heard::Close(&closing));
            all.push(closed);
        }
        self.ask(&context.who, &context.conn, Heard::Close(&closing)).given().await.unwrap_or_default()
    }

    fn on_disconnect(&self, peer: &NeverOpened) {
        self.journal.peers.lock().expect("no poison").push(peer.clone());
    }
}
