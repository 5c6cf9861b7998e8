//! What was said, by whom: the texts of settings before they are read.

use std::collections::BTreeMap;
use std::fmt;

use super::problem::Problem;
use super::table::{Setting, settings};
use super::types::Settings;

/// Where a setting's text came from; a later kind goes before an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// A line of the configuration file.
    File {
        /// The file as it was named.
        file: String,
        /// The line, from 1.
        line: usize,
        /// The key.
        key: String,
    },
    /// An environment variable.
    Variable(String),
    /// A flag as it was written, dashes included.
    Flag(String),
}

impl Source {
    /// Which source goes before which.
    fn rank(&self) -> u8 {
        match self {
            Self::File { .. } => 0,
            Self::Variable(_) => 1,
            Self::Flag(_) => 2,
        }
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, key } => write!(f, "{file}:{line}: {key}"),
            Self::Variable(name) | Self::Flag(name) => f.write_str(name),
        }
    }
}

/// The text of one setting; shown without it, since it may be a secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Given {
    /// What was written.
    pub(super) text: String,
    /// Where.
    pub(super) source: Source,
}

impl fmt::Debug for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Given")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

/// All texts that somebody gave, by the setting's name.
#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    given: BTreeMap<&'static str, Given>,
}

impl Layers {
    /// Takes note of a text, unless a source that goes before this one has given another. Of two
    /// from the same kind of source the later one counts.
    pub(super) fn give(&mut self, setting: &'static Setting, text: String, source: Source) {
        let known = self.given.get(setting.name);
        if known.is_none_or(|known| known.source.rank() <= source.rank()) {
            self.given.insert(setting.name, Given { text, source });
        }
    }

    /// Takes the text of the setting of this name out if a flag gave it.
    pub(super) fn take_flag(&mut self, name: &str) -> Option<Given> {
        let given = self.given.get(name)?;
        if !matches!(given.source, Source::Flag(_)) {
            return None;
        }
        self.given.remove(name)
    }

    /// The text of the setting of this name, if somebody gave one.
    pub(super) fn get(&self, name: &str) -> Option<&Given> {
        self.given.get(name)
    }

    /// The names of the settings that somebody gave, in alphabetical order.
    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.given.keys().copied()
    }

    /// Reads all texts; the settings nobody gave keep their defaults.
    pub(super) fn read(&self, problems: &mut Vec<Problem>) -> Settings {
        let mut read = Settings::default();
        for setting in settings() {
            let Some(Given { text, source }) = self.given.get(setting.name) else {
                continue;
            };
            let result = if setting.lacks_value(text) {
                Err(empty(setting))
            } else {
                (setting.set)(&mut read, text)
            };
            if let Err(reason) = result {
                let problem = Problem::new(source, reason);
                problems.push(if setting.refused_at_start {
                    problem.at_start()
                } else {
                    problem
                });
            }
        }
        read
    }
}

/// Why an empty text is refused: most come from a variable of a script that isn't set.
fn empty(setting: &Setting) -> String {
    match setting.default {
        "" => "is empty; write a value, or leave the setting out".to_owned(),
        default => format!("is empty; write a value, or leave the setting out for {default}"),
    }
}
