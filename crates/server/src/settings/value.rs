//! Reads one setting's text. Every error is the end of a sentence that begins with the name of
//! the setting, and says what to write instead.

use std::path::PathBuf;
use std::time::Duration;

use super::types::redacted_url;

/// What went wrong with a text, or the value it stands for.
pub(super) type Parsed<T> = Result<T, String>;

/// A truth value, in the words that Go's flags know.
pub(super) fn boolean(text: &str) -> Parsed<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err(format!("{text:?} is neither true nor false")),
    }
}

/// A whole number as Go's flags read it: decimal, `0x`, `0o` or a leading `0` for octal, `0b`,
/// with `_` between digits.
pub(super) fn integer(text: &str) -> Parsed<u64> {
    let wrong = || format!("{text:?} is not a whole number");
    let (radix, digits) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &text[2..]),
        [b'0', b'o' | b'O', ..] => (8, &text[2..]),
        [b'0', b'b' | b'B', ..] => (2, &text[2..]),
        [b'0', _, ..] => (8, &text[1..]),
        _ => (10, text),
    };
    // After a prefix one underscore may come first: 0x_ff.
    let digits = match digits.strip_prefix('_') {
        Some(rest) if radix != 10 => rest,
        _ => digits,
    };
    if digits.split('_').any(str::is_empty) || digits.starts_with('+') {
        return Err(wrong());
    }
    let plain = digits.replace('_', "");
    u64::from_str_radix(&plain, radix).map_err(|_| {
        if radix == 8 && plain.bytes().all(|byte| byte.is_ascii_digit()) {
            let decimal = plain.trim_start_matches('0');
            format!("{text:?} begins with 0, which means octal; write {decimal}")
        } else if plain.bytes().all(|byte| byte.is_ascii_digit()) && radix == 10 {
            format!("{text} is too large")
        } else {
            wrong()
        }
    })
}

/// A TCP port.
pub(super) fn port(text: &str) -> Parsed<u16> {
    u16::try_from(integer(text)?).map_err(|_| format!("{text} is not a port; ports end at 65535"))
}

/// A count that must not be zero.
pub(super) fn count(text: &str) -> Parsed<usize> {
    match usize::try_from(integer(text)?) {
        Ok(0) => Err("0 would let nothing in; write a number from 1 up".to_owned()),
        Ok(count) => Ok(count),
        Err(_) => Err(format!("{text} is too large")),
    }
}

/// A number that may be zero.
pub(super) fn number(text: &str) -> Parsed<usize> {
    usize::try_from(integer(text)?).map_err(|_| format!("{text} is too large"))
}

/// The units of sizes; those of one letter are left out because `M` means different things to
/// different people.
const SIZE_UNITS: &[(&str, u64)] = &[
    ("B", 1),
    ("KB", 1_000),
    ("MB", 1_000_000),
    ("GB", 1_000_000_000),
    ("TB", 1_000_000_000_000),
    ("KIB", 1 << 10),
    ("MIB", 1 << 20),
    ("GIB", 1 << 30),
    ("TIB", 1 << 40),
];

/// A number of bytes: a whole number as [`integer`] reads it, or a number with a unit
/// (`1.5 GiB`).
pub(super) fn size(text: &str) -> Parsed<u64> {
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, rest) = text.split_at(end);
    let unit = rest.trim();
    if unit.is_empty() && !number.contains('.') || unit.starts_with(['x', 'X', 'o', 'O', '_']) {
        return integer(text).map_err(|error| format!("{error} of bytes, such as 2000000 or 2MiB"));
    }
    let upper = unit.to_ascii_uppercase();
    let scale = SIZE_UNITS
        .iter()
        .find_map(|(name, scale)| (*name == upper).then_some(*scale));
    match (decimal(number), scale) {
        (Some(decimal), Some(scale)) => decimal
            .times(scale)
            .ok_or_else(|| format!("{text} is too large")),
        (Some(_), None) if matches!(upper.as_str(), "K" | "M" | "G" | "T") => Err(format!(
            "{text:?} could be read in two ways; write {number}{upper}iB (steps of 1024) or \
             {number}{upper}B (steps of 1000)"
        )),
        _ => Err(format!(
            "{text:?} is not a size; write bytes, or a number with KiB, MiB, GiB, TiB, KB, MB, GB \
             or TB, such as 500MiB"
        )),
    }
}

/// A size that must lie in a range, both ends allowed.
pub(super) fn size_within(text: &str, least: u64, most: u64) -> Parsed<u64> {
    let bytes = size(text)?;
    if bytes < least {
        return Err(format!("{text} is too small; the least is {least} bytes"));
    }
    if bytes > most {
        return Err(format!("{text} is too large; the most is {most} bytes"));
    }
    Ok(bytes)
}

