//! The protocols: what tus 1.0.0 and the IETF draft require and clients can see, by the checks of
//! `landfall-conformance`. Nothing here knows how a requirement is met; what clients cannot see is tested elsewhere.

use std::{collections::BTreeSet, time::Duration};

use futures_util::{StreamExt as _, stream};
use landfall::{
    Composer, Config,
    store::{
        MemoryStore,
        file::{Durability, FileOptions, FileStore},
    },
};
use landfall_conformance::{
    Check, CheckOutcome, Finding, HttpVersion, InteropVersion, Options, Profile, Report, groups,
    run,
};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::harness::Site;

const MIB: u64 = 1 << 20;
const HOUR: Duration = Duration::from_secs(3600);

/// A server, and the checks that it has to pass.
struct Row {
    name: &'static str,
    store: fn(&TempDir) -> Composer,
    change: fn(&mut Config),
    select: fn(&mut Options),
}

const fn row(
    name: &'static str,
    store: fn(&TempDir) -> Composer,
    change: fn(&mut Config),
    select: fn(&mut Options),
) -> Row {
    Row {
        name,
        store,
        change,
        select,
    }
}

const ROWS: &[Row] = &[
    row("memory", memory, usual, |_| {}),
    row("files", files, usual, |_| {}),
    row("synced files", synced_files, usual, |_| {}),
    row("files over HTTP/2", files, usual, |options| {
        options.http_version = HttpVersion::Http2;
    }),
    row("no limits", files, |_| {}, |_| {}),
    row("limits of requests", files, limited, of_draft),
    row("no version named", memory, usual, version::<0>),
    row("version 3", files, usual, version::<3>),
    row("version 4", memory, usual, version::<4>),
    row("version 5", files, usual, version::<5>),
    row("version 6", memory, usual, version::<6>),
    row("version 6 with limits", memory, limited, version::<6>),
    row("version 7", files, usual, version::<7>),
    row("version 8", memory, usual, version::<8>),
    row("version 9", files, usual, version::<9>),
    row("short lifetime", files, expiring, |options| {
        options.only = vec!["tus/expiration/*expired".into()];
    }),
    row("short lifetime in memory", memory, expiring, |options| {
        options.only = vec!["tus/expiration/*expired".into()];
    }),
    row("no extensions", bare, without_extensions, |options| {
        options.only = vec!["tus/".into()];
    }),
];

/// Hyper, the server of these tests, sends no interim responses, and answers some requests itself. The server of the program
/// passes these checks (`tests/cli/conformance.test.js`).
const NOT_BY_HYPER: &[&str] = &[
    "draft/append/early-rejection-arrives over HTTP/2",
    "draft/append/expect-continue over HTTP/2",
    "draft/creation/expect-continue over HTTP/2",
    "tus/creation-with-upload/expect-continue over HTTP/2",
    "tus/http/missing-host-is-400",
    "tus/patch/expect-continue over HTTP/2",
    // 104:
    "draft/concurrency/head-during-a-creation",
    "draft/interim/all-of-a-creation-have-the-same-location",
    "draft/interim/announces-the-upload",
    "draft/interim/announces-the-upload-over-http2",
    "draft/interim/append-has-no-location",
    "draft/interim/final-response-has-the-same-location",
    "draft/interim/has-limits",
    "draft/interim/location-is-the-upload",
    "draft/interim/next-response-follows",
    "draft/interim/no-content-fields",
    "draft/interim/offsets-are-stored",
    "draft/interim/offsets-do-not-decrease",
    "draft/interim/offsets-of-an-append-are-stored",
    "draft/interruption/bytes-of-a-cut-creation-are-kept",
    "draft/interruption/cut-creation-can-be-resumed",
    "draft/interruption/cut-creation-does-not-complete",
    "draft/interruption/reset-creation-can-be-resumed",
    "draft/versions/104-has-the-version",
];

/// Documented choices, and a field that is only offered for digests that the client sent.
const NOT_PASSED: &[&str] = &[
    "tus/method-override/get-as-delete",
    "draft/options/accept-patch",
    "draft/concurrency/offset-during-chunks-is-not-stale",
    "draft/digests/wanted-digest",
];

fn memory(_: &TempDir) -> Composer {
    Composer::join(MemoryStore::new())
}

fn files(dir: &TempDir) -> Composer {
    Composer::join(FileStore::open(dir.path(), FileOptions::default()).unwrap())
}

