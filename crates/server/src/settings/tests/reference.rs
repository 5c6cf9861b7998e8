//! The tables of docs/configuration.md, generated from the table of settings.
//!
//! `UPDATE_GOLDEN=1` updates the file.

use std::path::Path;

use clap::Command;

use crate::settings::sections::SECTIONS;
use crate::settings::sections::table::Setting;
use crate::settings::{cli, unsupported};

#[test]
fn documentation_matches_the_table_of_settings() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let document = std::fs::read_to_string(&path).unwrap();
    let (before, rest) = document.split_once("<!-- settings: begin -->\n").unwrap();
    let (_, after) = rest.split_once("<!-- settings: end -->\n").unwrap();
    let reference = reference();
    let now =
        format!("{before}<!-- settings: begin -->\n{reference}<!-- settings: end -->\n{after}");
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &now).unwrap();
    }
    let is_current = std::fs::read_to_string(&path).unwrap() == now;
    assert!(
        is_current,
        "docs/configuration.md is not up to date; run the test with UPDATE_GOLDEN=1"
    );
}

/// Returns the generated part of docs/configuration.md.
fn reference() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        text.push_str(&format!("### {}\n\n", section.title));
        text.push_str("| flag, key | variable | default | description |\n");
        text.push_str("| --- | --- | --- | --- |\n");
        for setting in section.settings() {
            text.push_str(&setting_row(setting));
        }
        text.push('\n');
    }
    text.push_str("### Command-line options\n\n");
    text.push_str("| command | option | description |\n| --- | --- | --- |\n");
    text.push_str("| all | `--config FILE` | Read settings from this TOML file, or that of `LANDFALL_CONFIG` |\n");
    text.push_str("| all | `-h`, `--help` | Print the common flags, or all flags |\n");
    text.push_str("| all | `--version` | Print the version |\n");
    let command = cli::command(false);
    for command in command.get_subcommands() {
        command_rows(command, "landfall", &mut text);
    }
    text.push_str("\n### Unsupported flags\n\n");
    text.push_str("tusd's default value of each flag is accepted; other values are errors.\n\n");
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for flag in unsupported::all() {
        let name = format!("`--{}`", flag.name);
        match reasons.last_mut() {
            Some((reason, names)) if *reason == flag.reason => names.push(name),
            _ => reasons.push((flag.reason, vec![name])),
        }
    }
    text.push_str("| flags | error message |\n| --- | --- |\n");
    for (reason, names) in reasons {
        text.push_str(&format!("| {} | {reason} |\n", names.join(" ")));
    }
    text
}

/// Settings are not among the options, because clap adds these only when it runs a command.
fn command_rows(command: &Command, parent: &str, text: &mut String) {
    let path = format!("{parent} {}", command.get_name());
    for arg in command.get_arguments() {
        let has_value = !arg.is_require_equals_set() && arg.get_action().takes_values();
        let placeholders = arg.get_value_names().filter(|_| has_value);
        let placeholder = placeholders.and_then(|names| names.first());
        let option = match (arg.get_long(), placeholder) {
            (Some(long), Some(placeholder)) => format!("--{long} {placeholder}"),
            (Some(long), None) => format!("--{long}"),
            (None, _) => placeholder.map_or_else(String::new, ToString::to_string),
        };
        let help = arg.get_help().map(ToString::to_string).unwrap_or_default();
        text.push_str(&format!("| `{path}` | `{option}` | {} |\n", escape(&help)));
    }
    for command in command.get_subcommands() {
        command_rows(command, &path, text);
    }
}

fn setting_row(setting: &Setting) -> String {
    let default = match setting.default {
        "" => "–".to_owned(),
        default => format!("`{}`", default.replace('|', "\\|")),
    };
    let mut help = setting.help.to_owned();
    for alias in setting.aliases {
        help.push_str(&format!(" Older name of the flag: `--{}`.", alias.name));
    }
    let flag = match setting.kind.placeholder() {
        Some(placeholder) => format!("--{} {}", setting.name, placeholder.replace('|', "\\|")),
        None => format!("--{}", setting.name),
    };
    let (variable, help) = (setting.variable(), escape(&help));
    format!("| `{flag}` | `{variable}` | {default} | {help} |\n")
}

fn escape(text: &str) -> String {
    text.replace('|', "\\|").replace('*', "\\*")
}
