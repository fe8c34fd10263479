//! soketi's list of webhooks, as ours.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Value, json};

use crate::config::error::Reason;

/// Its value may hold credentials: no reason echoes it.
const UNREADABLE: Reason = Reason::Unreadable {
    expected: r#"a JSON list such as [{"url": "…", "event_types": ["channel_occupied"], "headers": {}, "filter": {"channel_name_starts_with": "…", "channel_name_ends_with": "…"}}]"#,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Webhook {
    url: String,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    event_types: Option<Vec<String>>,
    #[serde(default)]
    filter: Filter,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct Filter {
    channel_name_starts_with: String,
    channel_name_ends_with: String,
}

/// `[[apps.webhooks]]` out of `SOKETI_DEFAULT_APP_WEBHOOKS`.
///
/// # Errors
/// Something else than such a list, or an endpoint without event types: soketi sends it nothing, and we would send it everything.
pub(super) fn from_soketi(text: &str) -> Result<String, Reason> {
    let webhooks: Vec<Webhook> = serde_json::from_str(text).map_err(|_| UNREADABLE)?;
    let ours = webhooks.into_iter().map(|webhook| match webhook.event_types {
        Some(kinds) if !kinds.is_empty() => Ok(json!({
            "url": webhook.url,
            "headers": webhook.headers,
            "events": kinds,
            "channel_prefix": webhook.filter.channel_name_starts_with,
            "channel_suffix": webhook.filter.channel_name_ends_with,
        })),
        _ => Err(Reason::Entry { name: "event_types".to_owned(), reason: Box::new(Reason::Empty) }),
    });
    Ok(Value::Array(ours.collect::<Result<_, _>>()?).to_string())
}
