//! Sizes and durations as people write them, in settings and on command lines.
//!
//! Every error contains the text and the accepted syntax.

use std::time::Duration;

/// Units of one letter are omitted: `M` is ambiguous.
const SIZES: &[(&[&str], u64)] = &[
    (&["B"], 1),
    (&["KB"], 1_000),
    (&["MB"], 1_000_000),
    (&["GB"], 1_000_000_000),
    (&["TB"], 1_000_000_000_000),
    (&["KIB"], 1 << 10),
    (&["MIB"], 1 << 20),
    (&["GIB"], 1 << 30),
    (&["TIB"], 1 << 40),
];

/// In nanoseconds.
const DURATIONS: &[(&[&str], u64)] = &[
    (&["ns", "nsec", "nanos"], 1),
    (&["us", "µs", "μs", "usec"], 1_000),
    (&["ms", "msec", "millis"], 1_000_000),
    (&["s", "sec", "secs", "second", "seconds"], SECOND),
    (&["m", "min", "mins", "minute", "minutes"], 60 * SECOND),
    (&["h", "hr", "hrs", "hour", "hours"], 3_600 * SECOND),
    (&["d", "day", "days"], 86_400 * SECOND),
    (&["w", "wk", "wks", "week", "weeks"], 604_800 * SECOND),
    (&["month", "months"], 2_630_016 * SECOND),
    (&["y", "yr", "yrs", "year", "years"], 31_557_600 * SECOND),
];
const SECOND: u64 = 1_000_000_000;

/// Parses bytes, or a number with a unit in any case (`500MiB`, `1.5 gb`). Fractions of a byte are dropped.
///
/// # Errors
/// The text is not a size, or too large.
pub fn size(text: &str) -> Result<u64, String> {
    let end = text.find(|c: char| !is_numeric(c));
    let (number, unit) = text.split_at(end.unwrap_or(text.len()));
    let unit = unit.trim().to_ascii_uppercase();
    let scale = match unit.as_str() {
        "" if !number.contains('.') => Some(1),
        unit => scale(SIZES, unit),
    };
    match (decimal(number), scale) {
        (Some(decimal), Some(scale)) => {
            times(decimal, scale).ok_or_else(|| format!("{text} is too large"))
        }
        (Some(_), None) if matches!(unit.as_str(), "K" | "M" | "G" | "T") => Err(format!(
            "{text:?} is ambiguous; write {number}{unit}iB (powers of 1024) or {number}{unit}B (powers of 1000)"
        )),
        _ => Err(format!(
            "{text:?} is not a size; write bytes, or a number with KiB, MiB, GiB, TiB, KB, MB, GB or TB, such as 500MiB"
        )),
    }
}

/// Formats a size with three digits in powers of 1000, as the upload page does: `5.37 GB`.
pub fn size_text(bytes: u64) -> String {
    let units = ["kB", "MB", "GB", "TB", "PB", "EB"];
    let mut size = bytes as f64;
    let mut unit = "B";
    for next in units {
        if size < 999.5 {
            break;
        }
        (size, unit) = (size / 1000.0, next);
    }
    let digits = match size {
        _ if unit == "B" || size >= 99.95 => 0,
        9.995.. => 1,
        _ => 2,
    };
    let number = format!("{size:.digits$}");
    let number = match digits {
        0 => &number,
        _ => number.trim_end_matches('0').trim_end_matches('.'),
    };
    format!("{number} {unit}")
}

/// Parses numbers with units: as Go does (`300ms`, `1.5h`, `2h45m`, `0`), and with days, spaces and spelled units (`7d`,
/// `1h 30min`).
///
/// # Errors
/// The text is not a duration, negative, or too long.
pub fn duration(text: &str) -> Result<Duration, String> {
    let invalid = || {
        format!("{text:?} is not a duration; write a number and ms, s, m, h or d, such as 1h30m")
    };
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.starts_with('-') {
        return Err(format!("{text:?} is negative; the minimum is 0"));
    }
    if decimal(rest).is_some() {
        return Err(format!(
            "{text:?} has no unit; write {rest}s for seconds, {rest}d for days"
        ));
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut total: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c| !is_numeric(c)).ok_or_else(invalid)?;
        let letters = rest[digits..].find(is_numeric);
        let letters = letters.map_or(rest.len(), |letters| digits + letters);
        let scale = scale(DURATIONS, rest[digits..letters].trim()).ok_or_else(invalid)?;
        let number = decimal(&rest[..digits]).ok_or_else(invalid)?;
        total = times(number, scale)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(|| format!("{text:?} is too long"))?;
        rest = &rest[letters..];
    }
    Ok(Duration::from_nanos(total))
}

const fn is_numeric(c: char) -> bool {
    c.is_ascii_digit() || c == '.'
}

fn scale(units: &[(&[&str], u64)], unit: &str) -> Option<u64> {
    let mut units = units.iter();
    units.find_map(|(names, scale)| names.contains(&unit).then_some(*scale))
}

/// Digits, and the power of ten that divides them.
type Decimal = (u128, u128);

/// Rounds down; `None` on overflow.
fn times((digits, divisor): Decimal, factor: u64) -> Option<u64> {
    u64::try_from(digits.checked_mul(factor.into())? / divisor).ok()
}

/// Parses `12`, `1.5`, `.5` or `5.`, with up to 18 digits behind the point and 20 before it.
fn decimal(text: &str) -> Option<Decimal> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let all_digits =
        |part: &str, max| part.len() <= max && part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() && fraction.is_empty()
        || !all_digits(whole, 20)
        || !all_digits(fraction, 18)
    {
        return None;
    }
    let divisor = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    Some((format!("{whole}{fraction}").parse().ok()?, divisor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_three_digits() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1_000, "1 kB"),
            (1_500, "1.5 kB"),
            (99_960, "100 kB"),
            (999_600, "1 MB"),
            (286_100_000, "286 MB"),
            (5 << 30, "5.37 GB"),
            (u64::MAX, "18.4 EB"),
        ] {
            assert_eq!(size_text(bytes), text);
        }
    }

    #[test]
    fn sizes_have_units() {
        for (text, value) in [
            ("0", 0),
            ("2000000", 2_000_000),
            ("18446744073709551615", u64::MAX),
            ("64KiB", 65_536),
            ("64 kib", 65_536),
            ("1.5GiB", 1_610_612_736),
            ("1.5 mib", 1_572_864),
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
            "18446744073709551616",
            "999999999999999999999MB",
        ] {
            size(text).unwrap_err();
        }
        let error = size("10M").unwrap_err();
        assert!(error.contains("10MiB") && error.contains("10MB"), "{error}");
    }

    #[test]
    fn durations_are_those_of_go_and_days_and_words() {
        for (text, milliseconds) in [
            ("0", 0),
            ("0s", 0),
            ("300ms", 300),
            ("1.5h", 5_400_000),
            ("2h45m", 9_900_000),
            ("2h 45min", 9_900_000),
            ("90 seconds", 90_000),
            ("7d", 604_800_000),
            ("1week", 604_800_000),
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
        // M may be meant as minutes or months.
        for text in [
            "",
            "s",
            "2",
            "1.5",
            "-5s",
            "5x",
            "5M",
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
}
