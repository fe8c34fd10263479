//! Events on their way in: checked as a whole before any of it is delivered (protocol.md 6.4, 6.5).

use std::borrow::Cow;

use smallvec::SmallVec;

use crate::{
    domain::App,
    protocol::{ChannelName, ChannelNameError, SocketId},
};

/// One event for some channels, checked against the limits of its application.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Publication<'a> {
    /// Nearly always one.
    channels: SmallVec<[ChannelName; 1]>,
    event: Cow<'a, str>,
    data: Cow<'a, str>,
    except: Option<SocketId>,
}

/// What a publisher hands in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewPublication<'a> {
    /// The channels, by name; a name that stands there twice counts once.
    pub channels: Vec<&'a str>,
    /// The event's name: any characters, 1 to `max_event_name` of them.
    pub event: String,
    /// The data, delivered unchanged.
    pub data: String,
    /// The connection that must not get it. An id of nobody excludes nobody.
    pub socket_id: Option<&'a str>,
}

/// Why an event is not published. Nothing of the request is.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// No application has this id.
    #[error("Unknown app")]
    UnknownApp,
    /// No name, or one longer than the limit.
    #[error("The event name must have 1 to {max} characters")]
    EventName {
        /// The limit, in characters.
        max: usize,
    },
    /// A name that belongs to the protocol.
    #[error("Event names starting with pusher: or pusher_internal: are reserved")]
    ReservedEventName,
    /// Not a single channel.
    #[error("At least one channel is required")]
    NoChannel,
    /// More channels than one event may have.
    #[error("Too many channels: one event may have at most {max}, this one has {count}")]
    TooManyChannels {
        /// The limit.
        max: usize,
        /// What was asked for.
        count: usize,
    },
    /// A name that no channel can have.
    #[error("Invalid channel name")]
    InvalidChannel,
    /// A name longer than the limit.
    #[error("Invalid channel name: longer than {max} characters")]
    ChannelNameTooLong {
        /// The limit.
        max: usize,
    },
    /// Not of the form `number.number`.
    #[error("Invalid socket id")]
    InvalidSocketId,
    /// More data than the limit.
    #[error("The data content of this event exceeds the allowed maximum ({max} bytes): it has {bytes}.")]
    DataTooLarge {
        /// The limit, in bytes.
        max: usize,
        /// What was sent.
        bytes: usize,
    },
}

impl NewPublication<'_> {
    /// Checks everything.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of the fields of [`PublishError`].
    pub fn validate(self, app: &App) -> Result<Publication<'static>, PublishError> {
        Publication::check(app, self.channels.into_iter(), self.event.into(), self.data.into(), self.socket_id)
    }
}

impl<'a> Publication<'a> {
    /// Checks everything: see [`NewPublication`] for what is what.
    ///
    /// # Errors
    /// The first thing that is wrong, in the order of the fields of [`PublishError`].
    pub(crate) fn check<'n>(
        app: &App,
        names: impl ExactSizeIterator<Item = &'n str>,
        event: Cow<'a, str>,
        data: Cow<'a, str>,
        socket_id: Option<&str>,
    ) -> Result<Self, PublishError> {
        let limits = &app.limits;
        if event.is_empty() || event.chars().count() > limits.max_event_name {
            return Err(PublishError::EventName { max: limits.max_event_name });
        }
        if event.starts_with("pusher:") || event.starts_with("pusher_internal:") {
            return Err(PublishError::ReservedEventName);
        }
        let count = names.len();
        if count == 0 {
            return Err(PublishError::NoChannel);
        }
        if count > limits.max_channels_per_event {
            return Err(PublishError::TooManyChannels { max: limits.max_channels_per_event, count });
        }
        let mut channels = SmallVec::with_capacity(count);
        for name in names {
            let channel = ChannelName::parse(name, limits.max_channel_name)?;
            if !channels.contains(&channel) {
                channels.push(channel);
            }
        }
        let except = socket_id.map(SocketId::parse).transpose().map_err(|_| PublishError::InvalidSocketId)?.flatten();
        if data.len() > limits.max_event_bytes {
            return Err(PublishError::DataTooLarge { max: limits.max_event_bytes, bytes: data.len() });
        }
        Ok(Self { channels, event, data, except })
    }
}

