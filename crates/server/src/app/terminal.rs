//! Formats tables, ages and untrusted text for commands that print to a terminal.
//!
//! Text of clients and receivers must pass `sanitize`, because control characters could change the terminal.

use std::{
    io::{self, Write as _},
    time::Duration,
};

pub(super) fn columns<const N: usize>(rows: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|column| {
        let wide = |row: &[String; N]| row[column].chars().count();
        rows.iter().map(wide).max().unwrap_or_default()
    });
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

pub(super) fn sanitize(text: &str, max_chars: usize) -> String {
    let printable = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut cut: String = printable.clone().take(max_chars).collect();
    if printable.count() > max_chars {
        cut.push('…');
    }
    cut
}

/// Formats a time span in its nearest unit: a week is left a second after its begin.
pub(super) fn format_age(span: Duration) -> String {
    let seconds = span.as_secs();
    let in_units = |of: u64| (seconds + of / 2) / of;
    match (in_units(60), in_units(3_600)) {
        _ if seconds < 120 => format!("{seconds}s"),
        (minutes @ 0..120, _) => format!("{minutes}m"),
        (_, hours @ 0..48) => format!("{hours}h"),
        _ => format!("{}d", in_units(86_400)),
    }
}

/// A closed pipe, such as that of `head`, is no error.
pub(crate) fn print(text: &str) -> io::Result<()> {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        result => result,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_shown_in_one_unit() {
        let shown = |seconds| format_age(Duration::from_secs(seconds));
        assert_eq!(shown(0), "0s");
        assert_eq!(shown(119), "119s");
        assert_eq!(shown(3_600), "60m");
        assert_eq!(shown(86_400), "24h");
        assert_eq!(shown(7_199), "2h");
        assert_eq!(shown(7 * 86_400 - 1), "7d");
        assert_eq!(shown(864_000), "10d");
    }

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(sanitize("a\x1b[2Jb\nc", 10), "a [2Jb c");
        assert_eq!(sanitize("äöü", 2), "äö…");
    }
}
