//! The settings in force as a TOML file: what `landfall config check` prints.

use std::fmt::Write as _;

use super::layers::Layers;
use super::sections::SECTIONS;
use super::table::{Kind, Setting};
use super::value;

/// Writes every setting with where it came from. What it returns can be used as a
/// configuration file, and means the same but for secrets, which it leaves out.
pub(super) fn report(layers: &Layers) -> String {
    let mut lines = Vec::new();
    for section in SECTIONS {
        lines.push((format!("\n# {}", section.title), None));
        for setting in section.settings {
            let (text, source) = match layers.get(setting.name) {
                Some(given) if setting.is_secret => {
                    ("", format!("{}, not shown here", given.source))
                }
                Some(given) => (given.text.as_str(), given.source.to_string()),
                None => (setting.default, "default".to_owned()),
            };
            lines.push((
                format!("{} = {}", setting.name, toml(setting, text)),
                Some(source),
            ));
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
