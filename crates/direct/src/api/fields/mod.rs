//! What clients say of a file: names, types, sizes, metadata; from JSON or from a query.

use std::{borrow::Cow, collections::BTreeMap};

use landfall::hook::{MediaType, UploadToken};
use landfall_grants::auth::KeySecret;
use serde_json::{Map, Value};

use super::{problem::Problem, query::Query};
use crate::{Asked, Way};

/// The most entries of metadata.
const MOST_ENTRIES: usize = 64;
/// The most bytes of all metadata.
const MOST_METADATA: usize = 16 * 1024;
/// The most characters of a name.
const MOST_NAME: usize = 1024;
/// The most characters of a type.
const MOST_TYPE: usize = 255;
/// The most characters of a caller's id.
const MOST_ID: usize = 255;
/// What databases can count to.
const MOST_SIZE: u64 = i64::MAX.unsigned_abs();

/// Stands beside `token` where that is meant to be an upload token.
const REQUEST_ID: &str = "upload_request_id";
const UPLOAD_TOKEN: &str = "upload_token";
const TOKEN: &str = "token";

/// An upload token that came with what is said of a file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Stated {
    pub(super) token: String,
    /// The id of the grant that it is meant for, if that was said.
    pub(super) request_id: Option<String>,
}

/// What a client says of a file.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct File {
    pub(super) name: String,
    pub(super) kind: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) request_id: Option<String>,
    pub(super) stated: Option<Stated>,
}

impl File {
    /// Reads `GET /s3/params`.
    pub(super) fn of_query(query: Query<'_>) -> Result<Self, Problem> {
        let name = query.one("filename")?.unwrap_or_default();
        if name.is_empty() {
            return Err(Problem::field(
                "filename",
                "s3: the \"filename\" query parameter is required and must be a non-empty string",
            ));
        }
        let mut metadata = query.metadata()?;
        let stated = take_token(&mut metadata, query.one(UPLOAD_TOKEN)?.map(Cow::into_owned));
        let size = query.one("size")?;
        let size = size.as_deref().and_then(digits);
        let size = size.or_else(|| size_of(&metadata));
        let request_id = query.one("request_id")?.map(Cow::into_owned);
        Ok(Self {
            name: checked_name("filename", name.into_owned())?,
            kind: kind("type", query.one("type")?.map(Cow::into_owned))?,
            size,
            metadata,
            request_id: request_id.map(checked_id).transpose()?,
            stated,
        })
    }

    /// Reads `POST /s3/multipart`.
    pub(super) fn of_json(mut fields: Map<String, Value>) -> Result<Self, Problem> {
        let name = match fields.remove("filename") {
            Some(Value::String(name)) if !name.is_empty() => checked_name("filename", name)?,
            _ => {
                return Err(Problem::field(
                    "filename",
                    "s3: the \"filename\" field is required and must be a non-empty string",
                ));
            }
        };
        let stated = match fields.remove("type") {
            None | Some(Value::Null) => None,
            Some(Value::String(stated)) => Some(stated),
            Some(_) => {
                return Err(Problem::field("type", "s3: content type must be a string"));
            }
        };
        let kind = kind("type", stated)?;
        let size = fields.remove("size").as_ref().and_then(count);
        let mut file = Self::rest(name, kind, size, fields)?;
        file.size = file.size.or_else(|| size_of(&file.metadata));
        Ok(file)
    }

    /// What may stand beside name, type and size: metadata, the caller's id, a token.
    pub(super) fn rest(
        name: String,
        kind: Option<String>,
        size: Option<u64>,
        mut fields: Map<String, Value>,
    ) -> Result<Self, Problem> {
        let mut metadata = metadata(fields.remove("metadata"))?;
        let token = match fields.remove(UPLOAD_TOKEN) {
            Some(Value::String(token)) => Some(token),
            _ => None,
        };
        let stated = take_token(&mut metadata, token);
        let request_id = request_id(fields.remove("request_id"))?;
        Ok(Self {
            name,
            kind,
            size,
            metadata,
            request_id,
            stated,
        })
    }

    pub(super) fn asked(self, way: Way) -> Asked {
        let mut asked = Asked::new(way, self.name);
        asked.filetype = self.kind;
        asked.size = self.size;
        asked.metadata = self.metadata;
        asked.request_id = self.request_id;
        asked
    }
}

/// The caller's own id, if it says one.
pub(super) fn request_id(value: Option<Value>) -> Result<Option<String>, Problem> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => checked_id(id).map(Some),
        Some(_) => Err(Problem::field(
            "request_id",
            "the request_id must be a text",
        )),
    }
}

/// As those of `/uploadjobs`, where it is a part of a path.
fn checked_id(id: String) -> Result<String, Problem> {
    let is_visible = |c: char| !c.is_control() && !c.is_whitespace();
    let is_name = !matches!(&*id, "." | ".." | "events");
    match (1..=MOST_ID).contains(&id.chars().count()) && id.chars().all(is_visible) && is_name {
        true => Ok(id),
        false => Err(Problem::field(
            "request_id",
            format!(
                "the request_id must have 1 to {MOST_ID} visible characters, and not be \".\", \
                 \"..\" or \"events\""
            ),
        )),
    }
}

