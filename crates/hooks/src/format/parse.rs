//! Parsing of responses by the rules of Go's JSON decoder.

use std::{collections::BTreeMap, fmt, time::Duration, time::SystemTime};

use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};

use crate::{HookResponse, UploadChanges};

/// An invalid response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ParseError {
    /// The response is not JSON.
    #[error("the response is not valid JSON: {0}")]
    NotJson(#[from] serde_json::Error),
    /// The response is JSON, but not an object.
    #[error("the response must be a JSON object")]
    NotObject,
    /// A field has an invalid value.
    #[error("{field} in the response must be {expected}")]
    Field {
        /// The path of the field, such as `HTTPResponse.StatusCode`.
        field: String,
        /// The expected value.
        expected: &'static str,
    },
}

/// Parses a response: tusd 2's fields and Landfall's.
///
/// Keys match in any case and unknown keys are ignored. `null`, zero, `false` and empty text mean
/// that a field is not set. Of two values for one key, the later one applies.
///
/// # Errors
/// The text is not a JSON object, or a field has an invalid value.
pub fn parse_response(json: &[u8]) -> Result<HookResponse, ParseError> {
    // Go replaces invalid UTF-8, too. Outside of strings it remains an error.
    let json = String::from_utf8_lossy(json);
    let mut response = HookResponse::default();
    let fields = match serde_json::from_str(&json)? {
        Json::Object(fields) => fields,
        Json::Null => Vec::new(),
        _ => return Err(ParseError::NotObject),
    };
    for (key, value) in fields {
        let path = JsonPath::top(&key);
        match lower(&key).as_str() {
            "httpresponse" => http_response(&mut response, value, &key)?,
            "changefileinfo" => changes(&mut response.changes, value, &key)?,
            "rejectupload" => value.bool(&path, &mut response.reject_upload)?,
            "rejecttermination" => value.bool(&path, &mut response.reject_termination)?,
            "rejectaccess" => value.bool(&path, &mut response.reject_access)?,
            "stopupload" => value.bool(&path, &mut response.stop_upload)?,
            "cachefor" => response.cache_for = value.span(&path)?,
            _ => {}
        }
    }
    Ok(response)
}

