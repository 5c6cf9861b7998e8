//! The settings of a handler, with defaults for embedders.
//!
//! Plain data: nothing is checked here. `Handler::new` returns a [`ConfigError`] for what cannot work.

use std::{fmt, future::Future, sync::Arc, time::Duration};

use async_trait::async_trait;

use landfall_protocol::rufh::InteropVersions;

use crate::{
    BoxError, Composer,
    event::EventSink,
    external::ExternalUploads,
    hook::{Access, CreateDecision, Decision, Hook, HookPoints, RequestInfo},
    removal::Lifetimes,
    service::{cors::Cors, forwarded::Forwarded},
    upload::{Snapshot, Upload},
};

/// A configuration that cannot work.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The base path is not valid in a URL, so no request could match it.
    #[error(
        "the base path {path:?} {reason}; write it as clients send it, for example /files/ or \
         https://uploads.example.org/files/"
    )]
    BasePath {
        /// The base path.
        path: String,
        /// The reason.
        reason: &'static str,
    },
    /// [`LocationStyle::Prefix`] is not the start of a URL.
    #[error(
        "the location prefix {0:?} cannot be the start of a URL; write one such as \
         https://uploads.example.org/files/"
    )]
    LocationPrefix(String),
    /// CORS allows credentials for every origin, so any page could act as its visitors.
    #[error(
        "CORS allows credentials for every origin; name the origins, or do not allow credentials"
    )]
    CredentialsForAnyOrigin,
    /// [`Limits::min_append_size`] exceeds [`Limits::max_append_size`] or [`Limits::max_size`].
    #[error("the minimum content of one request, {min} bytes, exceeds the maximum, {max} bytes")]
    AppendSizes {
        /// The minimum.
        min: u64,
        /// The maximum.
        max: u64,
    },
}

/// The format of the `Location` of a new upload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum LocationStyle {
    /// `scheme://host/base/id` as the client sees them, by the request or by trusted proxies.
    #[default]
    Absolute,
    /// `/base/id`.
    Relative,
    /// A fixed prefix, `https://uploads.example.org/files/`, and the id.
    Prefix(String),
}

/// When clients of the IETF draft get interim responses, 104 (Upload Resumption Supported).
///
/// They name the upload while its bytes are received, so a client can resume it if it loses the connection
/// within its first request. They need a server with an
/// [`InterimSender`](crate::service::InterimSender), and a request that names an accepted interop version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum InterimResponses {
    /// Not if a proxy is expected or seen: [`Config::forwarded`] is not [`Forwarded::Ignore`], or the request
    /// has `Via`, `Forwarded` or `X-Forwarded-*`.
    ///
    /// Proxies such as nginx take a 104 for the final response.
    #[default]
    Auto,
    /// Also through proxies.
    On,
    /// Never.
    Off,
}

/// Resource limits of a handler.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// Maximum size of an upload, in bytes; `None` is unlimited.
    pub max_size: Option<u64>,
    /// Maximum content of one request, in bytes, reported to clients of the IETF draft (`max-append-size`).
    ///
    /// For servers behind proxies that limit bodies. A larger request gets 413, and what it has sent before
    /// stays. Clients of tus have their own setting for the size of their requests, and are not limited.
    pub max_append_size: Option<u64>,
    /// Minimum content of one request of the IETF draft, in bytes (`min-append-size`), except the last one of
    /// an upload and an empty creation. A smaller request gets 400.
    pub min_append_size: Option<u64>,
    /// Maximum concurrent transfers.
    ///
    /// When the limit is reached, a transfer whose client has been silent (for at least two seconds) or
    /// sends less than 1 KiB per second is evicted with 503 and `Retry-After`. If there is none, the
    /// new transfer gets that response.
    pub max_transfers: usize,
    /// Memory for received bytes that are not written yet, over all transfers, in bytes; at least
    /// 256 KiB. When it is exhausted, clients are slowed down by backpressure.
    pub max_buffered_bytes: usize,
    /// Maximum concurrent concatenations; others wait.
    pub max_concatenations: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_size: None,
            max_append_size: None,
            min_append_size: None,
            max_transfers: 10_000,
            max_buffered_bytes: 256 << 20,
            max_concatenations: 4,
        }
    }
}