/// Offsets count once they are synced.
fn synced_files(dir: &TempDir) -> Composer {
    let mut options = FileOptions::default();
    options.durability = Durability::Every;
    Composer::join(FileStore::open(dir.path(), options).unwrap())
}

fn bare(dir: &TempDir) -> Composer {
    let parts = memory(dir).without_terminator().without_concatenator();
    parts.without_length_deferrer()
}

fn usual(config: &mut Config) {
    config.limits.max_size = Some(10 * MIB);
    config.lifetimes.unfinished = Some(HOUR);
}

fn limited(config: &mut Config) {
    config.limits.max_size = Some(12 * MIB);
    config.limits.min_append_size = Some(8);
    config.limits.max_append_size = Some(11 * MIB);
}

fn expiring(config: &mut Config) {
    config.lifetimes.unfinished = Some(Duration::from_secs(3));
}

fn without_extensions(config: &mut Config) {
    config.disable_checksum = true;
}

fn of_draft(options: &mut Options) {
    options.only = vec!["draft/".into()];
}

/// Of the draft in this version; 0 for requests that name none.
fn version<const NUMBER: u8>(options: &mut Options) {
    of_draft(options);
    options.interop_version = match NUMBER {
        0 => InteropVersion::Absent,
        number => InteropVersion::Number(number),
    };
}

fn checks() -> impl Iterator<Item = &'static Check> {
    let groups = groups().filter(|group| !group.is_chaos);
    groups.flat_map(|group| group.checks)
}

async fn check(row: &Row) -> Report {
    let dir = tempfile::tempdir().unwrap();
    let mut config = Config::new((row.store)(&dir));
    (row.change)(&mut config);
    let site = Site::start(config, Some(dir)).await;
    let endpoint = format!("http://{}/files/", site.address);
    let mut options = Options::new(endpoint.parse().unwrap());
    options.profile = Profile::by_name("landfall");
    options.concurrency = 16;
    // Nothing takes as long, unless it hangs.
    options.timeout = Duration::from_secs(60);
    options.check_timeout = Duration::from_secs(120);
    (row.select)(&mut options);
    let is_http2 = options.http_version == HttpVersion::Http2;
    let is_possible = |check: &&Check| {
        let over_http2 = format!("{} over HTTP/2", check.id);
        let id = if is_http2 { &over_http2 } else { check.id };
        !NOT_BY_HYPER.contains(&check.id) && !NOT_BY_HYPER.contains(&id)
    };
    if options.only.iter().all(|part| !part.contains('*')) {
        let selected = std::mem::take(&mut options.only);
        let is_selected = |check: &&Check| {
            selected.is_empty() || selected.iter().any(|part| check.id.starts_with(part))
        };
        let chosen = checks().filter(is_selected).filter(is_possible);
        options.only = chosen.map(|check| check.id.to_owned()).collect();
    }
    let report = run(options, &CancellationToken::new(), |_| {}).await;
    report.unwrap()
}

fn failure(name: &str, outcome: &CheckOutcome) -> Option<String> {
    let (id, transcript) = (outcome.check.id, &outcome.transcript);
    match &outcome.result {
        Err(Finding::Failed(text) | Finding::Error(text)) => {
            Some(format!("{name}: {id}: {text}\n{transcript}"))
        }
        _ => None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_server_meets_the_requirements() {
    let reports = stream::iter(ROWS).map(async |row| (row.name, check(row).await));
    let reports: Vec<(&str, Report)> = reports.buffer_unordered(4).collect().await;
    let outcomes = || {
        let reports = reports.iter();
        reports.flat_map(|(name, report)| report.outcomes.iter().map(move |one| (*name, one)))
    };
    let failed: Vec<_> = outcomes()
        .filter_map(|(name, outcome)| failure(name, outcome))
        .collect();
    assert!(failed.is_empty(), "{}", failed.join("\n"));

    // A check that applies to none of these servers would be no test.
    let passed: BTreeSet<_> = outcomes()
        .filter(|(_, outcome)| outcome.result.is_ok())
        .map(|(_, outcome)| outcome.check.id)
        .collect();
    let open: Vec<_> = checks()
        .map(|check| check.id)
        .filter(|id| !passed.contains(id) && !NOT_BY_HYPER.contains(id))
        .collect();
    assert_eq!(open, NOT_PASSED);
}
