//! The command line.
//!
//! The grammar is that of Go's `flag` package, which tusd uses, made kinder: one or two dashes
//! mean the same, a value follows after `=` or as the next word, a switch may have its value as
//! the next word too (`-expose-metrics false`), flags may stand after a command, and no word is
//! ever dropped without being told.

use std::ffi::OsString;

use super::bucket;
use super::instructions::{Instruction, Meaning, instruction};
use super::later::{Later, later};
use super::layers::{Layers, Source};
use super::problem::{Problem, nearest};
use super::table::{Kind, OldName, Setting, setting, setting_once};
use super::value;

/// What the program is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Verb {
    /// Run the server.
    #[default]
    Serve,
    /// Delete what has outlived its time.
    Sweep,
    /// Examine the bucket and the leases.
    DoctorS3,
    /// Show the settings in force.
    ConfigCheck,
    /// Print the version.
    Version,
    /// Print the help.
    Help,
}

/// What the command line says beside settings.
#[derive(Debug, Default)]
pub(super) struct Said {
    /// What to do.
    pub(super) verb: Verb,
    /// The file to read settings from.
    pub(super) config: Option<String>,
    /// Delete nothing.
    pub(super) dry_run: bool,
    /// Print findings as JSON.
    pub(super) json: bool,
    /// The origin whose pages upload, for the examination.
    pub(super) origin: Option<String>,
    /// Print the help for the verb instead of doing it.
    pub(super) help: bool,
}

