//! What the settings mean: plain values with their units in the type or the name.

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
use landfall_hooks::HookNames;

pub use direct::{Direct, SmallFiles, Sts};
pub use grants::{Admin, Authorize, GrantLimits, GrantStyle, Grants, Jwt, JwtKeys};
pub use hooks::{
    Amqp, Brokers, CommandHooks, GrpcHooks, Hooks, HttpHooks, Kafka, Nats, Outbox, RedisStream,
    WasmHooks,
};
pub use s3::{LeaseKind, Leases, S3, S3Download, S3Headers, UploadIds};
pub use secret::{Secret, redacted_url};
pub use state::{Database, State};

/// Everything that can be set, checked and ready to be used.
///
/// [`Settings::default`] is what `landfall` alone, without any flag, variable or file, uses.
/// The parts' own `Default` is all zeros and of no use by itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Where connections come in.
    pub listen: Listen,
    /// How upload URLs are read and written.
    pub urls: Urls,
    /// What clients may do.
    pub protocol: Protocol,
    /// Which web pages may do it.
    pub cors: Cors,
    /// Where uploads are kept, and how safely.
    pub storage: Storage,
    /// The bucket they are kept in instead, if there is one.
    pub s3: S3,
    /// How servers agree on who writes an upload.
    pub leases: Leases,
    /// Who is asked and told.
    pub hooks: Hooks,
    /// What the server keeps beside uploads.
    pub state: State,
    /// Uploads that are asked for first.
    pub grants: Grants,
    /// Uploads that go straight to the bucket.
    pub direct: Direct,
    /// The dashboard.
    pub admin: Admin,
    /// How long they are kept.
    pub expiry: Expiry,
    /// What the server shows of itself over HTTP.
    pub monitoring: Monitoring,
    /// What it writes about itself.
    pub log: Log,
    /// How long it waits for others.
    pub timeouts: Timeouts,
    /// How much it takes on.
    pub limits: Limits,
}

/// After how long without news an unfinished direct upload is given up, where neither it nor other
/// uploads are given up sooner.
const DIRECT_IDLE_TIMEOUT: Duration = Duration::from_secs(24 * 3600);

impl Settings {
    /// After how long without news an unfinished direct upload is given up.
    #[must_use]
    pub fn direct_idle_timeout(&self) -> Duration {
        let of_others = self.expiry.unfinished.unwrap_or(DIRECT_IDLE_TIMEOUT);
        self.direct
            .patience
            .unwrap_or(of_others.min(DIRECT_IDLE_TIMEOUT))
    }

    /// What a direct upload may have at most, in bytes, if that is limited for all of them.
    #[must_use]
    pub fn largest_grant(&self) -> Option<u64> {
        match (self.grants.limits.max_size, self.protocol.max_size) {
            (Some(one), Some(other)) => Some(one.min(other)),
            (one, other) => one.or(other),
        }
    }
}

/// Where connections come in.
///
/// Sockets handed over by systemd (`LISTEN_FDS`) come before all of this.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Listen {
    /// Host name or IP address to bind, IPv6 without brackets.
    pub host: String,
    /// TCP port to bind; 0 lets the system choose one.
    pub port: u16,
    /// Listen on this UNIX socket instead of TCP.
    pub unix_sock: Option<PathBuf>,
    /// Speak HTTP/2 without TLS to clients that begin with it, beside HTTP/1.1.
    pub h2c: bool,
}

/// How upload URLs are read and written.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Urls {
    /// URL path below which uploads live: begins and ends with `/`.
    pub base_path: String,
    /// Believe `Forwarded` and `X-Forwarded-…` of the [trusted](Self::trusts) proxies.
    pub behind_proxy: bool,
    /// Whom `behind_proxy` trusts.
    pub trusted_proxies: Vec<IpNet>,
    /// What stands before an upload's id in its URL, instead of what the request shows:
    /// an absolute `http` or `https` URL that ends with `/`.
    pub public_url: Option<String>,
    /// Answer creations with a `Location` that has a path only, no scheme and host.
    pub relative_location: bool,
}

