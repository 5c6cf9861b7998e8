//! All settings: the structs that hold them, and the table of their names, defaults and help.
//!
//! Command line, variables, file, `--help`, `landfall config check` and docs/configuration.md are
//! generated from the table. A new setting is a field of a group.

mod acme;
mod clouds;
mod direct;
mod grants;
mod hooks;
mod s3;
mod server;
mod state;
pub(super) mod table;
mod tls;
mod transports;

use std::time::Duration;

use landfall_hooks::HookNames;

pub use self::acme::*;
pub use self::clouds::*;
pub use self::direct::*;
use self::grants::GRANT_LIMITS;
pub use self::grants::*;
pub use self::hooks::*;
pub use self::s3::*;
pub use self::server::*;
pub use self::state::*;
use self::table::{Section, Setting, Subcommand};
pub use self::tls::*;
use super::types::{Database, LogLevel};

macro_rules! groups {
    ($($(#[$meta:meta])+ $field:ident: $group:ident,)+) => {
        /// All settings, parsed and checked.
        ///
        /// [`Settings::default`] is what `landfall` uses without any flag, variable or file. The
        /// `Default` of its parts is all zeros, and useless alone.
        #[derive(Clone, Debug, PartialEq)]
        pub struct Settings {
            $($(#[$meta])+ pub $field: $group,)+
        }

        impl Default for Settings {
            fn default() -> Self {
                let mut settings = Self { $($field: $group::default(),)+ };
                for setting in self::settings() {
                    if let Err(reason) = (setting.set)(&mut settings, setting.default) {
                        // Does not depend on input; a test parses every default.
                        unreachable!("the default of {}: {reason}", setting.name);
                    }
                }
                settings
            }
        }
    };
}

groups! {
    /// Addresses to listen on.
    listen: Listen,
    /// TLS.
    tls: Tls,
    /// Upload URLs and proxies.
    urls: Urls,
    /// Protocol features.
    protocol: Protocol,
    /// CORS.
    cors: Cors,
    /// File storage.
    storage: Storage,
    /// S3 storage.
    s3: S3,
    /// Google Cloud Storage.
    gcs: Gcs,
    /// Azure Blob Storage.
    azure: Azure,
    /// The lease backend.
    leases: Leases,
    /// Hooks and events.
    hooks: Hooks,
    /// The server's own files and database.
    state: State,
    /// Grants.
    grants: Grants,
    /// Direct uploads to S3.
    direct: Direct,
    /// The dashboard.
    admin: Admin,
    /// Lifetime of uploads.
    expiry: Expiry,
    /// Metrics and the start page.
    monitoring: Monitoring,
    /// Logging.
    log: Log,
    /// Timeouts.
    timeouts: Timeouts,
    /// Limits.
    limits: Limits,
}

/// Its client is most likely gone by then, and the bucket bills what it has sent.
const MAX_DIRECT_IDLE: Duration = Duration::from_secs(24 * 3600);

impl Settings {
    /// Returns whether uploads are stored in a directory, not in a bucket.
    #[must_use]
    pub fn uses_directory(&self) -> bool {
        self.s3.bucket.is_none() && self.gcs.bucket.is_none() && self.azure.container.is_none()
    }
}

impl Settings {
    pub(super) fn apply_implied(&mut self) {
        self.grants.enabled |= self.grants.required || self.direct.enabled;
        if self.log.verbose {
            self.log.level = self.log.level.max(LogLevel::Debug);
        }
    }

    /// Returns the time without activity after which a direct upload expires.
    pub fn direct_idle_timeout(&self) -> Duration {
        let of_others = self.expiry.unfinished.unwrap_or(MAX_DIRECT_IDLE);
        of_others.min(MAX_DIRECT_IDLE)
    }

    /// Returns the size limit of direct uploads in bytes, if there is one for all subjects.
    pub fn largest_grant(&self) -> Option<u64> {
        match (self.grants.limits.max_size, self.protocol.max_size) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }

    /// The base path `/` takes the place of the upload page.
    pub(crate) fn has_page(&self) -> bool {
        self.monitoring.show_greeting && self.urls.base_path != "/"
    }

    /// Grants and the dashboard need it.
    pub(crate) fn has_queue(&self) -> bool {
        self.grants.enabled || self.admin.is_on()
    }

    /// Returns the events that are stored until they are delivered.
    pub(crate) fn stored_names(&self) -> HookNames {
        match self.has_queue() {
            true => Hooks::STORED.union(HookNames::JOB_EVENTS),
            false => Hooks::STORED,
        }
    }

    pub(crate) fn has_outbox(&self) -> bool {
        let used = self.hooks.used_names();
        !used.intersection(self.stored_names()).is_empty()
    }

    pub(crate) fn stores_state(&self) -> bool {
        self.has_queue() || self.has_outbox()
    }

    /// The database, or files.
    pub(crate) fn uses_state_dir(&self) -> bool {
        self.stores_state() || self.tls.acme.is_on()
    }

    /// Certificates are in a database only if other nodes can share it.
    pub(crate) fn shares_certificates(&self) -> bool {
        self.tls.acme.is_on() && matches!(self.state.database, Some(Database::Postgres(_)))
    }
}

pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(Section::settings)
}

pub(super) fn setting(name: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.name == name)
}

pub(super) fn is_used_by(name: &str, subcommand: Subcommand) -> bool {
    SECTIONS.iter().any(|section| {
        section.subcommands.contains(&subcommand)
            && section.settings().any(|known| known.name == name)
    })
}

macro_rules! sections {
    ($($title:literal, [$($subcommand:ident),*] => $($group:expr),+;)*) => {
        &[$(Section {
            title: $title,
            subcommands: &[Subcommand::ConfigCheck, Subcommand::ConfigShow, $(Subcommand::$subcommand),*],
            groups: &[$($group),+],
        }),*]
    };
}

pub(super) static SECTIONS: &[Section] = sections! {
    "Listening", [Serve, Health] => Listen::SETTINGS;
    "TLS", [Serve, Health, DoctorTls] => Tls::SETTINGS, Acme::SETTINGS;
    "URLs and proxies", [Serve] => Urls::SETTINGS;
    "Protocol", [Serve] => Protocol::SETTINGS;
    "CORS", [Serve] => Cors::SETTINGS;
    "Storage", [Serve, Sweep, DoctorFiles] => Storage::SETTINGS;
    "S3 storage", [Serve, Sweep, DoctorS3, SetCors] => S3::SETTINGS;
    "Google Cloud Storage", [Serve, Sweep, DoctorGcs] => Gcs::SETTINGS;
    "Azure Blob Storage", [Serve, Sweep, DoctorAzure] => Azure::SETTINGS;
    "Leases", [Serve, Sweep, DoctorS3, DoctorGcs, DoctorAzure] => Leases::SETTINGS;
    "Hooks", [Serve, Sweep] => Hooks::SETTINGS;
    "Command hooks", [Serve, Sweep] => CommandHooks::SETTINGS;
    "HTTP hooks", [Serve, Sweep] => HttpHooks::SETTINGS;
    "gRPC hooks", [Serve, Sweep] => GrpcHooks::SETTINGS;
    "Message broker", [Serve, Sweep] => Broker::SETTINGS;
    "Outbox: retries and dead letters", [Serve, Sweep, Events] => Outbox::SETTINGS;
    "Grants", [Serve, Sweep] => Grants::SETTINGS, GRANT_LIMITS;
    "Grants: authentication", [Serve] => Jwt::SETTINGS, ForwardAuth::SETTINGS;
    "Direct uploads", [Serve, Sweep] => Direct::SETTINGS;
    "Dashboard", [Serve] => Admin::SETTINGS;
    "State", [Serve, Sweep, DoctorTls, Events, Keys, Link, Migrate] => State::SETTINGS;
    "Expiry", [Serve, Sweep] => Expiry::SETTINGS;
    "Monitoring", [Serve] => Monitoring::SETTINGS;
    "Logging", [Serve, Sweep] => Log::SETTINGS;
    "Timeouts", [Serve] => Timeouts::SETTINGS;
    "Limits", [Serve] => Limits::SETTINGS;
};
