//! The settings in force as a TOML file: the output of `landfall config check`.

use std::fmt::Write as _;

use super::layers::Layers;
use super::sections::SECTIONS;
use super::sections::table::{Kind, Property, Setting};
use super::types::redacted_url;
use super::value;

/// The result is an equivalent configuration file, except for secrets, which are omitted: their lines are
/// comments, like those of settings without a value.
pub(super) fn report(layers: &Layers) -> String {
    let mut lines = Vec::new();
    for section in SECTIONS {
        lines.push((format!("\n# {}", section.title), None));
        for setting in section.settings() {
            let name = setting.name;
            let Some(given) = layers.get(name) else {
                let unset = setting.lacks_value(setting.default);
                let mark = if unset { "# " } else { "" };
                let value = toml(setting, setting.default);
                let line = format!("{mark}{name} = {value}");
                lines.push((line, Some("default".to_owned())));
                continue;
            };
            let (text, source) = (given.text(), &given.source);
            let is_url = setting.has(Property::SecretInUrl);
            let redacted = is_url.then(|| redacted_url(text)).filter(|url| url != text);
            let value = toml(setting, redacted.as_deref().unwrap_or(text));
            let (line, source) = match redacted {
                _ if setting.has(Property::Secret) => {
                    (format!("# {name} = ***"), format!("{source}, omitted"))
                }
                Some(_) => (
                    format!("# {name} = {value}"),
                    format!("{source}, secrets omitted"),
                ),
                None => (format!("{name} = {value}"), source.to_string()),
            };
            lines.push((line, Some(source)));
        }
    }
    let settings = lines.iter().filter(|(_, source)| source.is_some());
    let widths = settings.map(|(line, _)| line.chars().count());
    let width = widths.filter(|width| *width <= 60).max().unwrap_or(0);
    let mut report = String::new();
    for (line, source) in lines {
        // Writing to a String does not fail.
        let _ = match source {
            Some(source) => writeln!(report, "{line:width$}  # {}", comment(&source)),
            None => writeln!(report, "{line}"),
        };
    }
    report.trim_start().to_owned()
}

fn toml(setting: &Setting, text: &str) -> String {
    match setting.kind {
        Kind::Switch => match value::boolean(text) {
            Ok(on) => on.to_string(),
            Err(_) => string(text),
        },
        Kind::Number(_) | Kind::Size => match value::integer(text) {
            // The maximum of a TOML integer is 2^63 - 1.
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

/// Removes characters that would end a comment.
fn comment(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).collect()
}
