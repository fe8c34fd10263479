//! What the protocol makes of one client's frames: a state machine without socket, clock or async.
//!
//! A frame and the time go in, an [`Action`] comes out. Whatever needs a handler or the broker is an action, too; the actor tells
//! the machine afterwards what became of it ([`Machine::joined`], [`Machine::signed_in`]).

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    liveness::{Liveness, Pulse, RateLimit},
    settings::ConnectionSettings,
};
use crate::{
    domain::{App, ClientEvent, ClientEventRefusal as Why, ConnectionError, Subscribe},
    protocol::{
        Access, ChannelData, ChannelName, ChannelNameError, ClientFrame, CloseCode, FrameError, InvalidReceiptId, Member, MemberError,
        ReceiptId, ServerFrame, Signed, SignedUser, SocketId, SubscribeRequest, SubscriptionError, WireFrame,
    },
};

/// Something to be done.
#[derive(Debug, PartialEq)]
pub(super) enum Action {
    /// Say this.
    Send(WireFrame),
    /// Say that this went wrong; the connection goes on.
    Refuse { error: ConnectionError, channel: Option<String> },
    /// The same about a client event, which is not relayed.
    RefuseEvent { why: Why, error: ConnectionError, channel: String },
    /// A subscription was refused; the connection goes on.
    RefuseSubscription { channel: String, error: SubscriptionError },
    /// Ask the handler, then join.
    Subscribe(Subscribe),
    /// It is subscribed already: acknowledge again.
    Reacknowledge(Subscribe),
    /// Leave, then tell the handler.
    Unsubscribe(ChannelName),
    /// Ask the handler, then sign in. `cut`: the watchlist was longer than it may be.
    SignIn { user: SignedUser, user_data: String, cut: bool },
    /// Ask the handler, then relay.
    Relay(ClientEvent),
    /// The same, unless it was done before; all its checks are still to be made.
    RelayOnce(Numbered),
    /// Give the connection up.
    Fail { idle: bool, code: CloseCode, message: &'static str },
}

/// A client event that its sender has given an id.
#[derive(Debug, PartialEq)]
pub(super) struct Numbered {
    pub(super) id: ReceiptId,
    pub(super) event: String,
    /// `None`: it has none.
    pub(super) channel: Option<String>,
    pub(super) data: String,
}

/// Why a client event is not relayed.
#[derive(Debug, PartialEq)]
pub(super) struct NotRelayed {
    pub(super) why: Why,
    pub(super) error: ConnectionError,
}

/// The protocol's view of one connection.
#[derive(Debug)]
pub(super) struct Machine {
    app: Arc<App>,
    settings: Arc<ConnectionSettings>,
    /// As text, because that is how it is signed.
    socket_id: String,
    subscriptions: HashMap<ChannelName, Option<Arc<str>>>,
    user: Option<SignedUser>,
    liveness: Liveness,
    rate: RateLimit,
    /// By when it has to show some signature; `None` once it has, or need not.
    authorize_by: Option<Instant>,
}

impl Machine {
    pub(super) fn new(app: Arc<App>, settings: Arc<ConnectionSettings>, socket_id: SocketId, now: Instant) -> Self {
        Self {
            liveness: Liveness::new(settings.ping_interval, settings.pong_timeout, now),
            rate: RateLimit::new(app.limits.client_events_per_second, now),
            authorize_by: (app.authorization_timeout > Duration::ZERO).then(|| now + app.authorization_timeout),
            subscriptions: HashMap::new(),
            user: None,
            socket_id: socket_id.to_string(),
            app,
            settings,
        }
    }

    /// The application has been changed: from here on this is what counts.
    pub(super) fn set_app(&mut self, app: Arc<App>, now: Instant) {
        let limit = app.limits.client_events_per_second;
        if limit != self.app.limits.client_events_per_second {
            self.rate.change(limit, now);
        }
        // Whoever is connected already owes no signature that was not asked for when it came.
        if app.authorization_timeout.is_zero() {
            self.authorize_by = None;
        }
        self.app = app;
    }

