//! Parsing of responses by the rules of Go's JSON decoder.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, SystemTime},
};

use crate::{HookResponse, UploadChanges, without_mark};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::value::RawValue;

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
/// Keys match in any case, and a byte order mark is skipped. `null`, zero, `false` and empty text mean
/// that a field is not set. Of two values for one key, the later one applies, but a rejection stays.
/// Unknown keys with a value are ignored and named in [`HookResponse::ignored`].
///
/// # Errors
/// The text is not a JSON object, or a field has an invalid value.
pub fn parse_response(json: &[u8]) -> Result<HookResponse, ParseError> {
    // Go replaces invalid UTF-8, too. Outside of strings it remains an error.
    let json = String::from_utf8_lossy(without_mark(json));
    let json: &RawValue = serde_json::from_str(&json)?;
    let object: Option<Object<'_>> =
        serde_json::from_str(json.get()).map_err(|_| ParseError::NotObject)?;
    let mut response = HookResponse::default();
    for (key, json) in object.unwrap_or_default().0 {
        let field = Field { path: key, json };
        match field.path.to_ascii_lowercase().as_str() {
            "httpresponse" => http_response(&mut response, &field)?,
            "changefileinfo" => changes(&mut response, &field)?,
            "rejectupload" => field.bool(&mut response.reject_upload)?,
            "rejecttermination" => field.bool(&mut response.reject_termination)?,
            "rejectaccess" => field.bool(&mut response.reject_access)?,
            "stopupload" => field.bool(&mut response.stop_upload)?,
            "cachefor" => response.cache_for = field.span()?,
            _ => field.ignore(&mut response.ignored),
        }
    }
    Ok(response)
}

fn http_response(response: &mut HookResponse, object: &Field<'_>) -> Result<(), ParseError> {
    let reply = &mut response.client_response;
    for (key, field) in object.fields()? {
        match key.as_str() {
            "statuscode" => reply.status = field.status()?.or(reply.status),
            "body" => {
                if let Some(body) = field.text()? {
                    reply.body = (!body.is_empty()).then(|| Bytes::from(body));
                }
            }
            "header" => {
                for (name, value) in field.texts()?.unwrap_or_default() {
                    let invalid = || field.invalid("valid header names and values");
                    let name = HeaderName::try_from(name).map_err(|_| invalid())?;
                    let value = HeaderValue::try_from(value).map_err(|_| invalid())?;
                    reply.headers.insert(name, value);
                }
            }
            _ => field.ignore(&mut response.ignored),
        }
    }
    Ok(())
}

fn changes(response: &mut HookResponse, object: &Field<'_>) -> Result<(), ParseError> {
    let changes: &mut UploadChanges = &mut response.changes;
    for (key, field) in object.fields()? {
        match key.as_str() {
            "id" => {
                if let Some(id) = field.text()? {
                    changes.id = Some(id).filter(|id| !id.is_empty());
                }
            }
            "metadata" => match field.texts()? {
                Some(more) => changes.metadata.get_or_insert_default().extend(more),
                None => changes.metadata = None,
            },
            "storage" => changes.storage.extend(field.texts()?.unwrap_or_default()),
            "labels" => changes.labels.extend(field.texts()?.unwrap_or_default()),
            "expires" => changes.expires = field.time()?,
            "maxsize" => changes.max_size = field.size()?,
            "contenttypes" => changes.content_types = field.list()?,
            _ => field.ignore(&mut response.ignored),
        }
    }
    Ok(())
}

/// `null` means that the field is not set.
struct Field<'a> {
    /// Such as `HTTPResponse.StatusCode`.
    path: String,
    json: &'a RawValue,
}

impl<'a> Field<'a> {
    fn invalid(&self, expected: &'static str) -> ParseError {
        let field = self.path.clone();
        ParseError::Field { field, expected }
    }

