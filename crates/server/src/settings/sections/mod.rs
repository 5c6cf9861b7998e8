//! The table of all settings.
//!
//! Command line, variables, file, `--help`, `landfall config check` and docs/configuration.md are
//! generated from it. A new setting needs a row here and a field in [`Settings`](super::Settings).

mod direct;
mod grants;
mod hooks;
mod s3;

use super::address;
use super::cli::Subcommand;
use super::table::{FlagAlias, Kind, Section, Setting};
use super::types::{AllowOrigin, Compat, Durability, LogFormat, LogLevel};
use super::value;

/// Stores a parsed value.
fn assign<T>(field: &mut T, parsed: Result<T, String>) -> Result<(), String> {
    *field = parsed?;
    Ok(())
}

/// Translates the milliseconds of tusd 1.
fn milliseconds(text: &str) -> Result<String, String> {
    match value::integer(text) {
        Ok(milliseconds) => Ok(format!("{milliseconds}ms")),
        Err(_) => Err(format!(
            "expects milliseconds without a unit; write --network-timeout {text}"
        )),
    }
}

const COMPAT: &[(&str, Compat)] = &[("strict", Compat::Strict), ("tusd", Compat::Tusd)];

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

const SERVE: &[Subcommand] = &[Subcommand::Serve];
const SERVE_AND_SWEEP: &[Subcommand] = &[Subcommand::Serve, Subcommand::Sweep];

