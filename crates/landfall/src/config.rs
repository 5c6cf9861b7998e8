//! How a handler behaves.

use std::{sync::Arc, time::Duration};

use crate::{
    Composer, Lifetimes, Limits,
    direct::ExternalUploads,
    event::EventSink,
    hook::Hook,
    service::{Cors, Forwarded},
};

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The base path cannot stand in a URL, so that no request would ever be below it.
    #[error(
        "the base path {path:?} {reason}; write it as clients send it, for example /files/ or \
         https://uploads.example.org/files/"
    )]
    BasePath {
        /// The base path.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// [`LocationStyle::Prefix`] cannot be the start of a URL.
    #[error(
        "the location prefix {0:?} cannot be the start of a URL; write one such as \
         https://uploads.example.org/files/"
    )]
    LocationPrefix(String),
    /// CORS allows credentials for every origin, so that any page could act as its visitors.
    #[error(
        "CORS allows credentials for every origin; name the origins, or do not allow credentials"
    )]
    CredentialsForAnyOrigin,
}

/// How the `Location` of a new upload is written.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum LocationStyle {
    /// `scheme://host/base/id` by what the request says, or by what trusted proxies say of it.
    #[default]
    Absolute,
    /// `/base/id`.
    Relative,
    /// A fixed prefix, `https://uploads.example.org/files/`, and the id.
    Prefix(String),
}

/// The configuration of a [`Handler`](crate::Handler): its parts and how it behaves.
///
/// ```
/// use std::time::Duration;
/// use landfall::{Composer, Config, Handler, Lifetimes, store::MemoryStore};
///
/// let mut config = Config::new(Composer::join(MemoryStore::new()));
/// config.base_path = "/uploads/".into();
/// config.limits.max_size = Some(1 << 30);
/// config.lifetimes.unfinished = Some(Duration::from_secs(24 * 3600));
/// let handler = Handler::new(config)?;
/// # Ok::<(), landfall::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The store, the locker, and what else there is.
    pub parts: Composer,
    /// The path below which uploads live, `/files/`; slashes at its ends are added. It is compared with
    /// request targets as they arrive, so write it percent-encoded. It may also be an absolute URL
    /// (`https://h/files/`), which is then the prefix of every `Location`.
    pub base_path: String,
    /// Whether whoever mounts the handler has cut the base path off already, as
    /// `axum::Router::nest_service` does. The base path, which must be the path it is mounted at, is
    /// then used in `Location` and in what hooks are told. Where nothing is cut off, this must be false.
    pub nested: bool,
    /// How `Location` is written.
    pub location: LocationStyle,
    /// Whose `X-Forwarded-*` and `Forwarded` headers are believed.
    pub forwarded: Forwarded,
    /// Cross-origin requests; `None` = no CORS headers at all, origins are not looked at.
    pub cors: Option<Cors>,
    /// Limits.
    pub limits: Limits,
    /// How long uploads are kept; a [`Sweeper`](crate::Sweeper) removes them.
    pub lifetimes: Lifetimes,
    /// Answers GET with 405. (To leave a power out altogether, leave the part out: see [`Composer`].)
    pub disable_download: bool,
    /// Answers GET of unfinished uploads with 400. Wherever a hook has
    /// [`before_finish`](crate::hook::Hook::before_finish) this is so anyway: nothing is served that
    /// the hook has not seen.
    pub disable_unfinished_download: bool,
    /// Drops malformed pairs of `Upload-Metadata`, as tusd does, instead of answering 400.
    pub lenient_metadata: bool,
    /// Answers DELETE with 405 and doesn't advertise `termination`. Uploads still go when they
    /// expire, or when a hook stops or refuses them.
    pub disable_termination: bool,
    /// Answers `Upload-Concat` with 400 and doesn't advertise `concatenation`.
    pub disable_concatenation: bool,
    /// Asked before the effect, in this order.
    pub hooks: Vec<Arc<dyn Hook>>,
    /// Told after the effect.
    pub sinks: Vec<Arc<dyn EventSink>>,
    /// Who keeps books of uploads whose bytes don't pass through the handler, if there are any.
    pub direct: Option<Arc<dyn ExternalUploads>>,
    /// The least time between two progress events of one upload.
    pub progress_interval: Duration,
    /// How long a request waits for an upload that another request is writing.
    pub lease_wait: Duration,
    /// How long a request's body may stay without a byte while the handler waits for one. It then gets
    /// 500 with `ERR_READ_TIMEOUT`, and what came before is kept. `None` leaves it to the server.
    pub body_timeout: Option<Duration>,
}

impl Config {
    /// Defaults: base path `/files/`, absolute locations, no trust in forwarded headers, any origin,
    /// no largest size, nothing expires, no hooks; bodies may be silent for a minute, progress is emitted
    /// once a second, and a request waits 20 s for an upload that another one is writing.
    #[must_use]
    pub fn new(parts: Composer) -> Self {
        Self {
            parts,
            base_path: "/files/".into(),
            nested: false,
            location: LocationStyle::default(),
            forwarded: Forwarded::default(),
            cors: Some(Cors::default()),
            limits: Limits::default(),
            lifetimes: Lifetimes::default(),
            disable_download: false,
            disable_unfinished_download: false,
            lenient_metadata: false,
            disable_termination: false,
            disable_concatenation: false,
            hooks: Vec::new(),
            sinks: Vec::new(),
            direct: None,
            progress_interval: Duration::from_secs(1),
            lease_wait: Duration::from_secs(20),
            body_timeout: Some(Duration::from_secs(60)),
        }
    }

    /// Adds a hook; it is asked after those added before.
    #[must_use]
    pub fn hook(mut self, hook: impl Hook) -> Self {
        self.hooks.push(Arc::new(hook));
        self
    }

    /// Adds a sink for events.
    #[must_use]
    pub fn sink(mut self, sink: impl EventSink) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }
}
