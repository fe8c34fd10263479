//! `POST …/users/{user_id}/terminate_connections` (protocol.md 6.10).

use actix_web::HttpResponse;

use super::signed::{Json, Signed};

/// Ends every connection that is signed in as the user. 200 also when there is none; the body does not matter.
pub(super) async fn terminate(signed: Signed) -> HttpResponse {
    signed.broker.terminate_user(&signed.app().id, &signed.segment("user_id"));
    signed.answer(Ok(Json::Borrowed("{}")))
}