/// What a flag's name stands for.
enum Known {
    Setting(&'static Setting),
    Old(&'static Setting, OldName),
    Instruction(&'static Instruction),
    Later(Later),
}

impl Known {
    fn of(name: &str) -> Option<Self> {
        setting(name)
            .map(Self::Setting)
            .or_else(|| setting_once(name).map(|(setting, old)| Self::Old(setting, old)))
            .or_else(|| instruction(name).map(Self::Instruction))
            .or_else(|| later(name).map(Self::Later))
    }

    /// Whether the flag can stand without a value.
    fn is_switch(&self) -> bool {
        match self {
            Self::Setting(setting) | Self::Old(setting, _) => setting.kind == Kind::Switch,
            Self::Instruction(instruction) => instruction.placeholder.is_none(),
            Self::Later(later) => later.switch,
        }
    }
}

/// Takes a word apart that begins with a dash: the flag as written up to any `=`, its name, and
/// what stands after the `=`.
fn take_apart(word: &str) -> Option<(&str, &str, Option<&str>)> {
    let (written, value) = match word.split_once('=') {
        Some((written, value)) => (written, Some(value)),
        None => (word, None),
    };
    let bare = written.strip_prefix('-')?;
    Some((written, bare.strip_prefix('-').unwrap_or(bare), value))
}

/// Reads the words after the program's name.
pub(super) fn read(
    words: impl IntoIterator<Item = OsString>,
    layers: &mut Layers,
    problems: &mut Vec<Problem>,
) -> Said {
    let mut said = Said::default();
    let mut commands = Vec::new();
    let mut words = words
        .into_iter()
        .filter_map(|word| match word.into_string() {
            Ok(word) => Some(word),
            Err(word) => {
                let shown = word.to_string_lossy();
                problems.push(Problem::new(shown, "is not valid UTF-8"));
                None
            }
        })
        .collect::<Vec<_>>()
        .into_iter()
        .peekable();

    while let Some(word) = words.next() {
        if word == "--" {
            commands.extend(words);
            break;
        }
        let Some((written, name, attached)) = take_apart(&word).filter(|_| word != "-") else {
            commands.push(word);
            continue;
        };
        let Some(known) = Known::of(name) else {
            problems.push(Problem::new(written, unknown(name)));
            // What follows is most likely its value: a second complaint wouldn't help.
            if attached.is_none() {
                words.next_if(|next| !next.starts_with('-') && !is_command(next));
            }
            continue;
        };
        let text = if let Some(attached) = attached {
            attached.to_owned()
        } else if known.is_switch() {
            words
                .next_if(|next| value::boolean(next).is_ok())
                .unwrap_or_else(|| "true".to_owned())
        } else {
            let is_flag =
                |next: &str| take_apart(next).is_some_and(|(_, name, _)| Known::of(name).is_some());
            match words.next_if(|next| !is_flag(next)) {
                Some(text) => text,
                None => {
                    problems.push(Problem::new(written, "needs a value after it"));
                    continue;
                }
            }
        };
        let source = Source::Flag(written.to_owned());
        match known {
            Known::Setting(setting) => layers.give(setting, text, source),
            Known::Old(setting, old) => match (old.translate)(&text) {
                Ok(text) => layers.give(setting, text, source),
                Err(reason) => problems.push(Problem::new(written, reason)),
            },
            Known::Instruction(instruction) => {
                if let Err(reason) = obey(&mut said, instruction.meaning, text) {
                    problems.push(Problem::new(written, reason));
                }
            }
            Known::Later(later) => {
                if !later.asks_for_nothing(&text) {
                    problems.push(Problem::new(written, later.reason));
                }
            }
        }
    }
    command(&mut said, &commands, problems);
    if said.dry_run && said.verb != Verb::Sweep {
        problems.push(Problem::whole(
            "-dry-run goes with sweep only: landfall sweep -dry-run",
        ));
    }
    if said.verb != Verb::DoctorS3 {
        for (name, is_said) in [("json", said.json), ("origin", said.origin.is_some())] {
            if is_said {
                problems.push(Problem::whole(format!(
                    "-{name} goes with doctor only: landfall doctor s3 -{name}"
                )));
            }
        }
    }
    said
}

/// Carries out an instruction.
fn obey(said: &mut Said, meaning: Meaning, text: String) -> Result<(), String> {
    match meaning {
        Meaning::Config => said.config = Some(text).filter(|file| !file.is_empty()),
        Meaning::Json => said.json = value::boolean(&text)?,
        Meaning::Origin => said.origin = bucket::or_none(&text, bucket::origin)?,
        Meaning::DryRun => said.dry_run = value::boolean(&text)?,
        Meaning::Help => said.help = value::boolean(&text)?,
        Meaning::Version => {
            if value::boolean(&text)? {
                said.verb = Verb::Version;
            }
        }
    }
    Ok(())
}

/// Whether a word begins a command.
fn is_command(word: &str) -> bool {
    matches!(
        word,
        "serve" | "sweep" | "doctor" | "config" | "version" | "help"
    )
}

/// Finds out which command the words that are no flags stand for.
fn command(said: &mut Said, words: &[String], problems: &mut Vec<Problem>) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (verb, rest) = match words.as_slice() {
        [] => return,
        ["serve", rest @ ..] => (Verb::Serve, rest),
        ["sweep", rest @ ..] => (Verb::Sweep, rest),
        ["doctor", "s3", rest @ ..] => (Verb::DoctorS3, rest),
        ["config", "check", rest @ ..] => (Verb::ConfigCheck, rest),
        ["version", rest @ ..] => (Verb::Version, rest),
        ["help", "sweep"] => {
            said.help = true;
            (Verb::Sweep, &[][..])
        }
        ["help", "doctor", ..] => {
            said.help = true;
            (Verb::DoctorS3, &[][..])
        }
        ["help", ..] => (Verb::Help, &[][..]),
        ["doctor", ..] => {
            problems.push(Problem::whole(
                "doctor examines one kind of storage; write landfall doctor s3",
            ));
            return;
        }
        ["config", ..] => {
            problems.push(Problem::whole(
                "config alone does nothing; write landfall config check",
            ));
            return;
        }
        rest => (Verb::Serve, rest),
    };
    // -version beside a command asks for the version.
    if said.verb != Verb::Version {
        said.verb = verb;
    }
    if let [first, ..] = rest {
        let hint = match Known::of(first) {
            _ if first.len() > 1 && first.starts_with('-') => "flags end at --".to_owned(),
            Some(_) => format!("write -{first} for the flag"),
            None => "a value stands right after its flag, and the commands are serve, sweep, \
                     doctor s3, config check, version and help"
                .to_owned(),
        };
        problems.push(Problem::whole(format!(
            "{first:?} is neither a flag, nor the value of one, nor a command: {hint}"
        )));
    }
}

/// What to say about a name that isn't known.
fn unknown(name: &str) -> String {
    match nearest(name) {
        Some(nearest) => format!("there is no such flag; did you mean -{nearest}?"),
        None => "there is no such flag".to_owned(),
    }
}
