//! What clients hear of their locks: on the channel whose subscription took the hold, with their ordinary event handlers.

use std::sync::Weak;

use serde_json::json;

use super::broker::{Broker, Inner};
use crate::{
    domain::CloseCause,
    lifecycle::{News, Notice, Notices, Place},
    protocol::{ChannelName, CloseCode, ServerFrame},
};

/// Tells the connections of a broker, for as long as there is one.
pub(crate) struct ToConnections(pub(super) Weak<Inner>);

impl Notices for ToConnections {
    fn notify(&self, notice: Notice) {
        let Some(broker) = self.0.upgrade().map(Broker::from_inner) else { return };
        let Notice { place: Place { app_id, socket_id, channel }, news } = notice;
        let Some(conn) = broker.app(&app_id).and_then(|hub| hub.connection(socket_id)) else { return };
        let (event, data) = match news {
            News::Lost { resource, fence, cause } => {
                ("holdline:lock_lost", json!({ "resource": resource, "fence": fence, "cause": cause }))
            }
            News::State { resource, fence, certain } => {
                let state = if certain { "held" } else { "uncertain" };
                ("holdline:lock_state", json!({ "resource": resource, "fence": fence, "state": state }))
            }
            News::Free { resource } => ("holdline:lock_free", json!({ "resource": resource })),
            News::Close => {
                conn.fail(CloseCause::NodeDeath, CloseCode::RECONNECT, "The server lost its hold on your locks");
                return;
            }
        };
        // On an encrypted channel clients would try to decrypt it.
        let channel = channel.filter(|channel| !channel.kind().encrypted);
        let channel = channel.as_ref().map(ChannelName::as_str);
        conn.push(ServerFrame::Event { event, channel, data: &data.to_string(), user_id: None }.encode());
    }
}