impl Urls {
    /// Whether forwarded headers of a request that came from `peer` are to be believed.
    ///
    /// `None` is a peer without an IP address, that is one on a UNIX socket: it is on this
    /// machine, so it is believed whenever a proxy is expected at all.
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

/// What clients may do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Protocol {
    /// Largest upload in bytes; `None` is without limit.
    pub max_size: Option<u64>,
    /// Refuse GET on uploads.
    pub disable_download: bool,
    /// Refuse GET on unfinished uploads.
    pub disable_unfinished_download: bool,
    /// Refuse DELETE on uploads, and don't advertise it.
    pub disable_termination: bool,
    /// Refuse `Upload-Concat`, and don't advertise it.
    pub disable_concatenation: bool,
    /// How malformed requests are treated.
    pub compat: Compat,
}

/// How malformed requests are treated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Compat {
    /// They are refused.
    #[default]
    Strict,
    /// As in tusd: malformed metadata is dropped.
    Tusd,
}

impl Settings {
    /// Whether there is a queue of uploads, which grants and the dashboard need.
    pub(crate) fn has_queue(&self) -> bool {
        self.grants.enabled || self.admin.is_on()
    }

    /// Whether events are stored until they are delivered.
    pub(crate) fn has_outbox(&self) -> bool {
        let stored = match self.has_queue() {
            true => Hooks::STORED.union(HookNames::JOB_EVENTS),
            false => Hooks::STORED,
        };
        !self.hooks.used_names().intersection(stored).is_empty()
    }

    /// Whether the server stores something in its database.
    pub(crate) fn stores_state(&self) -> bool {
        self.has_queue() || self.has_outbox()
    }
}

/// Which web pages may use the server from a browser.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cors {
    /// Never look at `Origin`, never send a CORS header; the rest of this struct is unused then.
    pub disable: bool,
    /// The origins that may.
    pub allow_origin: AllowOrigin,
    /// Send `Access-Control-Allow-Credentials: true`.
    pub allow_credentials: bool,
    /// Methods to add to the built-in `Access-Control-Allow-Methods`.
    pub allow_methods: Vec<String>,
    /// Header names to add to the built-in `Access-Control-Allow-Headers`.
    pub allow_headers: Vec<String>,
    /// Header names to add to the built-in `Access-Control-Expose-Headers`.
    pub expose_headers: Vec<String>,
    /// How long a browser may keep the answer to a preflight; sent in seconds.
    pub max_age: Duration,
}

/// The origins whose pages may use the server: a regular expression, matched anywhere in the
/// `Origin` header as tusd does (write `^` and `$` to match all of it).
#[derive(Clone)]
pub struct AllowOrigin(Option<regex_lite::Regex>);

impl AllowOrigin {
    /// Reads a regular expression; the error says what is wrong with it.
    pub fn new(pattern: &str) -> Result<Self, String> {
        if pattern == ".*" || pattern.is_empty() {
            return Ok(Self(None));
        }
        match regex_lite::Regex::new(pattern) {
            Ok(_) if !can_match_origin(pattern) => Err(format!(
                "{pattern:?} matches no origin: an origin is scheme, host and port, without a slash at \
                 its end, and several stand in a pattern as ^(https://a\\.example|https://b\\.example)$"
            )),
            Ok(regex) => Ok(Self(Some(regex))),
            Err(error) => Err(format!("not a regular expression: {error}")),
        }
    }

    /// Whether a page of this origin may use the server.
    pub fn matches(&self, origin: &str) -> bool {
        self.0.as_ref().is_none_or(|regex| regex.is_match(origin))
    }

    /// The expression, `.*` when every origin may.
    pub fn pattern(&self) -> &str {
        self.0.as_ref().map_or(".*", |regex| regex.as_str())
    }
}

/// Whether a pattern matches some origin, as far as a pattern without operators tells.
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
    /// Every origin.
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

