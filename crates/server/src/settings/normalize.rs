//! Translates arguments from the syntax of Go's `flag` package, which tusd's users write, to that of clap.

use clap::Command;

use super::value;

/// tusd's users write flags with one dash and before or after a command. In addition, a switch may have
/// its value as the next argument. `--help` and an unknown flag come first, so that clap reports them
/// and not what follows from them.
///
/// With `as_tusd`, a word that is no command ends the flags: it and what follows is returned apart.
pub(super) fn normalize(
    command: &Command,
    args: Vec<String>,
    as_tusd: bool,
) -> (Vec<String>, Vec<String>) {
    let (mut positional, mut first, mut flags) = (Vec::new(), Vec::new(), Vec::new());
    let mut dropped = Vec::new();
    let mut args = args.into_iter().peekable();
    while let Some(arg) = args.next() {
        let is_word = || split_flag(&arg).is_none() && command.find_subcommand(&arg).is_none();
        if as_tusd && positional.is_empty() && (arg == "--" || is_word()) {
            dropped.push(arg);
            dropped.extend(args);
            break;
        }
        if arg == "--" {
            flags.push(arg);
            flags.extend(args);
            break;
        }
        let Some((name, value)) = split_flag(&arg) else {
            positional.push(arg);
            continue;
        };
        let long = match name.len() {
            1 => format!("-{name}"),
            _ => format!("--{name}"),
        };
        let value = value.map(str::to_owned);
        let next_value = match find_flag(command, name) {
            None if name == "V" => {
                flags.push("--version".to_owned());
                continue;
            }
            Some(FlagKind::Help) => {
                first.insert(0, long);
                continue;
            }
            None => {
                // The next argument is most likely its value.
                if value.is_none() {
                    args.next_if(|next| {
                        !next.starts_with('-') && command.find_subcommand(next).is_none()
                    });
                }
                first.push(long);
                continue;
            }
            Some(_) if value.is_some() => value,
            Some(FlagKind::Switch) => args.next_if(|next| value::boolean(next).is_ok()),
            Some(FlagKind::Value) => args.next_if(|next| {
                let is_flag =
                    split_flag(next).is_some_and(|(name, _)| find_flag(command, name).is_some());
                next != "--" && !is_flag
            }),
        };
        flags.push(match next_value {
            Some(value) => format!("{long}={value}"),
            None => long,
        });
    }
    positional.extend(first);
    positional.extend(flags);
    (positional, dropped)
}

pub(super) fn split_flag(arg: &str) -> Option<(&str, Option<&str>)> {
    let bare = arg.strip_prefix('-').filter(|bare| !bare.is_empty())?;
    let bare = bare.strip_prefix('-').unwrap_or(bare);
    Some(match bare.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None => (bare, None),
    })
}

pub(super) enum FlagKind {
    Help,
    Switch,
    Value,
}

pub(super) fn find_flag(command: &Command, name: &str) -> Option<FlagKind> {
    if matches!(name, "h" | "help") {
        return Some(FlagKind::Help);
    }
    let mut args = command.get_arguments();
    match args.find(|arg| arg.get_long() == Some(name)) {
        Some(arg) if arg.is_require_equals_set() => Some(FlagKind::Switch),
        Some(_) => Some(FlagKind::Value),
        None => {
            let mut commands = command.get_subcommands();
            commands.find_map(|command| find_flag(command, name))
        }
    }
}