/// The configuration of a [`Handler`](crate::Handler): its parts and how it behaves.
///
/// Settings are fields; [hooks](Self::hook) and [sinks](Self::sink) are added with methods.
///
/// ```
/// use std::time::Duration;
/// use landfall::{Config, Handler, store::MemoryStore};
///
/// let mut config = Config::new(MemoryStore::new());
/// config.base_path = "/uploads/".into();
/// config.limits.max_size = Some(1 << 30);
/// config.lifetimes.unfinished = Some(Duration::from_secs(24 * 3600));
/// let handler = Handler::new(config)?;
/// # Ok::<(), landfall::ConfigError>(())
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The store, the locker, and the optional capabilities.
    pub store: Composer,
    /// The path below which uploads live, such as `/files/`; missing slashes at its ends are added.
    ///
    /// It is compared with request targets as clients send them, so it must be percent-encoded. Routers of
    /// axum may strip it, or a path in front of it (feature `axum`). It may also be an
    /// absolute URL (`https://h/files/`), which is then the prefix of every `Location`.
    pub base_path: String,
    /// The format of `Location`.
    pub location: LocationStyle,
    /// Which `X-Forwarded-*` and `Forwarded` headers are trusted.
    pub forwarded: Forwarded,
    /// Cross-origin requests; `None` sends no CORS headers and ignores origins.
    pub cors: Option<Cors>,
    /// Resource limits.
    pub limits: Limits,
    /// The time for which uploads are retained; a [`Sweeper`](crate::Sweeper) removes them.
    pub lifetimes: Lifetimes,
    /// Rejects GET with 405. To disable a capability altogether, see [`Composer`].
    pub disable_download: bool,
    /// Rejects GET of unfinished uploads with 400.
    ///
    /// This always applies if a hook uses [`before_finish`](crate::hook::Hook::before_finish): files that
    /// the hook has not accepted are not served.
    pub disable_unfinished_download: bool,
    /// Accepts what tusd accepts: malformed pairs of `Upload-Metadata` are dropped, content with
    /// `Content-Encoding` is stored as it is, numbers may have a plus sign, final uploads may consist of
    /// uploads that were not created as partial ones, and of trusted headers `Forwarded` takes precedence.
    pub lenient: bool,
    /// The accepted versions of the IETF draft "Resumable Uploads for HTTP", in addition to tus 1.0.0.
    pub interop_versions: InteropVersions,
    /// Interim responses of the IETF draft.
    pub interim_responses: InterimResponses,
    /// Rejects DELETE with 405 and does not advertise `termination`.
    ///
    /// Uploads are still removed when they expire, or when a hook stops or denies them.
    pub disable_termination: bool,
    /// Rejects `Upload-Concat` with 400 and does not advertise `concatenation`.
    pub disable_concatenation: bool,
    /// Ignores `Upload-Checksum` and does not advertise `checksum`, for clients that send wrong ones.
    ///
    /// The digests of the IETF draft are still verified.
    pub disable_checksum: bool,
    /// Hooks, called in this order before an effect.
    pub hooks: Vec<Arc<dyn Hook>>,
    /// Sinks, which receive events after an effect.
    pub sinks: Vec<Arc<dyn EventSink>>,
    /// A registry of uploads whose bytes bypass the handler, such as that of the crate `landfall-direct`.
    pub external_uploads: Option<Arc<dyn ExternalUploads>>,
    /// Minimum time between two progress events of one upload.
    pub progress_interval: Duration,
    /// The time for which a request waits for an upload that another request is writing.
    pub lease_wait: Duration,
    /// Maximum time without received bytes in a request's body; `None` leaves timeouts to the server.
    ///
    /// On a timeout the client gets 500 with `ERR_READ_TIMEOUT`, and the bytes received before are kept.
    pub body_timeout: Option<Duration>,
}

