//! The fields of a file in requests: name, type, size and metadata, from JSON or from a query.

use std::{borrow::Cow, collections::BTreeMap};

use landfall::hook::MediaType;
use landfall_api::Problem;
use serde_json::{Map, Value};

use super::{
    metadata::{ExplicitToken, UPLOAD_TOKEN, check_size, extract_token},
    problem,
    query::Query,
};
use crate::{OpenRequest, TransferMode};

/// Characters.
const MAX_NAME_LEN: usize = 1024;
const MAX_TYPE_LEN: usize = 255;
const MAX_REQUEST_ID_LEN: usize = 255;
const MAX_SIZE: u64 = i64::MAX.unsigned_abs();

#[derive(Clone, PartialEq, Eq)]
pub(super) struct FileFields {
    pub(super) name: String,
    pub(super) kind: Option<String>,
    pub(super) size: Option<u64>,
    pub(super) metadata: BTreeMap<String, String>,
    pub(super) request_id: Option<String>,
    pub(super) explicit_token: Option<ExplicitToken>,
}

impl FileFields {
    pub(super) fn from_query(query: Query<'_>) -> Result<Self, Problem> {
        let name = query.single("filename")?.unwrap_or_default();
        if name.is_empty() {
            return Err(problem::field(
                "filename",
                "s3: the \"filename\" query parameter is required and must be a non-empty string",
            ));
        }
        let mut metadata = query.metadata()?;
        let stated = extract_token(
            &mut metadata,
            query.single(UPLOAD_TOKEN)?.map(Cow::into_owned),
        );
        let size = query.single("size")?;
        let size = size.as_deref().and_then(digits);
        let size = size.or_else(|| size_of(&metadata));
        let request_id = query.single("request_id")?.map(Cow::into_owned);
        Ok(Self {
            name: checked_name("filename", name.into_owned())?,
            kind: content_type("type", query.single("type")?.map(Cow::into_owned))?,
            size,
            metadata,
            request_id: request_id.map(checked_id).transpose()?,
            explicit_token: stated,
        })
    }

    pub(super) fn from_json(mut fields: Map<String, Value>) -> Result<Self, Problem> {
        let name = match fields.remove("filename") {
            Some(Value::String(name)) if !name.is_empty() => checked_name("filename", name)?,
            _ => {
                return Err(problem::field(
                    "filename",
                    "s3: the \"filename\" field is required and must be a non-empty string",
                ));
            }
        };
        let stated = match fields.remove("type") {
            None | Some(Value::Null) => None,
            Some(Value::String(stated)) => Some(stated),
            Some(_) => {
                return Err(problem::field("type", "s3: content type must be a string"));
            }
        };
        let kind = content_type("type", stated)?;
        let size = fields.remove("size").as_ref().and_then(count);
        let mut file = Self::from_parts(name, kind, size, fields)?;
        file.size = file.size.or_else(|| size_of(&file.metadata));
        Ok(file)
    }

    pub(super) fn from_parts(
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
        let stated = extract_token(&mut metadata, token);
        let request_id = request_id(fields.remove("request_id"))?;
        Ok(Self {
            name,
            kind,
            size,
            metadata,
            request_id,
            explicit_token: stated,
        })
    }

    pub(super) fn open_request(self, mode: TransferMode) -> OpenRequest {
        let mut asked = OpenRequest::new(mode, self.name);
        asked.filetype = self.kind;
        asked.size = self.size;
        asked.metadata = self.metadata;
        asked.request_id = self.request_id;
        asked
    }
}

pub(super) fn request_id(value: Option<Value>) -> Result<Option<String>, Problem> {
    match value {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(id)) => checked_id(id).map(Some),
        Some(_) => Err(problem::field(
            "request_id",
            "the request_id must be a text",
        )),
    }
}

