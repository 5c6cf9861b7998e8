//! The checks of the draft, tested on a reference server and its faults.

mod content;
mod http;
mod mutant;
mod proxy;
mod reference;
mod tus;

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt as _, stream};
use landfall_conformance::{Finding, HttpVersion, Options, Protocol, Report, run};
use tokio_util::sync::CancellationToken;

use self::mutant::Mutant;
use self::reference::{Server, Sizes};

/// Limits that all checks of limits apply to.
const LIMITED: Sizes = Sizes {
    max_size: 12 << 20,
    max_append: 11 << 20,
    min_append: 8,
};

async fn options(sizes: Sizes, mutant: Option<Mutant>, only: &[&str]) -> Options {
    let mut options = Options::new(Server::start(sizes, mutant).await);
    options.protocols = Some(BTreeSet::from([Protocol::Draft]));
    options.only = only.iter().map(|&id| id.to_owned()).collect();
    options.concurrency = 16;
    if mutant.is_none() {
        // Nothing takes as long, unless it hangs.
        options.timeout = Duration::from_secs(60);
    }
    options
}

async fn check(sizes: Sizes, mutant: Option<Mutant>, only: &[&str]) -> Report {
    let options = options(sizes, mutant, only).await;
    run(options, &CancellationToken::new(), |_| {})
        .await
        .unwrap()
}

/// Fails with the transcripts of checks that failed, or were skipped for a reason that does not hold.
fn expect_conformant(report: &Report, reasons: &[&str]) {
    assert!(!report.outcomes.is_empty());
    for outcome in &report.outcomes {
        let (id, transcript) = (outcome.check.id, &outcome.transcript);
        match &outcome.result {
            Ok(()) => {}
            Err(Finding::Skipped(reason)) => {
                let is_expected = reasons.iter().any(|expected| reason.contains(expected));
                assert!(is_expected, "{id} was skipped: {reason}");
            }
            Err(finding) => panic!("{id}: {finding}\n{transcript}"),
        }
    }
    assert_eq!(report.cleanup.remaining, 0);
}

const OTHER_VERSIONS: &[&str] = &["has no such rule", "does not accept this version"];

#[tokio::test(flavor = "multi_thread")]
async fn a_server_without_limits_passes() {
    let report = check(Sizes::default(), None, &[]).await;
    let others = ["the server reports no m", "has no limit of the size"];
    let reasons = [OTHER_VERSIONS, &others].concat();
    expect_conformant(&report, &reasons);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_limits_passes() {
    let report = check(LIMITED, None, &[]).await;
    let reasons = [OTHER_VERSIONS, &["min-append-size is above 0"]].concat();
    expect_conformant(&report, &reasons);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_passes_over_http2() {
    let mut options = options(LIMITED, None, &[]).await;
    options.http_version = HttpVersion::Http2;
    let report = run(options, &CancellationToken::new(), |_| {}).await;
    let others = ["min-append-size is above 0", "needs HTTP/1.1"];
    expect_conformant(&report.unwrap(), &[OTHER_VERSIONS, &others].concat());
}

/// Its OPTIONS does not show that it speaks the draft.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_tells_no_limit_is_found_by_its_creations() {
    let only = "draft/options/has-limits";
    let mut options = options(LIMITED, Some(Mutant::TellsNoLimit), &[only]).await;
    options.protocols = None;
    let report = run(options, &CancellationToken::new(), |_| {}).await;
    let report = report.unwrap();
    let found: Vec<_> = report.outcomes.iter().map(|one| &one.result).collect();
    assert!(
        matches!(found.as_slice(), [Err(Finding::Failed(_))]),
        "{found:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_found_by_its_check() {
    let results = stream::iter(Mutant::ALL).map(async |(mutant, id)| {
        let report = check(LIMITED, Some(*mutant), &[id]).await;
        let outcome = report
            .outcomes
            .iter()
            .find(|outcome| outcome.check.id == *id);
        (mutant, id, outcome.expect(id).result.clone())
    });
    let mut results = results.buffered(8);
    while let Some((mutant, id, result)) = results.next().await {
        assert!(
            matches!(result, Err(Finding::Failed(_))),
            "{mutant:?}: {id} is {result:?}"
        );
    }
}
