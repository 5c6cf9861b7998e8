//! The table of all settings.
//!
//! Command line, variables, file, `--help`, `landfall config check` and docs/configuration.md are
//! generated from it. A new setting needs a row here and a field in [`Settings`](super::Settings).

mod direct;
mod grants;
mod hooks;
mod s3;

use super::address;
use super::table::{Section, Setting, section};
use super::types::{AllowOrigin, Durability, LogFormat, LogLevel};
use super::value;

/// Returns all settings, in the order of the help.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    SECTIONS.iter().flat_map(|section| section.settings)
}

/// Returns the setting with this name.
pub(super) fn setting(name: &str) -> Option<&'static Setting> {
    settings().find(|setting| setting.name == name)
}

fn unchanged(text: &str) -> value::Parsed<String> {
    Ok(text.to_owned())
}

/// Translates the milliseconds of tusd 1.
fn milliseconds(text: &str) -> value::Parsed<String> {
    match value::integer(text) {
        Ok(milliseconds) => Ok(format!("{milliseconds}ms")),
        Err(_) => Err(format!(
            "expects milliseconds without a unit; write --network-timeout {text}"
        )),
    }
}

/// The value is whether to ignore malformed metadata.
const COMPAT: &[(&str, bool)] = &[("strict", false), ("tusd", true)];

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

