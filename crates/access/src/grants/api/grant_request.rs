//! Reads and checks the fields of a request for a grant, from JSON or, in Laravel style, from a form.
//!
//! Reports all invalid fields together (422). Other fields become metadata, without tokens, which must not be stored.
//! Does not know the limits of the principal: the policies check them.

use std::borrow::Cow;

use crate::{Problem, check_json, json_object, media_type};
use axum::body::Bytes;
use http::HeaderMap;
use landfall::hook::{MediaType, UploadToken};
use landfall_state::queue::NewJob;
use serde_json::{Map, Value};

use super::ApiStyle;

const MAX_ID: usize = 255;
const MAX_FILENAME: usize = 1024;
const MAX_METADATA: usize = 16 * 1024;
const MAX_SIZE: u64 = i64::MAX.unsigned_abs();

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum ResponseMode {
    #[default]
    Token,
    Url,
}

type Errors = Vec<(Cow<'static, str>, Cow<'static, str>)>;

/// Returns the request without its subject. Fails with 415 for another media type, 400 for invalid JSON, 422
/// with all invalid fields.
pub(super) fn read(
    headers: &HeaderMap,
    body: &Bytes,
    style: ApiStyle,
) -> Result<(NewJob, ResponseMode), Problem> {
    let is_form =
        style == ApiStyle::Laravel && media_type(headers) == "application/x-www-form-urlencoded";
    let fields = if is_form {
        parse_form(body)
    } else {
        check_json(headers)?;
        json_object(body)?
    };
    read_fields(fields, style)
}

fn read_fields(
    mut fields: Map<String, Value>,
    style: ApiStyle,
) -> Result<(NewJob, ResponseMode), Problem> {
    let mut errors = Errors::new();
    let mut take = |name: &str| fields.remove(name);
    let id = collect_error(&mut errors, "id", id(take("id")));
    let filename = collect_error(&mut errors, "filename", filename(take("filename")));
    let filesize = collect_error(&mut errors, "filesize", filesize(take("filesize")));
    let filetype = collect_error(&mut errors, "filetype", filetype(take("filetype")));
    let mode = match style {
        ApiStyle::Landfall => collect_error(&mut errors, "mode", mode(take("mode"))),
        // The package has no such field, so it is ordinary metadata.
        ApiStyle::Laravel => ResponseMode::Token,
    };
    drop_secrets(&mut fields);
    if serde_json::to_vec(&fields).map_or(0, |json| json.len()) > MAX_METADATA {
        let why = format!("the other fields must not exceed {MAX_METADATA} bytes");
        errors.push(("metadata".into(), why.into()));
    }
    if !errors.is_empty() {
        return Err(Problem::invalid(errors));
    }
    let mut new = NewJob::new("", id, filename);
    (new.size, new.filetype, new.metadata) = (filesize, filetype, fields);
    Ok((new, mode))
}

/// Returns the default in place of an invalid value.
fn collect_error<T: Default>(
    errors: &mut Errors,
    field: &'static str,
    value: Result<T, impl Into<Cow<'static, str>>>,
) -> T {
    value.unwrap_or_else(|why| {
        errors.push((field.into(), why.into()));
        T::default()
    })
}

fn parse_form(body: &Bytes) -> Map<String, Value> {
    url::form_urlencoded::parse(body)
        .map(|(name, value)| (name.into_owned(), value.into_owned().into()))
        .collect()
}

/// An earlier upload token, and Laravel's CSRF token, must not be stored.
fn drop_secrets(fields: &mut Map<String, Value>) {
    let is_token = |text: &str| text.starts_with(UploadToken::PREFIX);
    fields.retain(|name, value| match name.as_str() {
        "_token" | "upload_token" => false,
        _ => !value.as_str().is_some_and(is_token),
    });
}

fn id(value: Option<Value>) -> Result<String, Cow<'static, str>> {
    let id = match value {
        // Counters, and the time in milliseconds.
        Some(Value::Number(number)) if number.is_u64() => number.to_string(),
        value => required(value, "id")?,
    };
    let is_visible = |c: char| !c.is_control() && !c.is_whitespace();
    if id.chars().count() > MAX_ID || !id.chars().all(is_visible) {
        return Err(format!("the id must have 1 to {MAX_ID} visible characters").into());
    }
    // These have another meaning in a URL.
    if matches!(&*id, "." | ".." | "events") {
        return Err("the id must not be \".\", \"..\" or \"events\"".into());
    }
    Ok(id)
}

