//! Questions about channels: `GET …/channels`, `…/channels/{channel}` and `…/channels/{channel}/users` (protocol.md 6.7–6.9).

use std::{sync::Arc, time::Instant};

use actix_web::HttpResponse;
use serde::Serialize;

use super::{
    error::ApiError,
    info::{ChannelMap, Info},
    signed::{Json, Signed, json},
};
use crate::{cluster::PublishError, protocol::ChannelName};

const PRESENCE: &str = "presence-";

/// `GET /apps/{app_id}/channels`: every occupied channel whose name starts with `filter_by_prefix`.
pub(super) async fn list(signed: Signed) -> HttpResponse {
    signed.answer(occupied(&signed))
}

/// `GET /apps/{app_id}/channels/{channel}`: one channel, occupied or not; never 404.
pub(super) async fn show(signed: Signed) -> HttpResponse {
    signed.answer(one(&signed))
}

/// `GET /apps/{app_id}/channels/{channel}/users`: the members of a presence channel.
pub(super) async fn users(signed: Signed) -> HttpResponse {
    signed.answer(members(&signed))
}

fn occupied(signed: &Signed) -> Result<Json, ApiError> {
    let (prefix, info) = (signed.param("filter_by_prefix").unwrap_or_default(), asked(signed));
    if info.user_count && !prefix.starts_with(PRESENCE) {
        return Err(ApiError::NoUserCount);
    }
    if info.cache {
        return Err(ApiError::NoCacheInList);
    }
    let channels = signed.hub.occupied_channels(prefix, Instant::now()).into_iter();
    json(&ChannelMap {
        channels: channels
            .map(|(channel, now)| {
                let attributes = info.of(&channel, &now);
                (channel, attributes)
            })
            .collect(),
    })
}

fn one(signed: &Signed) -> Result<Json, ApiError> {
    let (channel, info) = (channel(signed)?, asked(signed));
    if info.user_count && !channel.kind().is_presence() {
        return Err(ApiError::NoUserCount);
    }
    let now = signed.hub.channel(&channel, Instant::now());
    let mut attributes = info.of(&channel, &now);
    attributes.occupied = Some(now.subscription_count > 0);
    json(&attributes)
}

#[derive(Serialize)]
struct Members {
    users: Vec<Member>,
}

#[derive(Serialize)]
struct Member {
    #[serde(serialize_with = "as_text")]
    id: Arc<str>,
}

fn as_text<S: serde::Serializer>(id: &Arc<str>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(id)
}

fn members(signed: &Signed) -> Result<Json, ApiError> {
    let channel = channel(signed)?;
    if !channel.kind().is_presence() {
        return Err(ApiError::NoUsers);
    }
    json(&Members { users: signed.hub.channel_users(&channel).into_iter().map(|id| Member { id }).collect() })
}

fn channel(signed: &Signed) -> Result<ChannelName, ApiError> {
    let max = signed.app().limits.max_channel_name;
    ChannelName::parse(&signed.segment("channel"), max).map_err(|error| PublishError::from(error).into())
}

fn asked(signed: &Signed) -> Info {
    signed.param("info").map(Info::parse).unwrap_or_default()
}
