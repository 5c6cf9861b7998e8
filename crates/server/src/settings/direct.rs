//! Reads the texts of settings that are about direct uploads. Errors are as in [`value`](super::value).

use std::time::Duration;

use super::types::Secret;
use super::value::{Parsed, some_duration};
use super::{address, bucket, grants};

/// The first segments of paths of direct uploads.
pub(crate) const AREAS: [&str; 3] = ["/api", "/s3", "/t"];

/// What paths begin with; nothing for `/`, too.
pub(super) fn path(text: &str) -> Parsed<String> {
    match text.trim_matches('/') {
        "" => Ok(String::new()),
        _ => Ok(address::page_path(text)?.trim_end_matches('/').to_owned()),
    }
}

/// The template of keys, which has to begin with something that is the same for all.
pub(super) fn key(text: &str) -> Parsed<String> {
    let text = bucket::key(text)?;
    if matches!(text.split('{').next(), None | Some("")) {
        return Err(format!(
            "{text:?} has nothing before its first {{ to tell these objects from those of other \
             uploads; write one such as uploads/{{id}}/{{filename}}"
        ));
    }
    Ok(text)
}

/// How long temporary credentials are good for, as Amazon has it.
pub(super) fn sts_lifetime(text: &str) -> Parsed<Duration> {
    let span = some_duration(text)?;
    if span < Duration::from_secs(15 * 60) || span > Duration::from_secs(36 * 3600) {
        return Err(format!(
            "{text} can't be the lifetime of credentials; write one from 15m to 36h"
        ));
    }
    Ok(span)
}

/// The ARN of a role, if one is set. Services other than AWS may ignore all of it.
pub(super) fn role(text: &str) -> Parsed<Option<String>> {
    if text.is_empty() {
        return Ok(None);
    }
    let is_graphic = text.bytes().all(|byte| byte.is_ascii_graphic());
    if !is_graphic || !text.starts_with("arn:") || !text.contains(":role/") || text.len() > 2048 {
        return Err(format!(
            "{text:?} is not the ARN of a role; write one such as \
             arn:aws:iam::123456789012:role/uploads"
        ));
    }
    Ok(Some(text.to_owned()))
}

/// What notifications are known by, if anything. The text isn't cited.
pub(super) fn events_secret(text: &str) -> Parsed<Option<Secret>> {
    if text.is_empty() {
        return Ok(None);
    }
    grants::check_key(text)?;
    Ok(Some(Secret::new(text)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_end_without_a_slash() {
        for (text, path_of) in [("", ""), ("/", ""), ("/x", "/x"), ("/x/y/", "/x/y")] {
            assert_eq!(path(text).as_deref(), Ok(path_of), "{text}");
        }
        path("x y").unwrap_err();
    }

    #[test]
    fn keys_have_a_beginning_of_their_own() {
        for text in ["uploads/{id}/{filename}", "d{id}", "in/{date}/{id}"] {
            assert_eq!(key(text).as_deref(), Ok(text));
        }
        for text in ["", "{id}", "{date}/uploads/{id}"] {
            assert!(
                key(text).unwrap_err().contains("before its first {"),
                "{text}"
            );
        }
        #[cfg(feature = "direct")]
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

    #[test]
    fn secrets_are_not_cited() {
        assert!(!events_secret("hunter2").unwrap_err().contains("hunter2"));
        assert_eq!(events_secret(""), Ok(None));
        assert!(events_secret("0123456789abcdef").unwrap().is_some());
    }
}