/// The sections, in the order of the help.
pub(super) static SECTIONS: &[Section] = &[
    section! { "Listening", [Serve];
        "host", Text("HOST"), "0.0.0.0", listen.host = address::host, Common
            => "Address or host name to listen on.";
        "port", Number("PORT"), "8080", listen.port = value::port, Common
            => "TCP port to listen on. 0 lets the system choose a port, which the start-up log \
                prints.";
        "unix-sock", Text("FILE"), "", listen.unix_sock = value::path_or_none
            => "Listen on this UNIX socket instead of TCP. A socket passed by systemd takes \
                precedence.";
        "enable-h2c", Switch, "false", listen.h2c = value::boolean
            => "Accept HTTP/2 without TLS from clients with prior knowledge, in addition to \
                HTTP/1.1.";
    },
    section! { "URLs and proxies", [Serve];
        "base-path", Text("PATH"), "/files/", urls.base_path = address::base_path, Common
            => "URL path of the upload endpoint.";
        "behind-proxy", Switch, "false", urls.behind_proxy = value::boolean, Common
            => "Trust forwarded headers of reverse proxies. Scheme and host of upload URLs are \
                taken from Forwarded, X-Forwarded-Proto and X-Forwarded-Host of --trusted-proxies.";
        "trusted-proxies", List("NETWORKS"), "loopback",
            urls.trusted_proxies = address::networks, MayBeEmpty
            => "Proxies that --behind-proxy trusts, comma-separated: IP addresses, networks such \
                as 10.0.0.0/8, loopback (this machine), or private (this machine and all private \
                networks, whose hosts can then forge client addresses). Peers on a UNIX socket are \
                always trusted.";
        "public-url", Text("URL"), "", urls.public_url = address::url_prefix_or_none
            => "Prefix of upload URLs, such as https://uploads.example.com/files/. Not set: taken \
                from the request.";
        "relative-location", Switch, "false", urls.relative_location = value::boolean
            => "Return upload URLs without scheme and host. Correct behind every proxy that keeps \
                paths unchanged.";
    },
    section! { "Protocol", [Serve];
        "max-size", Size, "0", protocol.max_size = value::size_or_none, Common
            => "Maximum upload size; 0 is unlimited.";
        "disable-download", Switch, "false", protocol.disable_download = value::boolean
            => "Reject GET on uploads.";
        "disable-unfinished-download", Switch, "false",
            protocol.disable_unfinished_download = value::boolean
            => "Reject GET on unfinished uploads. Blocking hooks for pre-finish imply it.";
        "disable-termination", Switch, "false", protocol.disable_termination = value::boolean
            => "Reject DELETE on uploads.";
        "disable-concatenation", Switch, "false", protocol.disable_concatenation = value::boolean
            => "Reject concatenation, which parallel uploads use (Upload-Concat).";
        "compat", Text("strict|tusd"), "strict",
            protocol.lenient_metadata = |v| value::choice(v, COMPAT)
            => "Malformed Upload-Metadata: respond with 400 (strict), or ignore malformed pairs \
                (tusd).";
    },
    section! { "CORS", [Serve];
        "disable-cors", Switch, "false", cors.disable = value::boolean
            => "Ignore the Origin header, and send no CORS headers.";
        "cors-allow-origin", Text("REGEX"), ".*", cors.allow_origin = AllowOrigin::new
            => "Regular expression for allowed origins. It matches anywhere in the origin; write ^ \
                and $ to match all of it.";
        "cors-allow-credentials", Switch, "false", cors.allow_credentials = value::boolean
            => "Let pages of allowed origins send cookies (Access-Control-Allow-Credentials).";
        "cors-allow-methods", List("METHODS"), "",
            cors.allow_methods = address::methods, MayBeEmpty
            => "Methods to allow in addition to the built-in ones, comma-separated.";
        "cors-allow-headers", List("HEADERS"), "",
            cors.allow_headers = address::header_names, MayBeEmpty
            => "Request headers to allow in addition to the built-in ones, comma-separated.";
        "cors-expose-headers", List("HEADERS"), "",
            cors.expose_headers = address::header_names, MayBeEmpty
            => "Response headers to expose in addition to the built-in ones, comma-separated.";
        "cors-max-age", Text("SECONDS"), "86400", cors.max_age = value::seconds
            => "Time for which browsers may cache a preflight response.";
    },
    section! { "Storage", [Serve, Sweep, DoctorFiles];
        "upload-dir", Text("DIR"), "./data",
            storage.upload_dir = value::some_path, Common; alias "dir" by unchanged
            => "Directory of uploads, unless --s3-bucket is set. Created if missing.";
        "dir-perms", Mode, "775", storage.dir_perms = |v| value::permissions(v, 0o300)
            => "Permissions of new directories in octal; umask applies.";
        "file-perms", Mode, "664", storage.file_perms = |v| value::permissions(v, 0o600)
            => "Permissions of new files in octal; umask applies.";
        "durability", Text("none|complete|every"), "complete",
            storage.durability = |v| value::choice(v, DURABILITY)
            => "Sync to disk (fsync): before a completed upload is acknowledged (complete), before \
                every offset is acknowledged (every), or never (none).";
        "preallocate", Switch, "false", storage.preallocate = value::boolean
            => "Reserve the disk space of an upload when its length is known. A full disk is then \
                reported at creation, but clients can fill the disk without sending a byte.";
        "filelock-holder-poll-interval", Time, "100ms",
            storage.lease_holder_poll = value::some_duration
            => "Interval at which a process that holds an upload's lease polls for requests of \
                other processes on the same directory.";
        "filelock-acquirer-poll-interval", Time, "10ms",
            storage.lease_acquirer_poll = value::some_duration
            => "Interval at which a process retries to acquire a lease that another process holds.";
    },
    s3::S3,
    s3::LEASES,
    hooks::HOOKS,
    hooks::COMMAND,
    hooks::HTTP,
    hooks::GRPC,
    hooks::WASM,
    hooks::BROKERS,
    hooks::OUTBOX,
    grants::GRANTS,
    grants::AUTHENTICATION,
    direct::DIRECT,
    grants::ADMIN,
    hooks::STATE,
    section! { "Expiry", [Serve, Sweep];
        "expire-unfinished", Time, "7d", expiry.unfinished = value::duration_or_none, Common
            => "Delete unfinished uploads after this time without data; 0 keeps them.";
        "expire-finished", Time, "0", expiry.finished = value::duration_or_none
            => "Delete finished uploads this long after their completion; 0 keeps them.";
        "expire-orphans", Time, "1h", expiry.orphans = value::duration_or_none
            => "Delete orphaned files and objects older than this, such as those of an interrupted \
                creation; 0 keeps them.";
        "sweep-interval", Time, "10m", expiry.sweep_interval = value::duration_or_none
            => "Interval of the sweeper, which deletes expired uploads; 0 disables it (see \
                landfall sweep).";
    },
    section! { "Monitoring", [Serve];
        "expose-metrics", Switch, "true", monitoring.expose_metrics = value::boolean
            => "Serve metrics for Prometheus.";
        "metrics-path", Text("PATH"), "/metrics", monitoring.metrics_path = address::page_path
            => "Path of the metrics.";
        "show-greeting", Switch, "true", monitoring.show_greeting = value::boolean
            => "Serve a page at / for uploading files from a browser.";
        "show-startup-logs", Switch, "true", monitoring.show_startup_logs = value::boolean
            => "Print the start-up log, whose last line has the upload URL.";
    },
    section! { "Logging", [Serve, Sweep];
        "log-format", Text("text|json"), "text", log.format = |v| value::choice(v, LOG_FORMATS)
            => "Format of log lines.";
        "log-level", Text("error|warn|info|debug|trace"), "info",
            log.level = |v| value::choice(v, LOG_LEVELS)
            => "Log level; each level includes those before it. debug logs every request.";
        "verbose", Switch, "false",
            log.verbose = value::boolean, Common
            => "Log at level debug or more.";
    },
    section! { "Timeouts", [Serve];
        "network-timeout", Time, "60s",
            timeouts.network = value::duration_or_none; alias "timeout" by milliseconds
            => "Close a connection after this time without progress; 0 never does.";
        "shutdown-timeout", Time, "10s", timeouts.shutdown = value::duration
            => "Time for running requests to finish after SIGTERM or SIGINT; 0 aborts them at \
                once. Received bytes are stored in either case.";
        "acquire-lock-timeout", Time, "20s", timeouts.acquire_lock = value::duration
            => "Maximum time that a request waits for an upload that another request writes.";
        "request-completion-timeout", Time, "10s", timeouts.request_completion = value::duration
            => "Time for the work of a request to finish after its connection is closed.";
    },
    section! { "Limits", [Serve];
        "max-connections", Number("COUNT"), "10000", limits.max_connections = value::count
            => "Maximum open connections; more wait.";
        "max-connections-per-address", Number("COUNT"), "512",
            limits.max_connections_per_address = value::number
            => "Maximum open connections per client address (IPv6: per /64); 0 is unlimited. More \
                get a 429 response; past twice the limit they are closed. Loopback addresses, UNIX \
                sockets and trusted proxies are not counted.";
        "max-requests-per-address", Number("COUNT"), "1000",
            limits.max_requests_per_address = value::number
            => "Maximum average requests per second and client address; 0 is unlimited. More get a \
                429 response with Retry-After. Behind trusted proxies, the forwarded address \
                counts.";
        "max-uploads-per-address", Number("COUNT"), "128",
            limits.max_uploads_per_address = value::number
            => "Maximum concurrent requests with a body per client address; 0 is unlimited. More \
                get a 429 response with Retry-After. Behind trusted proxies, the forwarded address \
                counts.";
        "header-timeout", Time, "15s", limits.header_timeout = value::some_duration
            => "Maximum time for the head of a request to arrive.";
        "max-header-size", Size, "64KiB",
            limits.max_header_size = |v| value::size_within(v, 8 << 10, 1 << 20)
            => "Maximum size of a request's head, from 8KiB to 1MiB.";
        "min-rate", Size, "16", limits.min_rate = value::size_or_none, Protects
            => "Minimum bytes per second of a request body, averaged over --network-timeout; 0 is \
                no minimum.";
        "max-uploads-in-flight", Number("COUNT"), "10000",
            limits.max_uploads_in_flight = value::count
            => "Maximum concurrent requests that write uploads. Beyond it, stalled and slow \
                requests are ended; if there are none, new ones get a 503 response with \
                Retry-After.";
        "max-buffered-bytes", Size, "256MiB",
            limits.max_buffered_bytes = |v| value::size_within(v, 1 << 20, u64::MAX)
            => "Memory for bytes that wait to be stored, for all uploads together; at least 1MiB. \
                When it is full, clients are slowed down (backpressure).";
    },
];
