//! The configuration file: TOML, whose keys are the names of flags, without tables.

use std::io::Read as _;

use toml::de::{DeTable, DeValue};

use super::layers::{Layers, Source};
use super::problem::{Problem, nearest};
use super::sections::table::{Kind, Setting};
use super::sections::{setting, settings};
use super::unsupported::unsupported;

const MAX_BYTES: u64 = 1 << 20;

pub(super) fn read(file: &str, layers: &mut Layers, problems: &mut Vec<Problem>) {
    match load(file) {
        Ok(text) => parse(file, &text, layers, problems),
        Err(reason) => problems.push(Problem::new(file, reason)),
    }
}

fn load(file: &str) -> Result<String, String> {
    let mut text = String::new();
    let length = std::fs::File::open(file)
        .and_then(|open| open.take(MAX_BYTES + 1).read_to_string(&mut text))
        .map_err(|error| format!("failed to read the configuration file: {error}"))?;
    if length as u64 > MAX_BYTES {
        return Err("is larger than 1 MiB, the maximum for a configuration file".to_owned());
    }
    Ok(text)
}

fn parse(file: &str, text: &str, layers: &mut Layers, problems: &mut Vec<Problem>) {
    let line_at = |byte: usize| 1 + text[..byte].matches('\n').count();
    let table = match DeTable::parse(text) {
        Ok(table) => table,
        Err(error) => {
            let at = error.span().map_or(0, |span| span.start.min(text.len()));
            let before = &text[..text.floor_char_boundary(at)];
            let column = 1 + before.chars().rev().take_while(|c| *c != '\n').count();
            let message = error.message().replace('\n', "; ");
            let place = format!("{file}:{}:{column}", line_at(before.len()));
            // Not the value: it may be a secret.
            let line = before.lines().next_back().unwrap_or_default();
            let key = line
                .split_once('=')
                .and_then(|(key, _)| setting(key.trim()));
            let key = key.map_or(String::new(), |setting| format!("{}: ", setting.name));
            problems.push(Problem::new(place, format!("{key}invalid TOML: {message}")));
            return;
        }
    };
    for (key, value) in table.get_ref() {
        let source = Source::File {
            file: file.to_owned(),
            line: line_at(key.span().start),
            key: key.get_ref().to_string(),
        };
        let result = match resolve_key(key.get_ref(), value.get_ref()) {
            Ok(Some(setting)) => text_of(setting.kind, value.get_ref())
                .map(|text| layers.add(setting, text, source.clone())),
            Ok(None) => Ok(()),
            Err(reason) => Err(reason),
        };
        if let Err(reason) = result {
            problems.push(Problem::new(source, reason));
        }
    }
}

/// `None` for a default of tusd's that is accepted without effect.
fn resolve_key(key: &str, value: &DeValue<'_>) -> Result<Option<&'static Setting>, String> {
    if let Some(setting) = setting(key) {
        return Ok(Some(setting));
    }
    if let Some(flag) = unsupported(key) {
        return match text_of(flag.kind(), value) {
            Ok(text) if flag.is_default(&text) => Ok(None),
            _ => Err(flag.reason.to_owned()),
        };
    }
    if key == "config" {
        return Err("a configuration file cannot name another one".to_owned());
    }
    let is_alias = |setting: &&Setting| setting.aliases.iter().any(|alias| alias.name == key);
    if let Some(setting) = settings().find(is_alias) {
        return Err(format!("renamed; write {}", setting.name));
    }
    if value.is_table() {
        return Err("tables are not supported; write all keys at the top level".to_owned());
    }
    Err(match nearest(&key.replace('_', "-")) {
        Some(nearest) => format!("unknown setting; did you mean {nearest}?"),
        None => "unknown setting".to_owned(),
    })
}

fn text_of(kind: Kind, value: &DeValue<'_>) -> Result<String, String> {
    match (kind, value) {
        (_, DeValue::String(text)) => Ok(text.to_string()),
        (Kind::Switch, DeValue::Boolean(on)) => Ok(on.to_string()),
        (Kind::Mode, DeValue::Integer(number)) => {
            // 775 and 0o775 are different numbers in TOML; a string is not ambiguous.
            let digits = number.as_str();
            Err(format!("write the octal digits as a string: \"{digits}\""))
        }
        (Kind::Time, DeValue::Integer(number)) if number.as_str() != "0" => {
            let digits = number.as_str();
            Err(format!("needs a unit: \"{digits}s\" for seconds"))
        }
        (kind, DeValue::Integer(number)) if kind != Kind::Switch => Ok(number.to_string()),
        (Kind::List(_), DeValue::Array(items)) => {
            let texts = items.iter().map(|item| match item.get_ref() {
                DeValue::String(text) => Ok(text.as_ref()),
                other => Err(describe(other)),
            });
            let texts = texts.collect::<Result<Vec<_>, _>>();
            let invalid = |found| format!("has {found} in its list; write strings");
            texts.map(|texts| texts.join(",")).map_err(invalid)
        }
        (kind, other) => {
            let expected = match kind {
                Kind::Switch => "true or false",
                Kind::Number(_) => "a number",
                Kind::Size => "a number of bytes or a string such as \"64MiB\"",
                Kind::Time => "a string such as \"10s\"",
                Kind::Mode => "a string of octal digits such as \"775\"",
                Kind::Text(_) => "a string",
                Kind::List(_) => "a list of strings",
            };
            Err(format!("is {}; write {expected}", describe(other)))
        }
    }
}

fn describe(value: &DeValue<'_>) -> &'static str {
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
