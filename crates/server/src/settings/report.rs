//! The settings in force as TOML and JSON, and a sample file.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::layers::{Layers, RawValue};
use super::sections::SECTIONS;
use super::sections::table::{Kind, Property, Setting};
use super::value;
use landfall_net::redacted_url;

/// The result is an equivalent configuration file, except for secrets, which are omitted: their lines are
/// comments, like those of settings without a value.
pub(super) fn report(layers: &Layers, only_changed: bool) -> String {
    let mut lines = Vec::new();
    for section in SECTIONS {
        let settings = section.settings();
        let settings = settings.filter(|setting| !only_changed || is_changed(layers, setting));
        let mut written = settings.map(|setting| line(layers, setting)).peekable();
        if written.peek().is_some() {
            lines.push((format!("\n# {}", section.title), None));
        }
        lines.extend(written);
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

/// Returns the line of a setting, and its source.
fn line(layers: &Layers, setting: &Setting) -> (String, Option<String>) {
    let name = setting.name;
    let Some(given) = layers.get(name) else {
        return (default_line(setting), Some("default".to_owned()));
    };
    let (text, source) = (given.text(), &given.source);
    let redacted = redacted(setting, text);
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
    (line, Some(source))
}

fn default_line(setting: &Setting) -> String {
    let unset = setting.lacks_value(setting.default);
    let mark = if unset { "# " } else { "" };
    format!(
        "{mark}{} = {}",
        setting.name,
        toml(setting, setting.default)
    )
}

fn is_changed(layers: &Layers, setting: &Setting) -> bool {
    is_different(setting, layers, &Layers::default())
}

pub(super) fn is_different(setting: &Setting, one: &Layers, other: &Layers) -> bool {
    let text = |layers: &Layers| {
        let given = layers.get(setting.name).map(RawValue::text);
        toml(setting, given.unwrap_or(setting.default))
    };
    text(one) != text(other)
}

/// Returns a URL without its secrets, if it has any.
fn redacted(setting: &Setting, text: &str) -> Option<String> {
    let has_query = setting.has(Property::PasswordInUrl);
    if !has_query && !setting.has(Property::SecretInUrl) {
        return None;
    }
    let end = text.find('?').filter(|_| has_query);
    let (url, query) = text.split_at(end.unwrap_or(text.len()));
    Some(redacted_url(url) + query).filter(|shown| shown != text)
}

/// Returns whether this text of a setting is secret, or contains a secret.
pub(super) fn is_secret(setting: &Setting, text: &str) -> bool {
    setting.has(Property::Secret) || redacted(setting, text).is_some()
}

pub(super) fn json(layers: &Layers, only_changed: bool) -> Value {
    let settings = SECTIONS.iter().flat_map(|section| section.settings());
    let settings = settings.filter(|setting| !only_changed || is_changed(layers, setting));
    let objects = settings.map(|setting| {
        let given = layers.get(setting.name);
        let text = given.map_or(setting.default, |given| given.text());
        let value = match setting.has(Property::Secret) && given.is_some() {
            true => "***".to_owned(),
            false => redacted(setting, text).unwrap_or_else(|| text.to_owned()),
        };
        json!({
            "name": setting.name,
            "value": value,
            "default": setting.default,
            "source": given.map_or("default".to_owned(), |given| given.source.to_string()),
        })
    });
    objects.collect()
}

/// All settings as comments: the output of `landfall config sample`.
pub(super) fn sample() -> String {
    let mut sample = "\
# Settings of Landfall. Remove the # before a setting to change it; the values are the defaults.
# After a change: landfall config check --config FILE
"
    .to_owned();
    for section in SECTIONS {
        let _ = writeln!(sample, "\n### {}", section.title);
        for setting in section.settings() {
            sample.push('\n');
            for line in wrapped(setting.help, 96) {
                let _ = writeln!(sample, "# {line}");
            }
            let line = default_line(setting);
            let _ = writeln!(sample, "#{}", line.strip_prefix("# ").unwrap_or(&line));
        }
    }
    sample
}

pub(super) fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) if line.len() + word.len() < width => line.extend([" ", word]),
            _ => lines.push(word.to_owned()),
        }
    }
    lines
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
