//! `holdline listen`

use std::{io, time::Duration};

use actix_web::rt::{System, time};
use awc::{
    Client,
    error::{WsClientError, WsProtocolError},
    ws::{self, CloseReason, Message},
};
use bytes::Bytes;
use clap::Args;
use futures_util::{Sink, SinkExt, Stream, StreamExt};

use super::{
    error::CliError,
    event::{Event, Format, printable},
    session::{PING, Session, Step, Subscriptions},
    target::{Target, TargetArgs},
};
use crate::protocol::{CloseCode, Reconnect};

/// The largest message that is read, in bytes: a presence list can be long.
const MAX_MESSAGE: usize = 16 * 1024 * 1024;
/// How long the first frame may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the answer to our ping may take.
const PONG_TIMEOUT: Duration = Duration::from_secs(30);
/// Before a new attempt.
const BACKOFF: Duration = Duration::from_secs(1);
/// Before a new attempt that the broker asked for at once.
const AT_ONCE: Duration = Duration::from_millis(10);
/// What pusher-js calls a connection that ended without a close frame.
const ABNORMAL: u16 = 1006;

/// What to listen to, and where.
#[derive(Debug, Args)]
pub(super) struct ListenArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// End after so many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// The member that presence channels see
    #[arg(long, value_name = "ID", default_value = "cli")]
    user_id: String,
    /// The channels; private and presence ones are signed with the application's secret
    #[arg(required = true, value_name = "CHANNEL")]
    channels: Vec<String>,
}

pub(super) fn run(args: ListenArgs) -> Result<(), CliError> {
    let target = args.target.resolve()?;
    let subscriptions = Subscriptions::try_new(&target, &args.channels, &args.user_id)?;
    let format = if args.json { Format::Json } else { Format::Tabs };
    let listener = Listener { target, subscriptions, printer: Printer { format, left: args.count } };
    System::new().block_on(listener.run())
}

/// Prints events until there are enough of them.
struct Printer {
    format: Format,
    left: Option<u64>,
}

impl Printer {
    /// Whether more are wanted.
    fn print(&mut self, event: &Event) -> Result<Wanted, CliError> {
        match event.write(self.format, &mut io::stdout().lock()) {
            Ok(()) => {}
            // Whoever read us has enough: `listen | head -1`.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(Wanted::NoMore),
            Err(error) => return Err(CliError::Output(error)),
        }
        self.left = self.left.map(|left| left.saturating_sub(1));
        Ok(if self.left == Some(0) { Wanted::NoMore } else { Wanted::More })
    }
}

enum Wanted {
    More,
    NoMore,
}

/// How a connection ended.
enum End {
    /// We have what we wanted.
    Done,
    /// The broker closed it, or it broke.
    Closed { code: u16, text: String },
}

struct Listener {
    target: Target,
    subscriptions: Subscriptions,
    printer: Printer,
}

impl Listener {
    /// Connects, and connects again as a Pusher client would.
    async fn run(mut self) -> Result<(), CliError> {
        let mut reached = false;
        loop {
            let end = match self.connect(&mut reached).await {
                // A wrong address is told at once; a broker that restarts is waited for.
                Err(error @ (CliError::Unreachable { .. } | CliError::NoWebSocket { .. })) if reached => {
                    End::Closed { code: ABNORMAL, text: error.to_string() }
                }
                end => end?,
            };
            let End::Closed { code, text } = end else { return Ok(()) };
            let pause = match CloseCode::new(code).map_or(Reconnect::AfterBackoff, CloseCode::reconnect) {
                Reconnect::Never => return Err(CliError::ConnectionRefused { code, text }),
                Reconnect::AfterBackoff => BACKOFF,
                Reconnect::AtOnce => AT_ONCE,
            };
            note(&format!("Connection ended ({code} {text}); connecting again"));
            time::sleep(pause).await;
        }
    }

    async fn connect(&mut self, reached: &mut bool) -> Result<End, CliError> {
        let request = Client::default().ws(self.target.websocket_url()).max_frame_size(MAX_MESSAGE);
        let (_, socket) = request.connect().await.map_err(|error| match error {
            WsClientError::InvalidResponseStatus(status) => CliError::NoWebSocket { url: self.target.broker(), status: status.as_u16() },
            other => CliError::Unreachable { url: self.target.broker(), source: Box::new(other) },
        })?;
        *reached = true;
        self.converse(socket).await
    }