/// Where uploads are kept on this machine, and how safely.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Storage {
    /// The directory; relative to the working directory unless absolute.
    pub upload_dir: PathBuf,
    /// Mode of directories that the server makes (umask applies).
    pub dir_perms: u32,
    /// Mode of files that the server makes (umask applies).
    pub file_perms: u32,
    /// What is synced to the disk, and when.
    pub durability: Durability,
    /// Reserve an upload's space on the disk when its length becomes known.
    pub preallocate: bool,
    /// How often a process that writes an upload looks whether another process wants it.
    pub lease_holder_poll: Duration,
    /// How often a process that wants an upload tries again to get it from another process.
    pub lease_acquirer_poll: Duration,
}

/// What is synced to the disk, and when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Durability {
    /// Nothing: the system writes when it likes.
    None,
    /// All of an upload before its completion is acknowledged.
    #[default]
    Complete,
    /// Whatever an acknowledged offset covers, before it is acknowledged.
    Every,
}

/// How long uploads are kept.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Expiry {
    /// Lifetime of an unfinished upload, counted from its last change; `None` is for ever.
    pub unfinished: Option<Duration>,
    /// Lifetime of a finished upload, counted from its end; `None` is for ever.
    pub finished: Option<Duration>,
    /// How old something that belongs to no upload has to be to go; `None` is never.
    pub leftovers: Option<Duration>,
    /// How often the server deletes what has outlived its time; `None` is never.
    pub sweep_interval: Option<Duration>,
}

impl Expiry {
    /// How old something that belongs to no upload has to be; an age that nothing reaches stands
    /// for never.
    #[must_use]
    pub fn leftover_age(&self) -> Duration {
        self.leftovers.unwrap_or(Duration::MAX)
    }
}

/// What the server shows of itself over HTTP.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Monitoring {
    /// Serve Prometheus metrics.
    pub expose_metrics: bool,
    /// The path they are served at: begins with `/`.
    pub metrics_path: String,
    /// Serve the page at `/`.
    pub show_greeting: bool,
    /// Print the start-up lines.
    pub show_startup_logs: bool,
}

/// What the server writes about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Log {
    /// How it is written.
    pub format: LogFormat,
    /// How much is written; `--verbose` has been taken into account.
    pub level: LogLevel,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// A line of `key=value` pairs for each event.
    #[default]
    Text,
    /// A JSON object on one line for each event.
    Json,
}

/// How much is logged; each level has all of those before it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LogLevel {
    /// What went wrong on our side.
    Error,
    /// What somebody should look at.
    Warn,
    /// Start and stop, and a line for each created, finished and terminated upload.
    #[default]
    Info,
    /// A line for each request as well.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    /// The name used in settings, which is also what `tracing`'s filters understand.
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

/// How long the server waits for others.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Timeouts {
    /// Longest silence of a connection while a body is read, an answer written, or between two
    /// requests; `None` waits for ever.
    pub network: Option<Duration>,
    /// How long clients may go on after the server was asked to stop; zero cuts them at once.
    pub shutdown: Duration,
    /// How long a request waits until it may write an upload that another one is writing.
    pub acquire_lock: Duration,
    /// How long the work of a request may go on after its connection is gone.
    pub request_completion: Duration,
}

/// How much the server takes on. Zero is refused except where it says otherwise.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limits {
    /// Connections open at one time.
    pub max_connections: usize,
    /// Connections open at one time from one address; 0 is without limit, here and below.
    pub max_connections_per_address: u32,
    /// Requests per second from one address.
    pub max_requests_per_address: u32,
    /// Requests with a body at one time from one address.
    pub max_uploads_per_address: u32,
    /// Longest time for a request's headers to arrive, from their first byte.
    pub header_timeout: Duration,
    /// Bytes of a request's line and headers together; at least 8192.
    pub max_header_size: usize,
    /// Bytes a second that a sending client must reach, averaged over the network timeout;
    /// `None` lets a client be as slow as it likes.
    pub min_rate: Option<u64>,
    /// Requests that write uploads at one time.
    pub max_uploads_in_flight: usize,
    /// Bytes of bodies that wait in memory to be stored, all uploads together.
    pub max_buffered_bytes: u64,
}