fn http_response(response: &mut HookResponse, value: Json, outer: &str) -> Result<(), ParseError> {
    let reply = &mut response.client_response;
    for (key, value) in value.object(&JsonPath::top(outer), "an object")? {
        let path = JsonPath { outer, key: &key };
        match lower(&key).as_str() {
            "statuscode" => reply.status = value.status(&path)?.or(reply.status),
            "body" => {
                if let Some(body) = value.text(&path)? {
                    reply.body = (!body.is_empty()).then(|| Bytes::from(body));
                }
            }
            "header" => {
                for (name, value) in value.texts(&path)?.unwrap_or_default() {
                    let invalid = || path.invalid("valid header names and values");
                    let name = HeaderName::try_from(name).map_err(|_| invalid())?;
                    let value = HeaderValue::try_from(value).map_err(|_| invalid())?;
                    reply.headers.insert(name, value);
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn changes(changes: &mut UploadChanges, value: Json, outer: &str) -> Result<(), ParseError> {
    for (key, value) in value.object(&JsonPath::top(outer), "an object")? {
        let path = JsonPath { outer, key: &key };
        match lower(&key).as_str() {
            "id" => {
                if let Some(id) = value.text(&path)? {
                    changes.id = Some(id).filter(|id| !id.is_empty());
                }
            }
            "metadata" => match value.texts(&path)? {
                Some(more) => changes.metadata.get_or_insert_default().extend(more),
                None => changes.metadata = None,
            },
            "storage" => changes
                .storage
                .extend(value.texts(&path)?.unwrap_or_default()),
            "labels" => changes
                .labels
                .extend(value.texts(&path)?.unwrap_or_default()),
            "expires" => changes.expires = value.time(&path)?,
            "maxsize" => changes.max_size = value.size(&path)?,
            "contenttypes" => changes.content_types = value.list(&path)?,
            _ => {}
        }
    }
    Ok(())
}

fn lower(key: &str) -> String {
    key.to_ascii_lowercase()
}

struct JsonPath<'a> {
    outer: &'a str,
    key: &'a str,
}

impl<'a> JsonPath<'a> {
    const fn top(key: &'a str) -> Self {
        Self { outer: "", key }
    }

    fn invalid(&self, expected: &'static str) -> ParseError {
        let field = match (self.outer, self.key) {
            ("", key) => key.to_owned(),
            (outer, key) => format!("{outer}.{key}"),
        };
        ParseError::Field { field, expected }
    }
}

/// A JSON value, with object fields in their order in the text.
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
        path: &JsonPath<'_>,
        expected: &'static str,
    ) -> Result<Vec<(String, Self)>, ParseError> {
        match self {
            Self::Object(fields) => Ok(fields),
            Self::Null => Ok(Vec::new()),
            _ => Err(path.invalid(expected)),
        }
    }

    fn bool(self, path: &JsonPath<'_>, into: &mut bool) -> Result<(), ParseError> {
        match self {
            Self::Bool(value) => *into = value,
            Self::Null => {}
            _ => return Err(path.invalid("true or false")),
        }
        Ok(())
    }

    fn text(self, path: &JsonPath<'_>) -> Result<Option<String>, ParseError> {
        match self {
            Self::Text(text) => Ok(Some(text)),
            Self::Null => Ok(None),
            _ => Err(path.invalid("a string")),
        }
    }

    /// Returns an object of strings. As in Go, a `null` value is an empty string.
    fn texts(self, path: &JsonPath<'_>) -> Result<Option<BTreeMap<String, String>>, ParseError> {
        const WANTED: &str = "an object of strings";
        if matches!(self, Self::Null) {
            return Ok(None);
        }
        let fields = self.object(path, WANTED)?;
        let texts = fields.into_iter().map(|(key, value)| match value {
            Self::Text(text) => Ok((key, text)),
            Self::Null => Ok((key, String::new())),
            _ => Err(path.invalid(WANTED)),
        });
        texts.collect::<Result<_, _>>().map(Some)
    }

    fn list(self, path: &JsonPath<'_>) -> Result<Vec<String>, ParseError> {
        const WANTED: &str = "a list of strings";
        match self {
            Self::Null => Ok(Vec::new()),
            Self::List(items) => {
                let texts = items.into_iter().map(|item| match item {
                    Self::Text(text) => Ok(text),
                    _ => Err(path.invalid(WANTED)),
                });
                texts.collect()
            }
            _ => Err(path.invalid(WANTED)),
        }
    }

    fn status(self, path: &JsonPath<'_>) -> Result<Option<StatusCode>, ParseError> {
        match self {
            Self::Null | Self::Integer(0) => Ok(None),
            Self::Integer(number @ 200..=999) => {
                let status = u16::try_from(number).ok();
                Ok(status.and_then(|status| StatusCode::from_u16(status).ok()))
            }
            _ => Err(path.invalid("an integer: 0 or a status from 200 to 999")),
        }
    }

    fn size(self, path: &JsonPath<'_>) -> Result<Option<u64>, ParseError> {
        let invalid = || path.invalid("an integer: a number of bytes, or 0 for no limit");
        match self {
            Self::Null => Ok(None),
            Self::Integer(bytes) => match u64::try_from(bytes) {
                Ok(bytes) => Ok((bytes != 0).then_some(bytes)),
                Err(_) => Err(invalid()),
            },
            _ => Err(invalid()),
        }
    }

    fn span(self, path: &JsonPath<'_>) -> Result<Option<Duration>, ParseError> {
        let invalid =
            || path.invalid("a duration such as \"90s\" or \"1h30m\", or a number of seconds");
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
        let span = span.ok_or_else(invalid)?;
        Ok((!span.is_zero()).then_some(span))
    }

    fn time(self, path: &JsonPath<'_>) -> Result<Option<SystemTime>, ParseError> {
        let invalid = || path.invalid("a time such as \"2026-11-20T14:00:00Z\"");
        match self {
            Self::Null => Ok(None),
            Self::Text(text) if text.is_empty() => Ok(None),
            Self::Text(text) => {
                let time: Timestamp = text.parse().map_err(|_| invalid())?;
                Ok(Some(time.into()))
            }
            _ => Err(invalid()),
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
