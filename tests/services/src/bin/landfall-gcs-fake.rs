//! The fake of Google Cloud Storage as a program, for tests and measurements that are not in Rust.
//!
//! `landfall-gcs-fake PORT BUCKET...` serves on 127.0.0.1 until it is killed. Its metadata server, on the same port, issues
//! the token that it accepts: clients find it by `GCE_METADATA_HOST`. It must add nothing to the fake.

use std::{env, process::ExitCode, thread};

use landfall_test_services::GcsFake;

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let parsed = arguments
        .split_first()
        .and_then(|(port, buckets)| Some((port.parse().ok()?, buckets)));
    let Some((port, buckets)) = parsed else {
        eprintln!("usage: landfall-gcs-fake PORT BUCKET...");
        return ExitCode::from(2);
    };
    let buckets: Vec<_> = buckets.iter().map(String::as_str).collect();
    let _fake = GcsFake::start_on(port, &buckets);
    loop {
        thread::park();
    }
}
