//! The texts of settings with their sources, before they are parsed.

use std::collections::BTreeMap;
use std::fmt;
use std::mem::discriminant;

use super::problem::Problem;
use super::sections::Settings;
use super::sections::settings;
use super::sections::table::{Kind, Property, Setting};
use super::types::Secret;

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
    /// Of a setting that changes the defaults of others.
    Preset(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, key } => write!(f, "{file}:{line}: {key}"),
            Self::Variable(name) => f.write_str(name),
            Self::Flag(name) => write!(f, "--{name}"),
            Self::Preset(name) => f.write_str(name),
        }
    }
}

#[derive(Clone, Debug)]
pub(super) struct RawValue {
    text: Secret,
    pub(super) source: Source,
}

impl RawValue {
    pub(super) fn text(&self) -> &str {
        self.text.reveal()
    }
}

/// Defaults of tusd that differ, for `--compat tusd`.
const TUSD: &[(&str, &str)] = &[
    ("data-dirs", "/"),
    ("disable-checksum", "true"),
    ("events-max-hold", "0"),
    ("events-retry-for", "15s"),
    ("expire-unfinished", "0"),
    ("hooks-dir-timeout", "24h"),
    ("hooks-event-headers", "all"),
    ("hooks-grpc-timeout", "0"),
    ("hooks-http-redirects", "public"),
    ("max-connections-per-address", "0"),
    ("max-requests-per-address", "0"),
    ("s3-part-size", "50MiB"),
    ("trusted-proxies", "0.0.0.0/0,::/0"),
    ("verbose", "true"),
];

#[derive(Clone, Debug, Default)]
pub(super) struct Layers {
    given: BTreeMap<&'static str, RawValue>,
}

impl Layers {
    /// Sources are read in the order of their precedence, so the first kind with a text wins; of two texts
    /// from the same kind of source, the later one.
    pub(super) fn add(&mut self, setting: &'static Setting, text: String, source: Source) {
        let kind = discriminant(&source);
        let stored = self.given.get(setting.name);
        if stored.is_none_or(|stored| discriminant(&stored.source) == kind) {
            let text = Secret::new(text);
            self.given.insert(setting.name, RawValue { text, source });
        }
    }

    pub(super) fn has_variable(&self, name: &str) -> bool {
        let given = self.given.get(name);
        given.is_some_and(|given| matches!(given.source, Source::Variable(_)))
    }

    pub(super) fn is_compat(&self) -> bool {
        self.get("compat")
            .is_some_and(|given| given.text() == "tusd")
    }

    /// Sets the defaults of tusd where `--compat tusd` is given. tusd also takes an empty text of a flag as none.
    pub(super) fn apply_presets(&mut self, warnings: &mut Vec<String>) {
        if !self.is_compat() {
            return;
        }
        for setting in settings() {
            let is_text = matches!(setting.kind, Kind::Text(_) | Kind::List(_));
            let is_ignored = |given: &RawValue| {
                is_text
                    && matches!(given.source, Source::Flag(_))
                    && setting.lacks_value(given.text())
                    // Of the working directory, tusd thinks.
                    && setting.name != "upload-dir"
            };
            if let Some(given) = self.get(setting.name).filter(|given| is_ignored(given)) {
                warnings.push(format!(
                    "{}: is empty, so it is ignored, as by tusd",
                    given.source
                ));
                self.given.remove(setting.name);
            }
        }
        for (name, text) in TUSD {
            self.given.entry(name).or_insert_with(|| RawValue {
                text: Secret::new(*text),
                source: Source::Preset("--compat tusd"),
            });
        }
    }

    /// Returns a setting that the user has set.
    pub(super) fn explicit(&self, name: &str) -> Option<&RawValue> {
        let given = self.given.get(name);
        given.filter(|given| !matches!(given.source, Source::Preset(_)))
    }

    pub(super) fn get(&self, name: &str) -> Option<&RawValue> {
        self.given.get(name)
    }

    pub(super) fn names(&self) -> impl Iterator<Item = &'static str> {
        let names = self.given.keys().copied();
        names.filter(|name| self.explicit(name).is_some())
    }

    pub(super) fn parse(&self, problems: &mut Vec<Problem>) -> Settings {
        let mut parsed = Settings::default();
        for setting in settings() {
            let Some(RawValue { text, source }) = self.given.get(setting.name) else {
                continue;
            };
            let result = match text.reveal() {
                text if setting.lacks_value(text) => Err(empty(setting)),
                text => (setting.set)(&mut parsed, text),
            };
            if let Err(reason) = result {
                let problem = Problem::new(source, reason);
                // tusd takes any text as such a flag.
                let is_text = matches!(setting.kind, Kind::Text(_) | Kind::List(_));
                let fails_at_start = self.is_compat() && is_text;
                problems.push(
                    match fails_at_start || setting.has(Property::FailsAtStart) {
                        true => problem.at_start(),
                        false => problem,
                    },
                );
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
