//! Errors of the command line, and what to write instead.

use clap::Command;
use clap::error::{ContextKind, ContextValue, ErrorKind};

use super::normalize::{FlagKind, find_flag, split_flag};
use super::problem::Problem;
use super::sections::setting;

pub(super) fn usage_problem(error: &clap::Error, command: &Command, args: &[String]) -> Problem {
    if error.kind() == ErrorKind::MissingSubcommand {
        let (path, group) = group(command, args);
        let names = names(group);
        return Problem::whole(format!(
            "'landfall {path}' needs one of the commands {names}; see landfall {path} --help"
        ));
    }
    let text = error.render().to_string();
    let text = text.strip_prefix("error: ").unwrap_or(&text);
    let parts = text.split_once("\nFor more information");
    let (text, _) = parts.unwrap_or((text, ""));
    let (text, _) = text.split_once("\nUsage:").unwrap_or((text, ""));
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let mut sentence = lines.collect::<Vec<_>>().join("; ").replace(":; ", ": ");
    let word = |kind| match error.get(kind) {
        Some(ContextValue::String(word)) => Some(word.as_str()),
        _ => None,
    };
    let tip = match word(ContextKind::InvalidSubcommand) {
        Some(word) => {
            let is_suggested = error.get(ContextKind::SuggestedSubcommand).is_some();
            command_tip(command, args, word, is_suggested)
        }
        None if word(ContextKind::InvalidArg) == Some("-v") => {
            Some("write --verbose or --version".to_owned())
        }
        None => None,
    };
    if let Some(tip) = tip {
        let (what, _) = sentence.split_once("; tip:").unwrap_or((&sentence, ""));
        sentence = format!("{what}; tip: {tip}");
    }
    Problem::whole(sentence)
}

/// Suggests the right spelling for `word`, which is not a command.
fn command_tip(root: &Command, args: &[String], word: &str, is_suggested: bool) -> Option<String> {
    let at = args.iter().position(|arg| arg == word)?;
    let flag = at
        .checked_sub(1)
        .and_then(|before| split_flag(&args[before]));
    if let Some((name, None)) = flag
        && matches!(find_flag(root, name), Some(FlagKind::Switch))
    {
        return Some(format!("write --{name} or --{name}=true"));
    }
    if setting(word).is_some() {
        return Some(format!("write --{word} for the flag"));
    }
    let (_, group) = group(root, &args[..at]);
    let has_name = group.get_arguments().any(|arg| arg.get_id() == "name");
    let name = has_name.then_some("; a name is given with --name");
    let name = name.unwrap_or_default();
    (!is_suggested).then(|| format!("the commands are {}{name}", names(group)))
}

/// Returns the group of commands that arguments name, and its path.
fn group<'a>(root: &'a Command, args: &[String]) -> (String, &'a Command) {
    let (mut path, mut group) = (Vec::new(), root);
    for word in args {
        if let Some(next) = group.find_subcommand(word) {
            path.push(word.as_str());
            group = next;
        }
    }
    (path.join(" "), group)
}

fn names(group: &Command) -> String {
    let names: Vec<_> = group.get_subcommands().map(Command::get_name).collect();
    names.join(", ")
}
