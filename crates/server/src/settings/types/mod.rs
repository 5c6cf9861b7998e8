//! The settings: plain values with their units in the type or the name.

mod direct;
mod grants;
mod hooks;
mod s3;
mod secret;
mod state;

use std::fmt;
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
pub use landfall::store::file::Durability;
use landfall_hooks::HookNames;

pub use direct::{Direct, SmallFiles, Sts};
pub use grants::{Admin, ForwardAuth, GrantLimits, Grants, GrantsApi, Jwt, JwtKeys};
pub use hooks::{
    Amqp, Brokers, CommandHooks, GrpcHooks, Hooks, HttpHooks, Kafka, Nats, Outbox, RedisStream,
    WasmHooks,
};
pub use s3::{LeaseKind, Leases, S3, S3Download, S3Headers, UploadIds};
pub use secret::{Secret, redacted_url};
pub use state::{Database, State};

/// All settings, parsed and checked.
///
/// [`Settings::default`] is what `landfall` uses without any flag, variable or file. The `Default` of
/// its parts is all zeros, and useless alone.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Addresses to listen on.
    pub listen: Listen,
    /// Upload URLs and proxies.
    pub urls: Urls,
    /// Protocol features.
    pub protocol: Protocol,
    /// CORS.
    pub cors: Cors,
    /// File storage.
    pub storage: Storage,
    /// S3 storage.
    pub s3: S3,
    /// The lease backend.
    pub leases: Leases,
    /// Hooks and events.
    pub hooks: Hooks,
    /// The server's own files and database.
    pub state: State,
    /// Grants.
    pub grants: Grants,
    /// Direct uploads to S3.
    pub direct: Direct,
    /// The dashboard.
    pub admin: Admin,
    /// Lifetime of uploads.
    pub expiry: Expiry,
    /// Metrics and the start page.
    pub monitoring: Monitoring,
    /// Logging.
    pub log: Log,
    /// Timeouts.
    pub timeouts: Timeouts,
    /// Limits.
    pub limits: Limits,
}

/// The maximum of the default idle timeout of direct uploads.
const DIRECT_IDLE_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

impl Settings {
    /// Enables what other settings imply.
    pub(super) fn apply_implied(&mut self) {
        self.grants.enabled |= self.grants.required || self.direct.enabled;
        if self.log.verbose {
            self.log.level = self.log.level.max(LogLevel::Debug);
        }
    }

    /// Returns the time without activity after which a direct upload expires.
    #[must_use]
    pub fn direct_idle_timeout(&self) -> Duration {
        let of_others = self.expiry.unfinished.unwrap_or(DIRECT_IDLE_TIMEOUT);
        self.direct
            .idle_timeout
            .unwrap_or(of_others.min(DIRECT_IDLE_TIMEOUT))
    }

    /// Returns the size limit of direct uploads in bytes, if there is one for all subjects.
    #[must_use]
    pub fn largest_grant(&self) -> Option<u64> {
        match (self.grants.limits.max_size, self.protocol.max_size) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

/// Addresses to listen on. Sockets passed by systemd (`LISTEN_FDS`) take precedence.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listen {
    /// Host name or IP address to bind, IPv6 without brackets.
    pub host: String,
    /// TCP port to bind; 0 lets the system choose one.
    pub port: u16,
    /// Listen on this UNIX socket instead of TCP.
    pub unix_sock: Option<PathBuf>,
    /// Accept HTTP/2 without TLS from clients with prior knowledge.
    pub h2c: bool,
}

/// Settings of upload URLs and of proxies.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Urls {
    /// URL path of uploads: begins and ends with `/`.
    pub base_path: String,
    /// Use `Forwarded` and `X-Forwarded-…` from [trusted](Self::trusts) proxies.
    pub behind_proxy: bool,
    /// Networks of trusted proxies.
    pub trusted_proxies: Vec<IpNet>,
    /// Prefix of upload URLs, instead of that of the request: an absolute `http` or `https` URL that
    /// ends with `/`.
    pub public_url: Option<String>,
    /// Return a `Location` without scheme and host.
    pub relative_location: bool,
}

