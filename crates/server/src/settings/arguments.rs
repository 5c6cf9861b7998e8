//! The command line.
//!
//! The grammar is that of Go's `flag` package, which tusd uses, made kinder: one or two dashes
//! mean the same, a value follows after `=` or as the next word, a switch may have its value as
//! the next word too (`--expose-metrics false`), flags may stand after a command, and no word is
//! ever dropped without being told.

use std::ffi::OsString;

use super::bucket;
use super::grants;
use super::instructions::{Instruction, Meaning, instruction};
use super::later::{Later, later};
use super::layers::{Layers, Source};
use super::problem::{Problem, nearest};
use super::table::{Kind, OldName, Setting, setting, setting_once};
use super::value;
use super::{Deed, Errand, KeyErrand, NewKey};

/// All commands, for messages.
const COMMANDS: &str = "serve, sweep, doctor files, doctor s3, s3 set-cors, events, keys, migrate, config \
                        check, version and help";

/// What the program is asked to do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Verb {
    /// Run the server.
    #[default]
    Serve,
    /// Delete what has outlived its time.
    Sweep,
    /// List what is damaged in the upload directory.
    DoctorFiles,
    /// Examine the bucket and the leases.
    DoctorS3,
    /// Let web pages talk to the bucket.
    SetCors,
    /// Show and change what waits for delivery.
    Events,
    /// Make, show and revoke keys of callers.
    Keys,
    /// Bring the tables of the database to the version of this program.
    Migrate,
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
    /// The origins whose pages upload, for the bucket's rules and the examination.
    pub(super) origins: Vec<String>,
    /// What to do with events.
    pub(super) errand: Errand,
    /// Which of the flags that go with events were given.
    of_events: Vec<&'static str>,
    /// What to do with keys.
    pub(super) key_errand: KeyErrand,
    /// A key to be made, as far as flags describe it.
    new_key: NewKey,
    /// Which of the flags that describe it were given.
    of_keys: Vec<&'static str>,
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
    if said.dry_run && !matches!(said.verb, Verb::Sweep | Verb::SetCors) {
        problems.push(Problem::whole(
            "-dry-run goes with sweep and s3 set-cors only: landfall sweep --dry-run",
        ));
    }
    if said.verb != Verb::DoctorS3 {
        if !said.origins.is_empty() && said.verb != Verb::SetCors {
            problems.push(Problem::whole(
                "-origin goes with doctor and s3 set-cors only: landfall doctor s3 -origin",
            ));
        }
        if said.json && !matches!(said.verb, Verb::Events | Verb::Keys) {
            problems.push(Problem::whole(
                "-json goes with doctor, events and keys only: landfall doctor s3 -json, landfall \
                 events list -json, landfall keys list -json",
            ));
        }
    }
    if said.verb == Verb::Events && !said.help {
        check_errand(&said, problems);
    } else if said.verb != Verb::Events {
        for name in &said.of_events {
            problems.push(Problem::whole(format!(
                "-{name} goes with events only: landfall events list -{name}"
            )));
        }
    }
    if said.verb == Verb::Keys {
        key_errand(&mut said, layers, problems);
    }
    if !matches!(said.key_errand, KeyErrand::Add(_)) {
        for name in &said.of_keys {
            problems.push(Problem::whole(format!(
                "-{name} goes with keys add only: landfall keys add NAME -{name}"
            )));
        }
    }
    said
}

