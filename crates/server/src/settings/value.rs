//! Parsers of setting texts. Every error is the rest of a sentence that begins with the name of the
//! setting, and the accepted syntax.

use std::path::PathBuf;
use std::time::Duration;

use landfall_net::redacted_url;
use landfall_protocol::units;
pub(super) use landfall_protocol::units::duration;

use super::types::DisabledDownloads;

/// A parsed value, or the rest of an error message.
pub(super) type Parsed<T> = Result<T, String>;

pub(super) fn or_none<T>(text: &str, parse: impl FnOnce(&str) -> Parsed<T>) -> Parsed<Option<T>> {
    if text.is_empty() {
        return Ok(None);
    }
    parse(text).map(Some)
}

pub(super) fn optional<T>(
    parse: impl FnOnce(&str) -> Parsed<T>,
) -> impl FnOnce(&str) -> Parsed<Option<T>> {
    |text| or_none(text, parse)
}

pub(super) fn valid(text: &str, is_valid: bool, expected: &str) -> Parsed<String> {
    match is_valid {
        true => Ok(text.to_owned()),
        false => Err(format!("{text:?} is not {expected}")),
    }
}

pub(super) fn printable(text: &str, max: usize, what: &str) -> Parsed<String> {
    match text.len() > max || text.contains(char::is_control) {
        true => Err(format!(
            "is not {what}; write at most {max} bytes without control characters"
        )),
        false => Ok(text.to_owned()),
    }
}

pub(super) fn is_plain(text: &str, others: &str) -> bool {
    let mut chars = text.chars();
    chars.all(|c| c.is_ascii_alphanumeric() || others.contains(c))
}

/// Parses as Go's flags do.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

pub(super) fn disabled_downloads(text: &str) -> Parsed<DisabledDownloads> {
    match (text, boolean(text)) {
        ("unfinished", _) => Ok(DisabledDownloads::Unfinished),
        (_, Ok(true)) => Ok(DisabledDownloads::All),
        (_, Ok(false)) => Ok(DisabledDownloads::None),
        (_, Err(error)) => Err(format!("{error}, nor unfinished")),
    }
}

/// Parses as Go's flags do: decimal, `0x`, `0o` or a leading `0` for octal, `0b`, with `_` between digits.
pub(super) fn integer(text: &str) -> Parsed<u64> {
    let invalid = || format!("{text:?} is not a whole number");
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &text[2..]),
        [b'0', b'o' | b'O', ..] => (8, &text[2..]),
        [b'0', b'b' | b'B', ..] => (2, &text[2..]),
        [b'0', _, ..] => (8, &text[1..]),
        _ => (10, text),
    };
    // One underscore may follow the prefix: 0x_ff.
    let digits = match digits.strip_prefix('_') {
        Some(rest) if radix != 10 => rest,
        _ => digits,
    };
    if digits.split('_').any(str::is_empty) || digits.starts_with('+') {
        return Err(invalid());
    }
    let plain = digits.replace('_', "");
    u64::from_str_radix(&plain, radix).map_err(|_| {
        if radix == 8 && plain.bytes().all(|byte| byte.is_ascii_digit()) {
            let decimal = plain.trim_start_matches('0');
            format!("{text:?} begins with 0, which means octal; write {decimal}")
        } else if plain.bytes().all(|byte| byte.is_ascii_digit()) && radix == 10 {
            format!("{text} is too large")
        } else {
            invalid()
        }
    })
}

pub(super) fn port(text: &str) -> Parsed<u16> {
    u16::try_from(integer(text)?).map_err(|_| format!("{text} is not a port; the maximum is 65535"))
}

pub(super) fn number<T: TryFrom<u64>>(text: &str) -> Parsed<T> {
    T::try_from(integer(text)?).map_err(|_| format!("{text} is too large"))
}

pub(super) fn number_or_none<T: TryFrom<u64>>(text: &str) -> Parsed<Option<T>> {
    match integer(text)? {
        0 => Ok(None),
        _ => number(text).map(Some),
    }
}

pub(super) fn count<T: TryFrom<u64>>(text: &str) -> Parsed<T> {
    number_or_none(text)?.ok_or_else(|| "must be at least 1".to_owned())
}

/// Of a node to a database.
pub(super) fn connections(text: &str) -> Parsed<u32> {
    match number(text)? {
        few @ 0..3 => Err(format!(
            "{few} is too small; the minimum is 3: one for notifications, one for leases, and one for the rest"
        )),
        count @ 3..=1000 => Ok(count),
        _ => Err(format!("{text} is too large; the maximum is 1000")),
    }
}

