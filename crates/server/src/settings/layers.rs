//! The texts of settings with their sources, before they are parsed.

use std::collections::BTreeMap;
use std::fmt;

use super::problem::Problem;
use super::sections::Settings;
use super::sections::settings;
use super::sections::table::{Property, Setting};

/// A later kind overrides an earlier one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Source {
    File {
        file: String,
        line: usize,
        key: String,
    },
    Variable(String),
    Flag(&'static str),
}

impl Source {
    fn precedence(&self) -> u8 {
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
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
        }
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct RawValue {
    pub(super) text: String,
    pub(super) source: Source,
}

impl fmt::Debug for RawValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawValue")
            .field("source", &self.source)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    given: BTreeMap<&'static str, RawValue>,
}

impl Layers {
    /// A source of higher precedence wins; of two texts from the same kind of source, the later one.
    pub(super) fn add(&mut self, setting: &'static Setting, text: String, source: Source) {
        let stored = self.given.get(setting.name);
        if stored.is_none_or(|stored| stored.source.precedence() <= source.precedence()) {
            self.given.insert(setting.name, RawValue { text, source });
        }
    }

    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        self.given.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        self.given.keys().copied()
    }

    pub(super) fn parse(&self, problems: &mut Vec<Problem>) -> Settings {
        let mut parsed = Settings::default();
        for setting in settings() {
            let Some(RawValue { text, source }) = self.given.get(setting.name) else {
                continue;
            };
            let result = if setting.lacks_value(text) {
                Err(empty(setting))
            } else {
                (setting.set)(&mut parsed, text)
            };
            if let Err(reason) = result {
                let problem = Problem::new(source, reason);
                problems.push(if setting.has(Property::FailsAtStart) {
                    problem.at_start()
                } else {
                    problem
                });
            }
        }
        parsed.apply_implied();
        parsed
    }
}

/// Most empty texts come from a variable of a script that is not set.
fn empty(setting: &Setting) -> String {
    match setting.default {
        "" => "is empty; write a value, or leave the setting out".to_owned(),
        default => format!("is empty; write a value, or leave the setting out for {default}"),
    }
}