/// Carries out an instruction.
fn obey(said: &mut Said, meaning: Meaning, text: String) -> Result<(), String> {
    // Most come from a variable of a script that isn't set: nothing may then mean everything.
    if text.trim().is_empty() {
        return Err("is empty; write a value, or leave the flag out".to_owned());
    }
    match meaning {
        Meaning::Config => said.config = Some(text),
        Meaning::Json => said.json = value::boolean(&text)?,
        Meaning::All => {
            said.errand.all = value::boolean(&text)?;
            said.of_events.push("all");
        }
        Meaning::Waiting => {
            said.errand.waiting = value::boolean(&text)?;
            said.of_events.push("pending");
        }
        Meaning::Transport => {
            said.errand.transport = Some(text);
            said.of_events.push("transport");
        }
        Meaning::Upload => {
            said.errand.upload = Some(text);
            said.of_events.push("upload");
        }
        Meaning::Limit => {
            said.errand.limit = value::count(&text)?;
            said.of_events.push("limit");
        }
        Meaning::Subject => {
            said.new_key.subject = Some(text);
            said.of_keys.push("subject");
        }
        Meaning::Admin => {
            said.new_key.is_admin = value::boolean(&text)?;
            said.of_keys.push("admin");
        }
        Meaning::Types => {
            said.new_key.limits.types = grants::types(&text)?;
            said.of_keys.push("types");
        }
        Meaning::Active => {
            said.new_key.limits.active = grants::count_or_none(&text)?;
            said.of_keys.push("active");
        }
        Meaning::Rate => {
            said.new_key.limits.rate = grants::rate(&text)?;
            said.of_keys.push("rate");
        }
        Meaning::Quota => {
            said.new_key.limits.quota = value::size_or_none(&text)?;
            said.of_keys.push("quota");
        }
        Meaning::Expires => {
            said.new_key.expires = value::duration_or_none(&text)?;
            said.of_keys.push("expires");
        }
        Meaning::Origin => {
            let origin = bucket::origin(&text)?;
            if !said.origins.contains(&origin) {
                said.origins.push(origin);
            }
        }
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
        "serve"
            | "sweep"
            | "doctor"
            | "s3"
            | "events"
            | "keys"
            | "migrate"
            | "config"
            | "version"
            | "help"
    )
}

/// Finds out which command the words that are no flags stand for.
fn command(said: &mut Said, words: &[String], problems: &mut Vec<Problem>) {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let (verb, rest) = match words.as_slice() {
        [] => return,
        ["serve", rest @ ..] => (Verb::Serve, rest),
        ["sweep", rest @ ..] => (Verb::Sweep, rest),
        ["doctor", "files", rest @ ..] => (Verb::DoctorFiles, rest),
        ["doctor", "s3", rest @ ..] => (Verb::DoctorS3, rest),
        ["s3", "set-cors", rest @ ..] => (Verb::SetCors, rest),
        ["s3"] if said.help => (Verb::SetCors, &[][..]),
        ["events", deed @ ("list" | "retry" | "delete"), rest @ ..] => {
            said.errand.deed = match *deed {
                "retry" => Deed::Retry,
                "delete" => Deed::Drop,
                _ => Deed::List,
            };
            said.errand.ids = rest.iter().map(|id| (*id).to_owned()).collect();
            (Verb::Events, &[][..])
        }
        ["events"] if said.help => (Verb::Events, &[][..]),
        ["keys", deed @ ("add" | "list" | "revoke"), rest @ ..] => {
            let mut named = rest.iter().map(|name| (*name).to_owned());
            said.key_errand = match *deed {
                "add" => KeyErrand::Add(NewKey {
                    name: named.next().unwrap_or_default(),
                    ..NewKey::default()
                }),
                "revoke" => KeyErrand::Revoke(named.next().unwrap_or_default()),
                _ => KeyErrand::List,
            };
            let is_one = matches!(rest, [name] if !name.is_empty());
            if *deed != "list" && !is_one && !said.help {
                problems.push(Problem::whole(format!(
                    "keys {deed} needs one name after it: landfall keys {deed} NAME"
                )));
            }
            let unused = if *deed == "list" { rest } else { &[][..] };
            (Verb::Keys, unused)
        }
        ["keys"] if said.help => (Verb::Keys, &[][..]),
        ["migrate", rest @ ..] => (Verb::Migrate, rest),
        ["config", "check", rest @ ..] => (Verb::ConfigCheck, rest),
        ["version", rest @ ..] => (Verb::Version, rest),
        ["help", "sweep"] => {
            said.help = true;
            (Verb::Sweep, &[][..])
        }
        ["help", "doctor", "files", ..] => {
            said.help = true;
            (Verb::DoctorFiles, &[][..])
        }
        ["help", "doctor", ..] => {
            said.help = true;
            (Verb::DoctorS3, &[][..])
        }
        ["help", "s3", ..] => {
            said.help = true;
            (Verb::SetCors, &[][..])
        }
        ["help", "events", ..] => {
            said.help = true;
            (Verb::Events, &[][..])
        }
        ["help", "migrate"] => {
            said.help = true;
            (Verb::Migrate, &[][..])
        }
        ["help", "keys", ..] => {
            said.help = true;
            (Verb::Keys, &[][..])
        }
        ["help"] | ["help", "serve" | "config" | "version" | "help", ..] => (Verb::Help, &[][..]),
        ["help", unknown, ..] => {
            problems.push(Problem::whole(format!(
                "{unknown:?} is no command; the commands are {COMMANDS}"
            )));
            return;
        }
        [
            command @ ("doctor" | "s3" | "events" | "keys" | "config"),
            rest @ ..,
        ] => {
            let whole = match *command {
                "doctor" => "landfall doctor files or landfall doctor s3",
                "s3" => "landfall s3 set-cors",
                "events" => "landfall events list, retry or drop",
                "keys" => "landfall keys add, list or revoke",
                _ => "landfall config check",
            };
            let wrong = match rest {
                [] => format!("{command} alone does nothing"),
                [unknown, ..] => format!("{unknown:?} is no command of landfall {command}"),
            };
            problems.push(Problem::whole(format!("{wrong}; write {whole}")));
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
            None => format!("the commands are {COMMANDS}; a value stands right after its flag"),
        };
        problems.push(Problem::whole(format!(
            "{first:?} is neither a command, nor a flag, nor the value of one: {hint}"
        )));
    }
}

