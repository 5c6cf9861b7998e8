//! The tables of docs/configuration.md, made from the table of settings.

use super::instructions::INSTRUCTIONS;
use super::later;
use super::sections::SECTIONS;
use super::table::Setting;

/// What the document holds between its two marks.
pub fn reference() -> String {
    let mut text = String::new();
    for section in SECTIONS {
        text.push_str(&format!("### {}\n\n", section.title));
        text.push_str("| flag, key | variable | default | what it does |\n");
        text.push_str("| --- | --- | --- | --- |\n");
        for setting in section.settings {
            text.push_str(&row(setting));
        }
        text.push('\n');
    }
    text.push_str("### On the command line only\n\n");
    text.push_str("| flag | what it does |\n| --- | --- |\n");
    for instruction in INSTRUCTIONS {
        let names: Vec<String> = instruction
            .names
            .iter()
            .map(|name| flag(name, instruction.placeholder))
            .collect();
        text.push_str(&format!(
            "| {} | {} |\n",
            names.join(", "),
            instruction.help
        ));
    }
    text.push_str("\n### Flags of tusd that this build refuses\n\n");
    text.push_str("Given a value that asks for nothing (tusd's default), each is let through.\n\n");
    let mut reasons: Vec<(&str, Vec<String>)> = Vec::new();
    for later in later::all() {
        let name = format!("`--{}`", later.name);
        match reasons
            .last_mut()
            .filter(|(reason, _)| *reason == later.reason)
        {
            Some((_, names)) => names.push(name),
            None => reasons.push((later.reason, vec![name])),
        }
    }
    text.push_str("| flags | what they are told |\n| --- | --- |\n");
    for (reason, names) in reasons {
        text.push_str(&format!("| {} | {reason} |\n", names.join(" ")));
    }
    text
}

/// A setting's row.
fn row(setting: &Setting) -> String {
    let default = match setting.default {
        "" => "–".to_owned(),
        default => format!("`{}`", default.replace('|', "\\|")),
    };
    let mut what = setting.help.to_owned();
    for old in setting.old {
        what.push_str(&format!(" Old name of the flag: `--{}`.", old.name));
    }
    format!(
        "| {} | `{}` | {default} | {} |\n",
        flag(setting.name, setting.kind.placeholder()),
        setting.variable(),
        what.replace('|', "\\|").replace('*', "\\*")
    )
}

/// A flag and what its value is called.
fn flag(name: &str, placeholder: Option<&str>) -> String {
    match placeholder {
        Some(placeholder) => format!("`--{name} {}`", placeholder.replace('|', "\\|")),
        None => format!("`--{name}`"),
    }
}
