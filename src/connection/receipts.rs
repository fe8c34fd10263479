//! Client events that carry an `id`: delivered once, and acknowledged however often they are sent.

use std::time::Instant;

use actix::prelude::*;
use serde::Serialize;

use super::{
    actor::Connection,
    machine::{NotRelayed, Numbered},
};
use crate::{
    domain::{Begun, ConnectionError, Handler, Receipt, ReceiptStatus, Sender},
    protocol::{ChannelName, CloseCode, FrameError, ReceiptId, ServerFrame},
};

const ACK: &str = "holdline:ack";

/// Whom an event is to be acknowledged to, while it is on its way.
#[derive(Debug)]
pub(super) struct Receipted {
    id: ReceiptId,
    receipt: Receipt,
}

/// The `data` of an acknowledgement.
#[derive(Serialize)]
struct Ack<'a> {
    id: &'a ReceiptId,
    status: ReceiptStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
}

impl<H: Handler> Connection<H> {
    /// Relays an event unless that was done before. One that was comes before every other check, and costs nothing of the rate: a client
    /// that did not get its answer must be able to ask again.
    pub(super) fn once(&mut self, event: Numbered, ctx: &mut Context<Self>) {
        let sender = match self.machine.user() {
            Some(user) => Sender::User(user.id.clone()),
            None => Sender::Socket(self.conn.socket_id()),
        };
        let Numbered { id, event: name, channel, data } = &event;
        let Some(channel) = channel else {
            let error = ConnectionError { code: CloseCode::GENERIC, message: FrameError::InvalidClientEvent.to_string() };
            self.refuse(&error, None);
            return self.not_delivered(id, None, &error);
        };
        let (now, window) = (Instant::now(), self.hub.app().limits.receipt_window);
        match self.hub.receipts().begin(sender, id.clone(), window, now) {
            Begun::Duplicate => self.acknowledge(id, Some(channel), ReceiptStatus::Dup, None),
            Begun::AtWork(unfinished) => {
                // It takes no longer than a hook may, and answers keep their order.
                self.wait_in_order(unfinished, ctx, |this, ctx| this.once(event, ctx));
            }
            Begun::First(receipt) => match self.machine.client_event(name, channel, data, now) {
                Ok(relayed) => self.relay(relayed, Some(Receipted { id: event.id, receipt }), ctx),
                Err(NotRelayed { why, error }) => {
                    drop(receipt);
                    self.refuse_event(why, &error, channel);
                    self.not_delivered(id, Some(channel), &error);
                }
            },
        }
    }

    /// It was delivered.
    pub(super) fn tell_delivered(&self, receipted: Option<Receipted>, channel: &ChannelName) {
        if let Some(Receipted { id, receipt }) = receipted {
            receipt.done(Instant::now());
            self.acknowledge(&id, Some(channel.as_str()), ReceiptStatus::Ok, None);
        }
    }

    /// It was not delivered, and may be sent again.
    pub(super) fn tell_refused(&self, receipted: Option<Receipted>, channel: &ChannelName, error: &ConnectionError) {
        if let Some(Receipted { id, receipt }) = receipted {
            drop(receipt);
            self.not_delivered(&id, Some(channel.as_str()), error);
        }
    }

    fn not_delivered(&self, id: &ReceiptId, channel: Option<&str>, error: &ConnectionError) {
        self.acknowledge(id, channel, ReceiptStatus::Error, Some(error));
    }

    fn acknowledge(&self, id: &ReceiptId, channel: Option<&str>, status: ReceiptStatus, error: Option<&ConnectionError>) {
        self.hub.stats().receipt(status);
        let ack = Ack { id, status, code: error.map(|error| error.code.as_u16()), message: error.map(|error| error.message.as_str()) };
        // Made of a text or a number and words of ours: that cannot fail.
        let data = serde_json::to_string(&ack).unwrap_or_default();
        let limit = self.hub.app().limits.max_channel_name;
        // On an encrypted channel clients would try to decrypt it, and what is no channel is not repeated.
        let names_one = |name: &&str| ChannelName::parse(name, limit).is_ok_and(|channel| !channel.kind().encrypted);
        self.send(ServerFrame::Event { event: ACK, channel: channel.filter(names_one), data: &data, user_id: None }.encode());
    }
}