/// The sections, in the order of the help.
pub(super) static SECTIONS: &[Section] = &[
    Section {
        title: "Listening",
        subcommands: SERVE,
        settings: &[
            Setting::new(
                "host",
                Kind::Text("HOST"),
                "0.0.0.0",
                "Address or host name to listen on.",
                |s, v| assign(&mut s.listen.host, address::host(v)),
            )
            .common(),
            Setting::new(
                "port",
                Kind::Number("PORT"),
                "8080",
                "TCP port to listen on. 0 lets the system choose a port, which the start-up log \
                 prints.",
                |s, v| assign(&mut s.listen.port, value::port(v)),
            )
            .common(),
            Setting::new(
                "unix-sock",
                Kind::Text("FILE"),
                "",
                "Listen on this UNIX socket instead of TCP. A socket passed by systemd takes \
                 precedence.",
                |s, v| assign(&mut s.listen.unix_sock, value::path_or_none(v)),
            ),
            Setting::new(
                "enable-h2c",
                Kind::Switch,
                "false",
                "Accept HTTP/2 without TLS from clients with prior knowledge, in addition to \
                 HTTP/1.1.",
                |s, v| assign(&mut s.listen.h2c, value::boolean(v)),
            ),
        ],
    },
    Section {
        title: "URLs and proxies",
        subcommands: SERVE,
        settings: &[
            Setting::new(
                "base-path",
                Kind::Text("PATH"),
                "/files/",
                "URL path of the upload endpoint.",
                |s, v| assign(&mut s.urls.base_path, address::base_path(v)),
            )
            .common(),
            Setting::new(
                "behind-proxy",
                Kind::Switch,
                "false",
                "Trust forwarded headers of reverse proxies. Scheme and host of upload URLs are \
                 taken from Forwarded, X-Forwarded-Proto and X-Forwarded-Host of \
                 --trusted-proxies.",
                |s, v| assign(&mut s.urls.behind_proxy, value::boolean(v)),
            )
            .common(),
            Setting::new(
                "trusted-proxies",
                Kind::List("NETWORKS"),
                "loopback",
                "Proxies that --behind-proxy trusts, comma-separated: IP addresses, networks \
                 such as 10.0.0.0/8, loopback (this machine), or private (this machine and all \
                 private networks, whose hosts can then forge client addresses). Peers on a UNIX \
                 socket are always trusted.",
                |s, v| assign(&mut s.urls.trusted_proxies, address::networks(v)),
            )
            .may_be_empty(),
            Setting::new(
                "public-url",
                Kind::Text("URL"),
                "",
                "Prefix of upload URLs, such as https://uploads.example.com/files/. Not set: \
                 taken from the request.",
                |s, v| assign(&mut s.urls.public_url, address::url_prefix_or_none(v)),
            ),
            Setting::new(
                "relative-location",
                Kind::Switch,
                "false",
                "Return upload URLs without scheme and host. Correct behind every proxy that \
                 keeps paths unchanged.",
                |s, v| assign(&mut s.urls.relative_location, value::boolean(v)),
            ),
        ],
    },
    Section {
        title: "Protocol",
        subcommands: SERVE,
        settings: &[
            Setting::new(
                "max-size",
                Kind::Size,
                "0",
                "Maximum upload size; 0 is unlimited.",
                |s, v| assign(&mut s.protocol.max_size, value::size_or_none(v)),
            )
            .common(),
            Setting::new(
                "disable-download",
                Kind::Switch,
                "false",
                "Reject GET on uploads.",
                |s, v| assign(&mut s.protocol.disable_download, value::boolean(v)),
            ),
            Setting::new(
                "disable-unfinished-download",
                Kind::Switch,
                "false",
                "Reject GET on unfinished uploads. Blocking hooks for pre-finish imply it.",
                |s, v| {
                    assign(
                        &mut s.protocol.disable_unfinished_download,
                        value::boolean(v),
                    )
                },
            ),
            Setting::new(
                "disable-termination",
                Kind::Switch,
                "false",
                "Reject DELETE on uploads.",
                |s, v| assign(&mut s.protocol.disable_termination, value::boolean(v)),
            ),
            Setting::new(
                "disable-concatenation",
                Kind::Switch,
                "false",
                "Reject concatenation, which parallel uploads use (Upload-Concat).",
                |s, v| assign(&mut s.protocol.disable_concatenation, value::boolean(v)),
            ),
            Setting::new(
                "compat",
                Kind::Text("strict|tusd"),
                "strict",
                "Malformed Upload-Metadata: respond with 400 (strict), or ignore malformed pairs \
                 (tusd).",
                |s, v| assign(&mut s.protocol.compat, value::choice(v, COMPAT)),
            ),
        ],
    },
    Section {
        title: "CORS",
        subcommands: SERVE,
        settings: &[
            Setting::new(
                "disable-cors",
                Kind::Switch,
                "false",
                "Ignore the Origin header, and send no CORS headers.",
                |s, v| assign(&mut s.cors.disable, value::boolean(v)),
            ),
            Setting::new(
                "cors-allow-origin",
                Kind::Text("REGEX"),
                ".*",
                "Regular expression for allowed origins. It matches anywhere in the origin; \
                 write ^ and $ to match all of it.",
                |s, v| assign(&mut s.cors.allow_origin, AllowOrigin::new(v)),
            ),
            Setting::new(
                "cors-allow-credentials",
                Kind::Switch,
                "false",
                "Let pages of allowed origins send cookies (Access-Control-Allow-Credentials).",
                |s, v| assign(&mut s.cors.allow_credentials, value::boolean(v)),
            ),
            Setting::new(
                "cors-allow-methods",
                Kind::List("METHODS"),
                "",
                "Methods to allow in addition to the built-in ones, comma-separated.",
                |s, v| assign(&mut s.cors.allow_methods, address::methods(v)),
            )
            .may_be_empty(),
            Setting::new(
                "cors-allow-headers",
                Kind::List("HEADERS"),
                "",
                "Request headers to allow in addition to the built-in ones, comma-separated.",
                |s, v| assign(&mut s.cors.allow_headers, address::header_names(v)),
            )
            .may_be_empty(),
            Setting::new(
                "cors-expose-headers",
                Kind::List("HEADERS"),
                "",
                "Response headers to expose in addition to the built-in ones, comma-separated.",
                |s, v| assign(&mut s.cors.expose_headers, address::header_names(v)),
            )
            .may_be_empty(),
            Setting::new(
                "cors-max-age",
                Kind::Text("SECONDS"),
                "86400",
                "Time for which browsers may cache a preflight response.",
                |s, v| assign(&mut s.cors.max_age, value::seconds(v)),
            ),
        ],
    },
    Section {
        title: "Storage",
        subcommands: &[
            Subcommand::Serve,
            Subcommand::Sweep,
            Subcommand::DoctorFiles,
        ],
        settings: &[
            Setting::new(
                "upload-dir",
                Kind::Text("DIR"),
                "./data",
                "Directory of uploads, unless --s3-bucket is set. Created if missing.",
                |s, v| assign(&mut s.storage.upload_dir, value::some_path(v)),
            )
            .common()
            .aliases(&[FlagAlias {
                name: "dir",
                translate: |text| Ok(text.to_owned()),
            }]),
            Setting::new(
                "dir-perms",
                Kind::Mode,
                "775",
                "Permissions of new directories in octal; umask applies.",
                |s, v| assign(&mut s.storage.dir_perms, value::permissions(v, 0o300)),
            ),
            Setting::new(
                "file-perms",
                Kind::Mode,
                "664",
                "Permissions of new files in octal; umask applies.",
                |s, v| assign(&mut s.storage.file_perms, value::permissions(v, 0o600)),
            ),
            Setting::new(
                "durability",
                Kind::Text("none|complete|every"),
                "complete",
                "Sync to disk (fsync): before a completed upload is acknowledged (complete), \
                 before every offset is acknowledged (every), or never (none).",
                |s, v| assign(&mut s.storage.durability, value::choice(v, DURABILITY)),
            ),
            Setting::new(
                "preallocate",
                Kind::Switch,
                "false",
                "Reserve the disk space of an upload when its length is known. A full disk is \
                 then reported at creation, but clients can fill the disk without sending a \
                 byte.",
                |s, v| assign(&mut s.storage.preallocate, value::boolean(v)),
            ),
            Setting::new(
                "filelock-holder-poll-interval",
                Kind::Time,
                "100ms",
                "Interval at which a process that holds an upload's lease polls for requests of \
                 other processes on the same directory.",
                |s, v| assign(&mut s.storage.lease_holder_poll, value::some_duration(v)),
            ),
            Setting::new(
                "filelock-acquirer-poll-interval",
                Kind::Time,
                "10ms",
                "Interval at which a process retries to acquire a lease that another process \
                 holds.",
                |s, v| assign(&mut s.storage.lease_acquirer_poll, value::some_duration(v)),
            ),
        ],
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
    Section {
        title: "Expiry",
        subcommands: SERVE_AND_SWEEP,
        settings: &[
            Setting::new(
                "expire-unfinished",
                Kind::Time,
                "7d",
                "Delete unfinished uploads after this time without data; 0 keeps them.",
                |s, v| assign(&mut s.expiry.unfinished, value::duration_or_none(v)),
            )
            .common(),
            Setting::new(
                "expire-finished",
                Kind::Time,
                "0",
                "Delete finished uploads this long after their completion; 0 keeps them.",
                |s, v| assign(&mut s.expiry.finished, value::duration_or_none(v)),
            ),
            Setting::new(
                "expire-orphans",
                Kind::Time,
                "1h",
                "Delete orphaned files and objects older than this, such as those of an \
                 interrupted creation; 0 keeps them.",
                |s, v| assign(&mut s.expiry.orphans, value::duration_or_none(v)),
            ),
            Setting::new(
                "sweep-interval",
                Kind::Time,
                "10m",
                "Interval of the sweeper, which deletes expired uploads; 0 disables it (see \
                 landfall sweep).",
                |s, v| assign(&mut s.expiry.sweep_interval, value::duration_or_none(v)),
            ),
        ],
    },
    Section {
        title: "Monitoring",
        subcommands: SERVE,
        settings: &[
            Setting::new(
                "expose-metrics",
                Kind::Switch,
                "true",
                "Serve metrics for Prometheus.",
                |s, v| assign(&mut s.monitoring.expose_metrics, value::boolean(v)),
            ),
            Setting::new(
                "metrics-path",
                Kind::Text("PATH"),
                "/metrics",
                "Path of the metrics.",
                |s, v| assign(&mut s.monitoring.metrics_path, address::page_path(v)),
            ),
            Setting::new(
                "show-greeting",
                Kind::Switch,
                "true",
                "Serve a page at / for uploading files from a browser.",
                |s, v| assign(&mut s.monitoring.show_greeting, value::boolean(v)),
            ),
            Setting::new(
                "show-startup-logs",
                Kind::Switch,
                "true",
                "Print the start-up log, whose last line has the upload URL.",
                |s, v| assign(&mut s.monitoring.show_startup_logs, value::boolean(v)),
            ),
        ],
    },
    Section {
        title: "Logging",
        subcommands: SERVE_AND_SWEEP,
        settings: &[
            Setting::new(
                "log-format",
                Kind::Text("text|json"),
                "text",
                "Format of log lines.",
                |s, v| assign(&mut s.log.format, value::choice(v, LOG_FORMATS)),
            ),
            Setting::new(
                "log-level",
                Kind::Text("error|warn|info|debug|trace"),
                "info",
                "Log level; each level includes those before it. debug logs every request.",
                |s, v| assign(&mut s.log.level, value::choice(v, LOG_LEVELS)),
            ),
            Setting::new(
                "verbose",
                Kind::Switch,
                "false",
                "Log at level debug or more.",
                // Applied after log-level.
                |s, v| {
                    if value::boolean(v)? {
                        s.log.level = s.log.level.max(LogLevel::Debug);
                    }
                    Ok(())
                },
            )
            .common(),
        ],
    },
    Section {
        title: "Timeouts",
        subcommands: SERVE,
        settings: &[
            Setting::new(
                "network-timeout",
                Kind::Time,
                "60s",
                "Close a connection after this time without progress; 0 never does.",
                |s, v| assign(&mut s.timeouts.network, value::duration_or_none(v)),
            )
            .aliases(&[FlagAlias {
                name: "timeout",
                translate: milliseconds,
            }]),
            Setting::new(
                "shutdown-timeout",
                Kind::Time,
                "10s",
                "Time for running requests to finish after SIGTERM or SIGINT; 0 aborts them at \
                 once. Received bytes are stored in either case.",
                |s, v| assign(&mut s.timeouts.shutdown, value::duration(v)),
            ),
            Setting::new(
                "acquire-lock-timeout",
                Kind::Time,
                "20s",
                "Maximum time that a request waits for an upload that another request writes.",
                |s, v| assign(&mut s.timeouts.acquire_lock, value::duration(v)),
            ),
            Setting::new(
                "request-completion-timeout",
                Kind::Time,
                "10s",
                "Time for the work of a request to finish after its connection is closed.",
                |s, v| assign(&mut s.timeouts.request_completion, value::duration(v)),
            ),
        ],
    },
    Section {
        title: "Limits",
        subcommands: SERVE,
        settings: &[
            Setting::new(
                "max-connections",
                Kind::Number("COUNT"),
                "10000",
                "Maximum open connections; more wait.",
                |s, v| assign(&mut s.limits.max_connections, value::count(v)),
            ),
            Setting::new(
                "max-connections-per-address",
                Kind::Number("COUNT"),
                "512",
                "Maximum open connections per client address (IPv6: per /64); 0 is unlimited. \
                 More get a 429 response; past twice the limit they are closed. Loopback \
                 addresses, UNIX sockets and trusted proxies are not counted.",
                |s, v| assign(&mut s.limits.max_connections_per_address, per_address(v)),
            ),
            Setting::new(
                "max-requests-per-address",
                Kind::Number("COUNT"),
                "1000",
                "Maximum average requests per second and client address; 0 is unlimited. More \
                 get a 429 response with Retry-After. Behind trusted proxies, the forwarded \
                 address counts.",
                |s, v| assign(&mut s.limits.max_requests_per_address, per_address(v)),
            ),
            Setting::new(
                "max-uploads-per-address",
                Kind::Number("COUNT"),
                "128",
                "Maximum concurrent requests with a body per client address; 0 is unlimited. \
                 More get a 429 response with Retry-After. Behind trusted proxies, the forwarded \
                 address counts.",
                |s, v| assign(&mut s.limits.max_uploads_per_address, per_address(v)),
            ),
            Setting::new(
                "header-timeout",
                Kind::Time,
                "15s",
                "Maximum time for the head of a request to arrive.",
                |s, v| assign(&mut s.limits.header_timeout, value::some_duration(v)),
            ),
            Setting::new(
                "max-header-size",
                Kind::Size,
                "64KiB",
                "Maximum size of a request's head, from 8KiB to 1MiB.",
                |s, v| assign(&mut s.limits.max_header_size, header_size(v)),
            ),
            Setting::new(
                "min-rate",
                Kind::Size,
                "16",
                "Minimum bytes per second of a request body, averaged over --network-timeout; 0 \
                 is no minimum.",
                |s, v| assign(&mut s.limits.min_rate, value::size_or_none(v)),
            )
            .protects(),
            Setting::new(
                "max-uploads-in-flight",
                Kind::Number("COUNT"),
                "10000",
                "Maximum concurrent requests that write uploads. Beyond it, stalled and slow \
                 requests are ended; if there are none, new ones get a 503 response with \
                 Retry-After.",
                |s, v| assign(&mut s.limits.max_uploads_in_flight, value::count(v)),
            ),
            Setting::new(
                "max-buffered-bytes",
                Kind::Size,
                "256MiB",
                "Memory for bytes that wait to be stored, for all uploads together; at least \
                 1MiB. When it is full, clients are slowed down (backpressure).",
                |s, v| {
                    assign(
                        &mut s.limits.max_buffered_bytes,
                        value::size_within(v, 1 << 20, u64::MAX),
                    )
                },
            ),
        ],
    },
];

fn per_address(text: &str) -> value::Parsed<u32> {
    u32::try_from(value::number(text)?).map_err(|_| format!("{text} is too large"))
}

fn header_size(text: &str) -> Result<usize, String> {
    let bytes = value::size_within(text, 8 << 10, 1 << 20)?;
    usize::try_from(bytes).map_err(|_| format!("{text} is too large"))
}
