//! The types and the macros of the table of settings.

use super::Settings;
use crate::settings::value::{self, Parsed};

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
    /// Check the certificates of the server.
    DoctorTls,
    /// Check the bucket and the lease backend.
    DoctorS3,
    /// Check the bucket of Google Cloud Storage and the lease backend.
    DoctorGcs,
    /// Check the container of Azure and the lease backend.
    DoctorAzure,
    /// Set the bucket's CORS rules.
    SetCors,
    /// List, retry and delete undelivered events.
    Events,
    /// Add, list and revoke API keys.
    Keys,
    /// Add, list and revoke upload links.
    Link,
    /// Migrate the database.
    Migrate,
    /// Check that a server runs.
    Health,
    /// Check the settings and this machine.
    ConfigCheck,
    /// Print the settings in force.
    ConfigShow,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::settings) enum Kind {
    /// On the command line the value may be left out.
    Switch,
    Number(&'static str),
    Size,
    Time,
    Mode,
    Text(&'static str),
    List(&'static str),
}

impl Kind {
    pub(in crate::settings) fn placeholder(self) -> Option<&'static str> {
        match self {
            Self::Switch => None,
            Self::Number(word) | Self::Text(word) | Self::List(word) => Some(word),
            Self::Size => Some("SIZE"),
            Self::Time => Some("TIME"),
            Self::Mode => Some("MODE"),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::settings) enum Property {
    Common,
    /// It limits or protects: it is an error to set it where it has no effect.
    Protects,
    Secret,
    /// Printed without its password and its query.
    SecretInUrl,
    /// Printed without its password.
    PasswordInUrl,
    /// An empty text is a value; for other settings it is an error.
    MayBeEmpty,
    /// A running server applies a change when it gets SIGHUP.
    Reloads,
    /// tusd reports a wrong text only when it starts, with exit code 1.
    FailsAtStart,
}

#[derive(Clone, Copy, Debug)]
pub(in crate::settings) struct FlagAlias {
    pub(in crate::settings) name: &'static str,
    pub(in crate::settings) kind: Kind,
    pub(in crate::settings) translate: fn(&str) -> Parsed<String>,
}

#[derive(Debug)]
pub(in crate::settings) struct Setting {
    /// The flag without dashes, and the TOML key. The variable is derived from it.
    pub(in crate::settings) name: &'static str,
    pub(in crate::settings) kind: Kind,
    pub(in crate::settings) default: &'static str,
    pub(in crate::settings) aliases: &'static [FlagAlias],
    pub(in crate::settings) properties: &'static [Property],
    pub(in crate::settings) help: &'static str,
    /// An error is the rest of a sentence that begins with the setting's name.
    pub(in crate::settings) set: fn(&mut Settings, &str) -> Parsed<()>,
}

impl Setting {
    pub(in crate::settings) fn has(&self, property: Property) -> bool {
        self.properties.contains(&property)
    }

    pub(in crate::settings) fn lacks_value(&self, text: &str) -> bool {
        !self.has(Property::MayBeEmpty)
            && match self.kind {
                Kind::List(_) => value::list(text).next().is_none(),
                _ => text.trim().is_empty(),
            }
    }

    pub(in crate::settings) fn variable(&self) -> String {
        variable(self.name)
    }
}

pub(in crate::settings) fn variable(name: &str) -> String {
    format!("LANDFALL_{}", name.to_ascii_uppercase().replace('-', "_"))
}

#[derive(Debug)]
pub(in crate::settings) struct Section {
    pub(in crate::settings) title: &'static str,
    pub(in crate::settings) subcommands: &'static [Subcommand],
    pub(super) groups: &'static [&'static [Setting]],
}

impl Section {
    pub(in crate::settings) fn settings(&self) -> impl Iterator<Item = &'static Setting> {
        self.groups.iter().copied().flatten()
    }
}

pub(super) fn assign<T>(
    field: &mut T,
    text: &str,
    parse: impl FnOnce(&str) -> Parsed<T>,
) -> Parsed<()> {
    *field = parse(text)?;
    Ok(())
}

/// Returns the [`Setting`]s of fields of the struct that `of` returns, which may be another crate's.
macro_rules! settings {
    (
        $of:expr;
        $(
            $field:ident = $parse:expr,
            $name:literal, $kind:ident $(($placeholder:literal))?, $default:literal
            $(, $property:ident)* $(; alias $alias_kind:ident $(($alias_placeholder:literal))? $alias:literal by $translate:ident)?
            => $help:literal;
        )*
    ) => {{
        use super::table::*;
        &[$(Setting {
            name: $name,
            kind: Kind::$kind $(($placeholder))?,
            default: $default,
            aliases: &[$(FlagAlias {
                name: $alias,
                kind: Kind::$alias_kind $(($alias_placeholder))?,
                translate: $translate,
            })?],
            properties: &[$(Property::$property),*],
            help: $help,
            set: |settings, text| assign(&mut $of(settings).$field, text, $parse),
        }),*]
    }};
}
pub(super) use settings;

/// Declares a struct of settings, at a field of [`Settings`], and their [`Setting`]s.
///
/// A setting is `field: type = parser, name, kind, default, properties; alias kind "name" by translator =>
/// help;`. The help is also the documentation of the field. Fields that are groups follow `with`.
macro_rules! group {
    (
        $(#[$meta:meta])*
        pub struct $group:ident at $($path:ident).+
        $(, with { $($(#[$part_meta:meta])* $part:ident: $part_type:ty,)* })?;
        $(
            $field:ident: $type:ty = $parse:expr,
            $name:literal, $kind:ident $(($placeholder:literal))?, $default:literal
            $(, $property:ident)* $(; alias $alias_kind:ident $(($alias_placeholder:literal))? $alias:literal by $translate:ident)?
            => $help:literal;
        )*
    ) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq)]
        #[allow(rustdoc::bare_urls, reason = "the help is plain text")]
        pub struct $group {
            $(#[doc = $help] pub $field: $type,)*
            $($($(#[$part_meta])* pub $part: $part_type,)*)?
        }

        impl $group {
            pub(super) const SETTINGS: &'static [super::table::Setting] = super::table::settings! {
                Self::of;
                $($field = $parse,
                    $name, $kind $(($placeholder))?, $default
                    $(, $property)* $(; alias $alias_kind $(($alias_placeholder))? $alias by $translate)?
                    => $help;)*
            };

            fn of(settings: &mut super::Settings) -> &mut Self {
                &mut settings.$($path).+
            }
        }
    };
}
pub(super) use group;
