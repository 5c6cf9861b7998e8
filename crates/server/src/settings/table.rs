//! The types of the settings table, whose rows are in [`sections`](super::sections).

use super::types::Settings;
use super::value::{self, Parsed};

/// A command that reads settings.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Subcommand {
    /// Run the server.
    #[default]
    Serve,
    /// Delete expired uploads.
    Sweep,
    /// List damaged uploads in the upload directory.
    DoctorFiles,
    /// Check the bucket and the lease backend.
    DoctorS3,
    /// Set the bucket's CORS rules.
    SetCors,
    /// List, retry and delete undelivered events.
    Events,
    /// Add, list and revoke API keys.
    Keys,
    /// Migrate the database.
    Migrate,
    /// Print the settings in force.
    ConfigCheck,
}

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

/// A property of a setting that few have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Property {
    /// It is listed by `-h`.
    Common,
    /// It limits or protects: it is an error to set it where it has no effect.
    Protects,
    /// It must not be printed.
    Secret,
    /// It is a URL, printed without its password and its query.
    SecretInUrl,
    /// An empty text is a value; for other settings it is an error.
    MayBeEmpty,
    /// tusd reports a wrong text only when it starts, with exit code 1.
    FailsAtStart,
}

/// The name of a flag in an older tusd.
#[derive(Clone, Copy, Debug)]
pub(super) struct FlagAlias {
    pub(super) name: &'static str,
    /// Converts the value to the syntax of the setting.
    pub(super) translate: fn(&str) -> Parsed<String>,
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
    pub(super) properties: &'static [Property],
    /// The description, in one to three sentences.
    pub(super) help: &'static str,
    /// Parses the text and stores the value. An error is the rest of a sentence that begins with the
    /// setting's name.
    pub(super) set: fn(&mut Settings, &str) -> Parsed<()>,
}

impl Setting {
    pub(super) fn has(&self, property: Property) -> bool {
        self.properties.contains(&property)
    }

    /// Returns whether a text is empty although a value is required.
    pub(super) fn lacks_value(&self, text: &str) -> bool {
        !self.has(Property::MayBeEmpty)
            && match self.kind {
                Kind::List(_) => value::list(text).next().is_none(),
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
    pub(super) settings: &'static [Setting],
}

/// Stores a parsed value.
pub(super) fn assign<T>(
    field: &mut T,
    text: &str,
    parse: impl FnOnce(&str) -> Parsed<T>,
) -> Parsed<()> {
    *field = parse(text)?;
    Ok(())
}

/// Declares a [`Section`]: its title, the commands that use it, and a row for each setting, which is
/// `name, kind, default, field = parser, properties; alias "name" by translator => help;`. The field is
/// one of [`Settings`].
macro_rules! section {
    (
        $title:literal, [$($subcommand:ident),*];
        $(
            $name:literal, $kind:ident $(($placeholder:literal))?, $default:literal,
            $($field:ident).+ = $parse:expr
            $(, $property:ident)* $(; alias $alias:literal by $translate:ident)?
            => $help:literal;
        )*
    ) => {{
        use $crate::settings::table::*;
        Section {
            title: $title,
            subcommands: &[$(Subcommand::$subcommand),*],
            settings: &[$(Setting {
                name: $name,
                kind: Kind::$kind $(($placeholder))?,
                default: $default,
                aliases: &[$(FlagAlias { name: $alias, translate: $translate })?],
                properties: &[$(Property::$property),*],
                help: $help,
                set: |settings, text| assign(&mut settings.$($field).+, text, $parse),
            }),*],
        }
    }};
}
pub(super) use section;
