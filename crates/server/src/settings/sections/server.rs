//! Settings of the server itself: addresses, protocol, file storage, expiry, logging and limits.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use ipnet::IpNet;
use landfall::{InterimResponses, InteropVersions, InvalidInteropVersion, LocationStyle};

use super::table::group;
use crate::settings::types::{AllowOrigin, DisabledDownloads, Durability, LogFormat, LogLevel};
use crate::settings::{address, bucket, value};

fn unchanged(text: &str) -> value::Parsed<String> {
    Ok(text.to_owned())
}

/// tusd's switch for the drafts.
fn experimental(text: &str) -> value::Parsed<String> {
    value::boolean(text).map(|is_on| if is_on { "on" } else { "off" }.to_owned())
}

fn interop_versions(text: &str) -> value::Parsed<InteropVersions> {
    text.parse()
        .map_err(|error: InvalidInteropVersion| error.to_string())
}

fn milliseconds(text: &str) -> value::Parsed<String> {
    match value::integer(text) {
        Ok(milliseconds) => Ok(format!("{milliseconds}ms")),
        Err(_) => Err(format!(
            "expects milliseconds without a unit; write --network-timeout {text}"
        )),
    }
}

const COMPAT: &[(&str, bool)] = &[("strict", false), ("tusd", true)];

const INTERIM_RESPONSES: &[(&str, InterimResponses)] = &[
    ("auto", InterimResponses::Auto),
    ("on", InterimResponses::On),
    ("off", InterimResponses::Off),
];

const DURABILITY: &[(&str, Durability)] = &[
    ("none", Durability::None),
    ("complete", Durability::Complete),
    ("every", Durability::Every),
];

const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

const LOG_LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

group! {
    /// Addresses to listen on. Sockets passed by systemd (`LISTEN_FDS`) take precedence.
    pub struct Listen at listen;
    host: String = address::host, "host", Text("HOST"), "0.0.0.0", Common
        => "Address or host name to listen on.";
    port: u16 = value::port, "port", Number("PORT"), "8080", Common
        => "TCP port to listen on. 0 lets the system choose a port, which the start-up log prints.";
    unix_sock: Option<PathBuf> = value::path_or_none, "unix-sock", Text("FILE"), ""
        => "Listen on this UNIX socket instead of TCP. A socket passed by systemd takes \
            precedence.";
    h2c: bool = value::boolean, "enable-h2c", Switch, "false"
        => "Accept HTTP/2 without TLS from clients with prior knowledge, in addition to HTTP/1.1.";
    proxy_protocol: bool = value::boolean, "proxy-protocol", Switch, "false", Protects
        => "Require a header of the PROXY protocol (version 1 or 2) at the start of each TCP \
            connection, for TCP load balancers. Only --trusted-proxies can connect, and the address \
            in the header is that of the client.";
}

group! {
    /// Settings of upload URLs and of proxies.
    pub struct Urls at urls;
    base_path: String = address::base_path, "base-path", Text("PATH"), "/files/"
        => "URL path of the upload endpoint.";
    behind_proxy: bool = value::boolean, "behind-proxy", Switch, "false", Common
        => "Trust forwarded headers of reverse proxies. Scheme and host of upload URLs are taken \
            from Forwarded, X-Forwarded-Proto and X-Forwarded-Host of --trusted-proxies.";
    trusted_proxies: Vec<IpNet> = address::networks,
        "trusted-proxies", List("NETWORKS"), "loopback", MayBeEmpty
        => "Proxies that --behind-proxy and --proxy-protocol trust, comma-separated: IP addresses, networks such as \
            10.0.0.0/8, loopback (this machine), or private (this machine and all private \
            networks, whose hosts can then forge client addresses). Peers on a UNIX socket are \
            always trusted.";
    location: LocationStyle = address::location, "public-url", Text("URL|relative"), ""
        => "Prefix of upload URLs, such as https://uploads.example.com/files/. relative: without scheme and host, which \
            is correct behind every proxy that keeps paths unchanged. Not set: taken from the request.";
}

impl Urls {
    /// Returns the configured prefix of upload URLs.
    pub fn public_url(&self) -> Option<&str> {
        match &self.location {
            LocationStyle::Prefix(prefix) => Some(prefix),
            _ => None,
        }
    }

    /// Returns whether forwarded headers of a request from `peer` are trusted.
    ///
    /// `None` is a peer on a UNIX socket: it is on this machine, so it is trusted whenever a proxy is
    /// expected.
    pub fn trusts(&self, peer: Option<IpAddr>) -> bool {
        self.behind_proxy && peer.is_none_or(|peer| self.is_trusted_proxy(peer))
    }

