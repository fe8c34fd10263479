//! `GET /openapi.json`: this API for programs. `openapi.json` is written by hand; `tests/openapi.rs` holds it against the routes and the
//! answers of a broker, `tests/clients/openapi.test.mjs` the answers against its schemas.

use std::borrow::Cow;

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CONTENT_TYPE, HeaderValue},
    web::Data,
};

use super::HttpSettings;

/// Where it is served.
pub(super) const PATH: &str = "/openapi.json";
const DOCUMENT: &str = include_str!("openapi.json");
/// The one place in it that is not the same everywhere: where the paths begin.
const SERVER: &str = r#"{ "url": "/" }"#;

/// Not signed: it says nothing about anybody. Pages from elsewhere may read it too, as documentation viewers are.
pub(super) async fn document(request: HttpRequest, settings: Data<HttpSettings>) -> HttpResponse {
    // Whoever asks below the prefix gets through there, and perhaps only there.
    let prefix = if request.path() == PATH { "" } else { &settings.path_prefix };
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, HeaderValue::from_static("application/json")))
        .insert_header((ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*")))
        .body(below(prefix))
}

fn below(prefix: &str) -> Cow<'static, str> {
    if prefix.is_empty() {
        return Cow::Borrowed(DOCUMENT);
    }
    Cow::Owned(DOCUMENT.replacen(SERVER, &format!(r#"{{ "url": {} }}"#, serde_json::Value::from(prefix)), 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_paths_begin_where_it_was_asked_for() {
        let servers = |prefix| serde_json::from_str::<serde_json::Value>(&below(prefix)).unwrap()["servers"].to_string();
        assert_eq!(servers(""), r#"[{"url":"/"}]"#);
        assert_eq!(servers("/ws/\"a"), r#"[{"url":"/ws/\"a"}]"#);
    }

    #[test]
    fn it_has_the_version_of_the_program() {
        let document: serde_json::Value = serde_json::from_str(DOCUMENT).unwrap();
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}
