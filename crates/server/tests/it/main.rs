//! Tests of the program and of its parts, from outside.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod settings;

#[cfg(target_os = "linux")]
mod command_progress;

mod serve_harness;

mod proxy_doctor;

mod serve_acme;
mod serve_acme_nodes;
mod serve_acme_renewal;
mod serve_addresses;
mod serve_clouds;
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

mod hooks_endpoint;
mod hooks_harness;

mod hooks_blocking;
mod hooks_events;
mod hooks_http;
mod hooks_start;
#[cfg(feature = "full")]
mod tools;
mod traces;

mod grants_harness;

mod early_responses;
mod grants_callers;
mod grants_crash_points;
mod grants_database;
mod grants_events;
mod grants_flow;
mod grants_links;
mod grants_start;
mod progress_channels;

mod s3_harness;
mod stalled_responses;

mod cloud_doctor;
mod doctor_damaged;
mod s3_cors;
mod s3_disk;
mod s3_doctor;
mod s3_flows;
mod s3_nodes;
mod s3_permissions;
mod s3_start;
mod s3_sweep;
mod s3_watch;

mod direct_harness;

mod direct_clouds;
mod direct_events;
mod direct_flow;
mod direct_nodes;
mod direct_start;