    /// Returns whether `peer` is in `--trusted-proxies`.
    pub fn is_trusted_proxy(&self, peer: IpAddr) -> bool {
        // A dual-stack socket shows an IPv4 peer as ::ffff:a.b.c.d.
        let peer = peer.to_canonical();
        let mut trusted = self.trusted_proxies.iter();
        trusted.any(|range| range.contains(&peer))
    }
}

group! {
    /// Settings of the protocol.
    pub struct Protocol at protocol;
    max_size: Option<u64> = value::size_or_none, "max-size", Size, "0", Common
        => "Maximum upload size; 0 is unlimited.";
    disable_download: DisabledDownloads = value::disabled_downloads, "disable-download", Switch, "false"
        => "Reject GET on uploads; with --disable-download=unfinished only on unfinished ones, which blocking hooks for \
            pre-finish imply.";
    disable_termination: bool = value::boolean, "disable-termination", Switch, "false"
        => "Reject DELETE on uploads.";
    disable_concatenation: bool = value::boolean, "disable-concatenation", Switch, "false"
        => "Reject concatenation, which parallel uploads use (Upload-Concat).";
    disable_checksum: bool = value::boolean, "disable-checksum", Switch, "false"
        => "Ignore Upload-Checksum, for clients that send wrong ones, such as tus-php. Damage in transit is then \
            not detected.";
    interop_versions: InteropVersions = interop_versions, "rufh", List("VERSIONS"), "on";
        alias Switch "enable-experimental-protocol" by experimental
        => "Interop versions of the IETF draft Resumable Uploads for HTTP that are accepted in addition to tus \
            1.0.0: on (all known versions), off, or a list such as 6,10.";
    max_append_size: Option<u64> = value::size_or_none, "max-append-size", Size, "0"
        => "Maximum content of one request of the IETF draft, for servers behind proxies that limit bodies. \
            Larger requests get 413, and clients learn the limit; 0 is unlimited.";
    interim_responses: InterimResponses = |v| value::choice(v, INTERIM_RESPONSES),
        "rufh-104", Text("auto|on|off"), "auto"
        => "Interim responses of the IETF draft, 104 (Upload Resumption Supported). auto: not with --behind-proxy or \
            --proxy-protocol, and not in response to requests with Via, Forwarded or X-Forwarded-*, since proxies such as nginx take \
            them for the final response.";
    compat_tusd: bool = |v| value::choice(v, COMPAT), "compat", Text("strict|tusd"), "strict"
        => "tusd: accept what clients and command lines of tusd send, and log requests as it does. Malformed pairs of \
            Upload-Metadata are ignored, content with Content-Encoding is stored as it is, final uploads may \
            consist of any uploads, and empty flags are ignored. The defaults are tusd's: no limits per address, \
            --disable-checksum, --verbose, --expire-unfinished 0, --s3-part-size 50MiB, \
            --hooks-event-headers all, --hooks-http-redirects public, --hooks-dir-timeout 24h, \
            --hooks-grpc-timeout 0, --trusted-proxies 0.0.0.0/0,::/0, and events that are retried as \
            briefly as by tusd (--events-retry-for 15s) and do not wait for failed ones (--events-max-hold 0). \
            Settings that are given take precedence.";
}

group! {
    /// Settings of CORS.
    pub struct Cors at cors;
    disable: bool = value::boolean, "disable-cors", Switch, "false"
        => "Ignore the Origin header, and send no CORS headers.";
    allow_origin: AllowOrigin = AllowOrigin::new, "cors-allow-origin", Text("REGEX"), ".*", Reloads, FailsAtStart
        => "Regular expression for allowed origins. It matches anywhere in the origin; write ^ and \
            $ to match all of it.";
    allow_credentials: bool = value::boolean, "cors-allow-credentials", Switch, "false"
        => "Let pages of allowed origins send cookies (Access-Control-Allow-Credentials).";
    allow_methods: Vec<String> = address::methods,
        "cors-allow-methods", List("METHODS"), "", MayBeEmpty
        => "Methods to allow in addition to the built-in ones, comma-separated.";
    allow_headers: Vec<String> = address::header_names,
        "cors-allow-headers", List("HEADERS"), "", MayBeEmpty
        => "Request headers to allow in addition to the built-in ones, comma-separated.";
    expose_headers: Vec<String> = address::header_names,
        "cors-expose-headers", List("HEADERS"), "", MayBeEmpty
        => "Response headers to expose in addition to the built-in ones, comma-separated.";
    max_age: Duration = value::seconds, "cors-max-age", Text("SECONDS"), "86400"
        => "Time for which browsers may cache a preflight response.";
}