/// Completes what is to be done with keys.
fn key_errand(said: &mut Said, layers: &mut Layers, problems: &mut Vec<Problem>) {
    if said.json && !matches!(said.key_errand, KeyErrand::List) {
        problems.push(Problem::whole("-json goes with keys list only"));
    }
    let KeyErrand::Add(key) = &mut said.key_errand else {
        return;
    };
    let name = std::mem::take(&mut key.name);
    *key = NewKey {
        name,
        ..std::mem::take(&mut said.new_key)
    };
    // Beside this command it limits the key; the server's own comes from elsewhere.
    if let Some(given) = layers.take_flag("max-size") {
        let size = match given.text.as_str() {
            "" => Err("is empty; write a value, or leave the flag out".to_owned()),
            text => value::size_or_none(text),
        };
        match size {
            Ok(size) => key.limits.max_size = size,
            Err(reason) => problems.push(Problem::new(given.source, reason)),
        }
    }
    for name in [Some(&key.name), key.subject.as_ref()]
        .into_iter()
        .flatten()
    {
        if name.len() > 255 || name.contains(char::is_control) {
            problems.push(Problem::whole(format!(
                "{name:?} can't be a name: at most 255 bytes without control characters"
            )));
        }
    }
}

/// Looks whether what is to be done with events is one thing.
fn check_errand(said: &Said, problems: &mut Vec<Problem>) {
    let errand = &said.errand;
    let mut problem = |sentence: &str| problems.push(Problem::whole(sentence));
    match errand.deed {
        Deed::List => {
            if !errand.ids.is_empty() {
                problem("events list takes no ids; for one upload's write -upload ID");
            }
            if errand.all && errand.waiting {
                problem("-all and -waiting exclude each other");
            }
        }
        Deed::Retry | Deed::Drop => {
            if errand.ids.is_empty() != errand.all {
                problem(
                    "write which events: ids as landfall events list shows them, or --all for all \
                     that were put aside",
                );
            }
            for name in &said.of_events {
                if matches!(*name, "pending" | "upload" | "limit") {
                    problem(&format!("-{name} goes with events list only"));
                }
            }
            if errand.transport.is_some() && !errand.all {
                problem("-transport goes with --all or with events list");
            }
            if said.json {
                problem("-json goes with events list only");
            }
        }
    }
}

/// What to say about a name that isn't known.
fn unknown(name: &str) -> String {
    match nearest(name) {
        Some(nearest) => format!("there is no such flag; did you mean -{nearest}?"),
        None => "there is no such flag".to_owned(),
    }
}