fn filename(value: Option<Value>) -> Result<String, Cow<'static, str>> {
    let name = required(value, "filename")?;
    // Real files have such names, as macOS' `Icon\r`.
    let name = name.replace(char::is_control, "");
    if !(1..=MAX_FILENAME).contains(&name.chars().count()) {
        return Err(format!("the filename must have 1 to {MAX_FILENAME} characters").into());
    }
    Ok(name)
}

fn required(value: Option<Value>, field: &str) -> Result<String, Cow<'static, str>> {
    match value {
        None | Some(Value::Null) => Err(format!("the {field} is required").into()),
        Some(Value::String(text)) if text.is_empty() => {
            Err(format!("the {field} is required").into())
        }
        Some(Value::String(text)) => Ok(text),
        Some(_) => Err(format!("the {field} must be a string").into()),
    }
}

fn filesize(value: Option<Value>) -> Result<Option<u64>, &'static str> {
    const INVALID_FILESIZE: &str = "the filesize must be a whole number of bytes, 0 or more";
    let size = match value {
        None | Some(Value::Null) => return Ok(None),
        Some(Value::String(text)) => match text.trim() {
            "" => return Ok(None),
            digits if digits.bytes().all(|b| b.is_ascii_digit()) => digits.parse().ok(),
            _ => None,
        },
        Some(Value::Number(number)) => number.as_u64().or_else(|| integer(number.as_f64()?)),
        Some(_) => None,
    };
    match size {
        Some(size) if size <= MAX_SIZE => Ok(Some(size)),
        _ => Err(INVALID_FILESIZE),
    }
}

/// Some languages write numbers as `1048576.0` or `1e6`.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "it is whole and within what a double counts exactly"
)]
fn integer(number: f64) -> Option<u64> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    (number.fract() == 0.0 && (0.0..=EXACT).contains(&number)).then_some(number as u64)
}

fn filetype(value: Option<Value>) -> Result<Option<String>, Cow<'static, str>> {
    match value {
        None | Some(Value::Null) => Ok(None),
        // Scripts write unknown types like this.
        Some(Value::String(text)) if matches!(&*text, "" | "null" | "undefined") => Ok(None),
        Some(value) => match value.as_str().and_then(MediaType::header_value) {
            Some(kind) => Ok(Some(kind.to_owned())),
            None => {
                let limit = MediaType::MAX_LEN;
                Err(format!(
                    "the filetype must be one media type of at most {limit} ASCII characters, as image/png"
                )
                .into())
            }
        },
    }
}

fn mode(value: Option<Value>) -> Result<ResponseMode, &'static str> {
    match value {
        None | Some(Value::Null) => Ok(ResponseMode::Token),
        Some(Value::String(mode)) if mode == "token" => Ok(ResponseMode::Token),
        Some(Value::String(mode)) if mode == "url" => Ok(ResponseMode::Url),
        Some(_) => Err("the mode must be \"token\" or \"url\""),
    }
}

#[cfg(test)]
mod tests {
    use http::header;
    use serde_json::json;

    use super::*;

    fn read(body: &Value) -> Result<(NewJob, ResponseMode), Problem> {
        let Value::Object(fields) = body.clone() else {
            panic!("no object")
        };
        read_fields(fields, ApiStyle::Landfall)
    }

    #[test]
    fn sizes_come_in_many_spellings() {
        for (spelling, size) in [
            (json!(0), Some(0)),
            (json!("0"), Some(0)),
            (json!(" 12 "), Some(12)),
            (json!(1e6), Some(1_000_000)),
            (json!(i64::MAX), Some(MAX_SIZE)),
            (json!(null), None),
            (json!(""), None),
        ] {
            assert_eq!(filesize(Some(spelling.clone())), Ok(size), "{spelling}");
        }
        assert_eq!(filesize(None), Ok(None));
        for nonsense in [
            json!(-1),
            json!(1.5),
            json!("1.5"),
            json!("-1"),
            json!("+1"),
            json!("1e3"),
            json!("x"),
            json!(true),
            json!([1]),
            json!(u64::MAX),
            json!("9223372036854775808"),
            json!(1e300),
        ] {
            assert!(filesize(Some(nonsense.clone())).is_err(), "{nonsense}");
        }
    }