impl Urls {
    /// Returns whether forwarded headers of a request from `peer` are trusted.
    ///
    /// `None` is a peer on a UNIX socket: it is on this machine, so it is trusted whenever a proxy is
    /// expected.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        self.behind_proxy
            && peer.is_none_or(|peer| {
                // A dual-stack socket shows an IPv4 peer as ::ffff:a.b.c.d.
                let peer = peer.to_canonical();
                self.trusted_proxies
                    .iter()
                    .any(|range| range.contains(&peer))
            })
    }
}

/// Settings of the protocol.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Protocol {
    /// Maximum upload size in bytes; `None` is unlimited.
    pub max_size: Option<u64>,
    /// Reject GET on uploads.
    pub disable_download: bool,
    /// Reject GET on unfinished uploads.
    pub disable_unfinished_download: bool,
    /// Reject DELETE on uploads, and do not advertise it.
    pub disable_termination: bool,
    /// Reject `Upload-Concat`, and do not advertise it.
    pub disable_concatenation: bool,
    /// Ignore malformed metadata, as tusd does, instead of rejecting it.
    pub lenient_metadata: bool,
}

impl Settings {
    /// Returns whether the upload queue is used: grants and the dashboard need it.
    pub(crate) fn has_queue(&self) -> bool {
        self.grants.enabled || self.admin.is_on()
    }

    /// Returns whether events are stored until they are delivered.
    pub(crate) fn has_outbox(&self) -> bool {
        let stored = match self.has_queue() {
            true => Hooks::STORED.union(HookNames::JOB_EVENTS),
            false => Hooks::STORED,
        };
        !self.hooks.used_names().intersection(stored).is_empty()
    }

    /// Returns whether the server uses its database.
    pub(crate) fn stores_state(&self) -> bool {
        self.has_queue() || self.has_outbox()
    }
}

/// Settings of CORS.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cors {
    /// Ignore `Origin` and send no CORS header; then the other fields are unused.
    pub disable: bool,
    /// Allowed origins.
    pub allow_origin: AllowOrigin,
    /// Send `Access-Control-Allow-Credentials: true`.
    pub allow_credentials: bool,
    /// Methods in addition to the built-in ones.
    pub allow_methods: Vec<String>,
    /// Request headers in addition to the built-in ones.
    pub allow_headers: Vec<String>,
    /// Response headers to expose in addition to the built-in ones.
    pub expose_headers: Vec<String>,
    /// `Access-Control-Max-Age`.
    pub max_age: Duration,
}

/// A regular expression of allowed origins, matched anywhere in the `Origin` header as in tusd.
#[derive(Clone)]
pub struct AllowOrigin(Option<regex_lite::Regex>);

impl AllowOrigin {
    /// Compiles a regular expression.
    ///
    /// # Errors
    ///
    /// If it is malformed, or can match no origin.
    pub fn new(pattern: &str) -> Result<Self, String> {
        if pattern == ".*" || pattern.is_empty() {
            return Ok(Self(None));
        }
        match regex_lite::Regex::new(pattern) {
            Ok(_) if !can_match_origin(pattern) => Err(format!(
                "{pattern:?} matches no origin: an origin is scheme, host and port, without a slash at \
                 its end; write several as ^(https://a\\.example|https://b\\.example)$"
            )),
            Ok(regex) => Ok(Self(Some(regex))),
            Err(error) => Err(format!("not a regular expression: {error}")),
        }
    }

    /// Returns whether an origin is allowed.
    pub fn matches(&self, origin: &str) -> bool {
        self.0.as_ref().is_none_or(|regex| regex.is_match(origin))
    }

    /// Returns the expression; `.*` if all origins are allowed.
    pub fn pattern(&self) -> &str {
        self.0.as_ref().map_or(".*", |regex| regex.as_str())
    }
}

/// Returns whether a pattern can match an origin; always true for patterns with operators.
fn can_match_origin(pattern: &str) -> bool {
    if pattern.contains(['[', ']', '(', ')', '{', '}', '|', '?', '*', '+']) {
        return true;
    }
    let plain = pattern.replace("\\/", "/");
    let host = match plain.rsplit_once("//") {
        Some((_, host)) => host,
        None => plain.trim_start_matches(['^', '/']),
    };
    let odd = |c: char| c == ',' || c == '/' || c.is_whitespace() || c.is_control();
    !host.contains(odd) && plain.matches('/').count() <= 2
}