impl From<ChannelNameError> for PublishError {
    fn from(error: ChannelNameError) -> Self {
        match error {
            ChannelNameError::Illegal => Self::InvalidChannel,
            ChannelNameError::TooLong { max } => Self::ChannelNameTooLong { max },
        }
    }
}

impl Publication<'_> {
    /// The channels, each once, in the order they were named.
    pub fn channels(&self) -> &[ChannelName] {
        &self.channels
    }

    /// The event's name.
    pub fn event(&self) -> &str {
        &self.event
    }

    /// The data.
    pub fn data(&self) -> &str {
        &self.data
    }

    /// The connection that must not get it.
    pub fn except(&self) -> Option<SocketId> {
        self.except
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> NewPublication<'static> {
        NewPublication { channels: vec!["news"], event: "e".into(), data: String::new(), socket_id: None }
    }

    fn refused(publication: NewPublication<'_>) -> PublishError {
        publication.validate(&App::for_tests()).unwrap_err()
    }

    #[test]
    fn names_are_counted_in_characters_and_taken_as_they_are() {
        let app = App::for_tests();
        for event in [r"App\Events\OrderShipped", &"é".repeat(200), "client-x", "ü ✓"] {
            assert!(NewPublication { event: event.into(), ..new() }.validate(&app).is_ok(), "{event}");
        }
        assert_eq!(refused(NewPublication { event: "x".repeat(201), ..new() }), PublishError::EventName { max: 200 });
        assert_eq!(refused(NewPublication { event: String::new(), ..new() }), PublishError::EventName { max: 200 });
        assert_eq!(refused(NewPublication { event: "pusher:x".into(), ..new() }), PublishError::ReservedEventName);
        assert_eq!(refused(NewPublication { event: "pusher_internal:x".into(), ..new() }), PublishError::ReservedEventName);
    }

    #[test]
    fn limits_are_inclusive() {
        let app = App::for_tests();
        let names: Vec<String> = (0..101).map(|n| format!("c{n}")).collect();
        let channels = |n: usize| names[..n].iter().map(String::as_str).collect();
        assert!(NewPublication { channels: channels(100), ..new() }.validate(&app).is_ok());
        assert_eq!(refused(NewPublication { channels: channels(101), ..new() }), PublishError::TooManyChannels { max: 100, count: 101 });
        assert!(NewPublication { data: "x".repeat(10_240), ..new() }.validate(&app).is_ok());
        let large = NewPublication { data: "x".repeat(10_241), ..new() };
        assert_eq!(refused(large), PublishError::DataTooLarge { max: 10_240, bytes: 10_241 });
    }

    #[test]
    fn one_bad_channel_spoils_all_and_a_double_one_counts_once() {
        assert_eq!(refused(NewPublication { channels: vec!["news", "a b"], ..new() }), PublishError::InvalidChannel);
        assert_eq!(refused(NewPublication { channels: vec![], ..new() }), PublishError::NoChannel);
        let twice = NewPublication { channels: vec!["news", "news"], ..new() }.validate(&App::for_tests()).unwrap();
        assert_eq!(twice.channels().len(), 1);
    }

    #[test]
    fn a_socket_id_has_to_have_the_form() {
        assert_eq!(refused(NewPublication { socket_id: Some("nobody"), ..new() }), PublishError::InvalidSocketId);
        let nobody = NewPublication { socket_id: Some("007.1"), ..new() }.validate(&App::for_tests()).unwrap();
        assert_eq!(nobody.except(), None);
    }
}
