//! Command line, environment and configuration file.
//!
//! Reading goes in two steps. First everything that was said is gathered as text, with where it
//! was said: flags go before variables, variables before the file, and what nobody said has its
//! default. Then each text is read into [`Settings`], and what has to hold between settings is
//! checked. All problems are told at once, each with the flag, variable or line it came from and
//! with what to write instead.
//!
//! ```
//! use landfall_server::settings::{Invocation, read};
//!
//! let words = ["-port", "8070", "--max-size=2GiB"].map(Into::into);
//! let Ok(Invocation::Serve(loaded)) = read(words, []) else { panic!() };
//! assert_eq!(loaded.settings.listen.port, 8070);
//! assert_eq!(loaded.settings.protocol.max_size, Some(2 << 30));
//! ```

mod address;
mod arguments;
mod bucket;
mod check;
pub(crate) mod direct;
mod environment;
mod file;
pub(crate) mod grants;
mod help;
mod hooks;
mod instructions;
mod later;
mod layers;
mod problem;
mod reference;
mod report;
mod sections;
mod system;
mod table;
#[cfg(test)]
mod tests;
mod types;
mod value;

use std::ffi::OsString;

pub(crate) use address::is_private;
pub use problem::{Failure, Problem};
pub use reference::reference;
pub(crate) use system::{check_private, refuse_link};
pub use types::*;

use arguments::Verb;
use layers::Layers;

/// What the program is asked to do.
#[derive(Clone, Debug)]
pub enum Invocation {
    /// Print this text, which ends with a line break, and end with code 0.
    Print(String),
    /// Run the server.
    Serve(Loaded),
    /// Delete what has outlived its time, once.
    Sweep {
        /// The settings.
        loaded: Loaded,
        /// Only list what would be deleted, and why.
        dry_run: bool,
    },
    /// List what is damaged in the upload directory.
    DoctorFiles(Loaded),
    /// Examine the bucket and what keeps its leases.
    #[cfg(feature = "s3")]
    DoctorS3 {
        /// The settings; they have a bucket.
        loaded: Loaded,
        /// Print the findings as JSON.
        json: bool,
        /// The origins whose pages are to upload, such as `https://example.com`.
        origins: Vec<String>,
    },
    /// Let web pages talk to the bucket.
    #[cfg(feature = "s3")]
    SetCors {
        /// The settings; they have a bucket.
        loaded: Loaded,
        /// The origins of the pages; at least one.
        origins: Vec<String>,
        /// Only show the rules.
        dry_run: bool,
    },
    /// Show or change what waits for delivery.
    Events {
        /// The settings.
        loaded: Loaded,
        /// What to do.
        errand: Errand,
    },
    /// Bring the tables of the database to the version of this program.
    Migrate(Loaded),
    /// Make, show or revoke keys of callers.
    #[cfg(feature = "grants")]
    Keys {
        /// The settings.
        loaded: Loaded,
        /// What to do.
        errand: KeyErrand,
        /// Print JSON, an object a line.
        json: bool,
    },
    /// Print [`Loaded::to_toml`], and end with code 0.
    ConfigCheck(Loaded),
}

/// What to do with the keys of callers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum KeyErrand {
    /// Show them.
    #[default]
    List,
    /// Make one.
    Add(NewKey),
    /// Revoke those with this number or name.
    Revoke(String),
}

/// A key of a caller that is to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewKey {
    /// What people call it.
    pub name: String,
    /// Who asks with it, if not its name.
    pub subject: Option<String>,
    /// Whether it may see and cancel everybody's uploads.
    pub is_admin: bool,
    /// What it may ask for.
    pub limits: GrantLimits,
    /// How long it is one; `None` is until it is revoked.
    pub expires: Option<std::time::Duration>,
}

/// What to do with the events that wait for delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Errand {
    /// List, retry or drop.
    pub deed: Deed,
    /// Which ones, as they were written.
    pub ids: Vec<String>,
    /// All: those that wait beside those that were put aside, or all of the latter.
    pub all: bool,
    /// Those that wait instead of those that were put aside.
    pub waiting: bool,
    /// Only those for the way of this name.
    pub transport: Option<String>,
    /// Only those of the upload with this id.
    pub upload: Option<String>,
    /// The most to list.
    pub limit: usize,
    /// Print JSON, an object a line.
    pub json: bool,
}

impl Default for Errand {
    /// A list of the first thousand that were put aside.
    fn default() -> Self {
        Self {
            deed: Deed::List,
            ids: Vec::new(),
            all: false,
            waiting: false,
            transport: None,
            upload: None,
            limit: 1000,
            json: false,
        }
    }
}

/// What can be done with events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    /// Show them.
    List,
    /// Deliver again what was put aside.
    Retry,
    /// Forget what was put aside.
    Drop,
}

/// Settings that can be used.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub settings: Settings,
    /// What is allowed but may not be meant: a line each, for people.
    pub warnings: Vec<String>,
    layers: Layers,
    verb: Verb,
}

impl Loaded {
    /// All settings as a configuration file that means the same, with where each came from.
    pub fn to_toml(&self) -> String {
        report::report(&self.layers)
    }
}