/// Control characters go later, where names are made fit for keys.
pub(super) fn checked_name(field: &'static str, name: String) -> Result<String, Problem> {
    match name.chars().count() <= MOST_NAME {
        true => Ok(name),
        false => Err(Problem::field(
            field,
            format!("the {field} must have at most {MOST_NAME} characters"),
        )),
    }
}

/// A type, if it is one: scripts write those that they don't know as `null` or `undefined`.
pub(super) fn kind(field: &'static str, stated: Option<String>) -> Result<Option<String>, Problem> {
    let stated = stated.filter(|kind| !matches!(&**kind, "" | "null" | "undefined"));
    match &stated {
        Some(kind) if kind.len() > MOST_TYPE || MediaType::parse(kind).is_none() => {
            Err(Problem::field(
                field,
                format!(
                    "the {field} must be a media type of at most {MOST_TYPE} characters, as image/png"
                ),
            ))
        }
        _ => Ok(stated),
    }
}

/// Metadata of JSON: texts as they are, other things as JSON writes them, nothing for `null`.
fn metadata(value: Option<Value>) -> Result<BTreeMap<String, String>, Problem> {
    let fields = match value {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(fields)) => fields,
        Some(_) => {
            return Err(Problem::field(
                "metadata",
                "the metadata must be an object of names and texts",
            ));
        }
    };
    let texts = fields.into_iter().filter_map(|(name, value)| match value {
        Value::Null => None,
        Value::String(text) => Some((name, text)),
        other => Some((name, other.to_string())),
    });
    let metadata = texts.collect();
    is_bounded(&metadata)?;
    Ok(metadata)
}

/// Whether there isn't too much metadata.
///
/// # Errors
/// There is.
pub(super) fn is_bounded(metadata: &BTreeMap<String, String>) -> Result<(), Problem> {
    let bytes: usize = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    match metadata.len() <= MOST_ENTRIES && bytes <= MOST_METADATA {
        true => Ok(()),
        false => Err(Problem::field(
            "metadata",
            format!(
                "the metadata must have at most {MOST_ENTRIES} entries and {MOST_METADATA} bytes"
            ),
        )),
    }
}

/// A number of bytes, if it is one.
fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let size = is_number.then(|| text.parse().ok())??;
    (size <= MOST_SIZE).then_some(size)
}

/// A number of bytes in JSON, if it is one.
pub(super) fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().filter(|size| *size <= MOST_SIZE),
        Value::String(text) => digits(text),
        _ => None,
    }
}

/// Uppy says no size but where its metadata has one.
fn size_of(metadata: &BTreeMap<String, String>) -> Option<u64> {
    metadata.get("size").and_then(|text| digits(text))
}

/// Whether an entry of this name can be a token.
pub(super) fn is_token_name(name: &str) -> bool {
    matches!(name, UPLOAD_TOKEN | TOKEN)
}

/// Whether a text is one of Landfall's own secrets.
pub(super) fn is_secret(text: &str) -> bool {
    text.starts_with(UploadToken::PREFIX) || text.starts_with(KeySecret::PREFIX)
}

/// Takes the token out of metadata, and every other secret. `token` is often somebody else's, as with
/// uploads by tus.
fn take_token(metadata: &mut BTreeMap<String, String>, beside: Option<String>) -> Option<Stated> {
    let request_id = metadata.get(REQUEST_ID).cloned();
    let own = metadata.remove(UPLOAD_TOKEN);
    let is_ours = |text: &String| request_id.is_some() || text.starts_with(UploadToken::PREFIX);
    let other = match metadata.get(TOKEN).is_some_and(is_ours) {
        true => metadata.remove(TOKEN),
        false => None,
    };
    metadata.retain(|_, value| !is_secret(value));
    let token = beside.or(own).or(other)?;
    Some(Stated { token, request_id })
}

/// The seed's rule for names: small letters, and `_` for each character that is blank.
pub(super) fn normal_name(name: &str) -> String {
    let name = name.trim().to_lowercase();
    name.chars()
        .map(|c| if c.is_whitespace() { '_' } else { c })
        .collect()
}

/// Reads `POST /api/sign_s3`.
pub(super) fn seed(mut fields: Map<String, Value>) -> Result<File, Problem> {
    let name = match fields.remove("file_name") {
        None | Some(Value::Null) => {
            return Err(Problem::field("file_name", "the file_name is required"));
        }
        Some(Value::String(name)) => normal_name(&name),
        Some(_) => return Err(Problem::field("file_name", "the file_name must be a text")),
    };
    if name.is_empty() {
        return Err(Problem::field(
            "file_name",
            "the file_name must not be empty",
        ));
    }
    let name = checked_name("file_name", name)?;
    let stated = match fields.remove("file_type") {
        None | Some(Value::Null) => None,
        Some(Value::String(kind)) if kind.contains(char::is_whitespace) => {
            return Err(Problem::field(
                "file_type",
                "the file_type must not contain white space: write image/png, or text/plain;charset=utf-8",
            ));
        }
        Some(Value::String(kind)) => Some(kind),
        Some(_) => return Err(Problem::field("file_type", "the file_type must be a text")),
    };
    let kind = kind("file_type", stated)?;
    let size = match fields.remove("file_size") {
        None | Some(Value::Null) => None,
        Some(size) => Some(count(&size).ok_or_else(|| {
            Problem::field(
                "file_size",
                "the file_size must be a whole number of bytes, 0 or more",
            )
        })?),
    };
    File::rest(name, kind, size, fields)
}

#[cfg(test)]
mod tests;
