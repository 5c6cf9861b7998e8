//! The fields of a file in requests: name, type, size and metadata, from JSON or from a query.

use std::{borrow::Cow, collections::BTreeMap};

use landfall::hook::{MediaType, UploadToken};
use landfall_access::Problem;
use landfall_state::queue::is_secret;
use serde_json::{Map, Value};
use url::form_urlencoded;

use super::problem;
use crate::{OpenRequest, SentHeaders, TransferMode};

/// Characters.
const MAX_NAME_LEN: usize = 1024;
const MAX_REQUEST_ID_LEN: usize = 255;
const MAX_SIZE: u64 = i64::MAX.unsigned_abs();

/// A request to open an upload, and the token among its fields.
pub(super) type FileRequest = (OpenRequest, Option<ExplicitToken>);

pub(super) fn from_query(mode: TransferMode, query: Query<'_>) -> Result<FileRequest, Problem> {
    let name = query.single("filename")?.unwrap_or_default();
    if name.is_empty() {
        return Err(problem::field(
            "filename",
            "s3: the \"filename\" query parameter is required and must be a non-empty string",
        ));
    }
    let mut metadata = query.metadata()?;
    let token = query.single(UPLOAD_TOKEN)?.map(Cow::into_owned);
    let stated = extract_token(&mut metadata, token);
    let size = query.single("size")?;
    let size = size.as_deref().and_then(digits);
    let request_id = query.single("request_id")?.map(Cow::into_owned);
    let name = checked_name("filename", name.into_owned())?;
    let mut asked = OpenRequest::new(mode, name);
    asked.filetype = content_type("type", query.single("type")?.map(Cow::into_owned))?;
    asked.size = size.or_else(|| size_of(&metadata));
    asked.metadata = metadata;
    asked.request_id = request_id.map(checked_id).transpose()?;
    Ok((asked, stated))
}

pub(super) fn from_json(
    mode: TransferMode,
    mut fields: Map<String, Value>,
) -> Result<FileRequest, Problem> {
    let name = match fields.remove("filename") {
        Some(Value::String(name)) if !name.is_empty() => checked_name("filename", name)?,
        _ => {
            return Err(problem::field(
                "filename",
                "s3: the \"filename\" field is required and must be a non-empty string",
            ));
        }
    };
    let mut asked = OpenRequest::new(mode, name);
    let stated = text(&mut fields, "type")
        .map_err(|_| problem::field("type", "s3: content type must be a string"))?;
    asked.filetype = content_type("type", stated)?;
    asked.size = fields.remove("size").as_ref().and_then(count);
    let (mut asked, token) = with_fields(asked, fields)?;
    asked.size = asked.size.or_else(|| size_of(&asked.metadata));
    Ok((asked, token))
}

/// Adds the metadata and the request id.
pub(super) fn with_fields(
    mut asked: OpenRequest,
    mut fields: Map<String, Value>,
) -> Result<FileRequest, Problem> {
    asked.metadata = metadata(fields.remove("metadata"))?;
    let token = match fields.remove(UPLOAD_TOKEN) {
        Some(Value::String(token)) => Some(token),
        _ => None,
    };
    let stated = extract_token(&mut asked.metadata, token);
    let request_id = request_id(&mut fields)?;
    asked.request_id = request_id.map(checked_id).transpose()?;
    Ok((asked, stated))
}

/// Takes an optional text out of a request.
pub(super) fn text(
    fields: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Option<String>, Problem> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(problem::field(name, format!("the {name} must be a text"))),
    }
}

/// Takes a request id out of a request; counters and times are numbers.
pub(super) fn request_id(fields: &mut Map<String, Value>) -> Result<Option<String>, Problem> {
    const FIELD: &str = "request_id";
    match fields.get(FIELD).and_then(Value::as_u64) {
        Some(number) => {
            fields.remove(FIELD);
            Ok(Some(number.to_string()))
        }
        None => text(fields, FIELD),
    }
}

