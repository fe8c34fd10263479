//! Request bodies: JSON objects whose fields are read one by one, so that every refusal names the field and its rule.

use std::{borrow::Cow, fmt};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeSeed, Error, IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use serde_json::value::RawValue;
use smallvec::SmallVec;

use super::error::ApiError;
use crate::protocol::json;

/// Events of one batch that there is room for at once.
const USUAL: usize = 10;

/// The fields of an event (6.4). Unknown ones are ignored, `null` is as good as absent.
#[derive(Debug, Deserialize)]
pub(super) struct EventFields<'a> {
    #[serde(borrow)]
    name: Option<&'a RawValue>,
    /// Of all fields this one may be `null`: that is JSON like any other.
    #[serde(borrow, default, deserialize_with = "present")]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    channels: Option<&'a RawValue>,
    #[serde(borrow)]
    socket_id: Option<&'a RawValue>,
    #[serde(borrow)]
    info: Option<&'a RawValue>,
}

/// The fields of a batch (6.5).
#[derive(Debug, Deserialize)]
struct BatchFields<'a> {
    #[serde(borrow)]
    batch: Option<&'a RawValue>,
}

#[derive(Debug, Deserialize)]
struct Text<'a>(#[serde(borrow)] Cow<'a, str>);

fn present<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Option<&'a RawValue>, D::Error> {
    Deserialize::deserialize(deserializer).map(Some)
}

/// Reads a body, or an item of one.
///
/// # Errors
/// [`ApiError::NotAnObject`], also for an array: `serde` would take its elements for the fields.
fn object<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, ApiError> {
    if !json::is_object(text) {
        return Err(ApiError::NotAnObject);
    }
    serde_json::from_str(text).map_err(|_| ApiError::NotAnObject)
}

fn utf8(body: &[u8]) -> Result<&str, ApiError> {
    std::str::from_utf8(body).map_err(|_| ApiError::NotAnObject)
}

/// The events of a batch, at most `max` of them.
///
/// # Errors
/// [`ApiError::BatchTooLarge`], or what is wrong with the JSON.
pub(super) fn batch(body: &[u8], max: usize) -> Result<Vec<EventFields<'_>>, ApiError> {
    let text = utf8(body)?;
    // Each byte is looked at once. Whatever is wrong with it is found again, and named, by looking at one level after the other.
    let mut json = serde_json::Deserializer::from_str(text);
    match json.deserialize_map(Batch { max }) {
        Ok(items) if json.end().is_ok() => Ok(items),
        _ => batch_by_level(text, max),
    }
}

fn batch_by_level(text: &str, max: usize) -> Result<Vec<EventFields<'_>>, ApiError> {
    let fields: BatchFields<'_> = object(text)?;
    let items: Vec<&RawValue> = fields
        .batch
        .and_then(|raw| serde_json::from_str(raw.get()).ok())
        .ok_or(ApiError::Field { field: "batch", rule: "must be an array of events" })?;
    if items.len() > max {
        return Err(ApiError::BatchTooLarge { max, count: items.len() });
    }
    items.into_iter().map(item).collect()
}

/// A whole batch as it should be, read in one go. What is not is an error without a name.
#[derive(Clone, Copy)]
struct Batch {
    max: usize,
}

/// The array in it.
struct Items(Batch);

/// One of its items: an object, not an array that has the fields in order.
struct Item<'a>(EventFields<'a>);

impl<'de> Visitor<'de> for Batch {
    type Value = Vec<EventFields<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a batch")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut items = None;
        while let Some(Text(name)) = map.next_key()? {
            if name != "batch" {
                map.next_value::<IgnoredAny>()?;
            } else if items.replace(map.next_value_seed(Items(self))?).is_some() {
                return Err(A::Error::duplicate_field("batch"));
            }
        }
        items.ok_or_else(|| A::Error::missing_field("batch"))
    }
}

impl<'de> DeserializeSeed<'de> for Items {
    type Value = Vec<EventFields<'de>>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_seq(self)
    }
}

impl<'de> Visitor<'de> for Items {
    type Value = Vec<EventFields<'de>>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of events")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        let Self(Batch { max }) = self;
        let mut items = Vec::with_capacity(max.min(USUAL));
        while let Some(Item(fields)) = seq.next_element()? {
            if items.len() == max {
                return Err(A::Error::invalid_length(max + 1, &"fewer events"));
            }
            items.push(EventFields { channels: None, ..fields });
        }
        Ok(items)
    }
}

impl<'de: 'a, 'a> Deserialize<'de> for Item<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = EventFields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an event")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                EventFields::deserialize(MapAccessDeserializer::new(map))
            }
        }

        deserializer.deserialize_map(Object).map(Item)
    }
}

