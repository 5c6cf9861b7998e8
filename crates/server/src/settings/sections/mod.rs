//! The one list of all settings.
//!
//! Command line, variables, file, `--help`, `landfall config check` and docs/configuration.md
//! all follow from it: whoever adds a setting adds a row here and a field to
//! [`Settings`](super::Settings).

mod direct;
mod grants;
mod hooks;
mod s3;

use super::address;
use super::arguments::Verb;
use super::table::{Kind, OldName, Section, Setting};
use super::types::{AllowOrigin, Compat, Durability, LogFormat, LogLevel};
use super::value;

/// Puts a value that was read into its place.
fn put<T>(place: &mut T, parsed: Result<T, String>) -> Result<(), String> {
    *place = parsed?;
    Ok(())
}

/// An old name whose text means the same under the new one.
const fn same(name: &'static str) -> OldName {
    OldName {
        name,
        translate: |text| Ok(text.to_owned()),
    }
}

/// Milliseconds without a unit, as tusd 1 had them.
fn milliseconds(text: &str) -> Result<String, String> {
    match value::integer(text) {
        Ok(milliseconds) => Ok(format!("{milliseconds}ms")),
        Err(_) => Err(format!(
            "is the old name of --network-timeout and takes milliseconds without a unit; write \
             --network-timeout {text}"
        )),
    }
}

/// The words for [`Durability`].
const COMPAT: &[(&str, Compat)] = &[("strict", Compat::Strict), ("tusd", Compat::Tusd)];

const DURABILITY: &[(&str, Durability)] = &[
    ("none", Durability::None),
    ("complete", Durability::Complete),
    ("every", Durability::Every),
];

/// The words for [`LogFormat`].
const LOG_FORMATS: &[(&str, LogFormat)] = &[("text", LogFormat::Text), ("json", LogFormat::Json)];

/// The words for [`LogLevel`].
const LOG_LEVELS: &[(&str, LogLevel)] = &[
    ("error", LogLevel::Error),
    ("warn", LogLevel::Warn),
    ("info", LogLevel::Info),
    ("debug", LogLevel::Debug),
    ("trace", LogLevel::Trace),
];

/// Who makes use of a section.
const SERVE: &[Verb] = &[Verb::Serve];
const SERVE_AND_SWEEP: &[Verb] = &[Verb::Serve, Verb::Sweep];