    /// Reads frames until the connection ends or enough events have come.
    async fn converse(&mut self, mut socket: impl Socket) -> Result<End, CliError> {
        let mut session = Session::new(&self.subscriptions);
        let mut silence = Silence { activity: None, pinged: false };
        loop {
            let text = match hear(&mut socket, &mut silence).await {
                Heard::Text(text) => text,
                Heard::Nothing => continue,
                Heard::End(end) => return Ok(end),
            };
            for step in session.on_text(&String::from_utf8_lossy(&text)) {
                match step {
                    Step::Send(text) => {
                        if socket.send(Message::Text(text.into())).await.is_err() {
                            return Ok(broken("cannot send"));
                        }
                    }
                    Step::Established(activity) => silence.activity = Some(activity),
                    Step::Note(text) => note(&text),
                    Step::Closed { code, text } => return Ok(End::Closed { code, text }),
                    Step::Refused { channel, text } => {
                        leave(&mut socket).await;
                        return Err(CliError::SubscriptionRefused { channel, text });
                    }
                    Step::Print(event) => {
                        if let Wanted::NoMore = self.printer.print(&event)? {
                            leave(&mut socket).await;
                            return Ok(End::Done);
                        }
                    }
                }
            }
        }
    }
}

/// A WebSocket, as awc gives it.
trait Socket: Stream<Item = Result<ws::Frame, WsProtocolError>> + Sink<Message> + Unpin {}
impl<S: Stream<Item = Result<ws::Frame, WsProtocolError>> + Sink<Message> + Unpin> Socket for S {}

/// What came in.
enum Heard {
    Text(Bytes),
    Nothing,
    End(End),
}

/// Waits for one frame and answers it, if it is one of the WebSocket's own.
async fn hear(socket: &mut impl Socket, silence: &mut Silence) -> Heard {
    let Ok(frame) = time::timeout(silence.limit(), socket.next()).await else {
        if silence.is_over() {
            return Heard::End(broken("the broker is silent"));
        }
        silence.pinged = true;
        return answer(socket, Message::Text(PING.into())).await;
    };
    silence.pinged = false;
    match frame {
        Some(Ok(ws::Frame::Text(text))) => Heard::Text(text),
        Some(Ok(ws::Frame::Ping(payload))) => answer(socket, Message::Pong(payload)).await,
        Some(Ok(ws::Frame::Pong(_) | ws::Frame::Binary(_))) => Heard::Nothing,
        // Holdline never fragments, and no part of a message is an event.
        Some(Ok(ws::Frame::Continuation(_))) => {
            note("Left out a part of a fragmented message");
            Heard::Nothing
        }
        Some(Ok(ws::Frame::Close(reason))) => {
            // The answer may find nobody.
            let _ = socket.send(Message::Close(reason.clone())).await;
            Heard::End(closed(reason))
        }
        Some(Err(error)) => Heard::End(broken(&error.to_string())),
        None => Heard::End(broken("no close frame")),
    }
}

async fn answer(socket: &mut impl Socket, message: Message) -> Heard {
    if socket.send(message).await.is_ok() { Heard::Nothing } else { Heard::End(broken("cannot send")) }
}

/// How long nothing may come in.
struct Silence {
    /// What the broker asked for; absent before the first frame.
    activity: Option<Duration>,
    pinged: bool,
}

impl Silence {
    fn limit(&self) -> Duration {
        if self.pinged { PONG_TIMEOUT } else { self.activity.unwrap_or(HANDSHAKE_TIMEOUT) }
    }

    /// Whether asking once more is pointless.
    fn is_over(&self) -> bool {
        self.pinged || self.activity.is_none()
    }
}

/// Says goodbye; the broker does not have to hear it.
async fn leave(socket: &mut impl Socket) {
    let _ = socket.send(Message::Close(Some(ws::CloseCode::Normal.into()))).await;
}

fn broken(why: &str) -> End {
    End::Closed { code: ABNORMAL, text: printable(why) }
}

fn closed(reason: Option<CloseReason>) -> End {
    match reason {
        Some(CloseReason { code, description }) => End::Closed { code: code.into(), text: printable(&description.unwrap_or_default()) },
        None => broken("no close code"),
    }
}

fn note(text: &str) {
    eprintln!("holdline: {text}");
}