/// A size where 0 stands for no limit.
pub(super) fn size_or_none(text: &str) -> Parsed<Option<u64>> {
    size(text).map(|bytes| (bytes != 0).then_some(bytes))
}

/// A number with digits after the point, exact.
struct Decimal {
    /// All digits, without the point.
    digits: u128,
    /// Ten to the power of how many of them stand after the point.
    divisor: u128,
}

impl Decimal {
    /// This times a whole number, cut to a whole number; `None` if it doesn't fit.
    fn times(&self, factor: u64) -> Option<u64> {
        let product = self.digits.checked_mul(u128::from(factor))?;
        u64::try_from(product / self.divisor).ok()
    }
}

/// Reads `12`, `1.5`, `.5` or `5.`, up to 18 digits on each side.
fn decimal(text: &str) -> Option<Decimal> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits = |part: &str| part.len() <= 18 && part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty() || !all_digits(whole) || !all_digits(fraction) {
        return None;
    }
    Some(Decimal {
        digits: format!("{whole}{fraction}").parse().ok()?,
        divisor: 10_u128.pow(u32::try_from(fraction.len()).ok()?),
    })
}

/// The units of durations in nanoseconds: Go's, and days.
const DURATION_UNITS: &[(&str, u64)] = &[
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
    ("d", 86_400_000_000_000),
];

/// A time span as Go writes it (`300ms`, `1.5h`, `2h45m`, `0`), with `d` for days.
pub(super) fn duration(text: &str) -> Parsed<Duration> {
    let wrong = || {
        format!("{text:?} is not a time span; write a number and ms, s, m, h or d, such as 1h30m")
    };
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.starts_with('-') {
        return Err(format!("{text:?} is negative; the least is 0"));
    }
    if decimal(rest).is_some() {
        return Err(format!("{text:?} has no unit; write {rest}s for seconds"));
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !(c.is_ascii_digit() || c == '.'))
            .ok_or_else(wrong)?;
        let letters = rest[digits..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |letters| digits + letters);
        let unit = &rest[digits..letters];
        let scale = DURATION_UNITS
            .iter()
            .find_map(|(name, scale)| (*name == unit).then_some(*scale))
            .ok_or_else(wrong)?;
        let number = decimal(&rest[..digits]).ok_or_else(wrong)?;
        total = number
            .times(scale)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| format!("{text:?} is too long"))?;
        rest = &rest[letters..];
    }
    Ok(Duration::from_nanos(total))
}

/// The shortest time span that timers can keep.
const MIN_DURATION: Duration = Duration::from_millis(1);

/// A time span that must not be zero.
pub(super) fn some_duration(text: &str) -> Parsed<Duration> {
    match duration(text)? {
        Duration::ZERO => Err("must be longer than 0".to_owned()),
        span if span < MIN_DURATION => Err(format!("{text} is too short; the least is 1ms")),
        span => Ok(span),
    }
}

/// A time span where 0 stands for never, or for no limit.
pub(super) fn duration_or_none(text: &str) -> Parsed<Option<Duration>> {
    match duration(text)? {
        Duration::ZERO => Ok(None),
        _ => some_duration(text).map(Some),
    }
}

/// A number of seconds, or a time span of whole seconds.
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

/// Permission bits in octal, of which the server itself needs `needed`.
pub(super) fn permissions(text: &str, needed: u32) -> Parsed<u32> {
    let digits = text.strip_prefix("0o").unwrap_or(text);
    let valid = !digits.is_empty() && digits.bytes().all(|digit| matches!(digit, b'0'..=b'7'));
    let mode = u32::from_str_radix(digits, 8)
        .ok()
        .filter(|mode| valid && *mode <= 0o7777)
        .ok_or_else(|| {
            format!("{text:?} is not a mode; write permission bits in octal, such as 775")
        })?;
    if mode & needed != needed {
        return Err(format!(
            "{text} would shut the server out of what it makes; at least {needed:o} is needed"
        ));
    }
    Ok(mode)
}

/// A path of the file system.
pub(super) fn path(text: &str) -> Parsed<PathBuf> {
    // A line break or a carriage return is left over from a file that was read into a variable.
    if text.contains(char::is_control) {
        return Err(format!(
            "{text:?} has a control character in it; write the path without it"
        ));
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return Err(match scheme {
            "file" | "unix" => {
                format!(
                    "{text:?} is a URL; write its path alone, /{}",
                    rest.trim_start_matches('/')
                )
            }
            _ => format!("{:?} is a URL, not a path", redacted_url(text)),
        });
    }
    Ok(PathBuf::from(text))
}