/// An [`integer`], or a number with a unit (`1.5 GiB`).
pub(super) fn size(text: &str) -> Parsed<u64> {
    let rest = text.trim_start_matches(|c: char| c.is_ascii_digit());
    match rest.chars().next() {
        None | Some('x' | 'X' | 'o' | 'O' | '_') => {
            integer(text).map_err(|error| format!("{error} of bytes, such as 2000000 or 2MiB"))
        }
        Some(_) => units::size(text),
    }
}

/// Both bounds are inclusive.
pub(super) fn size_within<T: TryFrom<u64>>(text: &str, min: u64, max: u64) -> Parsed<T> {
    match size(text)? {
        bytes if bytes < min => Err(format!("{text} is too small; the minimum is {min} bytes")),
        bytes if bytes > max => Err(format!("{text} is too large; the maximum is {max} bytes")),
        bytes => T::try_from(bytes).map_err(|_| format!("{text} is too large")),
    }
}

pub(super) fn size_or_none(text: &str) -> Parsed<Option<u64>> {
    size(text).map(|bytes| (bytes != 0).then_some(bytes))
}

const MIN_DURATION: Duration = Duration::from_millis(1);

pub(super) fn some_duration(text: &str) -> Parsed<Duration> {
    match duration(text)? {
        Duration::ZERO => Err("must be greater than 0".to_owned()),
        span if span < MIN_DURATION => Err(format!("{text} is too short; the minimum is 1ms")),
        span => Ok(span),
    }
}

pub(super) fn duration_or_none(text: &str) -> Parsed<Option<Duration>> {
    match duration(text)? {
        Duration::ZERO => Ok(None),
        _ => some_duration(text).map(Some),
    }
}

/// Both bounds are inclusive.
pub(super) fn duration_within(text: &str, min: &str, max: &str) -> Parsed<Duration> {
    let span = some_duration(text)?;
    if span < duration(min)? || span > duration(max)? {
        let expected = format!("write a duration from {min} to {max}");
        return Err(format!("{text} is out of range; {expected}"));
    }
    Ok(span)
}

pub(super) fn seconds(text: &str) -> Parsed<Duration> {
    if let Ok(seconds) = integer(text) {
        return Ok(Duration::from_secs(seconds));
    }
    let span = duration(text)?;
    if span.subsec_nanos() != 0 {
        return Err(format!("{text:?} is not a whole number of seconds"));
    }
    Ok(span)
}

/// Octal; must include `required`.
pub(super) fn permissions(text: &str, required: u32) -> Parsed<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let valid = !digits.is_empty() && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = u32::from_str_radix(digits, 8).ok();
    let Some(mode) = mode.filter(|mode| valid && *mode <= 0o7777) else {
        let expected = "write permission bits in octal, such as 775";
        return Err(format!("{text:?} is not a mode; {expected}"));
    };
    if mode & required != required {
        return Err(format!(
            "{text} would deny the server access to its own files; at least {required:o} is required"
        ));
    }
    Ok(mode)
}

pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    // Usually a line break of a file that was read into a variable.
    if text.contains(char::is_control) {
        return Err(format!("{text:?} contains a control character; remove it"));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        let path = rest.trim_start_matches('/');
        return Err(match scheme {
            "file" | "unix" => format!("{text:?} is a URL; write its path only, /{path}"),
            _ => format!("{:?} is a URL, not a path", redacted_url(text)),
        });
    }
    Ok(PathBuf::from(text))
}

pub(super) fn some_path(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() {
        return Err("is empty; write a path".to_owned());
    }
    path(text)
}

pub(super) fn path_or_none(text: &str) -> Parsed<Option<PathBuf>> {
    or_none(text, path)
}

pub(super) fn paths(text: &str) -> Parsed<Vec<PathBuf>> {
    list(text).map(path).collect()
}

pub(super) fn image(text: &str) -> Parsed<PathBuf> {
    let path = some_path(text)?;
    match crate::asset::image_type(&path) {
        Some(_) => Ok(path),
        None => Err(format!(
            "{text:?} is not the name of a .svg, .png, .jpg, .webp or .gif file"
        )),
    }
}

pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    let items = text.split(',').map(str::trim);
    items.filter(|item| !item.is_empty())
}

