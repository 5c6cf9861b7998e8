//! `landfall help TOPIC`: a command, a flag, or settings by topic.

use clap::Command;

use super::args::setting_arg;
use super::problem::{Problem, nearest};
use super::sections::table::{Property, Section, Setting};
use super::sections::{SECTIONS, settings};
use super::unsupported;

pub(super) enum Help {
    /// The path of the command; it is empty for the program.
    Command(Vec<String>),
    Text(String),
}

pub(super) fn find(root: &Command, topic: &[String]) -> Result<Help, Problem> {
    let name = |word: &String| {
        let name = word.trim_start_matches('-');
        name.split_once('=')
            .map_or(name, |(name, _)| name)
            .to_owned()
    };
    let is_flag = topic.iter().any(|word| word.starts_with('-'));
    let topic: Vec<String> = topic.iter().map(name).collect();
    let mut command = Some(root);
    for word in &topic {
        command = command.and_then(|command| command.find_subcommand(word));
    }
    let sections = SECTIONS.iter().filter(|section| has(section, &topic));
    let sections: Vec<_> = sections.collect();
    if command.is_some() && sections.is_empty() {
        return Ok(Help::Command(topic));
    }
    let name = topic.join(" ");
    if let Some(setting) = setting(&name).filter(|_| is_flag || sections.is_empty()) {
        return Ok(Help::Text(describe(setting)));
    }
    if let Some(flag) = unsupported::unsupported(&name) {
        return Ok(Help::Text(format!("--{}: {}.\n", flag.name, flag.reason)));
    }
    if sections.is_empty() {
        return Err(unknown(&name));
    }
    Ok(Help::Text(render(sections)))
}

fn setting(name: &str) -> Option<&'static Setting> {
    settings().find(|setting| {
        setting.name == name || setting.aliases.iter().any(|alias| alias.name == name)
    })
}

fn describe(setting: &'static Setting) -> String {
    let text = Command::new("landfall").arg(setting_arg(setting));
    let variable = setting.variable();
    let change = match setting.has(Property::Reloads) {
        true => "SIGHUP applies a change",
        false => "a change needs a restart",
    };
    format!(
        "{}\nVariable: {variable}\nKey in a file: {}\nWhile the server runs: {change}\n",
        options(text),
        setting.name
    )
}

fn render(sections: Vec<&'static Section>) -> String {
    let mut text = Command::new("landfall");
    for section in sections {
        let args = section.settings().map(setting_arg);
        text = text.next_help_heading(section.title).args(args);
    }
    options(text)
}

fn options(command: Command) -> String {
    let command = command
        .disable_help_flag(true)
        .help_template("{all-args}\n");
    command.max_term_width(100).render_long_help().to_string()
}

/// Returns whether a topic means a section: the title of the section has all of it.
fn has(section: &Section, topic: &[String]) -> bool {
    let singular = |word: &str| word.to_lowercase().trim_end_matches('s').to_owned();
    let title = section.title.split(|c: char| !c.is_alphanumeric());
    let title: Vec<_> = title.map(singular).collect();
    let parts = topic.iter().flat_map(|part| part.split([' ', ':']));
    let parts = parts.filter(|part| !part.is_empty());
    let mut parts = parts.map(singular).peekable();
    parts.peek().is_some() && parts.all(|part| title.contains(&part))
}

fn unknown(name: &str) -> Problem {
    let mut topics: Vec<_> = SECTIONS.iter().map(|section| section.title).collect();
    topics.dedup();
    let tip = match nearest(name) {
        Some(flag) => format!("a similar flag exists: '--{flag}'"),
        None => format!("the topics are {}", topics.join("; ")),
    };
    Problem::whole(format!(
        "there is no command, flag or topic '{name}'; tip: {tip}"
    ))
}