    /// One text message.
    pub(super) fn on_text(&mut self, text: &str, now: Instant) -> Option<Action> {
        self.liveness.seen(now);
        if let Some((_, answer)) = self.settings.raw_heartbeats.iter().find(|(question, _)| question == text) {
            return Some(Action::Send(WireFrame::text(answer)));
        }
        Some(match ClientFrame::parse(text) {
            Ok(ClientFrame::Ping) => Action::Send(ServerFrame::Pong.encode()),
            Ok(ClientFrame::Pong) => return None,
            Ok(ClientFrame::Subscribe(request)) => {
                let action = self.subscribe(&request);
                action.unwrap_or_else(|error| Action::RefuseSubscription { channel: request.channel.into_owned(), error })
            }
            Ok(ClientFrame::Unsubscribe { channel }) => return self.unsubscribe(&channel),
            Ok(ClientFrame::Signin { auth, user_data }) => self.sign_in(&auth, user_data.into_owned()),
            Ok(ClientFrame::Event { event, channel, data }) => match self.receipt_id(text) {
                Ok(None) => match self.client_event(&event, &channel, &data, now) {
                    Ok(event) => Action::Relay(event),
                    Err(NotRelayed { why, error }) => Action::RefuseEvent { why, error, channel: channel.into_owned() },
                },
                Ok(Some(id)) => Action::RelayOnce(Numbered {
                    id,
                    event: event.into_owned(),
                    channel: Some(channel.into_owned()),
                    data: data.into_owned(),
                }),
                Err(invalid) => {
                    let error = ConnectionError { code: CloseCode::CLIENT_EVENT_REFUSED, message: invalid.to_string() };
                    Action::RefuseEvent { why: Why::Id, error, channel: channel.into_owned() }
                }
            },
            Err(error @ FrameError::InvalidClientEvent) => match self.receipt_id(text) {
                Ok(Some(id)) => Action::RelayOnce(Numbered { id, event: String::new(), channel: None, data: String::new() }),
                _ => refuse(CloseCode::GENERIC, error.to_string(), None),
            },
            Err(error) => refuse(CloseCode::GENERIC, error.to_string(), None),
        })
    }

    /// A ping control frame: the answer repeats its payload.
    pub(super) fn on_ping(&mut self, payload: &[u8], now: Instant) -> Action {
        self.liveness.seen(now);
        Action::Send(WireFrame::pong(payload))
    }

    /// A frame that is not the last one of its message.
    pub(super) fn on_fragment(&mut self, now: Instant) {
        self.liveness.seen(now);
    }

    /// A pong control frame: the round trip, if it answers a ping of ours.
    pub(super) fn on_pong(&mut self, now: Instant) -> Option<Duration> {
        self.liveness.ponged(now)
    }

    /// The time that [`Machine::on_tick`] asked for has come. Gives what to do, and when to come again.
    pub(super) fn on_tick(&mut self, now: Instant) -> (Option<Action>, Instant) {
        if self.authorize_by.is_some_and(|deadline| now >= deadline) {
            let message = "Connection not authorized within timeout";
            return (Some(Action::Fail { idle: false, code: CloseCode::UNAUTHORIZED, message }), now);
        }
        let sooner = |next: Instant| self.authorize_by.map_or(next, |deadline| deadline.min(next));
        match self.liveness.check(now) {
            Pulse::Fine(next) => (None, sooner(next)),
            Pulse::Ping(next) => (Some(Action::Send(WireFrame::ping(b""))), sooner(next)),
            Pulse::Lost => {
                (Some(Action::Fail { idle: true, code: CloseCode::PONG_TIMEOUT, message: "Pong reply not received in time" }), now)
            }
        }
    }

    /// The broker has joined this subscription.
    pub(super) fn joined(&mut self, subscribe: &Subscribe) {
        if subscribe.channel.kind().needs_signature() {
            self.authorize_by = None;
        }
        let user_id = subscribe.member.as_ref().map(|member| Arc::clone(&member.user_id));
        self.subscriptions.insert(subscribe.channel.clone(), user_id);
    }