/// A path of the file system that must not be empty.
pub(super) fn some_path(text: &str) -> Parsed<PathBuf> {
    if text.is_empty() {
        return Err("is empty; write a path".to_owned());
    }
    path(text)
}

/// A path of the file system where empty stands for none.
pub(super) fn path_or_none(text: &str) -> Parsed<Option<PathBuf>> {
    path(text).map(|path| (!text.is_empty()).then_some(path))
}

/// A list of words with commas between them; spaces around them and empty ones are dropped.
pub(super) fn list(text: &str) -> impl Iterator<Item = &str> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
}

/// One word of a few.
pub(super) fn choice<T: Copy>(text: &str, words: &[(&str, T)]) -> Parsed<T> {
    if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
        return Ok(*value);
    }
    let known: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
    Err(format!("{text:?} is not known; write {}", one_of(&known)))
}

/// Joins words to `a, b or c`.
pub(super) fn one_of(words: &[impl std::borrow::Borrow<str>]) -> String {
    match words {
        [] => String::new(),
        [only] => only.borrow().to_owned(),
        [head @ .., last] => {
            let head: Vec<&str> = head.iter().map(std::borrow::Borrow::borrow).collect();
            format!("{} or {}", head.join(", "), last.borrow())
        }
    }
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
    fn sizes_have_units() {
        for (text, value) in [
            ("0", 0),
            ("2000000", 2_000_000),
            ("0x10", 16),
            ("1_000", 1000),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("1.5GiB", 1_610_612_736),
            (".5KB", 500),
            ("10B", 10),
            ("2TB", 2_000_000_000_000),
            ("16777215TiB", 16_777_215 << 40),
        ] {
            assert_eq!(size(text), Ok(value), "{text}");
        }
        for text in [
            "",
            "KiB",
            "1.5",
            "1,5GiB",
            "1..5KB",
            "-1KiB",
            "5 apples",
            "16777216TiB",
            "1.5.5MB",
            "9999999999999999999MB",
        ] {
            size(text).unwrap_err();
        }
        let error = size("10M").unwrap_err();
        assert!(error.contains("10MiB") && error.contains("10MB"), "{error}");
    }

    #[test]
    fn durations_are_those_of_go_and_days() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("300ms", 300),
            ("1.5h", 5_400_000),
            ("2h45m", 9_900_000),
            ("7d", 604_800_000),
            ("1d12h", 129_600_000),
            (".5s", 500),
            ("1.s", 1000),
            ("+5s", 5000),
            ("1000us", 1),
            ("1000µs", 1),
        ] {
            assert_eq!(
                duration(text),
                Ok(Duration::from_millis(milliseconds)),
                "{text}"
            );
        }
        for text in [
            "",
            "s",
            "2",
            "1.5",
            "-5s",
            "5 s",
            "5x",
            "1h30",
            "1..s",
            "+",
            ".",
            ".s",
            "5S",
            "999999999999h",
        ] {
            duration(text).unwrap_err();
        }
        assert!(duration("2").unwrap_err().contains("2s"));
    }

    #[test]
    fn spans_that_no_timer_keeps_are_refused() {
        assert_eq!(some_duration("1ms"), Ok(Duration::from_millis(1)));
        assert_eq!(duration_or_none("0"), Ok(None));
        for text in ["1ns", "999us"] {
            assert!(some_duration(text).unwrap_err().contains("1ms"), "{text}");
            duration_or_none(text).unwrap_err();
        }
        some_duration("0").unwrap_err();
    }

    #[test]
    fn paths_are_no_urls_and_have_no_line_breaks() {
        for text in ["data", "/srv/up loads", "./http:", "C:/x"] {
            assert_eq!(path(text), Ok(PathBuf::from(text)));
        }
        for text in ["a\0b", "/srv/uploads\r", "a\n", "s3://bucket/prefix"] {
            path(text).unwrap_err();
        }
        let told = path("unix:///run/x.sock").unwrap_err();
        assert!(told.ends_with("alone, /run/x.sock"), "{told}");
    }

    #[test]
    fn permissions_are_octal_and_leave_the_server_in() {
        assert_eq!(permissions("775", 0o300), Ok(0o775));
        assert_eq!(permissions("0664", 0o600), Ok(0o664));
        assert_eq!(permissions("0o2775", 0o300), Ok(0o2775));
        for text in ["", "8", "rwx", "+775", "77777", "0x1ff", "444"] {
            permissions(text, 0o600).unwrap_err();
        }
    }
}