/// Applies the rules of `/uploadjobs`, where the id is part of a path.
fn checked_id(id: String) -> Result<String, Problem> {
    let is_visible = |c: char| !c.is_control() && !c.is_whitespace();
    let is_name = !matches!(&*id, "." | ".." | "events");
    match (1..=MAX_REQUEST_ID_LEN).contains(&id.chars().count())
        && id.chars().all(is_visible)
        && is_name
    {
        true => Ok(id),
        false => Err(problem::field(
            "request_id",
            format!(
                "the request_id must have 1 to {MAX_REQUEST_ID_LEN} visible characters, and not be \".\", \
                 \"..\" or \"events\""
            ),
        )),
    }
}

/// Control characters are removed later.
pub(super) fn checked_name(field: &'static str, name: String) -> Result<String, Problem> {
    match name.chars().count() <= MAX_NAME_LEN {
        true => Ok(name),
        false => Err(problem::field(
            field,
            format!("the {field} must have at most {MAX_NAME_LEN} characters"),
        )),
    }
}

/// Scripts write unknown types as `null` or `undefined`.
pub(super) fn content_type(
    field: &'static str,
    stated: Option<String>,
) -> Result<Option<String>, Problem> {
    let stated = stated.filter(|kind| !matches!(&**kind, "" | "null" | "undefined"));
    match &stated {
        Some(kind) if kind.len() > MAX_TYPE_LEN || MediaType::parse(kind).is_none() => {
            Err(problem::field(
                field,
                format!(
                    "the {field} must be a media type of at most {MAX_TYPE_LEN} characters, such as image/png"
                ),
            ))
        }
        _ => Ok(stated),
    }
}

/// Other values than texts are serialized, `null` is omitted.
fn metadata(value: Option<Value>) -> Result<BTreeMap<String, String>, Problem> {
    let fields = match value {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(fields)) => fields,
        Some(_) => {
            return Err(problem::field(
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
    check_size(&metadata)?;
    Ok(metadata)
}

fn digits(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let size = is_number.then(|| text.parse().ok())??;
    (size <= MAX_SIZE).then_some(size)
}

pub(super) fn count(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64().filter(|size| *size <= MAX_SIZE),
        Value::String(text) => digits(text),
        _ => None,
    }
}

/// Uppy sends the size nowhere else.
fn size_of(metadata: &BTreeMap<String, String>) -> Option<u64> {
    metadata.get("size").and_then(|text| digits(text))
}

/// Lower case with `_` for white space, as expected from `sign_s3`.
pub(super) fn normalize_name(name: &str) -> String {
    let name = name.trim().to_lowercase();
    name.chars()
        .map(|c| if c.is_whitespace() { '_' } else { c })
        .collect()
}

pub(super) fn sign_s3(mut fields: Map<String, Value>) -> Result<FileFields, Problem> {
    let name = match fields.remove("file_name") {
        None | Some(Value::Null) => {
            return Err(problem::field("file_name", "the file_name is required"));
        }
        Some(Value::String(name)) => normalize_name(&name),
        Some(_) => return Err(problem::field("file_name", "the file_name must be a text")),
    };
    if name.is_empty() {
        return Err(problem::field(
            "file_name",
            "the file_name must not be empty",
        ));
    }
    let name = checked_name("file_name", name)?;
    let stated = match fields.remove("file_type") {
        None | Some(Value::Null) => None,
        Some(Value::String(kind)) if kind.contains(char::is_whitespace) => {
            return Err(problem::field(
                "file_type",
                "the file_type must not contain white space: write image/png, or text/plain;charset=utf-8",
            ));
        }
        Some(Value::String(kind)) => Some(kind),
        Some(_) => return Err(problem::field("file_type", "the file_type must be a text")),
    };
    let kind = content_type("file_type", stated)?;
    let size = match fields.remove("file_size") {
        None | Some(Value::Null) => None,
        Some(size) => Some(count(&size).ok_or_else(|| {
            problem::field(
                "file_size",
                "the file_size must be a whole number of bytes, 0 or more",
            )
        })?),
    };
    FileFields::from_parts(name, kind, size, fields)
}

#[cfg(test)]
mod tests;
