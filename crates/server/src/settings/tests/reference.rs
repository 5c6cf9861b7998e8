//! The settings in docs/configuration.md, generated from the table of settings.
//!
//! `UPDATE_GOLDEN=1` updates the file.

use std::path::Path;

use crate::settings::report::wrapped;
use crate::settings::sections::SECTIONS;
use crate::settings::sections::table::{Kind, Setting};
use crate::settings::unsupported;

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
        for setting in section.settings() {
            push_item(&mut text, &setting_item(setting));
        }
        text.push('\n');
    }
    text.push_str("### Unsupported flags\n\n");
    text.push_str("tusd's default value of each flag is accepted; other values are errors.\n");
    text.push_str("Flags that Landfall once had are errors that name the replacement.\n\n");
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for flag in unsupported::all().filter(|flag| !is_removed(flag.reason)) {
        let name = format!("`--{}`", flag.name);
        match reasons.last_mut() {
            Some((reason, names)) if *reason == flag.reason => names.push(name),
            _ => reasons.push((flag.reason, vec![name])),
        }
    }
    for (reason, names) in reasons {
        push_item(&mut text, &format!("{}: {reason}", names.join(", ")));
    }
    text
}

fn is_removed(reason: &str) -> bool {
    reason.starts_with("removed;") || reason.starts_with("removed:")
}

fn push_item(text: &mut String, item: &str) {
    let lines = wrapped(&format!("- {item}"), 140);
    text.push_str(&format!("{}\n", lines.join("\n  ")));
}

fn setting_item(setting: &Setting) -> String {
    let default = match (setting.kind, setting.default) {
        (Kind::Switch, "false") | (_, "") => String::new(),
        (_, default) => format!(" (`{default}`)"),
    };
    let mut help = beginning(setting.help).replace('*', "\\*");
    for alias in setting.aliases {
        help.push_str(&format!(" Older name of the flag: `--{}`.", alias.name));
    }
    let flag = match setting.kind.placeholder() {
        Some(placeholder) => format!("--{} {placeholder}", setting.name),
        None => format!("--{}", setting.name),
    };
    format!("`{flag}`{default}: {help}")
}

/// Returns the first sentences of a help text; `landfall help FLAG` prints the others.
fn beginning(help: &str) -> String {
    let mut count = 0;
    let sentences = help.split_inclusive(". ").take_while(|sentence| {
        let is_first = count == 0;
        count += sentence.split(' ').filter(|word| !word.is_empty()).count();
        is_first || count <= 20
    });
    let beginning: String = sentences.collect();
    match beginning.len() < help.len() {
        true => format!("{beginning}…"),
        false => beginning,
    }
}