    /// The broker has signed this user in; gives the one it replaces.
    pub(super) fn signed_in(&mut self, user: SignedUser) -> Option<SignedUser> {
        self.authorize_by = None;
        self.user.replace(user)
    }

    /// Who is signed in.
    pub(super) fn user(&self) -> Option<&SignedUser> {
        self.user.as_ref()
    }

    /// Steps 2 to 5 of protocol.md 2.3.
    fn subscribe(&self, request: &SubscribeRequest<'_>) -> Result<Action, SubscriptionError> {
        let limits = &self.app.limits;
        let channel = ChannelName::parse(&request.channel, limits.max_channel_name).map_err(|error| {
            let kind = if error == ChannelNameError::Illegal { "InvalidChannel" } else { "LimitReached" };
            SubscriptionError::new(kind, CloseCode::UNAUTHORIZED.as_u16(), error.to_string())
        })?;
        let member = match channel.kind().access {
            Access::Open => None,
            Access::User => {
                let own = self.user.as_ref().is_some_and(|user| channel.user_id() == Some(&user.id));
                if own { None } else { return Err(SubscriptionError::unauthorized()) }
            }
            Access::Signed => {
                let data = match &request.channel_data {
                    ChannelData::Text(data) => Some(&**data),
                    ChannelData::Absent => None,
                    ChannelData::NotText => return Err(SubscriptionError::unauthorized()),
                };
                self.verify(&channel, data, request)?;
                None
            }
            Access::Presence => Some(self.member(&channel, request)?),
        };
        let channel_data = match &request.channel_data {
            ChannelData::Text(data) if channel.kind().needs_signature() => Some(data.clone().into_owned()),
            _ => None,
        };
        let user_id = self.user.as_ref().map(|user| Arc::clone(&user.id));
        let subscribe = Subscribe { channel, member, user_id, channel_data };
        if self.subscriptions.contains_key(&subscribe.channel) {
            return Ok(Action::Reacknowledge(subscribe));
        }
        if limits.max_subscriptions > 0 && self.subscriptions.len() >= limits.max_subscriptions {
            return Err(limit_reached(CloseCode::OVER_CAPACITY, "Too many subscriptions on this connection."));
        }
        Ok(Action::Subscribe(subscribe))
    }

    fn verify(&self, channel: &ChannelName, channel_data: Option<&str>, request: &SubscribeRequest<'_>) -> Result<(), SubscriptionError> {
        let signed = Signed::Channel { socket_id: &self.socket_id, channel: channel.as_str(), channel_data };
        let auth = request.auth.as_deref().unwrap_or_default();
        if self.app.is_signed(|key| signed.verify(auth, &self.app.key, key)) { Ok(()) } else { Err(SubscriptionError::unauthorized()) }
    }

    /// The member of a presence subscription (protocol.md 2.4): what the application signed, or else the signed-in user.
    fn member(&self, channel: &ChannelName, request: &SubscribeRequest<'_>) -> Result<Member, SubscriptionError> {
        let limits = self.app.limits.member;
        let member = match (&request.channel_data, &self.user) {
            (ChannelData::Text(data), _) => {
                self.verify(channel, Some(data), request)?;
                Member::parse(data, limits)
            }
            (ChannelData::NotText, _) => Err(MemberError::Invalid),
            (ChannelData::Absent, Some(user)) => {
                self.verify(channel, None, request)?;
                Member::of_user(user, limits)
            }
            (ChannelData::Absent, None) => return Err(SubscriptionError::unauthorized()),
        };
        member.map_err(|error| match error {
            MemberError::Invalid => SubscriptionError::new("AuthError", 401, error.to_string()),
            MemberError::TooLarge { .. } => limit_reached(CloseCode::CLIENT_EVENT_REFUSED, error.to_string()),
        })
    }

