//! What an application's own auth endpoint does, for the development application: says yes, and signs who it is about.

use actix_web::{HttpResponse, web};
use serde::{Deserialize, Serialize};

use super::{Desk, DeskError};
use crate::protocol::{ChannelName, Signed, SocketId};

/// Who works at the desk.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Person {
    id: &'static str,
    name: &'static str,
}

pub(super) const PEOPLE: [Person; 3] =
    [Person { id: "ada", name: "Ada" }, Person { id: "grace", name: "Grace" }, Person { id: "linus", name: "Linus" }];

/// Clients send forms unless they are told otherwise.
pub(super) type Input<T> = web::Either<web::Json<T>, web::Form<T>>;

#[derive(Debug, Deserialize)]
pub(super) struct Authorize {
    socket_id: String,
    channel_name: String,
    #[serde(default)]
    user: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Authenticate {
    socket_id: String,
    user: String,
}

#[derive(Serialize)]
struct Authorization {
    auth: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    channel_data: Option<String>,
}

#[derive(Serialize)]
struct Authentication {
    auth: String,
    user_data: String,
}

#[derive(Serialize)]
struct ChannelData {
    user_id: &'static str,
    user_info: UserInfo,
}

#[derive(Serialize)]
struct UserData {
    id: &'static str,
    user_info: UserInfo,
}

#[derive(Serialize)]
struct UserInfo {
    name: &'static str,
}

/// `POST /desk/auth`: a private channel; with `user`, the name of the person is signed with it.
pub(super) async fn channel(desk: web::Data<Desk>, input: Input<Authorize>) -> Result<HttpResponse, DeskError> {
    let Authorize { socket_id, channel_name, user } = input.into_inner();
    let app = desk.app()?.app();
    check_socket_id(&socket_id)?;
    let channel = ChannelName::parse(&channel_name, app.limits.max_channel_name).map_err(|_| DeskError::Channel)?;
    if !channel.kind().needs_signature() || channel.kind().is_presence() || channel.kind().encrypted {
        return Err(DeskError::Channel);
    }
    let named = |person: Person| text(&ChannelData { user_id: person.id, user_info: UserInfo { name: person.name } });
    let channel_data = if user.is_empty() { None } else { Some(named(person(&user)?)?) };
    let signed = Signed::Channel { socket_id: &socket_id, channel: channel.as_str(), channel_data: channel_data.as_deref() };
    let auth = signed.auth(&app.key, &app.signing_key);
    Ok(HttpResponse::Ok().json(Authorization { auth, channel_data }))
}

/// `POST /desk/user-auth`: the whole connection is this person's.
pub(super) async fn user(desk: web::Data<Desk>, input: Input<Authenticate>) -> Result<HttpResponse, DeskError> {
    let Authenticate { socket_id, user } = input.into_inner();
    let app = desk.app()?.app();
    check_socket_id(&socket_id)?;
    let person = person(&user)?;
    let user_data = text(&UserData { id: person.id, user_info: UserInfo { name: person.name } })?;
    let auth = Signed::User { socket_id: &socket_id, user_data: &user_data }.auth(&app.key, &app.signing_key);
    Ok(HttpResponse::Ok().json(Authentication { auth, user_data }))
}

/// What is signed is joined with colons, so a socket id of any other form could stand for something else (protocol.md 1.2).
fn check_socket_id(socket_id: &str) -> Result<(), DeskError> {
    SocketId::parse(socket_id).map(drop).map_err(|_| DeskError::SocketId)
}

fn person(id: &str) -> Result<Person, DeskError> {
    PEOPLE.into_iter().find(|person| person.id == id).ok_or(DeskError::Person)
}

fn text(value: &impl Serialize) -> Result<String, DeskError> {
    serde_json::to_string(value).map_err(DeskError::Answer)
}
