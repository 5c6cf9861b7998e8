//! Texts for people.

use std::{
    io::{self, Write as _},
    time::Duration,
};

use indicatif::HumanDuration;
use landfall_protocol::units::size_text;

/// Prints an error to standard error.
pub(crate) fn print_error(text: &str) {
    print_message(&format!("landfall: {text}"));
}

/// Prints a line to standard error.
pub(crate) fn print_message(text: &str) {
    // A closed pipe does not end the transfers.
    let _ = writeln!(io::stderr(), "{}", printable(text));
}

/// Replaces control characters: a file name or a message of a server must not control the terminal.
pub(crate) fn printable(text: &str) -> String {
    let printable = |c: char| match is_control(c) {
        true => '\u{fffd}',
        false => c,
    };
    text.chars().map(printable).collect()
}

/// Returns whether a character changes how a terminal shows others: a control character, or a direction mark.
pub(crate) fn is_control(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Escapes the characters in strings of JSON that control a terminal.
pub(crate) fn printable_json(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for c in json.chars() {
        match is_control(c) {
            true => text.push_str(&format!("\\u{:04x}", u32::from(c))),
            false => text.push(c),
        }
    }
    text
}

/// A duration with its largest unit, such as `5m`.
pub(crate) fn short_duration(duration: Duration) -> String {
    match duration.as_millis() {
        0..1_500 => format!("{:.1}s", duration.as_secs_f64()),
        _ => format!("{:#}", HumanDuration(duration)),
    }
}

pub(crate) fn rate_text(bytes_per_second: f64) -> String {
    format!("{}/s", size_text(bytes_per_second as u64))
}

/// `12 MB of 1 GB, 3 MB/s, 5m left`
pub(crate) fn progress_text(
    bytes: u64,
    length: Option<u64>,
    rate: f64,
    left: Option<Duration>,
) -> String {
    let mut text = format!("{}, {}", bytes_text(bytes, length), rate_text(rate));
    if let Some(left) = left.filter(|left| !left.is_zero()) {
        text.push_str(&format!(", {} left", short_duration(left)));
    }
    text
}

/// `12 MB of 1 GB`
pub(crate) fn bytes_text(bytes: u64, length: Option<u64>) -> String {
    match length {
        Some(length) => format!("{} of {}", size_text(bytes), size_text(length)),
        None => size_text(bytes),
    }
}

/// Begins the error of a response that is worth another attempt.
const UNAVAILABLE: &str = "the server is unavailable: ";

/// Names the next step of a client after this error.
pub(crate) fn next_step(error: &str) -> &'static str {
    match error.starts_with(UNAVAILABLE) {
        true => "the server failed, trying again",
        false => "reconnecting",
    }
}

/// The innermost cause of an error, without its number: `connection refused`.
pub(crate) fn short_cause(error: &str) -> String {
    let cause = match error.strip_prefix(UNAVAILABLE) {
        Some(response) => response,
        None => error.rsplit(": ").next().unwrap_or(error),
    };
    let cause = cause.split(" (os error").next().unwrap_or(cause);
    let mut chars = cause.chars();
    let first = chars.next().map(|first| first.to_ascii_lowercase());
    first.into_iter().chain(chars).collect()
}

/// Shortens a name to at most `max` characters; the end is the part that differs.
pub(crate) fn shortened(name: &str, max: usize) -> String {
    let count = name.chars().count();
    match count <= max {
        true => name.to_owned(),
        false => std::iter::once('…')
            .chain(name.chars().skip(count - max + 1))
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_no_control_characters() {
        assert_eq!(
            printable("a\x1b[2Jb\u{9b}\n"),
            "a\u{fffd}[2Jb\u{fffd}\u{fffd}"
        );
        assert_eq!(printable("gpj\u{202e}.exe"), "gpj\u{fffd}.exe");
        let json = serde_json::to_string("\u{9b}2J\u{7f}ä\u{202e}\n").unwrap();
        let shown = printable_json(&json);
        assert_eq!(shown, "\"\\u009b2J\\u007fä\\u202e\\n\"");
        let read: String = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, "\u{9b}2J\u{7f}ä\u{202e}\n");
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(shortened("video.mp4", 9), "video.mp4");
        assert_eq!(shortened("folder/vidéo.mp4", 9), "…idéo.mp4");
    }

    #[test]
    fn causes_are_short() {
        let error = "the connection failed: error sending request for url (http://a/): client error (Connect): \
                     tcp connect error: Connection refused (os error 111)";
        assert_eq!(short_cause(error), "connection refused");
        assert_eq!(next_step(error), "reconnecting");
        let error = "the server is unavailable: 503 Service Unavailable: restarting";
        assert_eq!(short_cause(error), "503 Service Unavailable: restarting");
        assert_eq!(next_step(error), "the server failed, trying again");
    }

    #[test]
    fn durations_are_short() {
        assert_eq!(short_duration(Duration::from_millis(120)), "0.1s");
        assert_eq!(short_duration(Duration::from_secs(300)), "5m");
    }
}