/// The sections, in the order in which they are shown.
pub(super) static SECTIONS: &[Section] = &[
    Section {
        title: "Listening",
        verbs: SERVE,
        settings: &[
            Setting::new(
                "host",
                Kind::Text("HOST"),
                "0.0.0.0",
                "Address or host name to listen on.",
                |s, v| put(&mut s.listen.host, address::host(v)),
            ),
            Setting::new(
                "port",
                Kind::Number("PORT"),
                "8080",
                "TCP port to listen on; 0 lets the system choose one, and the start-up line tells \
                 which.",
                |s, v| put(&mut s.listen.port, value::port(v)),
            ),
            Setting::new(
                "unix-sock",
                Kind::Text("FILE"),
                "",
                "Listen on this UNIX socket instead of TCP. A socket given by systemd goes before \
                 both.",
                |s, v| put(&mut s.listen.unix_sock, value::path_or_none(v)),
            ),
            Setting::new(
                "enable-h2c",
                Kind::Switch,
                "false",
                "Accept HTTP/2 without TLS beside HTTP/1.1, from clients that begin with it \
                 (prior knowledge).",
                |s, v| put(&mut s.listen.h2c, value::boolean(v)),
            ),
        ],
    },
    Section {
        title: "URLs and proxies",
        verbs: SERVE,
        settings: &[
            Setting::new(
                "base-path",
                Kind::Text("PATH"),
                "/files/",
                "Path of the URL that uploads are made at and live below.",
                |s, v| put(&mut s.urls.base_path, address::base_path(v)),
            ),
            Setting::new(
                "behind-proxy",
                Kind::Switch,
                "false",
                "Take scheme and host of upload URLs from Forwarded, X-Forwarded-Proto and \
                 X-Forwarded-Host when a trusted proxy sends them.",
                |s, v| put(&mut s.urls.behind_proxy, value::boolean(v)),
            ),
            Setting::new(
                "trusted-proxies",
                Kind::List("NETWORKS"),
                "loopback",
                "Whom --behind-proxy trusts: IP addresses and networks such as 10.0.0.0/8, with \
                 commas between them. The word loopback stands for this machine, and private for \
                 this machine and all private networks, whose hosts can then claim any address. A \
                 peer on a UNIX socket is always trusted.",
                |s, v| put(&mut s.urls.trusted_proxies, address::networks(v)),
            )
            .may_be_empty(),
            Setting::new(
                "public-url",
                Kind::Text("URL"),
                "",
                "What stands before an upload's id in its URL, whatever the request shows, such \
                 as https://uploads.example.com/files/. Not set: made from the request.",
                |s, v| put(&mut s.urls.public_url, address::url_prefix_or_none(v)),
            ),
            Setting::new(
                "relative-location",
                Kind::Switch,
                "false",
                "Give upload URLs as paths, without scheme and host: right behind any proxy that \
                 keeps paths as they are.",
                |s, v| put(&mut s.urls.relative_location, value::boolean(v)),
            ),
        ],
    },
    Section {
        title: "Protocol",
        verbs: SERVE,
        settings: &[
            Setting::new(
                "max-size",
                Kind::Size,
                "0",
                "Largest upload; 0 is without limit.",
                |s, v| put(&mut s.protocol.max_size, value::size_or_none(v)),
            ),
            Setting::new(
                "disable-download",
                Kind::Switch,
                "false",
                "Refuse GET on uploads.",
                |s, v| put(&mut s.protocol.disable_download, value::boolean(v)),
            ),
            Setting::new(
                "disable-unfinished-download",
                Kind::Switch,
                "false",
                "Refuse GET on uploads that are not finished. With pre-finish hooks this is so \
                 anyway.",
                |s, v| {
                    put(
                        &mut s.protocol.disable_unfinished_download,
                        value::boolean(v),
                    )
                },
            ),
            Setting::new(
                "disable-termination",
                Kind::Switch,
                "false",
                "Refuse DELETE on uploads.",
                |s, v| put(&mut s.protocol.disable_termination, value::boolean(v)),
            ),
            Setting::new(
                "disable-concatenation",
                Kind::Switch,
                "false",
                "Refuse uploads that are sent in parallel parts and joined (Upload-Concat).",
                |s, v| put(&mut s.protocol.disable_concatenation, value::boolean(v)),
            ),
            Setting::new(
                "compat",
                Kind::Text("strict|tusd"),
                "strict",
                "How sloppy clients are treated: a malformed pair of Upload-Metadata is answered \
                 400 (strict), or dropped without a word (tusd).",
                |s, v| put(&mut s.protocol.compat, value::choice(v, COMPAT)),
            ),
        ],
    },
    Section {
        title: "Web pages of other sites (CORS)",
        verbs: SERVE,
        settings: &[
            Setting::new(
                "disable-cors",
                Kind::Switch,
                "false",
                "Never look at Origin, never send a CORS header.",
                |s, v| put(&mut s.cors.disable, value::boolean(v)),
            ),
            Setting::new(
                "cors-allow-origin",
                Kind::Text("REGEX"),
                ".*",
                "Regular expression for the origins whose pages may upload; it matches anywhere \
                 in the origin, so write ^ and $ for all of it.",
                |s, v| put(&mut s.cors.allow_origin, AllowOrigin::new(v)),
            ),
            Setting::new(
                "cors-allow-credentials",
                Kind::Switch,
                "false",
                "Let those pages send cookies (Access-Control-Allow-Credentials).",
                |s, v| put(&mut s.cors.allow_credentials, value::boolean(v)),
            ),
            Setting::new(
                "cors-allow-methods",
                Kind::List("METHODS"),
                "",
                "Methods to allow beside the built-in ones, with commas between them.",
                |s, v| put(&mut s.cors.allow_methods, address::methods(v)),
            )
            .may_be_empty(),
            Setting::new(
                "cors-allow-headers",
                Kind::List("HEADERS"),
                "",
                "Request headers to allow beside the built-in ones, with commas between them.",
                |s, v| put(&mut s.cors.allow_headers, address::header_names(v)),
            )
            .may_be_empty(),
            Setting::new(
                "cors-expose-headers",
                Kind::List("HEADERS"),
                "",
                "Response headers to show to pages beside the built-in ones, with commas between \
                 them.",
                |s, v| put(&mut s.cors.expose_headers, address::header_names(v)),
            )
            .may_be_empty(),
            Setting::new(
                "cors-max-age",
                Kind::Text("SECONDS"),
                "86400",
                "How long browsers may remember the answer to a preflight request.",
                |s, v| put(&mut s.cors.max_age, value::seconds(v)),
            ),
        ],
    },
    Section {
        title: "Storage",
        verbs: &[Verb::Serve, Verb::Sweep, Verb::DoctorFiles],
        settings: &[
            Setting::new(
                "upload-dir",
                Kind::Text("DIR"),
                "./data",
                "Directory to keep uploads in, unless there is --s3-bucket; made if missing.",
                |s, v| put(&mut s.storage.upload_dir, value::some_path(v)),
            )
            .once(&[same("dir")]),
            Setting::new(
                "dir-perms",
                Kind::Mode,
                "775",
                "Permissions of new directories, in octal; umask applies.",
                |s, v| put(&mut s.storage.dir_perms, value::permissions(v, 0o300)),
            ),
            Setting::new(
                "file-perms",
                Kind::Mode,
                "664",
                "Permissions of new files, in octal; umask applies.",
                |s, v| put(&mut s.storage.file_perms, value::permissions(v, 0o600)),
            ),
            Setting::new(
                "durability",
                Kind::Text("none|complete|every"),
                "complete",
                "When bytes are forced to the disk: before a finished upload is acknowledged \
                 (complete), before any offset is acknowledged (every), or when the system likes \
                 (none).",
                |s, v| put(&mut s.storage.durability, value::choice(v, DURABILITY)),
            ),
            Setting::new(
                "preallocate",
                Kind::Switch,
                "false",
                "Reserve an upload's disk space as soon as its length is known, so that a full \
                 disk shows at the beginning. Whoever may create uploads can then fill the disk \
                 without sending a byte.",
                |s, v| put(&mut s.storage.preallocate, value::boolean(v)),
            ),
            Setting::new(
                "filelock-holder-poll-interval",
                Kind::Time,
                "100ms",
                "How often a process that writes an upload looks whether another process on the \
                 same directory wants it.",
                |s, v| put(&mut s.storage.lease_holder_poll, value::some_duration(v)),
            ),
            Setting::new(
                "filelock-acquirer-poll-interval",
                Kind::Time,
                "10ms",
                "How often a process that wants an upload from another process tries again.",
                |s, v| put(&mut s.storage.lease_acquirer_poll, value::some_duration(v)),
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
    grants::CALLERS,
    direct::DIRECT,
    grants::ADMIN,
    hooks::STATE,
    Section {
        title: "Expiry",
        verbs: SERVE_AND_SWEEP,
        settings: &[
            Setting::new(
                "expire-unfinished",
                Kind::Time,
                "7d",
                "Delete an unfinished upload when nothing came for this long; 0 keeps it for ever.",
                |s, v| put(&mut s.expiry.unfinished, value::duration_or_none(v)),
            ),
            Setting::new(
                "expire-finished",
                Kind::Time,
                "0",
                "Delete a finished upload this long after its end; 0 keeps it for ever.",
                |s, v| put(&mut s.expiry.finished, value::duration_or_none(v)),
            ),
            Setting::new(
                "expire-orphans",
                Kind::Time,
                "1h",
                "Delete what belongs to no upload, such as the remains of an interrupted creation, \
                 when it is this old; 0 keeps it for ever.",
                |s, v| put(&mut s.expiry.leftovers, value::duration_or_none(v)),
            ),
            Setting::new(
                "sweep-interval",
                Kind::Time,
                "10m",
                "How often the server looks for uploads to delete; 0 leaves that to landfall \
                 sweep.",
                |s, v| put(&mut s.expiry.sweep_interval, value::duration_or_none(v)),
            ),
        ],
    },
    Section {
        title: "Monitoring",
        verbs: SERVE,
        settings: &[
            Setting::new(
                "expose-metrics",
                Kind::Switch,
                "true",
                "Serve metrics for Prometheus.",
                |s, v| put(&mut s.monitoring.expose_metrics, value::boolean(v)),
            ),
            Setting::new(
                "metrics-path",
                Kind::Text("PATH"),
                "/metrics",
                "Path to serve them at.",
                |s, v| put(&mut s.monitoring.metrics_path, address::page_path(v)),
            ),
            Setting::new(
                "show-greeting",
                Kind::Switch,
                "true",
                "Serve the page at / where a person can upload files.",
                |s, v| put(&mut s.monitoring.show_greeting, value::boolean(v)),
            ),
            Setting::new(
                "show-startup-logs",
                Kind::Switch,
                "true",
                "Print the start-up lines, the last of which has the URL to upload to.",
                |s, v| put(&mut s.monitoring.show_startup_logs, value::boolean(v)),
            ),
        ],
    },
    Section {
        title: "Logging",
        verbs: SERVE_AND_SWEEP,
        settings: &[
            Setting::new(
                "log-format",
                Kind::Text("text|json"),
                "text",
                "How log lines are written.",
                |s, v| put(&mut s.log.format, value::choice(v, LOG_FORMATS)),
            ),
            Setting::new(
                "log-level",
                Kind::Text("error|warn|info|debug|trace"),
                "info",
                "How much is logged: each level has all of those before it. debug has a line for \
                 each request.",
                |s, v| put(&mut s.log.level, value::choice(v, LOG_LEVELS)),
            ),
            Setting::new(
                "verbose",
                Kind::Switch,
                "false",
                "Log at least as much as with --log-level debug.",
                // Comes after log-level, so that it can raise it.
                |s, v| {
                    if value::boolean(v)? {
                        s.log.level = s.log.level.max(LogLevel::Debug);
                    }
                    Ok(())
                },
            ),
        ],
    },
    Section {
        title: "Timeouts",
        verbs: SERVE,
        settings: &[
            Setting::new(
                "network-timeout",
                Kind::Time,
                "60s",
                "Close a connection on which nothing moved for this long; 0 never does.",
                |s, v| put(&mut s.timeouts.network, value::duration_or_none(v)),
            )
            .once(&[OldName {
                name: "timeout",
                translate: milliseconds,
            }]),
            Setting::new(
                "shutdown-timeout",
                Kind::Time,
                "10s",
                "How long running requests may go on after SIGTERM or SIGINT; 0 ends them at once. \
                 What they have sent is kept either way.",
                |s, v| put(&mut s.timeouts.shutdown, value::duration(v)),
            ),
            Setting::new(
                "acquire-lock-timeout",
                Kind::Time,
                "20s",
                "How long a request waits for an upload that another request is writing.",
                |s, v| put(&mut s.timeouts.acquire_lock, value::duration(v)),
            ),
            Setting::new(
                "request-completion-timeout",
                Kind::Time,
                "10s",
                "How long the work of a request may go on after its connection is gone.",
                |s, v| put(&mut s.timeouts.request_completion, value::duration(v)),
            ),
        ],
    },
    Section {
        title: "Limits",
        verbs: SERVE,
        settings: &[
            Setting::new(
                "max-connections",
                Kind::Number("COUNT"),
                "10000",
                "Connections open at one time; more have to wait.",
                |s, v| put(&mut s.limits.max_connections, value::count(v)),
            ),
            Setting::new(
                "max-connections-per-address",
                Kind::Number("COUNT"),
                "512",
                "Connections open at one time from one client address (IPv6: one /64); more are answered \
                 429, and closed at once past twice as many. 0 is without limit. Loopback addresses, \
                 UNIX sockets and trusted proxies are not counted.",
                |s, v| put(&mut s.limits.max_connections_per_address, per_address(v)),
            ),
            Setting::new(
                "max-requests-per-address",
                Kind::Number("COUNT"),
                "1000",
                "Requests per second from one client address, on average; more are answered 429 with \
                 Retry-After. 0 is without limit. Behind trusted proxies the address they forward counts.",
                |s, v| put(&mut s.limits.max_requests_per_address, per_address(v)),
            ),
            Setting::new(
                "max-uploads-per-address",
                Kind::Number("COUNT"),
                "128",
                "Requests with a body at one time from one client address, as above; more are answered \
                 429 with Retry-After. 0 is without limit.",
                |s, v| put(&mut s.limits.max_uploads_per_address, per_address(v)),
            ),
            Setting::new(
                "header-timeout",
                Kind::Time,
                "15s",
                "Longest time for the headers of a request to arrive.",
                |s, v| put(&mut s.limits.header_timeout, value::some_duration(v)),
            ),
            Setting::new(
                "max-header-size",
                Kind::Size,
                "64KiB",
                "Size of a request's line and headers together; from 8KiB to 1MiB.",
                |s, v| put(&mut s.limits.max_header_size, header_size(v)),
            ),
            Setting::new(
                "min-rate",
                Kind::Size,
                "16",
                "Bytes a second that a sending client must reach, averaged over --network-timeout; \
                 0 lets it be as slow as it likes.",
                |s, v| put(&mut s.limits.min_rate, value::size_or_none(v)),
            )
            .protects(),
            Setting::new(
                "max-uploads-in-flight",
                Kind::Number("COUNT"),
                "10000",
                "Requests that write uploads at one time. For more, silent and slow ones end; if there are \
                 none, they are answered 503 with Retry-After.",
                |s, v| put(&mut s.limits.max_uploads_in_flight, value::count(v)),
            ),
            Setting::new(
                "max-buffered-bytes",
                Kind::Size,
                "256MiB",
                "Memory for bytes that wait to be stored, all uploads together; at least 1MiB. \
                 When it is full, clients are slowed down.",
                |s, v| {
                    put(
                        &mut s.limits.max_buffered_bytes,
                        value::size_within(v, 1 << 20, u64::MAX),
                    )
                },
            ),
        ],
    },
];

/// A size that the HTTP reader can work with.
fn per_address(text: &str) -> value::Parsed<u32> {
    u32::try_from(value::number(text)?).map_err(|_| format!("{text} is too large"))
}

fn header_size(text: &str) -> Result<usize, String> {
    let bytes = value::size_within(text, 8 << 10, 1 << 20)?;
    usize::try_from(bytes).map_err(|_| format!("{text} is too large"))
}
