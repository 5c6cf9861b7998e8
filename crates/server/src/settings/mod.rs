//! Command line, environment variables and configuration file.
//!
//! All sources are first collected as texts with their source: flags override variables, and variables
//! override the file. Then each text is parsed into [`Settings`], and rules between settings are
//! checked. All problems are reported together, each with its flag, variable or line.
//!
//! ```
//! use landfall_server::settings::{Invocation, read};
//!
//! let args = ["-port", "8070", "--max-size=2GiB"].map(Into::into);
//! let Ok(Invocation::Run(loaded, _)) = read(args, []) else { panic!() };
//! assert_eq!(loaded.settings.listen.port, 8070);
//! assert_eq!(loaded.settings.protocol.max_size, Some(2 << 30));
//! ```

mod acme;
mod address;
mod args;
mod broker;
mod bucket;
mod check;
mod cli;
pub(crate) mod direct;
mod environment;
mod file;
pub(crate) mod grants;
mod help;
mod hooks;
mod layers;
mod normalize;
mod problem;
mod report;
mod sections;
mod system;
#[cfg(test)]
mod tests;
mod types;
mod unsupported;
mod usage;
mod value;

use std::ffi::OsString;
use std::time::Duration;

use landfall_state::outbox::{EventSelection, Query};
use landfall_state::queue::GrantLimits;

pub(crate) use address::is_private;
pub use problem::{Failure, Problem};
pub use sections::table::Subcommand;
pub use sections::*;
pub(crate) use system::{file_system, refuse_link, secure};
pub use types::*;

use cli::Cli;
use layers::Layers;
use sections::table::{Property, Setting};

/// The parsed command line.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// Print this text, which ends with a line break.
    Print(String),
    /// Run [`Loaded::subcommand`].
    Run(Box<Loaded>, Box<Options>),
}

/// The options that are not settings; a command uses its own, and others have their defaults.
#[derive(Clone, Debug)]
pub struct Options {
    config: Option<String>,
    /// Only print what would be deleted or set.
    pub dry_run: bool,
    /// Print JSON.
    pub json: bool,
    /// Check that the server is ready, not only that it runs.
    pub ready: bool,
    /// Check values only, not this machine.
    pub offline: bool,
    /// Print only settings that are not at their defaults.
    pub changed: bool,
    /// Origins that the bucket's CORS rules allow, or should; each once.
    pub origins: Vec<String>,
    /// The subcommand of `landfall events`.
    pub events: EventsCommand,
    /// The subcommand of `landfall keys`.
    pub keys: KeysCommand,
    /// The subcommand of `landfall link`.
    pub link: LinkCommand,
}

/// A subcommand of `landfall keys`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeysCommand {
    /// List all keys.
    #[default]
    List,
    /// Add a key.
    Add(NewKey),
    /// Revoke the keys with this number or name.
    Revoke(String),
}

/// `landfall link` and its subcommands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum LinkCommand {
    /// List all links.
    #[default]
    List,
    /// Add a link.
    Add(NewLink),
    /// Revoke the links with this number or name.
    Revoke(String),
}

/// An upload link to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewLink {
    /// Name of the link, which people see.
    pub name: String,
    /// Maximum size of a file in bytes.
    pub max_size: Option<u64>,
    /// Maximum number of files.
    pub max_files: Option<u64>,
    /// Lifetime; `None` is until it is revoked.
    pub expires: Option<Duration>,
    /// The URL of the upload page; `None` is that of the settings.
    pub url: Option<String>,
}

/// An API key to be added.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewKey {
    /// Name of the key.
    pub name: String,
    /// Subject of its principal; `None` is the name.
    pub subject: Option<String>,
    /// True if it may see and cancel all uploads.
    pub is_admin: bool,
    /// Limits of its principal.
    pub limits: GrantLimits,
    /// Lifetime; `None` is until it is revoked.
    pub expires: Option<Duration>,
}

/// A subcommand of `landfall events`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EventsCommand {
    /// List events.
    List {
        /// Which events.
        query: Query,
        /// Print a JSON object per line.
        json: bool,
    },
    /// Deliver dead letters again.
    Retry(EventSelection),
    /// Delete dead letters.
    Delete(EventSelection),
}

