//! The settings in force as a TOML file: what `landfall config check` prints.

use std::fmt::Write as _;

use super::layers::Layers;
use super::sections::SECTIONS;
use super::table::{Kind, Sensitivity, Setting};
use super::types::redacted_url;
use super::value;

/// Writes every setting with where it came from.
///
/// What it returns can be used as a configuration file and means the same, except for secrets. They are
/// left out: their lines are comments, as are those of settings without a value.
pub(super) fn report(layers: &Layers) -> String {
    let mut lines = Vec::new();
    for section in SECTIONS {
        lines.push((format!("\n# {}", section.title), None));
        for setting in section.settings {
            let (line, source) = match layers.get(setting.name) {
                Some(given) => match shown(setting, &given.text) {
                    Shown::All => (line(setting, &given.text), given.source.to_string()),
                    Shown::Part(text) => (
                        format!("# {}", line(setting, &text)),
                        format!("{}, its secrets not shown here", given.source),
                    ),
                    Shown::Nothing => (
                        format!("# {} = ***", setting.name),
                        format!("{}, not shown here", given.source),
                    ),
                },
                None => {
                    let line = line(setting, setting.default);
                    let unset = setting.lacks_value(setting.default);
                    let line = if unset { format!("# {line}") } else { line };
                    (line, "default".to_owned())
                }
            };
            lines.push((line, Some(source)));
        }
    }
    let width = lines
        .iter()
        .filter(|(_, source)| source.is_some())
        .map(|(line, _)| line.chars().count())
        .filter(|width| *width <= 60)
        .max()
        .unwrap_or_default();
    let mut report = String::new();
    for (line, source) in lines {
        // Writing to a String can't fail.
        let _ = match source {
            Some(source) => writeln!(report, "{line:width$}  # {}", comment(&source)),
            None => writeln!(report, "{line}"),
        };
    }
    report.trim_start().to_owned()
}

/// How much of a text may be seen.
enum Shown {
    All,
    /// This instead of it.
    Part(String),
    Nothing,
}

/// Decides how much of a setting's text may be seen.
fn shown(setting: &Setting, text: &str) -> Shown {
    match setting.sensitivity {
        Sensitivity::Public => Shown::All,
        Sensitivity::Secret => Shown::Nothing,
        Sensitivity::Url => {
            let redacted = redacted_url(text);
            if redacted == text {
                Shown::All
            } else {
                Shown::Part(redacted)
            }
        }
    }
}

/// A line of the file.
fn line(setting: &Setting, text: &str) -> String {
    format!("{} = {}", setting.name, toml(setting, text))
}

/// A setting's text as a value of TOML.
fn toml(setting: &Setting, text: &str) -> String {
    match setting.kind {
        Kind::Switch => match value::boolean(text) {
            Ok(on) => on.to_string(),
            Err(_) => string(text),
        },
        Kind::Number(_) | Kind::Size => match value::integer(text) {
            // TOML's numbers end at 2^63 - 1.
            Ok(number) if i64::try_from(number).is_ok() => number.to_string(),
            _ => string(text),
        },
        Kind::List(_) => {
            let items: Vec<String> = value::list(text).map(string).collect();
            format!("[{}]", items.join(", "))
        }
        Kind::Time | Kind::Mode | Kind::Text(_) => string(text),
    }
}

/// A basic string of TOML.
fn string(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(quoted, "\\u{:04X}", c as u32);
            }
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

/// Text that fits into a comment: without the characters that would end it.
fn comment(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