group! {
    /// Settings of file storage.
    pub struct Storage at storage;
    upload_dir: PathBuf = value::some_path,
        "upload-dir", Text("DIR"), "./data", Common; alias Text("DIR") "dir" by unchanged
        => "Directory of uploads, unless a bucket is set. Created if missing.";
    file_names: Option<String> = value::optional(bucket::file_names), "file-names", Text("TEMPLATE"), ""
        => "Template of the names of files in the upload directory, such as {date}/{id}-{filename}. {date} is \
            yyyy/mm/dd of the creation, {meta:NAME} a value of the upload's metadata. A file is never replaced. Not \
            set: {id}.";
    data_dirs: Vec<PathBuf> = value::paths, "data-dirs", List("DIRS"), ""
        => "Further directories for files of uploads. Symbolic links in the upload directory and paths that \
            hooks choose may lead into them; / allows all, as tusd does.";
    dir_perms: u32 = |v| value::permissions(v, 0o300), "dir-perms", Mode, "775"
        => "Permissions of new directories in octal; umask applies.";
    file_perms: u32 = |v| value::permissions(v, 0o600), "file-perms", Mode, "664"
        => "Permissions of new files in octal; umask applies.";
    durability: Durability = |v| value::choice(v, DURABILITY),
        "durability", Text("none|complete|every"), "complete"
        => "Sync to disk (fsync): before a completed upload is acknowledged (complete), before \
            every offset is acknowledged (every), or never (none).";
    preallocate: bool = value::boolean, "preallocate", Switch, "false"
        => "Reserve the disk space of an upload when its length is known. A full disk is then \
            reported at creation, but clients can fill the disk without sending a byte.";
    lease_holder_poll: Duration = value::some_duration,
        "filelock-holder-poll-interval", Time, "100ms"
        => "Interval at which a process that holds an upload's lease polls for requests of other \
            processes on the same directory.";
    lease_acquirer_poll: Duration = value::some_duration,
        "filelock-acquirer-poll-interval", Time, "10ms"
        => "Interval at which a process retries to acquire a lease that another process holds.";
}

/// Of the server's own sweeper, always.
const MAX_ORPHAN_AGE: Duration = Duration::from_secs(3600);

/// Direct uploads are also checked by a server that does not sweep.
const DIRECT_CHECK_INTERVAL: Duration = Duration::from_secs(60);

group! {
    /// Lifetime of uploads.
    pub struct Expiry at expiry;
    unfinished: Option<Duration> = value::duration_or_none, "expire-unfinished", Time, "7d", Common
        => "Delete unfinished uploads without data for this time. 0 keeps them. Orphaned files and objects, such as \
            those of an interrupted creation, are deleted after an hour.";
    finished: Option<Duration> = value::duration_or_none, "expire-finished", Time, "0"
        => "Delete finished uploads this long after their completion; 0 keeps them.";
    sweep_interval: Option<Duration> = value::duration_or_none, "sweep-interval", Time, "10m"
        => "Interval of the sweeper, which deletes expired uploads; 0 disables it (see landfall \
            sweep). A running direct upload is checked in the bucket after a tenth of it if its client or a \
            notification reports its completion. Others are first checked after a twelfth of that time, then less \
            and less often. With 0, this time is 1m.";
}

impl Expiry {
    /// Returns the minimum age of orphans that the store lists, and that `landfall sweep` deletes.
    pub fn orphan_age(&self) -> Duration {
        self.unfinished
            .unwrap_or(MAX_ORPHAN_AGE)
            .min(MAX_ORPHAN_AGE)
    }

    /// Returns the interval at which running direct uploads are checked in the bucket.
    pub fn direct_check_interval(&self) -> Duration {
        self.sweep_interval
            .map_or(DIRECT_CHECK_INTERVAL, |interval| interval / 10)
    }
}