/// Valid settings.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// Settings that are allowed but may be mistakes: a line each.
    pub warnings: Vec<String>,
    /// The command to run.
    pub subcommand: Subcommand,
    layers: Layers,
}

impl Loaded {
    pub(crate) fn print_warnings(&self) {
        for warning in &self.warnings {
            eprintln!("landfall: warning: {warning}");
        }
    }

    /// Returns whether a flag, a variable or the file has this setting.
    pub(crate) fn is_given(&self, name: &str) -> bool {
        self.layers.explicit(name).is_some()
    }

    /// Returns the names of the settings that differ from those of `running`.
    ///
    /// # Errors
    /// A running server cannot apply them all.
    pub(crate) fn reloadable_changes(&self, running: &Self) -> Result<Vec<&'static str>, Failure> {
        let changed =
            |setting: &&Setting| report::is_different(setting, &self.layers, &running.layers);
        let changed: Vec<_> = sections::settings().filter(changed).collect();
        let fixed = changed
            .iter()
            .filter(|setting| !setting.has(Property::Reloads));
        let reason = "the change needs a restart";
        let problems: Vec<_> = fixed
            .map(|setting| Problem::new(format_args!("--{}", setting.name), reason).at_start())
            .collect();
        match problems.is_empty() {
            true => Ok(changed.iter().map(|setting| setting.name).collect()),
            false => Err(Failure { problems }),
        }
    }

    /// Returns the settings as an equivalent configuration file, with their sources; with `only_changed`
    /// those that are not at their defaults.
    pub fn to_toml(&self, only_changed: bool) -> String {
        report::report(&self.layers, only_changed)
    }

    /// Returns the settings as a JSON array of objects with the members `name`, `value`, `default` and
    /// `source`. Secrets have the value `***`.
    pub fn to_json(&self, only_changed: bool) -> serde_json::Value {
        report::json(&self.layers, only_changed)
    }
}

/// Reads the command line (without the program's name), the environment, and the configuration
/// file that one of them names.
///
/// # Errors
/// Returns all problems found. The program then exits with [`Failure::exit_code`]. Requests for help or
/// the version succeed even if settings are wrong.
pub fn read(
    args: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, Failure> {
    let mut layers = Layers::default();
    let mut problems = Vec::new();
    let mut warnings = Vec::new();

    let (subcommand, mut options) =
        match cli::parse(args, &mut layers, &mut problems, &mut warnings) {
            Ok(Cli::Print(text)) => return Ok(Invocation::Print(text)),
            Ok(Cli::Run(subcommand, options)) => (subcommand, options),
            Err(problem) => {
                let problems = vec![problem];
                return Err(Failure { problems });
            }
        };
    let config = environment::read(
        variables,
        subcommand,
        &mut layers,
        &mut problems,
        &mut warnings,
    );
    if let Some(config) = options.config.take().or(config) {
        file::read(&config, &mut layers, &mut problems);
    }
    layers.apply_presets(&mut warnings);
    let mut settings = layers.parse(&mut problems);
    let can_parse = problems.is_empty();
    // Rules between settings assume that each setting is valid.
    if problems.is_empty() {
        problems.extend(check::check_subcommand(subcommand, &settings));
    }
    if problems.is_empty() {
        let mut findings = check::Findings::new(&layers, subcommand, &mut problems, &mut warnings);
        check::check(&mut settings, &mut findings);
    }
    if !problems.is_empty() {
        // tusd has rules at its start alone.
        if can_parse && layers.is_compat() {
            problems = problems.into_iter().map(Problem::at_start).collect();
        }
        return Err(Failure { problems });
    }
    let loaded = Loaded {
        settings,
        warnings,
        subcommand,
        layers,
    };
    Ok(Invocation::Run(Box::new(loaded), options))
}

/// Returns the output of `landfall version`: three lines, as tusd's scripts expect them. Commit and
/// date come from `LANDFALL_BUILD_COMMIT` and `LANDFALL_BUILD_DATE` at build time.
pub fn version() -> String {
    format!(
        "Version: {} (Landfall)\nCommit: {}\nDate: {}\n",
        env!("CARGO_PKG_VERSION"),
        option_env!("LANDFALL_BUILD_COMMIT").unwrap_or("n/a"),
        option_env!("LANDFALL_BUILD_DATE").unwrap_or("n/a"),
    )
}