/// An item has a single channel (6.5): `channels` is an unknown field there.
fn item(raw: &RawValue) -> Result<EventFields<'_>, ApiError> {
    let fields = object(raw.get()).map_err(|_| ApiError::Field { field: "batch", rule: "must hold JSON objects only" })?;
    Ok(EventFields { channels: None, ..fields })
}

impl<'a> EventFields<'a> {
    /// Reads the body of one event.
    ///
    /// # Errors
    /// [`ApiError::NotAnObject`].
    pub(super) fn parse(body: &'a [u8]) -> Result<Self, ApiError> {
        object(utf8(body)?)
    }

    /// The event's name.
    pub(super) fn name(&self) -> Result<Cow<'a, str>, ApiError> {
        string("name", self.name)?.ok_or(ApiError::Field { field: "name", rule: "is required" })
    }

    /// The event's data: the value of a string, or the text of any other JSON without blanks between its tokens.
    pub(super) fn data(&self) -> Result<Cow<'a, str>, ApiError> {
        match self.data {
            None => Err(ApiError::Field { field: "data", rule: "is required" }),
            Some(raw) if raw.get().starts_with('"') => json::text(raw).ok_or(NOT_TEXT_DATA),
            Some(raw) => Ok(json::compact(raw.get())),
        }
    }

    /// The targets, `channels` first, then `channel` if it is not among them.
    pub(super) fn channels(&self) -> Result<SmallVec<[Cow<'a, str>; 1]>, ApiError> {
        let mut names: SmallVec<[Cow<'a, str>; 1]> = match self.channels {
            None => SmallVec::new(),
            Some(raw) => serde_json::from_str::<Vec<Text<'a>>>(raw.get())
                .map(|names| names.into_iter().map(|Text(name)| name).collect())
                .map_err(|_| ApiError::Field { field: "channels", rule: "must be an array of strings" })?,
        };
        names.extend(string("channel", self.channel)?.filter(|name| !names.contains(name)));
        Ok(names)
    }

    /// The connection that is left out.
    pub(super) fn socket_id(&self) -> Result<Option<Cow<'a, str>>, ApiError> {
        string("socket_id", self.socket_id)
    }

    /// The attributes that are asked for.
    pub(super) fn info(&self) -> Result<Option<Cow<'a, str>>, ApiError> {
        string("info", self.info)
    }
}

const NOT_TEXT_DATA: ApiError = ApiError::Field { field: "data", rule: "must be a string of Unicode characters" };