/// Applies the rules of `/uploadjobs`, where the id is part of a path.
fn checked_id(id: String) -> Result<String, Problem> {
    let is_visible = |c: char| !c.is_control() && !c.is_whitespace();
    let is_name = !matches!(&*id, "." | ".." | "events");
    let has_length = (1..=MAX_REQUEST_ID_LEN).contains(&id.chars().count());
    if has_length && id.chars().all(is_visible) && is_name {
        return Ok(id);
    }
    let why = format!(
        "the request_id must have 1 to {MAX_REQUEST_ID_LEN} visible characters, and not be \".\", \
         \"..\" or \"events\""
    );
    Err(problem::field("request_id", why))
}

/// Control characters are removed later.
pub(super) fn checked_name(field: &'static str, name: String) -> Result<String, Problem> {
    if name.chars().count() <= MAX_NAME_LEN {
        return Ok(name);
    }
    let why = format!("the {field} must have at most {MAX_NAME_LEN} characters");
    Err(problem::field(field, why))
}

/// Scripts write unknown types as `null` or `undefined`.
pub(super) fn content_type(
    field: &'static str,
    stated: Option<String>,
) -> Result<Option<String>, Problem> {
    let stated = stated.filter(|kind| !matches!(&**kind, "" | "null" | "undefined"));
    let Some(kind) = stated else {
        return Ok(None);
    };
    match MediaType::header_value(&kind) {
        Some(kind) => Ok(Some(kind.to_owned())),
        None => {
            let limit = MediaType::MAX_LEN;
            let why = "ASCII characters, such as image/png";
            let why = format!("the {field} must be one media type of at most {limit} {why}");
            Err(problem::field(field, why))
        }
    }
}

/// Returns the token in the fields of a request, whatever else is wrong with them.
pub(super) fn token_of(fields: &Map<String, Value>) -> Option<ExplicitToken> {
    let metadata = fields.get("metadata").and_then(Value::as_object);
    let mut metadata = metadata.cloned().map(texts).unwrap_or_default();
    let own = fields.get(UPLOAD_TOKEN).and_then(Value::as_str);
    extract_token(&mut metadata, own.map(str::to_owned))
}

/// Other values than texts are serialized, `null` is omitted.
fn texts(fields: Map<String, Value>) -> BTreeMap<String, String> {
    let texts = fields.into_iter().filter_map(|(name, value)| match value {
        Value::Null => None,
        Value::String(text) => Some((name, text)),
        other => Some((name, other.to_string())),
    });
    texts.collect()
}

fn metadata(value: Option<Value>) -> Result<BTreeMap<String, String>, Problem> {
    let fields = match value {
        None | Some(Value::Null) => return Ok(BTreeMap::new()),
        Some(Value::Object(fields)) => fields,
        Some(_) => {
            let why = "the metadata must be an object of names and texts";
            return Err(problem::field("metadata", why));
        }
    };
    let metadata = texts(fields);
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

/// Clients send `Content-Type` alone, or all headers of the response.
pub(super) fn sent_headers(
    fields: &mut Map<String, Value>,
    default: bool,
) -> Result<SentHeaders, Problem> {
    Ok(match flag(fields, "send_headers")?.unwrap_or(default) {
        true => SentHeaders::All,
        false => SentHeaders::ContentType,
    })
}

/// Takes an optional truth value out of a request.
pub(super) fn flag(
    fields: &mut Map<String, Value>,
    name: &'static str,
) -> Result<Option<bool>, Problem> {
    match fields.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::Bool(flag)) => Ok(Some(flag)),
        Some(_) => Err(problem::field(
            name,
            format!("{name} must be true or false"),
        )),
    }
}

/// Rejects a type with white space, as expected from `sign_s3`.
pub(super) fn check_compact_type(fields: &Map<String, Value>) -> Result<(), Problem> {
    let stated = fields.get("file_type").and_then(Value::as_str);
    if stated.is_some_and(|kind| kind.contains(char::is_whitespace)) {
        let why = "the file_type must not contain white space: write image/png, or \
                   text/plain;charset=utf-8";
        return Err(problem::field("file_type", why));
    }
    Ok(())
}