/// Reads the command line (without the program's name), the environment, and the configuration
/// file that one of them names.
///
/// # Errors
///
/// Tells everything that is wrong with them. The program then ends with
/// [`Failure::exit_code`]. Asking for help or for the version always succeeds.
pub fn read(
    words: impl IntoIterator<Item = OsString>,
    variables: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<Invocation, Failure> {
    let mut layers = Layers::default();
    let mut problems = Vec::new();
    let mut warnings = Vec::new();

    let said = arguments::read(words, &mut layers, &mut problems);
    match said.verb {
        Verb::Version => return Ok(Invocation::Print(version())),
        Verb::Help => return Ok(Invocation::Print(help::help(Verb::Serve))),
        verb if said.help => return Ok(Invocation::Print(help::help(verb))),
        _ => {}
    }
    let config = environment::read(variables, &mut layers, &mut problems, &mut warnings);
    if let Some(config) = said.config.or(config) {
        file::read(&config, &mut layers, &mut problems);
    }
    let mut settings = layers.read(&mut problems);
    #[cfg(not(feature = "grants"))]
    if said.verb == Verb::Keys {
        problems.push(Problem::whole(check::not_compiled_in(
            "support for keys",
            "grants",
        )));
    }
    // What a setting goes with can be told only once each is right by itself.
    let needy = match said.verb {
        Verb::DoctorS3 => Some("doctor s3"),
        Verb::SetCors => Some("s3 set-cors"),
        _ => None,
    };
    if let Some(verb) = needy
        && problems.is_empty()
    {
        let mut needs =
            |what| problems.push(Problem::whole(format!("{verb} needs to know {what}")));
        if settings.s3.bucket.is_none() {
            needs("the bucket: write --s3-bucket NAME");
        }
        if said.verb == Verb::SetCors && said.origins.is_empty() {
            needs("whose pages: write -origin https://example.com");
        }
    }
    if said.verb == Verb::DoctorFiles && settings.s3.bucket.is_some() {
        problems.push(Problem::whole(
            "doctor files examines an upload directory, and --s3-bucket is set; write landfall doctor s3",
        ));
    }
    if problems.is_empty() {
        let mut findings = check::Findings::new(&layers, said.verb, &mut problems, &mut warnings);
        check::check(&mut settings, &mut findings);
    }
    if !problems.is_empty() {
        return Err(Failure { problems });
    }
    let loaded = Loaded {
        settings,
        warnings,
        layers,
        verb: said.verb,
    };
    Ok(match said.verb {
        Verb::Sweep => Invocation::Sweep {
            loaded,
            dry_run: said.dry_run,
        },
        Verb::DoctorFiles => Invocation::DoctorFiles(loaded),
        #[cfg(feature = "s3")]
        Verb::DoctorS3 => Invocation::DoctorS3 {
            loaded,
            json: said.json,
            origins: said.origins,
        },
        #[cfg(feature = "s3")]
        Verb::SetCors => Invocation::SetCors {
            loaded,
            origins: said.origins,
            dry_run: said.dry_run,
        },
        Verb::Events => Invocation::Events {
            loaded,
            errand: Errand {
                json: said.json,
                ..said.errand
            },
        },
        #[cfg(feature = "grants")]
        Verb::Keys => Invocation::Keys {
            loaded,
            errand: said.key_errand,
            json: said.json,
        },
        Verb::Migrate => Invocation::Migrate(loaded),
        Verb::ConfigCheck => Invocation::ConfigCheck(loaded),
        _ => Invocation::Serve(loaded),
    })
}

/// What `landfall version` prints: three lines, as tusd's scripts expect them. Commit and date
/// are known when the build was given `LANDFALL_BUILD_COMMIT` and `LANDFALL_BUILD_DATE`.
pub fn version() -> String {
    format!(
        "Version: {}\nCommit: {}\nDate: {}\n",
        env!("CARGO_PKG_VERSION"),
        option_env!("LANDFALL_BUILD_COMMIT").unwrap_or("n/a"),
        option_env!("LANDFALL_BUILD_DATE").unwrap_or("n/a"),
    )
}

impl Default for Settings {
    /// Every setting at the default that the table of settings has for it.
    fn default() -> Self {
        let mut settings = Self {
            listen: Listen::default(),
            urls: Urls::default(),
            protocol: Protocol::default(),
            cors: Cors::default(),
            storage: Storage::default(),
            s3: S3::default(),
            leases: Leases::default(),
            hooks: Hooks::default(),
            state: State::default(),
            grants: Grants::default(),
            direct: Direct::default(),
            admin: Admin::default(),
            expiry: Expiry::default(),
            monitoring: Monitoring::default(),
            log: Log::default(),
            timeouts: Timeouts::default(),
            limits: Limits::default(),
        };
        for setting in table::settings() {
            if let Err(reason) = (setting.set)(&mut settings, setting.default) {
                // No input reaches this, and a test reads every default.
                unreachable!("the default of {}: {reason}", setting.name);
            }
        }
        settings
    }
}