    fn unsubscribe(&mut self, channel: &str) -> Option<Action> {
        self.subscriptions.remove_entry(channel).map(|(channel, _)| Action::Unsubscribe(channel))
    }

    /// Protocol.md 4.1.
    fn sign_in(&self, auth: &str, user_data: String) -> Action {
        let refused = |message: &str| refuse(CloseCode::UNAUTHORIZED, message.to_owned(), None);
        if !self.app.user_authentication {
            return refused("The app does not have user authentication enabled.");
        }
        let signed = Signed::User { socket_id: &self.socket_id, user_data: &user_data };
        if !self.app.is_signed(|key| signed.verify(auth, &self.app.key, key)) {
            return refused("The connection is unauthorized.");
        }
        let Ok(mut user) = SignedUser::parse(&user_data, self.app.limits.member) else { return refused("Invalid user_data.") };
        if self.user.as_ref().is_some_and(|current| current.id != user.id) {
            return refused("Connection is already signed in as another user.");
        }
        let mut cut = false;
        match &mut user.watchlist {
            Some(_) if !self.app.watchlist => user.watchlist = None,
            Some(ids) => {
                let mut known = std::collections::HashSet::new();
                ids.retain(|id| known.insert(Arc::clone(id)));
                cut = ids.len() > self.app.limits.max_watchlist;
                ids.truncate(self.app.limits.max_watchlist);
            }
            None => {}
        }
        Action::SignIn { user, user_data, cut }
    }

    /// The id of a client event, where the application looks at it.
    fn receipt_id(&self, text: &str) -> Result<Option<ReceiptId>, InvalidReceiptId> {
        if self.app.receipts { ReceiptId::of_message(text) } else { Ok(None) }
    }

    /// The seven checks of protocol.md 3; the first is the parser's.
    pub(super) fn client_event(&mut self, event: &str, channel: &str, data: &str, now: Instant) -> Result<ClientEvent, NotRelayed> {
        let limits = &self.app.limits;
        let refused = |why, code, message: String| Err(NotRelayed { why, error: ConnectionError { code, message } });
        if !self.app.client_events {
            return refused(Why::Disabled, CloseCode::CLIENT_EVENT_REFUSED, "The app does not have client messaging enabled.".into());
        }
        let Some(name) = ChannelName::parse(channel, limits.max_channel_name).ok().filter(|name| name.kind().takes_client_events()) else {
            return refused(Why::Channel, CloseCode::UNAUTHORIZED, "Client events are not allowed on this channel.".into());
        };
        let Some(user_id) = self.subscriptions.get(&name) else {
            let message = format!("Cannot broadcast client event (connection not subscribed to channel {channel})");
            return refused(Why::NotSubscribed, CloseCode::UNAUTHORIZED, message);
        };
        if event.chars().count() > limits.max_event_name {
            let message = format!("Event name is too long. Maximum allowed size is {}.", limits.max_event_name);
            return refused(Why::Name, CloseCode::CLIENT_EVENT_REFUSED, message);
        }
        if data.len() > limits.max_client_event_bytes {
            let max = limits.max_client_event_bytes;
            let size = if max.is_multiple_of(1024) { format!("{} KB", max / 1024) } else { format!("{max} bytes") };
            return refused(Why::Size, CloseCode::CLIENT_EVENT_REFUSED, format!("The event data should be less than {size}."));
        }
        if !self.rate.allow(now) {
            return refused(
                Why::RateLimited,
                CloseCode::CLIENT_EVENT_REFUSED,
                "The rate limit for sending client events exceeded the quota.".into(),
            );
        }
        Ok(ClientEvent { channel: name, event: event.to_owned(), data: data.to_owned(), user_id: user_id.clone() })
    }
}

fn refuse(code: CloseCode, message: String, channel: Option<String>) -> Action {
    Action::Refuse { error: ConnectionError { code, message }, channel }
}

pub(super) fn limit_reached(code: CloseCode, error: impl Into<String>) -> SubscriptionError {
    SubscriptionError::new("LimitReached", code.as_u16(), error)
}
