//! The types of the settings table, whose rows are in [`sections`](super::sections).

use super::cli::Subcommand;
use super::sections::SECTIONS;
use super::types::Settings;

/// The syntax of a setting's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// True or false; on the command line the value may be left out.
    Switch,
    Number(&'static str),
    /// A number of bytes, with or without a unit.
    Size,
    /// A duration.
    Time,
    /// Permission bits in octal.
    Mode,
    Text(&'static str),
    /// A comma-separated list.
    List(&'static str),
}

impl Kind {
    /// Returns the placeholder of the value in the help; `None` for a switch.
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

/// The part of a setting's text that may be printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sensitivity {
    Public,
    /// A URL, printed without its password and its query.
    Url,
    Secret,
}

/// The name of a flag in an older tusd.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlagAlias {
    pub(super) name: &'static str,
    /// Converts the value to the syntax of the setting.
    pub(super) translate: fn(&str) -> Result<String, String>,
}

/// A setting: a row of the table.
#[derive(Debug)]
pub(super) struct Setting {
    /// The flag without dashes, and the TOML key. The variable is derived from it.
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    /// The text that means the default.
    pub(super) default: &'static str,
    /// Older names, on the command line only.
    pub(super) aliases: &'static [FlagAlias],
    /// Whether tusd reports a wrong text only when it starts, with exit code 1.
    pub(super) fails_at_start: bool,
    pub(super) sensitivity: Sensitivity,
    /// True if an empty text is a value; for other settings it is an error.
    pub(super) may_be_empty: bool,
    /// True if it limits or protects: then it is an error to set it where it has no effect.
    pub(super) protects: bool,
    /// True if it is listed by `-h`.
    pub(super) is_common: bool,
    /// The description, in one to three sentences.
    pub(super) help: &'static str,
    /// Parses the text and stores the value. An error is the rest of a sentence that begins with the
    /// setting's name.
    pub(super) set: fn(&mut Settings, &str) -> Result<(), String>,
}

impl Setting {
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
            aliases: &[],
            fails_at_start: false,
            sensitivity: Sensitivity::Public,
            may_be_empty: false,
            protects: false,
            is_common: false,
            help,
            set,
        }
    }

    pub(super) const fn aliases(mut self, aliases: &'static [FlagAlias]) -> Self {
        self.aliases = aliases;
        self
    }

    pub(super) const fn fails_at_start(mut self) -> Self {
        self.fails_at_start = true;
        self
    }

    pub(super) const fn secret(mut self) -> Self {
        self.sensitivity = Sensitivity::Secret;
        self
    }

    pub(super) const fn secret_in_url(mut self) -> Self {
        self.sensitivity = Sensitivity::Url;
        self
    }

    pub(super) const fn may_be_empty(mut self) -> Self {
        self.may_be_empty = true;
        self
    }

    pub(super) const fn protects(mut self) -> Self {
        self.protects = true;
        self
    }

    pub(super) const fn common(mut self) -> Self {
        self.is_common = true;
        self
    }

    /// Returns whether a text is empty although a value is required.
    pub(super) fn lacks_value(&self, text: &str) -> bool {
        !self.may_be_empty
            && match self.kind {
                Kind::List(_) => super::value::list(text).next().is_none(),
                _ => text.trim().is_empty(),
            }
    }

    pub(super) fn variable(&self) -> String {
        variable(self.name)
    }
}

/// Returns the environment variable of a flag.
pub(super) fn variable(name: &str) -> String {
    format!("LANDFALL_{}", name.to_ascii_uppercase().replace('-', "_"))
}

/// A group of settings.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) title: &'static str,
    /// The commands that use the settings.
    pub(super) subcommands: &'static [Subcommand],
    /// A setting that reads another one's value comes after it.
    pub(super) settings: &'static [Setting],
}

/// Returns all settings, in the order in which they are applied.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

/// Returns the setting with this name.
pub(super) fn setting(name: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.name == name)
}

/// Returns the setting with this older name.
pub(super) fn setting_by_alias(name: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.aliases.iter().any(|alias| alias.name == name))
}