impl Config {
    /// Creates a configuration with defaults for a store or a [`Composer`].
    ///
    /// Base path `/files/`, absolute locations, no trusted proxies, any origin, unlimited size, no expiry,
    /// no hooks. Bodies may be silent for a minute, progress is emitted once a second, and a request waits
    /// 20 s for an upload that another one is writing.
    #[must_use]
    pub fn new(store: impl Into<Composer>) -> Self {
        Self {
            store: store.into(),
            base_path: "/files/".into(),
            location: LocationStyle::default(),
            forwarded: Forwarded::default(),
            cors: Some(Cors::default()),
            limits: Limits::default(),
            lifetimes: Lifetimes::default(),
            disable_download: false,
            disable_unfinished_download: false,
            lenient: false,
            interop_versions: InteropVersions::default(),
            interim_responses: InterimResponses::default(),
            disable_termination: false,
            disable_concatenation: false,
            disable_checksum: false,
            hooks: Vec::new(),
            sinks: Vec::new(),
            external_uploads: None,
            progress_interval: Duration::from_secs(1),
            lease_wait: Duration::from_secs(20),
            body_timeout: Some(Duration::from_secs(60)),
        }
    }

    /// Adds a hook, which is called after those added before.
    #[must_use]
    pub fn hook(mut self, hook: impl Hook) -> Self {
        self.hooks.push(Arc::new(hook));
        self
    }

    /// Adds an event sink.
    #[must_use]
    pub fn sink(mut self, sink: impl EventSink) -> Self {
        self.sinks.push(Arc::new(sink));
        self
    }
}

macro_rules! closure_hooks {
    ($($(#[$doc:meta])* $point:ident($subject:ty) -> $decision:ty;)*) => {
        impl Config {$(
            $(#[$doc])*
            #[must_use]
            pub fn $point<F, T>(self, hook: F) -> Self
            where
                F: Fn(RequestInfo, $subject) -> T + Send + Sync + 'static,
                T: Future<Output = Result<$decision, BoxError>> + Send + 'static,
            {
                struct Closure<F>(F);

                impl<F> fmt::Debug for Closure<F> {
                    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(stringify!($point))
                    }
                }

                #[async_trait]
                impl<F, T> Hook for Closure<F>
                where
                    F: Fn(RequestInfo, $subject) -> T + Send + Sync + 'static,
                    T: Future<Output = Result<$decision, BoxError>> + Send + 'static,
                {
                    fn points(&self) -> HookPoints {
                        HookPoints { $point: true, ..HookPoints::default() }
                    }

                    async fn $point(
                        &self,
                        request: &RequestInfo,
                        subject: &$subject,
                    ) -> Result<$decision, BoxError> {
                        (self.0)(request.clone(), subject.clone()).await
                    }
                }

                self.hook(Closure(hook))
            }
        )*}
    };
}

closure_hooks! {
    /// Adds a closure as [`Hook::before_create`].
    ///
    /// ```
    /// use landfall::{Config, hook::{ClientResponse, CreateDecision}, store::MemoryStore};
    ///
    /// let config = Config::new(MemoryStore::new()).before_create(|_request, upload| async move {
    ///     Ok(match upload.length {
    ///         None => CreateDecision::deny(ClientResponse::text(400, "the length is required")),
    ///         Some(_) => CreateDecision::allow().label("origin", "intranet"),
    ///     })
    /// });
    /// ```
    before_create(Upload) -> CreateDecision;
    /// Adds a closure as [`Hook::before_finish`].
    before_finish(Snapshot) -> Decision;
    /// Adds a closure as [`Hook::before_terminate`].
    before_terminate(Snapshot) -> Decision;
    /// Adds a closure as [`Hook::on_access`].
    ///
    /// The example `identity` allows access only to the user who created an upload.
    on_access(Access) -> Decision;
}