    fn parse<T: Deserialize<'a>>(&self, expected: &'static str) -> Result<Option<T>, ParseError> {
        serde_json::from_str(self.json.get()).map_err(|_| self.invalid(expected))
    }

    /// Returns the keys in lower case.
    fn fields(&self) -> Result<Vec<(String, Self)>, ParseError> {
        let object: Object<'a> = self.parse("an object")?.unwrap_or_default();
        let fields = object.0.into_iter().map(|(key, json)| {
            let path = format!("{}.{key}", self.path);
            (key.to_ascii_lowercase(), Self { path, json })
        });
        Ok(fields.collect())
    }

    fn bool(&self, into: &mut bool) -> Result<(), ParseError> {
        *into |= self.parse("true or false")?.unwrap_or(false);
        Ok(())
    }

    /// Names an unknown field that has a value.
    fn ignore(&self, ignored: &mut Option<String>) {
        /// For the log.
        const MAX_LEN: usize = 200;
        if matches!(
            self.json.get(),
            "null" | "false" | "0" | "\"\"" | "{}" | "[]"
        ) {
            return;
        }
        let names = ignored.get_or_insert_default();
        if names.len() < MAX_LEN {
            let name: String = self.path.chars().take(MAX_LEN / 2).collect();
            let before = if names.is_empty() {
                "unknown field"
            } else {
                ","
            };
            names.push_str(&format!("{before} {}", name.escape_debug()));
        }
    }

    fn text(&self) -> Result<Option<String>, ParseError> {
        self.parse("a string")
    }

    /// A `null` value is an empty string, as in Go.
    fn texts(&self) -> Result<Option<BTreeMap<String, String>>, ParseError> {
        let texts: Option<BTreeMap<_, Option<_>>> = self.parse("an object of strings")?;
        let texts = texts.map(BTreeMap::into_iter);
        Ok(texts.map(|texts| {
            texts
                .map(|(key, text)| (key, text.unwrap_or_default()))
                .collect()
        }))
    }

    fn list(&self) -> Result<Vec<String>, ParseError> {
        Ok(self.parse("a list of strings")?.unwrap_or_default())
    }

    fn status(&self) -> Result<Option<StatusCode>, ParseError> {
        const EXPECTED: &str = "an integer: 0 or a status from 200 to 999";
        let code = self.parse(EXPECTED)?.filter(|code: &u16| *code != 0);
        let status = code.map(|code| StatusCode::from_u16(code.max(100)));
        match status.transpose() {
            Ok(status) if status.is_none_or(|status| !status.is_informational()) => Ok(status),
            _ => Err(self.invalid(EXPECTED)),
        }
    }

    fn size(&self) -> Result<Option<u64>, ParseError> {
        let size = self.parse("an integer: a number of bytes, or 0 for no limit")?;
        Ok(size.filter(|bytes| *bytes != 0))
    }

    fn span(&self) -> Result<Option<Duration>, ParseError> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Span {
            Seconds(f64),
            Text(String),
        }

        const EXPECTED: &str = "a duration such as \"90s\" or \"1h30m\", or a number of seconds";
        let span = match self.parse(EXPECTED)? {
            None => return Ok(None),
            Some(Span::Text(text)) if text.is_empty() || text == "0" => return Ok(None),
            Some(Span::Seconds(seconds)) => Duration::try_from_secs_f64(seconds).ok(),
            Some(Span::Text(text)) => {
                let span = text.parse::<SignedDuration>().ok();
                span.and_then(|span| Duration::try_from(span).ok())
            }
        };
        let span = span.ok_or_else(|| self.invalid(EXPECTED))?;
        Ok((!span.is_zero()).then_some(span))
    }

    fn time(&self) -> Result<Option<SystemTime>, ParseError> {
        const EXPECTED: &str = "a time such as \"2026-11-20T14:00:00Z\"";
        let text: Option<String> = self.parse(EXPECTED)?;
        let Some(text) = text.filter(|text| !text.is_empty()) else {
            return Ok(None);
        };
        let time: Timestamp = text.parse().map_err(|_| self.invalid(EXPECTED))?;
        Ok(Some(time.into()))
    }
}

/// In the order of the text, which decides between equal keys.
#[derive(Default)]
struct Object<'a>(Vec<(String, &'a RawValue)>);

impl<'de: 'a, 'a> Deserialize<'de> for Object<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = Vec<(String, &'de RawValue)>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(fields)
            }
        }

        deserializer.deserialize_map(ObjectVisitor).map(Self)
    }
}