    #[test]
    fn names_and_ids() {
        for good in ["a", "cjp0", "ü/ö?#", &"x".repeat(255)] {
            assert!(id(Some(good.into())).is_ok(), "{good}");
        }
        let now = 1_795_197_600_250_u64;
        assert_eq!(id(Some(now.into())).unwrap(), now.to_string());
        for bad in [json!(-1), json!(1.5), json!(true), json!([1]), json!(null)] {
            assert!(id(Some(bad.clone())).is_err(), "{bad}");
        }
        for bad in [
            "",
            " ",
            "a b",
            "a\nb",
            "a\0",
            ".",
            "..",
            "events",
            &"x".repeat(256),
        ] {
            assert!(id(Some(bad.into())).is_err(), "{bad:?}");
        }
        for good in ["a b.txt", "../etc/passwd", "C:\\x", &"ü".repeat(1024)] {
            assert_eq!(filename(Some(good.into())).unwrap(), good);
        }
        for (odd, clean) in [("Icon\r", "Icon"), ("a\0\r\nb", "ab")] {
            assert_eq!(filename(Some(odd.into())).unwrap(), clean);
        }
        for bad in ["", "\n", &"x".repeat(1025)] {
            assert!(filename(Some(bad.into())).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn what_is_left_is_metadata_without_secrets() {
        let (asked, mode) = read(&json!({
            "id": "1", "filename": "f", "filetype": "", "mode": "url", "album": {"id": 7},
            "_token": "csrf", "token": "lft_old", "upload_token": "older", "upload_request_id": "1",
        }))
        .unwrap();
        assert_eq!((mode, asked.filetype), (ResponseMode::Url, None));
        let Value::Object(rest) = json!({"album": {"id": 7}, "upload_request_id": "1"}) else {
            panic!("no object")
        };
        assert_eq!(asked.metadata, rest);
    }

    #[test]
    fn a_file_has_one_media_type() {
        for good in [
            "image/png",
            "text/plain; charset=utf-8",
            "a/b+c",
            "video/webm;codecs=vp9,opus",
            "audio/ogg; codecs=opus",
            "Image/PNG",
            "image",
        ] {
            assert_eq!(filetype(Some(good.into())).unwrap().as_deref(), Some(good));
        }
        for none in [json!(null), json!(""), json!("null"), json!("undefined")] {
            assert_eq!(filetype(Some(none)).unwrap(), None);
        }
        for bad in [
            "text/plain;,text/html",
            "image/png,text/html",
            "image/png;,text/html",
            "täxt/plain",
            "text/plain\r\nX: y",
        ] {
            assert!(filetype(Some(bad.into())).is_err(), "{bad}");
        }
    }

    #[test]
    fn metadata_has_an_end() {
        let long = |length: usize| json!({"id": "1", "filename": "f", "x": "x".repeat(length)});
        // {"x":""}
        assert!(read(&long(MAX_METADATA - 8)).is_ok());
        assert!(read(&long(MAX_METADATA - 7)).is_err());
    }

    #[test]
    fn types_of_bodies() {
        for (written, style, is_read) in [
            ("application/json", ApiStyle::Landfall, true),
            ("Application/JSON; charset=utf-8", ApiStyle::Landfall, true),
            ("application/ld+json", ApiStyle::Landfall, true),
            ("text/plain", ApiStyle::Landfall, false),
            (
                "application/x-www-form-urlencoded",
                ApiStyle::Landfall,
                false,
            ),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_TYPE, written.parse().unwrap());
            let body = Bytes::from_static(br#"{"id":"1","filename":"f"}"#);
            assert_eq!(
                super::read(&headers, &body, style).is_ok(),
                is_read,
                "{written}"
            );
        }
        let mut headers = HeaderMap::new();
        let form = "application/x-www-form-urlencoded";
        headers.insert(header::CONTENT_TYPE, form.parse().unwrap());
        let body = Bytes::from_static(b"id=1&filename=a+b%26c&filesize=&mode=url");
        let (asked, _) = super::read(&headers, &body, ApiStyle::Laravel).unwrap();
        assert_eq!((&*asked.filename, asked.size), ("a b&c", None));
        assert_eq!(asked.metadata["mode"], "url");
    }
}
