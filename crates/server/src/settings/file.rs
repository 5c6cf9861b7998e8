//! The configuration file: TOML, with the flags' names as its keys and no tables.

use std::io::Read as _;

use toml::de::{DeTable, DeValue};

use super::later::later;
use super::layers::{Layers, Source};
use super::problem::{Problem, nearest};
use super::table::{Kind, Setting, setting, setting_once};

/// No sensible file is larger.
const MOST_BYTES: u64 = 1 << 20;

/// Reads a configuration file.
pub(super) fn read(file: &str, layers: &mut Layers, problems: &mut Vec<Problem>) {
    match load(file) {
        Ok(text) => parse(file, &text, layers, problems),
        Err(reason) => problems.push(Problem::new(file, reason)),
    }
}

/// The text of a file, or why it can't be had.
fn load(file: &str) -> Result<String, String> {
    let mut text = String::new();
    let length = std::fs::File::open(file)
        .and_then(|open| open.take(MOST_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| format!("can't read the configuration file: {error}"))?;
    if length as u64 > MOST_BYTES {
        return Err("is too large for a configuration file; the most is 1 MiB".to_owned());
    }
    Ok(text)
}

/// Reads the text of a configuration file.
fn parse(file: &str, text: &str, layers: &mut Layers, problems: &mut Vec<Problem>) {
    let line_at = |byte: usize| {
        1 + text.as_bytes()[..byte]
            .iter()
            .filter(|b| **b == b'\n')
            .count()
    };
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let before = &text[..text.floor_char_boundary(at)];
            let column = 1 + before.chars().rev().take_while(|c| *c != '\n').count();
            let message = error.message().replace('\n', "; ");
            let place = format!("{file}:{}:{column}", line_at(before.len()));
            problems.push(Problem::new(place, format!("is no TOML: {message}")));
            return;
        }
    };
    for (key, given) in table.get_ref() {
        let source = Source::File {
            file: file.to_owned(),
            line: line_at(key.span().start),
            key: key.get_ref().to_string(),
        };
        let taken = match known(key.get_ref(), given.get_ref()) {
            Ok(Known::Setting(setting)) => text_of(setting.kind, given.get_ref())
                .map(|text| layers.give(setting, text, source.clone())),
            Ok(Known::NothingAsked) => Ok(()),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = taken {
            problems.push(Problem::new(source, reason));
        }
    }
}

/// What a key stands for.
enum Known {
    Setting(&'static Setting),
    /// A setting that isn't here, at the value that holds anyway.
    NothingAsked,
}

/// Finds out what a key stands for.
fn known(key: &str, given: &DeValue<'_>) -> Result<Known, String> {
    if let Some(setting) = setting(key) {
        return Ok(Known::Setting(setting));
    }
    if let Some(later) = later(key) {
        let kind = if later.switch {
            Kind::Switch
        } else {
            Kind::List("")
        };
        return match text_of(kind, given) {
            Ok(text) if later.asks_for_nothing(&text) => Ok(Known::NothingAsked),
            _ => Err(later.reason.to_owned()),
        };
    }
    if key == "config" {
        return Err("a configuration file can't name another one".to_owned());
    }
    if let Some((setting, _)) = setting_once(key) {
        return Err(format!("is called {} now", setting.name));
    }
    if given.is_table() {
        return Err("the file has no tables: write all keys at the top, without [ ]".to_owned());
    }
    Err(match nearest(&key.replace('_', "-")) {
        Some(nearest) => format!("there is no such setting; did you mean {nearest}?"),
        None => "there is no such setting".to_owned(),
    })
}

/// The text that a value of the file stands for, as a flag would have it.
fn text_of(kind: Kind, given: &DeValue<'_>) -> Result<String, String> {
    match (kind, given) {
        (_, DeValue::String(text)) => Ok(text.to_string()),
        (Kind::Switch, DeValue::Boolean(on)) => Ok(on.to_string()),
        (Kind::Mode, DeValue::Integer(number)) => {
            // 775 and 0o775 are different numbers in TOML: a string can't be misread.
            Err(format!(
                "write the octal digits as a string: \"{}\"",
                number.as_str()
            ))
        }
        (Kind::Time, DeValue::Integer(number)) if number.as_str() != "0" => Err(format!(
            "needs a unit: \"{}s\" for seconds",
            number.as_str()
        )),
        (kind, DeValue::Integer(number)) if kind != Kind::Switch => {
            let prefix = match number.radix() {
                2 => "0b",
                8 => "0o",
                16 => "0x",
                _ => "",
            };
            Ok(format!("{prefix}{}", number.as_str()))
        }
        (Kind::List(_), DeValue::Array(items)) => {
            let mut texts = Vec::new();
            for item in items {
                match item.get_ref() {
                    DeValue::String(text) => texts.push(text.to_string()),
                    other => {
                        return Err(format!("has {} in its list; write strings", article(other)));
                    }
                }
            }
            Ok(texts.join(","))
        }
        (kind, other) => {
            let wanted = match kind {
                Kind::Switch => "true or false",
                Kind::Number(_) => "a number",
                Kind::Size => "a number of bytes or a string such as \"64MiB\"",
                Kind::Time => "a string such as \"10s\"",
                Kind::Mode => "a string of octal digits such as \"775\"",
                Kind::Text(_) => "a string",
                Kind::List(_) => "a list of strings",
            };
            Err(format!("is {}; write {wanted}", article(other)))
        }
    }
}

/// What to call a value of the wrong type.
fn article(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a string",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a number with a point",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
