//! Reading an answer: JSON by the rules of Go's decoder.

use std::{collections::BTreeMap, fmt, time::Duration, time::SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use crate::{Changes, Reaction};

/// An answer that makes no sense.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AnswerError {
    /// It is no JSON.
    #[error("the answer is no JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// It is JSON, but a list, a text, a number or the like.
    #[error("the answer must be a JSON object")]
    NotObject,
    /// A field has a value that it can't have.
    #[error("{field} in the answer must be {wanted}")]
    Field {
        /// The field, with dots: `HTTPResponse.StatusCode`.
        field: String,
        /// What it must be.
        wanted: &'static str,
    },
}

/// Reads tusd 2's answer, and ours in it. Keys count in any case, unknown ones are ignored, `null`
/// is as if the key were not there, of two values the later one counts; zero, `false` and empty text
/// say nothing.
///
/// # Errors
/// It is no JSON object, or a field has a value that it can't have.
pub fn answer(json: &[u8]) -> Result<Reaction, AnswerError> {
    // Go replaces what is no UTF-8; outside of texts it is an error then as before.
    let json = String::from_utf8_lossy(json);
    let mut reaction = Reaction::default();
    let fields = match serde_json::from_str(&json)? {
        Json::Object(fields) => fields,
        Json::Null => Vec::new(),
        _ => return Err(AnswerError::NotObject),
    };
    for (key, value) in fields {
        let place = Place::top(&key);
        match lower(&key).as_str() {
            "httpresponse" => reply(&mut reaction, value, &key)?,
            "changefileinfo" => changes(&mut reaction.changes, value, &key)?,
            "rejectupload" => value.bool(&place, &mut reaction.reject_upload)?,
            "rejecttermination" => value.bool(&place, &mut reaction.reject_termination)?,
            "rejectaccess" => value.bool(&place, &mut reaction.reject_access)?,
            "stopupload" => value.bool(&place, &mut reaction.stop_upload)?,
            "cachefor" => reaction.cache_for = value.span(&place)?,
            _ => {}
        }
    }
    Ok(reaction)
}