pub(super) fn sign(mut fields: Map<String, Value>) -> Result<FileRequest, Problem> {
    let invalid = |why| Err(problem::field("file_name", why));
    let name = match text(&mut fields, "file_name")?
        .as_deref()
        .map(normalize_name)
    {
        None => return invalid("the file_name is required"),
        Some(name) if name.is_empty() => return invalid("the file_name must not be empty"),
        Some(name) => name,
    };
    let name = checked_name("file_name", name)?;
    let stated = text(&mut fields, "file_type")?;
    let mut asked = OpenRequest::new(TransferMode::Put, name);
    asked.filetype = content_type("file_type", stated)?;
    asked.size = match fields.remove("file_size") {
        None | Some(Value::Null) => None,
        Some(size) => {
            let why = "the file_size must be a whole number of bytes, 0 or more";
            Some(count(&size).ok_or_else(|| problem::field("file_size", why))?)
        }
    };
    with_fields(asked, fields)
}

const MAX_ENTRIES: usize = 64;
const MAX_METADATA_BYTES: usize = 16 * 1024;

/// With this entry, `token` is an upload token.
const REQUEST_ID: &str = "upload_request_id";
pub(super) const UPLOAD_TOKEN: &str = "upload_token";
const TOKEN: &str = "token";

#[derive(Clone, PartialEq, Eq)]
pub(super) struct ExplicitToken {
    pub(super) token: String,
    pub(super) request_id: Option<String>,
}

pub(super) fn check_size(metadata: &BTreeMap<String, String>) -> Result<(), Problem> {
    let sizes = metadata
        .iter()
        .map(|(name, value)| name.len() + value.len());
    if metadata.len() <= MAX_ENTRIES && sizes.sum::<usize>() <= MAX_METADATA_BYTES {
        return Ok(());
    }
    let why = "the metadata must have at most";
    let why = format!("{why} {MAX_ENTRIES} entries and {MAX_METADATA_BYTES} bytes");
    Err(problem::field("metadata", why))
}

pub(super) fn is_token_name(name: &str) -> bool {
    matches!(name, UPLOAD_TOKEN | TOKEN)
}

/// Removes all other secrets, too. `token` often belongs to the application, as with tus.
pub(super) fn extract_token(
    metadata: &mut BTreeMap<String, String>,
    outer: Option<String>,
) -> Option<ExplicitToken> {
    let request_id = metadata.get(REQUEST_ID).cloned();
    let own = metadata.remove(UPLOAD_TOKEN);
    let is_ours = |text: &String| request_id.is_some() || text.starts_with(UploadToken::PREFIX);
    let other = match metadata.get(TOKEN).is_some_and(is_ours) {
        true => metadata.remove(TOKEN),
        false => None,
    };
    metadata.retain(|_, value| !is_secret(value));
    let token = outer.or(own).or(other)?;
    Some(ExplicitToken { token, request_id })
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(super) fn new(query: Option<&'a str>) -> Self {
        Self(query.unwrap_or_default())
    }

    fn pairs(self) -> form_urlencoded::Parse<'a> {
        form_urlencoded::parse(self.0.as_bytes())
    }

    pub(super) fn single(self, name: &'static str) -> Result<Option<Cow<'a, str>>, Problem> {
        let mut values = self.pairs().filter(|(key, _)| key == name);
        let value = values.next();
        match values.next() {
            None => Ok(value.map(|(_, value)| value)),
            Some(_) => {
                let why = format!("s3: the \"{name}\" query parameter must not be repeated");
                Err(problem::field(name, why))
            }
        }
    }

    /// Returns the token, whatever else is wrong with the query.
    pub(super) fn token(self) -> Option<ExplicitToken> {
        let own = self.single(UPLOAD_TOKEN).ok().flatten();
        let mut metadata = self.metadata().unwrap_or_default();
        extract_token(&mut metadata, own.map(Cow::into_owned))
    }

    /// The last of equal names counts, nested ones are ignored.
    pub(super) fn metadata(self) -> Result<BTreeMap<String, String>, Problem> {
        let mut metadata = BTreeMap::new();
        for (key, value) in self.pairs() {
            if let Some(name) = bracketed(&key) {
                metadata.insert(name.to_owned(), value.into_owned());
                check_size(&metadata)?;
            }
        }
        Ok(metadata)
    }

    pub(super) fn without_secrets(self) -> Option<String> {
        let is_secret = |key: &str, value: &str| {
            let name = bracketed(key).unwrap_or(key);
            is_token_name(name) || landfall_state::queue::is_secret(value)
        };
        if !self.pairs().any(|(key, value)| is_secret(&key, &value)) {
            return None;
        }
        let harmless = self.pairs().filter(|(key, value)| !is_secret(key, value));
        let mut left = form_urlencoded::Serializer::new(String::new());
        Some(left.extend_pairs(harmless).finish())
    }
}