group! {
    /// Settings of metrics, the start page and the start-up log.
    pub struct Monitoring at monitoring;
    expose_metrics: bool = value::boolean, "expose-metrics", Switch, "true"
        => "Serve metrics for Prometheus.";
    metrics_path: String = address::page_path, "metrics-path", Text("PATH"), "/metrics"
        => "Path of the metrics.";
    show_greeting: bool = value::boolean, "show-greeting", Switch, "true"
        => "Serve a page at / for uploading files from a browser.";
    page_title: Option<String> = value::optional(|v| value::printable(v, 200, "a title")),
        "page-title", Text("TEXT"), "", Reloads
        => "Heading and window title of that page. Not set: Landfall.";
    page_text: Option<String> = value::optional(|v| value::printable(v, 2000, "a text")),
        "page-text", Text("TEXT"), "", Reloads
        => "Text below the heading of that page. Not set: a translated sentence.";
    page_logo: Option<PathBuf> = value::optional(value::image), "page-logo", Text("FILE"), ""
        => "Logo of that page: an SVG, PNG, JPEG, WebP or GIF file of at most 1 MiB. Read at start.";
    show_startup_logs: bool = value::boolean, "show-startup-logs", Switch, "true"
        => "Print the start-up log, whose last line has the upload URL. If false, finished and denied uploads \
            are not logged at level info, either.";
}

group! {
    /// Settings of logging.
    pub struct Log at log;
    format: LogFormat = |v| value::choice(v, LOG_FORMATS), "log-format", Text("text|json"), "text"
        => "Format of log lines.";
    level: LogLevel = |v| value::choice(v, LOG_LEVELS),
        "log-level", Text("error|warn|info|debug|trace"), "info", Reloads
        => "Log level; each level includes those before it. debug logs every request.";
    verbose: bool = value::boolean, "verbose", Switch, "false", Common, Reloads
        => "Log at level debug or more.";
}

group! {
    /// Timeouts.
    pub struct Timeouts at timeouts;
    network: Option<Duration> = value::duration_or_none,
        "network-timeout", Time, "60s"; alias Time "timeout" by milliseconds
        => "Close a connection after this time without progress; 0 never does. The head of a request has a quarter \
            of it, at least 15s.";
    shutdown: Duration = value::duration, "shutdown-timeout", Time, "10s"
        => "Time for running requests to finish after SIGTERM or SIGINT; 0 aborts them at once. \
            Received bytes are stored in either case.";
    acquire_lock: Duration = value::duration, "acquire-lock-timeout", Time, "20s"
        => "Maximum time that a request waits for an upload that another request writes.";
    request_completion: Duration = value::duration, "request-completion-timeout", Time, "10s"
        => "Time for the work of a request to finish after its connection is closed.";
}

group! {
    /// Limits of connections, requests and memory.
    pub struct Limits at limits;
    max_connections: usize = value::count, "max-connections", Number("COUNT"), "10000"
        => "Maximum open connections; more wait.";
    max_connections_per_address: u32 = value::number,
        "max-connections-per-address", Number("COUNT"), "2048", Reloads
        => "Maximum open connections per client address (IPv6: per /64), and as many concurrent GET requests and \
            half as many requests with a body; 0 is unlimited. More get a 503 response with Retry-After; past twice \
            the limit connections are closed. Loopback addresses, UNIX sockets and trusted proxies are not counted; \
            behind trusted proxies, the forwarded address counts for requests. A fast upload needs up to 256KiB of \
            memory, a download whose client takes nothing 64KiB.";
    max_requests_per_address: u32 = value::number,
        "max-requests-per-address", Number("COUNT"), "1000", Reloads
        => "Maximum average requests per second and client address; 0 is unlimited. More get a 503 \
            response with Retry-After. Behind trusted proxies, the forwarded address counts.";
    min_rate: Option<u64> = value::size_or_none, "min-rate", Size, "16", Protects
        => "Minimum bytes per second of a request body, averaged over --network-timeout, and of a response, averaged over \
            twice this time; 0 is no minimum.";
    max_uploads_in_flight: usize = value::count, "max-uploads-in-flight", Number("COUNT"), "10000"
        => "Maximum concurrent requests that write uploads. Beyond it, stalled and slow requests \
            are ended; if there are none, new ones get a 503 response with Retry-After.";
    max_buffered_bytes: u64 = |v| value::size_within(v, 1 << 20, u64::MAX),
        "max-buffered-bytes", Size, "256MiB"
        => "Memory for bytes that wait to be stored, for all uploads together; at least 1MiB. When \
            it is full, clients are slowed down (backpressure). A quarter as much again is for content of HTTP/2 and \
            HTTP/3 that nobody has read yet. With a bucket, as much again is for parts; it limits uploads to 5,000 \
            times this size.";
}