fn reply(reaction: &mut Reaction, value: Json, outer: &str) -> Result<(), AnswerError> {
    let reply = &mut reaction.reply;
    for (key, value) in value.object(&Place::top(outer), "an object")? {
        let place = Place { outer, key: &key };
        match lower(&key).as_str() {
            "statuscode" => reply.status = value.status(&place)?.or(reply.status),
            "body" => {
                if let Some(body) = value.text(&place)? {
                    reply.body = (!body.is_empty()).then(|| Bytes::from(body));
                }
            }
            "header" => {
                for (name, value) in value.texts(&place)?.unwrap_or_default() {
                    let wrong = || place.wrong("of names and values that can be headers");
                    let name = HeaderName::try_from(name).map_err(|_| wrong())?;
                    let value = HeaderValue::try_from(value).map_err(|_| wrong())?;
                    reply.headers.insert(name, value);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn changes(changes: &mut Changes, value: Json, outer: &str) -> Result<(), AnswerError> {
    for (key, value) in value.object(&Place::top(outer), "an object")? {
        let place = Place { outer, key: &key };
        match lower(&key).as_str() {
            "id" => {
                if let Some(id) = value.text(&place)? {
                    changes.id = Some(id).filter(|id| !id.is_empty());
                }
            }
            "metadata" => match value.texts(&place)? {
                Some(more) => changes.metadata.get_or_insert_default().extend(more),
                None => changes.metadata = None,
            },
            "storage" => changes
                .storage
                .extend(value.texts(&place)?.unwrap_or_default()),
            "labels" => changes
                .labels
                .extend(value.texts(&place)?.unwrap_or_default()),
            "expires" => changes.expires = value.time(&place)?,
            "maxsize" => changes.max_size = value.size(&place)?,
            "contenttypes" => changes.content_types = value.list(&place)?,
            _ => {}
        }
    }
    Ok(())
}

fn lower(key: &str) -> String {
    key.to_ascii_lowercase()
}

/// Where a value stands in the answer.
struct Place<'a> {
    outer: &'a str,
    key: &'a str,
}

impl<'a> Place<'a> {
    const fn top(key: &'a str) -> Self {
        Self { outer: "", key }
    }

    fn wrong(&self, wanted: &'static str) -> AnswerError {
        let field = match (self.outer, self.key) {
            ("", key) => key.to_owned(),
            (outer, key) => format!("{outer}.{key}"),
        };
        AnswerError::Field { field, wanted }
    }
}

/// Any JSON, in the order in which it was written.
enum Json {
    Null,
    Bool(bool),
    Integer(i128),
    Fraction(f64),
    Text(String),
    List(Vec<Self>),
    Object(Vec<(String, Self)>),
}

impl Json {
    fn object(
        self,
        place: &Place<'_>,
        wanted: &'static str,
    ) -> Result<Vec<(String, Self)>, AnswerError> {
        match self {
            Self::Object(fields) => Ok(fields),
            Self::Null => Ok(Vec::new()),
            _ => Err(place.wrong(wanted)),
        }
    }

    fn bool(self, place: &Place<'_>, into: &mut bool) -> Result<(), AnswerError> {
        match self {
            Self::Bool(value) => *into = value,
            Self::Null => {}
            _ => return Err(place.wrong("true or false")),
        }
        Ok(())
    }

    fn text(self, place: &Place<'_>) -> Result<Option<String>, AnswerError> {
        match self {
            Self::Text(text) => Ok(Some(text)),
            Self::Null => Ok(None),
            _ => Err(place.wrong("a text")),
        }
    }

    /// An object of texts. Go takes `null` among them for an empty one.
    fn texts(self, place: &Place<'_>) -> Result<Option<BTreeMap<String, String>>, AnswerError> {
        const WANTED: &str = "an object of texts";
        if matches!(self, Self::Null) {
            return Ok(None);
        }
        let fields = self.object(place, WANTED)?;
        let texts = fields.into_iter().map(|(key, value)| match value {
            Self::Text(text) => Ok((key, text)),
            Self::Null => Ok((key, String::new())),
            _ => Err(place.wrong(WANTED)),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    fn list(self, place: &Place<'_>) -> Result<Vec<String>, AnswerError> {
        const WANTED: &str = "a list of texts";
        match self {
            Self::Null => Ok(Vec::new()),
            Self::List(items) => {
                let texts = items.into_iter().map(|item| match item {
                    Self::Text(text) => Ok(text),
                    _ => Err(place.wrong(WANTED)),
                });
                texts.collect()
            }
            _ => Err(place.wrong(WANTED)),
        }
    }

    fn status(self, place: &Place<'_>) -> Result<Option<StatusCode>, AnswerError> {
        match self {
            Self::Null | Self::Integer(0) => Ok(None),
            Self::Integer(number @ 200..=999) => {
                let status = u16::try_from(number).ok();
                Ok(status.and_then(|status| StatusCode::from_u16(status).ok()))
            }
            _ => Err(place.wrong("an integer: 0 or a status from 200 to 999")),
        }
    }

    fn size(self, place: &Place<'_>) -> Result<Option<u64>, AnswerError> {
        let wrong = || place.wrong("an integer: a number of bytes, or 0 for no limit");
        match self {
            Self::Null => Ok(None),
            Self::Integer(bytes) => match u64::try_from(bytes) {
                Ok(bytes) => Ok((bytes != 0).then_some(bytes)),
                Err(_) => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }

    fn span(self, place: &Place<'_>) -> Result<Option<Duration>, AnswerError> {
        let wrong =
            || place.wrong("a time span such as \"90s\" or \"1h30m\", or a number of seconds");
        let span = match self {
            Self::Null => return Ok(None),
            Self::Integer(seconds) => u64::try_from(seconds).ok().map(Duration::from_secs),
            Self::Fraction(seconds) => Duration::try_from_secs_f64(seconds).ok(),
            Self::Text(text) if text.is_empty() || text == "0" => return Ok(None),
            Self::Text(text) => {
                let span = text.parse::<SignedDuration>().ok();
                span.and_then(|span| Duration::try_from(span).ok())
            }
            _ => None,
        };
        let span = span.ok_or_else(wrong)?;
        Ok((!span.is_zero()).then_some(span))
    }

    fn time(self, place: &Place<'_>) -> Result<Option<SystemTime>, AnswerError> {
        let wrong = || place.wrong("a time such as \"2026-11-20T14:00:00Z\"");
        match self {
            Self::Null => Ok(None),
            Self::Text(text) if text.is_empty() => Ok(None),
            Self::Text(text) => {
                let time: Timestamp = text.parse().map_err(|_| wrong())?;
                Ok(Some(time.into()))
            }
            _ => Err(wrong()),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyJson)
    }
}

struct AnyJson;

impl<'de> Visitor<'de> for AnyJson {
    type Value = Json;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Json, E> {
        Ok(Json::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Json, E> {
        Ok(Json::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Json, E> {
        Ok(Json::Integer(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Json, E> {
        Ok(Json::Fraction(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Json, E> {
        Ok(Json::Text(value.to_owned()))
    }

    fn visit_string<E>(self, value: String) -> Result<Json, E> {
        Ok(Json::Text(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Json, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Json::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Json, A::Error> {
        let mut object = Vec::new();
        while let Some(field) = fields.next_entry()? {
            object.push(field);
        }
        Ok(Json::Object(object))
    }
}
