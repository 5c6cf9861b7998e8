//! The arguments of clap's commands, those of settings among them.

use clap::{Arg, ArgAction};
use landfall_console::parsed;
use landfall_state::queue::UploadLink;

use super::sections::table::{Kind, Setting};
use super::value::Parsed;
use super::{bucket, value};

pub(super) fn setting_arg(setting: &Setting) -> Arg {
    let mut help = setting.help.to_owned();
    for alias in setting.aliases {
        help.push_str(&format!(" Older name: --{}.", alias.name));
    }
    let (summary, _) = setting.help.split_once(". ").unwrap_or((setting.help, ""));
    let mut summary = summary.trim_end_matches('.').to_owned();
    // In the texts alone: with clap's defaults, each start would parse all of them.
    if !matches!(setting.default, "" | "false") {
        summary.push_str(&format!(" [default: {}]", setting.default));
        help.push_str(&format!("\n\n[default: {}]", setting.default));
    }
    value_arg(setting.name, setting.kind)
        .help(summary)
        .long_help(help)
}

pub(super) fn value_arg(name: &'static str, kind: Kind) -> Arg {
    match kind.placeholder() {
        Some(placeholder) => Arg::new(name).long(name).value_name(placeholder),
        None => optional_bool(name),
    }
}

pub(super) fn optional_bool(name: &'static str) -> Arg {
    Arg::new(name)
        .long(name)
        .value_name("BOOL")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("true")
}

pub(super) fn switch(name: &'static str, help: &'static str) -> Arg {
    optional_bool(name).help(help).value_parser(value::boolean)
}

pub(super) fn text(name: &'static str, placeholder: &'static str, help: &'static str) -> Arg {
    parsed(name, placeholder, help, |text| Ok(text.to_owned()))
}

pub(super) fn origin(help: &'static str) -> Arg {
    parsed("origin", "ORIGIN", help, bucket::origin).action(ArgAction::Append)
}

/// Of a key or a link, as the only argument.
pub(super) fn named(help: &'static str, parse: fn(&str) -> Parsed<String>) -> Arg {
    let name = Arg::new("name").value_name("NAME").required(true);
    name.help(help).value_parser(parse)
}

pub(super) fn key_name(text: &str) -> Parsed<String> {
    name(text, 255)
}

pub(super) fn link_name(text: &str) -> Parsed<String> {
    name(text, UploadLink::MAX_NAME_LEN)
}

fn name(text: &str, max: usize) -> Parsed<String> {
    if text.is_empty() || text.len() > max || text.contains(char::is_control) {
        return Err(format!(
            "a name has 1 to {max} bytes, without control characters"
        ));
    }
    Ok(text.to_owned())
}