pub(super) fn choice<T: Copy>(text: &str, choices: &[(&str, T)]) -> Parsed<T> {
    if let Some((_, value)) = choices.iter().find(|(name, _)| *name == text) {
        return Ok(*value);
    }
    let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
    Err(format!("unknown value {text:?}; write {}", one_of(&names)))
}

pub(super) fn one_of(names: &[impl std::borrow::Borrow<str>]) -> String {
    match names {
        [] => String::new(),
        [only] => only.borrow().to_owned(),
        [head @ .., last] => {
            let head: Vec<&str> = head.iter().map(std::borrow::Borrow::borrow).collect();
            format!("{} or {}", head.join(", "), last.borrow())
        }
    }
}

/// The known name that is similar to `name`.
pub(super) fn nearest_of(
    name: &str,
    names: impl Iterator<Item = &'static str>,
) -> Option<&'static str> {
    let nearest = names.min_by_key(|known| strsim::osa_distance(name, known))?;
    let distance = strsim::osa_distance(name, nearest);
    // One edit per six letters, so that short names do not match everything.
    let is_near = distance <= 1 + nearest.len() / 6 && distance < nearest.len().min(name.len());
    is_near.then_some(nearest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn booleans_are_those_of_go() {
        for word in ["1", "t", "T", "true", "TRUE", "True"] {
            assert_eq!(boolean(word), Ok(true), "{word}");
        }
        for word in ["0", "f", "F", "false", "FALSE", "False"] {
            assert_eq!(boolean(word), Ok(false), "{word}");
        }
        for word in ["", "yes", "tRUE", " true"] {
            boolean(word).unwrap_err();
        }
    }

    #[test]
    fn integers_are_those_of_go() {
        for (text, value) in [
            ("0", 0),
            ("8080", 8080),
            ("1_000", 1000),
            ("0x1F90", 8080),
            ("0X_ff", 255),
            ("0o17620", 8080),
            ("017", 15),
            ("0_17", 15),
            ("0b101", 5),
            ("18446744073709551615", u64::MAX),
        ] {
            assert_eq!(integer(text), Ok(value), "{text}");
        }
        for text in [
            "",
            "-1",
            "+1",
            "_1",
            "1_",
            "1__0",
            "0x",
            "0b2",
            "08",
            "1e3",
            " 1",
            "1 ",
            "١",
            "0x+1",
            "18446744073709551616",
        ] {
            integer(text).unwrap_err();
        }
        assert!(integer("0080").unwrap_err().contains("write 80"));
    }

    #[test]
    fn sizes_are_integers_or_have_units() {
        for (text, value) in [
            ("0", 0),
            ("2000000", 2_000_000),
            ("0x10", 16),
            ("010", 8),
            ("1_000", 1000),
            ("64KiB", 65_536),
            (".5KB", 500),
        ] {
            assert_eq!(size(text), Ok(value), "{text}");
        }
        for text in ["", "KiB", "1.5", "-1", "10M", "5 apples"] {
            size(text).unwrap_err();
        }
    }

    #[test]
    fn durations_below_timer_resolution_are_rejected() {
        assert_eq!(some_duration("1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(duration_or_none("0"), Ok(None));
        for text in ["1ns", "999us"] {
            assert!(some_duration(text).unwrap_err().contains("1ms"), "{text}");
            duration_or_none(text).unwrap_err();
        }
        some_duration("0").unwrap_err();
    }

    #[test]
    fn paths_reject_urls_and_control_characters() {
        for text in ["data", "/srv/up loads", "./http:", "C:/x"] {
            assert_eq!(path(text), Ok(PathBuf::from(text)));
        }
        for text in ["a\0b", "/srv/uploads\r", "a\n", "s3://bucket/prefix"] {
            path(text).unwrap_err();
        }
        let error = path("unix:///run/x.sock").unwrap_err();
        assert!(error.ends_with("only, /run/x.sock"), "{error}");
    }

    #[test]
    fn permissions_are_octal_and_include_the_owner() {
        assert_eq!(permissions("775", 0o300), Ok(0o775));
        assert_eq!(permissions("0664", 0o600), Ok(0o664));
        assert_eq!(permissions("0o2775", 0o300), Ok(0o2775));
        for text in ["", "8", "rwx", "+775", "77777", "0x1ff", "444"] {
            permissions(text, 0o600).unwrap_err();
        }
    }
}