fn string<'a>(field: &'static str, raw: Option<&'a RawValue>) -> Result<Option<Cow<'a, str>>, ApiError> {
    raw.map(|raw| json::text(raw).ok_or(ApiError::Field { field, rule: "must be a string" })).transpose()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(body: &str) -> EventFields<'_> {
        EventFields::parse(body.as_bytes()).unwrap()
    }

    #[test]
    fn text_without_escapes_is_borrowed() {
        let body = br#"{"name":"e","channels":["a"],"data":"x"}"#;
        let fields = EventFields::parse(body).unwrap();
        assert!(matches!(fields.name(), Ok(Cow::Borrowed("e"))));
        assert!(matches!(fields.data(), Ok(Cow::Borrowed("x"))));
        assert!(matches!(fields.channels().unwrap()[..], [Cow::Borrowed("a")]));
    }

    #[test]
    fn data_is_decoded_once_or_kept_as_it_stands() {
        for (data, expected) in [
            (r#""""#, ""),
            (r#"" {\"a\": 1} ""#, r#" {"a": 1} "#),
            (r#""\/ \u00e9 \ud83e\udd80""#, "/ é 🦀"),
            (r#"{ "b" : 1.0, "a":[ 1 ,12345678901234567890123, " " ] }"#, r#"{"b":1.0,"a":[1,12345678901234567890123," "]}"#),
            ("null", "null"),
            ("false", "false"),
            (" 1e400 ", "1e400"),
        ] {
            assert_eq!(fields(&format!(r#"{{"data":{data}}}"#)).data().unwrap(), expected);
        }
    }

    #[test]
    fn what_is_no_object_is_refused() {
        let deep = "[".repeat(100_000);
        let bodies: [&[u8]; 11] = [
            b"",
            b" ",
            b"null",
            b"[]",
            br#"["e","x","a"]"#,
            b"\"x\"",
            b"{",
            b"{}{}",
            br#"{"name":"a","name":"b"}"#,
            b"{\"name\":\"\xff\"}",
            deep.as_bytes(),
        ];
        for body in bodies {
            assert!(matches!(EventFields::parse(body), Err(ApiError::NotAnObject)), "{}", String::from_utf8_lossy(body));
            assert!(batch(body, 10).is_err());
        }
    }

    #[test]
    fn every_refusal_names_the_field() {
        let text = |error: ApiError| error.to_string();
        let empty = fields("{}");
        assert_eq!(text(empty.name().unwrap_err()), "name is required");
        assert_eq!(text(empty.data().unwrap_err()), "data is required");
        assert!(empty.channels().unwrap().is_empty() && empty.socket_id().unwrap().is_none() && empty.info().unwrap().is_none());
        let wrong = fields(r#"{"name":1,"data":"\ud800","channel":[],"socket_id":1,"info":{}}"#);
        assert_eq!(text(wrong.name().unwrap_err()), "name must be a string");
        assert_eq!(text(wrong.data().unwrap_err()), "data must be a string of Unicode characters");
        assert_eq!(text(wrong.channels().unwrap_err()), "channel must be a string");
        assert_eq!(text(wrong.socket_id().unwrap_err()), "socket_id must be a string");
        assert_eq!(text(wrong.info().unwrap_err()), "info must be a string");
        for channels in ["\"a\"", "{}", "[1]", "[\"a\",null]"] {
            let body = format!(r#"{{"channels":{channels}}}"#);
            assert_eq!(text(fields(&body).channels().unwrap_err()), "channels must be an array of strings");
        }
    }

    #[test]
    fn null_is_absent_and_unknown_fields_are_ignored() {
        let nothing = fields(r#"{"name":null,"channel":null,"channels":null,"socket_id":null,"info":null,"other":{"deep":[1]}}"#);
        assert!(nothing.name().is_err() && nothing.channels().unwrap().is_empty());
        assert!(nothing.socket_id().unwrap().is_none() && nothing.info().unwrap().is_none());
    }

    #[test]
    fn channel_and_channels_are_one_set() {
        assert_eq!(fields(r#"{"channel":"a","channels":["b","c"]}"#).channels().unwrap()[..], ["b", "c", "a"]);
        assert_eq!(fields(r#"{"channel":"a","channels":["a","b"]}"#).channels().unwrap()[..], ["a", "b"]);
        assert_eq!(fields(r#"{"channel":"a\u0062"}"#).channels().unwrap()[..], ["ab"]);
    }

    #[test]
    fn a_batch_is_an_array_of_objects_up_to_its_limit() {
        let of = |items: &str| batch(format!(r#"{{"batch":[{items}]}}"#).as_bytes(), 2).map(|events| events.len());
        assert_eq!(of("").unwrap(), 0);
        assert_eq!(of("{},{}").unwrap(), 2);
        assert_eq!(of("{},{},{}").unwrap_err().to_string(), "Batch too large: at most 2 events are allowed, this one has 3");
        for items in ["null", "1", "[]", "{},\"x\""] {
            assert_eq!(of(items).unwrap_err().to_string(), "batch must hold JSON objects only", "{items}");
        }
        for body in ["{}", r#"{"batch":null}"#, r#"{"batch":{}}"#, r#"{"batch":"x"}"#] {
            assert_eq!(batch(body.as_bytes(), 2).unwrap_err().to_string(), "batch must be an array of events", "{body}");
        }
        let items = batch(br#"{"batch":[{"channels":["a"],"channel":"b"}]}"#, 2).unwrap();
        assert_eq!(items[0].channels().unwrap()[..], ["b"]);
    }

    #[test]
    fn a_batch_reads_the_same_in_one_go_and_level_by_level() {
        for body in [
            r#" { "other" : [{}] , "batch" : [ {"name":"a","data":null,"channel":"c","x":{"y":[1]}} , { } ] , "b" : 1 } "#,
            r#"{"batch":[]}"#,
            r#"{"\u0062atch":[{"n\u0061me":"a"}]}"#,
            r#"{"batch":[{"name":"a","name":"b"}]}"#,
            r#"{"batch":[["e","x","c",null,null,null]]}"#,
            r#"[[{}]]"#,
            r#"{"batch":[{}],"batch":[{}]}"#,
            r#"{"batch":[{}]}x"#,
            r#"{"batch":[{}],}"#,
            r#"{"batch":[{},{},{},1]}"#,
            r#"{"batch":[{},{},{}]"#,
            r#"{"batch":[{"data":"\ud800"}]}"#,
            r#"{"batch":[{"data":"\x"}]}"#,
            r#"{"a\ud800":1,"batch":[{}]}"#,
            r#"{}"#,
            "",
        ] {
            let told =
                |items: Result<Vec<EventFields<'_>>, ApiError>| items.map(|items| format!("{items:?}")).map_err(|error| error.to_string());
            assert_eq!(told(batch(body.as_bytes(), 3)), told(batch_by_level(body, 3)), "{body}");
        }
    }
}
