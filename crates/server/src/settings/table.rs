//! What the table of settings is made of; its rows are in [`sections`](super::sections).

use super::arguments::Verb;
use super::sections::SECTIONS;
use super::types::Settings;

/// What a setting's text is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// True or false; on the command line the value may be left out.
    Switch,
    /// A whole number.
    Number(&'static str),
    /// A number of bytes, with or without a unit.
    Size,
    /// A time span.
    Time,
    /// Permission bits in octal.
    Mode,
    /// Any text; the word is what `--help` calls it.
    Text(&'static str),
    /// Words with commas between them.
    List(&'static str),
}

impl Kind {
    /// What `--help` calls the value; nothing for a switch.
    pub(super) fn placeholder(self) -> Option<&'static str> {
        match self {
            Self::Switch => None,
            Self::Number(word) | Self::Text(word) | Self::List(word) => Some(word),
            Self::Size => Some("SIZE"),
            Self::Time => Some("TIME"),
            Self::Mode => Some("MODE"),
        }
    }
}

/// What of a setting's text may be shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sensitivity {
    /// All of it.
    Public,
    /// A URL, without its password and its query.
    Url,
    /// Nothing.
    Secret,
}

/// A name that a setting had in an older tusd.
#[derive(Clone, Copy, Debug)]
pub(super) struct OldName {
    /// The name, without dashes.
    pub(super) name: &'static str,
    /// Turns what was written after the old name into what the new one expects.
    pub(super) translate: fn(&str) -> Result<String, String>,
}

/// One setting.
#[derive(Debug)]
pub(super) struct Setting {
    /// The flag without dashes, the key in the file, and with `LANDFALL_` before it, in capitals
    /// and with `_` for `-`, the variable.
    pub(super) name: &'static str,
    /// What its text is like.
    pub(super) kind: Kind,
    /// The text that stands for the default.
    pub(super) default: &'static str,
    /// Its earlier names: on the command line only.
    pub(super) old: &'static [OldName],
    /// Whether tusd takes any text for it, and refuses a wrong one only when it starts: with another
    /// exit code.
    pub(super) refused_at_start: bool,
    /// What of its text may be shown.
    pub(super) sensitivity: Sensitivity,
    /// Whether an empty text is a value; otherwise writing one is an error.
    pub(super) may_be_empty: bool,
    /// Whether it limits or protects: then it is an error to set it where it has no effect.
    pub(super) protects: bool,
    /// What it does, in one to three sentences.
    pub(super) help: &'static str,
    /// Reads its text into place. An error is the rest of a sentence that begins with the
    /// setting's name.
    pub(super) set: fn(&mut Settings, &str) -> Result<(), String>,
}

impl Setting {
    /// A row of the table.
    pub(super) const fn new(
        name: &'static str,
        kind: Kind,
        default: &'static str,
        help: &'static str,
        set: fn(&mut Settings, &str) -> Result<(), String>,
    ) -> Self {
        Self {
            name,
            kind,
            default,
            old: &[],
            refused_at_start: false,
            sensitivity: Sensitivity::Public,
            may_be_empty: false,
            protects: false,
            help,
            set,
        }
    }

    /// The same row with earlier names.
    pub(super) const fn once(mut self, old: &'static [OldName]) -> Self {
        self.old = old;
        self
    }

    /// The same row, refused as tusd does it.
    pub(super) const fn refused_at_start(mut self) -> Self {
        self.refused_at_start = true;
        self
    }

    /// The same row with a text that isn't shown.
    pub(super) const fn secret(mut self) -> Self {
        self.sensitivity = Sensitivity::Secret;
        self
    }

    /// The same row with a URL that is shown without its password and its query.
    pub(super) const fn secret_in_url(mut self) -> Self {
        self.sensitivity = Sensitivity::Url;
        self
    }

    /// The same row, for which an empty text is a value.
    pub(super) const fn may_be_empty(mut self) -> Self {
        self.may_be_empty = true;
        self
    }

    /// The same row, as one that limits or protects.
    pub(super) const fn protects(mut self) -> Self {
        self.protects = true;
        self
    }

    /// Whether a text says nothing, although it should say something.
    pub(super) fn lacks_value(&self, text: &str) -> bool {
        !self.may_be_empty
            && match self.kind {
                Kind::List(_) => super::value::list(text).next().is_none(),
                _ => text.trim().is_empty(),
            }
    }

    /// Its variable.
    pub(super) fn variable(&self) -> String {
        variable(self.name)
    }
}

/// The variable of the setting or instruction of this name.
pub(super) fn variable(name: &str) -> String {
    format!("LANDFALL_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// Settings that belong together.
#[derive(Debug)]
pub(super) struct Section {
    /// The heading.
    pub(super) title: &'static str,
    /// The commands that make use of them.
    pub(super) verbs: &'static [Verb],
    /// The settings; those that look at another one's value come after it.
    pub(super) settings: &'static [Setting],
}

/// All settings, in the order in which they are applied.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

/// The setting of this name.
pub(super) fn setting(name: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.name == name)
}

/// The setting that once had this name.
pub(super) fn setting_once(name: &str) -> Option<(&'static Setting, OldName)> {
    settings().find_map(|setting| {
        let old = setting.old.iter().find(|old| old.name == name)?;
        Some((setting, *old))
    })
}