impl Default for AllowOrigin {
    /// Allows every origin.
    fn default() -> Self {
        Self(None)
    }
}

impl PartialEq for AllowOrigin {
    fn eq(&self, other: &Self) -> bool {
        self.pattern() == other.pattern()
    }
}

impl fmt::Debug for AllowOrigin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AllowOrigin({:?})", self.pattern())
    }
}

/// Settings of file storage.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Storage {
    /// Directory of uploads.
    pub upload_dir: PathBuf,
    /// Mode of new directories, before umask.
    pub dir_perms: u32,
    /// Mode of new files, before umask.
    pub file_perms: u32,
    /// Data that is synced before a response.
    pub durability: Durability,
    /// Reserve the disk space of an upload when its length becomes known.
    pub preallocate: bool,
    /// Interval at which a lease holder polls for requests of other processes.
    pub lease_holder_poll: Duration,
    /// Interval at which a waiter retries to acquire a lease of another process.
    pub lease_acquirer_poll: Duration,
}

/// Lifetime of uploads.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expiry {
    /// Lifetime of an unfinished upload after its last change; `None` is unlimited.
    pub unfinished: Option<Duration>,
    /// Lifetime of a finished upload after its completion; `None` is unlimited.
    pub finished: Option<Duration>,
    /// Minimum age of orphans to delete; `None` keeps them.
    pub orphans: Option<Duration>,
    /// Interval of the sweeper; `None` disables it.
    pub sweep_interval: Option<Duration>,
}

impl Expiry {
    /// Returns the minimum age of orphans to delete; [`Duration::MAX`] keeps them.
    #[must_use]
    pub fn orphan_age(&self) -> Duration {
        self.orphans.unwrap_or(Duration::MAX)
    }
}

/// Settings of metrics, the start page and the start-up log.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Monitoring {
    /// Serve Prometheus metrics.
    pub expose_metrics: bool,
    /// Path of the metrics: begins with `/`.
    pub metrics_path: String,
    /// Serve the upload page at `/`.
    pub show_greeting: bool,
    /// Print the start-up lines.
    pub show_startup_logs: bool,
}

/// Settings of logging.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    /// Format of log lines.
    pub format: LogFormat,
    /// Level, at least debug if [`verbose`](Self::verbose).
    pub level: LogLevel,
    /// Log at least at level debug.
    pub verbose: bool,
}

/// The format of log lines.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// `key=value` pairs.
    #[default]
    Text,
    /// A JSON object per line.
    Json,
}

/// The log level; each level includes those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// Errors of the server.
    Error,
    /// Conditions that need attention.
    Warn,
    /// Start and stop, and a line per created, finished and terminated upload.
    #[default]
    Info,
    /// A line per request.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// Returns the name in settings, which is also that of `tracing`'s filters.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
}

/// Timeouts.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeouts {
    /// Maximum time without progress of a connection, also between two requests; `None` is unlimited.
    pub network: Option<Duration>,
    /// Time for running requests to finish during shutdown; zero aborts them at once.
    pub shutdown: Duration,
    /// Maximum time that a request waits for the lease of an upload.
    pub acquire_lock: Duration,
    /// Time for the work of a request to finish after its connection is closed.
    pub request_completion: Duration,
}

/// Limits of connections, requests and memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Maximum open connections.
    pub max_connections: usize,
    /// Maximum open connections per client address; 0 is unlimited.
    pub max_connections_per_address: u32,
    /// Maximum requests per second and client address; 0 is unlimited.
    pub max_requests_per_address: u32,
    /// Maximum concurrent requests with a body per client address; 0 is unlimited.
    pub max_uploads_per_address: u32,
    /// Maximum time from the first to the last byte of a request's head.
    pub header_timeout: Duration,
    /// Maximum bytes of a request's head; at least 8192.
    pub max_header_size: usize,
    /// Minimum bytes per second of a request body, averaged over the network timeout; `None` is no
    /// minimum.
    pub min_rate: Option<u64>,
    /// Maximum concurrent requests that write uploads.
    pub max_uploads_in_flight: usize,
    /// Maximum bytes in memory that wait to be stored, for all uploads together.
    pub max_buffered_bytes: u64,
}
