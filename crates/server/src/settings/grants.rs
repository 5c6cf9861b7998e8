//! Reads the texts of settings that are about grants. Errors are as in [`value`](super::value).

use std::time::Duration;

use super::bucket;
use super::hooks::endpoint;
use super::types::{JwtKeys, Secret};
use super::value::{Parsed, count, integer, list, one_of, path, some_duration};

/// The least characters of a key to the dashboard.
pub(crate) const KEY_LENGTH: usize = 16;

/// The algorithms of JSON web tokens that can be checked.
const ALGORITHMS: &[&str] = &[
    "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA", "HS256",
    "HS384", "HS512",
];

/// The path of a page with pages below it; a slash at the end is taken off.
pub(super) fn area(text: &str) -> Parsed<String> {
    let path = super::address::page_path(text)?;
    match path.trim_end_matches('/') {
        "" => Err("can't be /, where all other pages are; write a path such as /uploadjobs".into()),
        path => Ok(path.to_owned()),
    }
}

/// Types as `image/png`, `image/*` or `*/*`, in small letters.
pub(super) fn types(text: &str) -> Parsed<Vec<String>> {
    let token = |part: &str| {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$&-^_.+".contains(&byte);
        !part.is_empty() && part.bytes().all(plain)
    };
    list(text)
        .map(|item| match item.split_once('/') {
            Some(("*", "*")) => Ok(item.to_owned()),
            Some((family, kind)) if token(family) && (kind == "*" || token(kind)) => {
                Ok(item.to_ascii_lowercase())
            }
            _ => Err(format!(
                "{item:?} is not a type; write one such as image/png, or image/* for all of a kind"
            )),
        })
        .collect()
}

/// How many at a time, where 0 stands for no limit.
pub(super) fn count_or_none(text: &str) -> Parsed<Option<u32>> {
    let many = u32::try_from(integer(text)?).map_err(|_| format!("{text} is too large"))?;
    Ok((many != 0).then_some(many))
}

/// So many in a time, as `100/1h`; nothing and 0 stand for no limit.
pub(super) fn rate(text: &str) -> Parsed<Option<(u32, Duration)>> {
    if matches!(text, "" | "0") {
        return Ok(None);
    }
    let wrong = |reason: String| format!("{reason}; write how many in which time, such as 100/1h");
    let (many, per) = text
        .split_once('/')
        .ok_or_else(|| wrong(format!("{text:?} has no slash in it")))?;
    let many = u32::try_from(count(many).map_err(wrong)?)
        .map_err(|_| wrong(format!("{many} is too large")))?;
    // 10/s is ten in one second.
    let per = if per.starts_with(|c: char| c.is_ascii_alphabetic()) {
        format!("1{per}")
    } else {
        per.to_owned()
    };
    let per = some_duration(&per).map_err(wrong)?;
    Ok(Some((many, per)))
}

/// Where the keys of JSON web tokens are, if anywhere.
pub(super) fn jwt_keys(text: &str) -> Parsed<Option<JwtKeys>> {
    match text {
        "" => Ok(None),
        url if url.contains("://") => Ok(endpoint(url)?.map(JwtKeys::Url)),
        file => Ok(Some(JwtKeys::File(path(file)?))),
    }
}

/// Algorithms of JSON web tokens.
pub(super) fn algorithms(text: &str) -> Parsed<Vec<String>> {
    let named: Vec<String> = list(text)
        .map(
            |item| match ALGORITHMS.iter().find(|known| **known == item) {
                Some(_) => Ok(item.to_owned()),
                None => Err(format!(
                    "{item:?} is not an algorithm that tokens are taken with; write {}",
                    one_of(ALGORITHMS)
                )),
            },
        )
        .collect::<Parsed<_>>()?;
    if named.is_empty() {
        return Err("is empty; write at least one algorithm, such as RS256".to_owned());
    }
    Ok(named)
}

/// The name or the value of a claim.
pub(super) fn claim(text: &str) -> Parsed<String> {
    if text.is_empty() || text.len() > 255 || text.contains(char::is_control) {
        return Err("can't be in a claim: write 1 to 255 bytes without control characters".into());
    }
    Ok(text.to_owned())
}

/// Values of a claim.
pub(super) fn claims(text: &str) -> Parsed<Vec<String>> {
    list(text).map(claim).collect()
}

/// Origins of pages.
pub(super) fn origins(text: &str) -> Parsed<Vec<String>> {
    list(text)
        .map(|item| bucket::origin(item).map(|origin| origin.to_ascii_lowercase()))
        .collect()
}

/// The key to the dashboard, if any. The text isn't cited.
pub(super) fn admin_key(text: &str) -> Parsed<Option<Secret>> {
    if text.is_empty() {
        return Ok(None);
    }
    check_key(text)?;
    Ok(Some(Secret::new(text)))
}

/// What is wrong with a key to the dashboard, if anything.
pub(crate) fn check_key(text: &str) -> Parsed<()> {
    if text.chars().count() < KEY_LENGTH {
        return Err(format!(
            "is too short; write at least {KEY_LENGTH} characters, such as what \
             `openssl rand -hex 32` prints"
        ));
    }
    if text.len() > 1024 || !text.bytes().all(|byte| (0x21..0x7f).contains(&byte)) {
        return Err(
            "can't be a key: those are of at most 1024 letters, digits and signs of ASCII, without \
             blanks"
                .to_owned(),
        );
    }
    Ok(())
}

/// What a server is called, if it is said.
pub(super) fn node(text: &str) -> Parsed<Option<String>> {
    if text.len() > 255 || text.contains(char::is_control) {
        return Err("can't be a name: at most 255 bytes without control characters".to_owned());
    }
    Ok(Some(text.to_owned()).filter(|name| !name.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_so_many_in_a_time() {
        let minutes = |minutes: u64| Duration::from_secs(60 * minutes);
        assert_eq!(rate("100/1h"), Ok(Some((100, minutes(60)))));
        assert_eq!(rate("3/90m"), Ok(Some((3, minutes(90)))));
        assert_eq!(rate("10/m"), Ok(Some((10, minutes(1)))));
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
            let told = rate(text).unwrap_err();
            assert!(told.contains("100/1h"), "{text}: {told}");
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
    fn no_token_is_taken_unsigned() {
        assert_eq!(algorithms("ES256,EdDSA").unwrap(), ["ES256", "EdDSA"]);
        for text in ["none", "", "rs256", "ES256,none"] {
            algorithms(text).unwrap_err();
        }
    }

    #[test]
    fn keys_are_long_and_never_cited() {
        assert_eq!(admin_key(""), Ok(None));
        admin_key("0123456789abcdef").unwrap().unwrap();
        for text in ["0123456789abcde", "0123456789 abcdef", "0123456789abcdeé"] {
            let told = admin_key(text).unwrap_err();
            assert!(!told.contains("0123"), "{told}");
        }
    }

    #[test]
    fn areas_have_no_slash_at_the_end() {
        assert_eq!(area("/uploadjobs/").unwrap(), "/uploadjobs");
        assert_eq!(area("/api/jobs").unwrap(), "/api/jobs");
        for text in ["", "/", "//", "jobs", "/a/../b", "http://x/jobs"] {
            area(text).unwrap_err();
        }
    }
}
