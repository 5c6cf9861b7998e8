//! Parsers of settings of direct uploads. Errors are as in [`value`](super::value).

use super::types::StsRole;
use super::value::{Parsed, valid};
use super::{address, bucket};

pub(crate) const API_PATHS: [&str; 3] = ["/api", "/s3", "/t"];

/// `/` is the same as empty.
pub(super) fn path(text: &str) -> Parsed<String> {
    match text.trim_matches('/') {
        "" => Ok(String::new()),
        _ => Ok(address::page_path(text)?.trim_end_matches('/').to_owned()),
    }
}

pub(super) fn key(text: &str) -> Parsed<String> {
    let text = bucket::key(text)?;
    if matches!(text.split('{').next(), None | Some("")) {
        return Err(format!(
            "{text:?} has no literal prefix, which distinguishes these objects from those of other \
             uploads; write for example uploads/{{id}}/{{filename}}"
        ));
    }
    Ok(text)
}

pub(super) fn sts(text: &str) -> Parsed<StsRole> {
    if text == "user" {
        return Ok(StsRole::User);
    }
    let is_graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
    let is_role = text.starts_with("arn:") && text.contains(":role/") && text.len() <= 2048;
    let expected = "a role ARN; write one such as arn:aws:iam::123456789012:role/uploads, or user";
    valid(text, is_graphic && is_role, expected).map(StsRole::Role)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_have_no_trailing_slash() {
        for (text, path_of) in [("", ""), ("/", ""), ("/x", "/x"), ("/x/y/", "/x/y")] {
            assert_eq!(path(text).as_deref(), Ok(path_of), "{text}");
        }
        path("x y").unwrap_err();
    }

    #[test]
    fn keys_have_a_literal_prefix() {
        for text in ["uploads/{id}/{filename}", "d{id}", "in/{date}/{id}"] {
            assert_eq!(key(text).as_deref(), Ok(text));
        }
        for text in ["", "{id}", "{date}/uploads/{id}"] {
            assert!(
                key(text).unwrap_err().contains("has no literal prefix"),
                "{text}"
            );
        }
        for text in [
            "uploads/{what}",
            "uploads/{id",
            "/{id}",
            "a/../{id}",
            "a/{id}/",
        ] {
            key(text).unwrap_err();
        }
    }
}
