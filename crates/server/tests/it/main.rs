//! Tests of the program and of its parts, from outside.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod settings;

#[cfg(target_os = "linux")]
mod command_progress;

mod serve_harness;

mod proxy_doctor;

#[cfg(feature = "acme")]
mod serve_acme;
#[cfg(all(feature = "acme", feature = "postgres"))]
mod serve_acme_nodes;
#[cfg(all(feature = "acme", feature = "grants"))]
mod serve_acme_renewal;
mod serve_addresses;
mod serve_compat;
mod serve_concat;
mod serve_concurrency;
mod serve_cors;
mod serve_downloads;
mod serve_expiry;
#[cfg(target_os = "linux")]
mod serve_failing_disk;
mod serve_full_disk;
mod serve_http2;
mod serve_http3;
mod serve_limits;
mod serve_listen;
mod serve_memory;
#[cfg(target_os = "linux")]
mod serve_open_files;
mod serve_outgoing;
mod serve_proxies;
mod serve_proxy_protocol;
mod serve_reload;
mod serve_shutdown;
mod serve_start;
mod serve_streams;
mod serve_systemd;
mod serve_timeouts;
mod serve_tls;
mod serve_volumes;

#[cfg(feature = "hooks-http")]
mod hooks_endpoint;
mod hooks_harness;

mod hooks_blocking;
#[cfg(feature = "hooks-http")]
mod hooks_events;
#[cfg(feature = "hooks-http")]
mod hooks_http;
mod hooks_start;
#[cfg(all(feature = "hooks-http", feature = "otel"))]
mod tools;
mod traces;

#[cfg(feature = "grants")]
mod grants_harness;

#[cfg(feature = "grants")]
mod early_responses;
#[cfg(all(feature = "grants", feature = "hooks-http"))]
mod grants_callers;
#[cfg(all(feature = "grants", feature = "hooks-http", feature = "postgres"))]
mod grants_crash_points;
#[cfg(feature = "grants")]
mod grants_database;
#[cfg(all(feature = "grants", feature = "hooks-http"))]
mod grants_events;
#[cfg(feature = "grants")]
mod grants_flow;
#[cfg(feature = "grants")]
mod grants_start;
#[cfg(all(feature = "grants", feature = "hooks-http"))]
mod progress_channels;

#[cfg(feature = "s3")]
mod s3_harness;
#[cfg(all(feature = "grants", feature = "s3"))]
mod stalled_responses;

#[cfg(feature = "s3")]
mod doctor_damaged;
#[cfg(feature = "s3")]
mod s3_cors;
#[cfg(feature = "s3")]
mod s3_disk;
#[cfg(feature = "s3")]
mod s3_doctor;
#[cfg(feature = "s3")]
mod s3_flows;
#[cfg(all(feature = "s3", feature = "redis", feature = "postgres"))]
mod s3_nodes;
#[cfg(feature = "s3")]
mod s3_permissions;
#[cfg(feature = "s3")]
mod s3_start;
#[cfg(feature = "s3")]
mod s3_sweep;
#[cfg(feature = "s3")]
mod s3_watch;

#[cfg(feature = "direct")]
mod direct_harness;

#[cfg(all(feature = "direct", feature = "hooks-http"))]
mod direct_events;
#[cfg(feature = "direct")]
mod direct_flow;
#[cfg(feature = "direct")]
mod direct_nodes;
#[cfg(feature = "direct")]
mod direct_start;
