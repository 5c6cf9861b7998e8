//! Parsers of settings of grants. Errors are as in [`value`](super::value).

use landfall_state::queue::RateLimit;

use super::bucket;
use super::hooks::endpoint;
use super::types::{JwtKeys, Quota, Secret};
use super::value::{
    Parsed, count, is_plain, list, one_of, or_none, path, printable, size_or_none, some_duration,
};

/// In characters.
pub(crate) const MIN_KEY_LEN: usize = 16;

const ALGORITHMS: &[&str] = &[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256",
    "HS384", "HS512",
];

pub(super) fn base_path(text: &str) -> Parsed<String> {
    let path = super::address::page_path(text)?;
    match path.trim_end_matches('/') {
        "" => Err("must not be /; write a path such as /uploadjobs".into()),
        path => Ok(path.to_owned()),
    }
}

pub(super) fn types(text: &str) -> Parsed<Vec<String>> {
    let token = |part: &str| !part.is_empty() && is_plain(part, "!#$&-^_.+");
    list(text)
        .map(|item| match item.split_once('/') {
            Some(("*", "*")) => Ok(item.to_owned()),
            Some((family, kind)) if token(family) && (kind == "*" || token(kind)) => {
                Ok(item.to_ascii_lowercase())
            }
            _ => Err(format!(
                "{item:?} is not a media type; write one such as image/png or image/*"
            )),
        })
        .collect()
}

pub(super) fn rate(text: &str) -> Parsed<Option<RateLimit>> {
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    let invalid = |reason: String| format!("{reason}; write COUNT/TIME, such as 100/1h");
    let Some((limit, per)) = text.split_once('/') else {
        return Err(invalid(format!("{text:?} has no slash")));
    };
    let count = count(limit).map_err(invalid)?;
    // 10/s is ten per second.
    let is_unit = per.starts_with(|c: char| c.is_ascii_alphabetic());
    let number = if is_unit { "1" } else { "" };
    let per = some_duration(&format!("{number}{per}")).map_err(invalid)?;
    Ok(Some(RateLimit { count, per }))
}

pub(super) fn quota(text: &str) -> Parsed<Quota> {
    let (bytes, period) = match text.split_once('/') {
        None => (text, None),
        Some((bytes, period)) => (bytes, Some(some_duration(period)?)),
    };
    Ok(Quota {
        bytes: size_or_none(bytes)?,
        period,
    })
}

pub(super) fn jwt_keys(text: &str) -> Parsed<Option<JwtKeys>> {
    match text.contains("://") {
        true => Ok(endpoint(text)?.map(JwtKeys::Url)),
        false => Ok(or_none(text, path)?.map(JwtKeys::File)),
    }
}

pub(super) fn algorithms(text: &str) -> Parsed<Vec<String>> {
    let named: Vec<String> = list(text).map(str::to_owned).collect();
    if named.is_empty() {
        return Err("is empty; write at least one algorithm, such as RS256".to_owned());
    }
    let Some(unknown) = named.iter().find(|name| !ALGORITHMS.contains(&&***name)) else {
        return Ok(named);
    };
    let known = one_of(ALGORITHMS);
    Err(format!("unsupported algorithm {unknown:?}; write {known}"))
}

pub(super) fn claim(text: &str) -> Parsed<String> {
    if text.is_empty() || text.len() > 255 || text.contains(char::is_control) {
        return Err("is not a valid claim; write 1 to 255 bytes without control characters".into());
    }
    Ok(text.to_owned())
}

pub(super) fn claims(text: &str) -> Parsed<Vec<String>> {
    list(text).map(claim).collect()
}

pub(super) fn origins(text: &str) -> Parsed<Vec<String>> {
    let lower_case = |origin: String| origin.to_ascii_lowercase();
    let origins = list(text).map(|item| bucket::origin(item).map(lower_case));
    origins.collect()
}

pub(super) fn key(text: &str) -> Parsed<Option<Secret>> {
    or_none(text, |text| check_key(text).map(|()| Secret::new(text)))
}

pub(crate) fn check_key(text: &str) -> Parsed<()> {
    if text.chars().count() < MIN_KEY_LEN {
        return Err(format!(
            "is too short; write at least {MIN_KEY_LEN} characters, such as the output of \
             `openssl rand -hex 32`"
        ));
    }
    if text.len() > 1024 || !text.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        let expected = "write at most 1024 printable ASCII characters without spaces";
        return Err(format!("is not a valid key; {expected}"));
    }
    Ok(())
}

pub(super) fn node(text: &str) -> Parsed<Option<String>> {
    or_none(text, |text| printable(text, 255, "a valid name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rate_limits_are_counts_per_time() {
        let limit = |count, minutes: u64| {
            let per = std::time::Duration::from_secs(60 * minutes);
            Ok(Some(RateLimit { count, per }))
        };
        assert_eq!(rate("100/1h"), limit(100, 60));
        assert_eq!(rate("3/90m"), limit(3, 90));
        assert_eq!(rate("10/m"), limit(10, 1));
        assert_eq!(rate("0"), Ok(None));
        assert_eq!(rate(""), Ok(None));
        for text in [
            "100",
            "0/1h",
            "-1/1h",
            "100/",
            "100/0",
            "100/60",
            "5000000000/1h",
            "1/1h/1h",
        ] {
            let error = rate(text).unwrap_err();
            assert!(error.contains("100/1h"), "{text}: {error}");
        }
    }

    #[test]
    fn quotas_may_have_a_period() {
        let day = Some(std::time::Duration::from_secs(24 * 3600));
        for (text, bytes, period) in [
            ("0", None, None),
            ("1GiB", Some(1 << 30), None),
            ("1GiB/24h", Some(1 << 30), day),
            ("0/1d", None, day),
        ] {
            assert_eq!(quota(text), Ok(Quota { bytes, period }), "{text}");
        }
        for text in ["", "/24h", "1GiB/", "1GiB/0", "1GiB/5"] {
            quota(text).unwrap_err();
        }
    }

    #[test]
    fn types_are_families_or_kinds() {
        assert_eq!(
            types("image/*, Video/MP4,application/vnd.x+json,*/*").unwrap(),
            ["image/*", "video/mp4", "application/vnd.x+json", "*/*"]
        );
        for text in [
            "image", "image/", "/png", "*/png", "image/p*", "a/b;c=d", "a/b/c",
        ] {
            types(text).unwrap_err();
        }
    }

    #[test]
    fn algorithms_reject_unsigned_tokens() {
        assert_eq!(algorithms("ES256,EdDSA").unwrap(), ["ES256", "EdDSA"]);
        for text in ["none", "", "rs256", "ES256,none"] {
            algorithms(text).unwrap_err();
        }
    }

    #[test]
    fn keys_are_long_and_absent_from_errors() {
        assert_eq!(key(""), Ok(None));
        key("0123456789abcdef").unwrap().unwrap();
        for text in ["0123456789abcde", "0123456789 abcdef", "0123456789abcdeé"] {
            let error = key(text).unwrap_err();
            assert!(!error.contains("0123"), "{error}");
        }
    }

    #[test]
    fn base_paths_have_no_trailing_slash() {
        assert_eq!(base_path("/uploadjobs/").unwrap(), "/uploadjobs");
        assert_eq!(base_path("/api/jobs").unwrap(), "/api/jobs");
        for text in ["", "/", "//", "jobs", "/a/../b", "http://x/jobs"] {
            base_path(text).unwrap_err();
        }
    }
}