fn bracketed(key: &str) -> Option<&str> {
    let name = key.strip_prefix("metadata[")?.strip_suffix(']')?;
    Some(name).filter(|name| !name.is_empty() && !name.contains(['[', ']']))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod query_tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queries_of_uppy_are_parsed() {
        let query = Query::new(Some(
            "filename=My+file%20%C3%BC.bin&type=image%2Fpng&metadata%5Bname%5D=a%26b&\
             metadata[type]=image/png&metadata[relativePath]=null&metadata[a][b]=1&metadata[]=x&metadata=y",
        ));
        assert_eq!(query.single("filename").unwrap().unwrap(), "My file ü.bin");
        assert_eq!(query.single("type").unwrap().unwrap(), "image/png");
        assert_eq!(query.single("key").unwrap(), None);
        let metadata: Vec<_> = query.metadata().unwrap().into_iter().collect();
        let wanted = [
            ("name", "a&b"),
            ("relativePath", "null"),
            ("type", "image/png"),
        ];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(metadata, wanted);
    }

    #[test]
    fn repeated_parameters_are_rejected() {
        let query = Query::new(Some("key=a&key=b&metadata[a]=1&metadata[a]=2"));
        assert!(query.single("key").is_err());
        assert_eq!(query.metadata().unwrap()["a"], "2");
    }

    #[test]
    fn metadata_is_limited() {
        let of = |count: usize| {
            (0..count)
                .map(|n| format!("metadata[{n}]=&"))
                .collect::<String>()
        };
        assert!(Query::new(Some(&of(64))).metadata().is_ok());
        assert!(Query::new(Some(&of(65))).metadata().is_err());
        let long = format!("metadata[a]={}", "x".repeat(20_000));
        assert!(Query::new(Some(&long)).metadata().is_err());
    }

    #[test]
    fn secrets_are_removed() {
        for (query, left) in [
            ("a=1&b=2", None),
            ("a=1&upload_token=x", Some("a=1")),
            ("metadata%5Bupload_token%5D=lft_x&a=%26", Some("a=%26")),
            (
                "metadata[token]=lft_x&metadata[album]=7",
                Some("metadata%5Balbum%5D=7"),
            ),
            ("x=lfk_secret", Some("")),
            ("token=events", Some("")),
        ] {
            let found = Query::new(Some(query)).without_secrets();
            assert_eq!(found.as_deref(), left, "{query}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_parsed(query in ".{0,200}") {
            let query = Query::new(Some(&query));
            let _ = (query.single("key"), query.metadata());
            if let Some(left) = query.without_secrets() {
                prop_assert_eq!(Query::new(Some(&left)).without_secrets(), None);
            }
        }

        #[test]
        fn metadata_round_trips(pairs in prop::collection::btree_map("[^\\[\\]]{1,10}", ".{0,20}", 0..20)) {
            let mut query = form_urlencoded::Serializer::new(String::new());
            for (name, value) in &pairs {
                query.append_pair(&format!("metadata[{name}]"), value);
            }
            let query = query.finish();
            prop_assert_eq!(Query::new(Some(&query)).metadata().unwrap(), pairs);
        }
    }
}
