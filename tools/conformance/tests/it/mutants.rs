//! The reference passes all checks, and each mutant fails the check of its fault.

use std::time::Duration;

use landfall_conformance::{CheckOutcome, Finding, Level, Options, Report, run};
use tokio_util::sync::CancellationToken;

use crate::reference::{Mutant, Reference};

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn options(server: &Reference, only: &str) -> Options {
    let mut options = Options::new(server.url.clone());
    options
        .only
        .extend((!only.is_empty()).then(|| only.to_owned()));
    options.seed = 7;
    options
}

pub(crate) async fn check(options: Options) -> Report {
    run(options, &CancellationToken::new(), |_| {})
        .await
        .unwrap()
}

fn describe(outcomes: &[&CheckOutcome]) -> String {
    let line = |outcome: &&CheckOutcome| {
        let (id, result) = (outcome.check.id, &outcome.result);
        format!("{id}: {result:?}\n{}\n", outcome.transcript)
    };
    outcomes.iter().map(line).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn reference_passes_all_checks() {
    let server = Reference::start(None, HOUR).await;
    let mut options = options(&server, "");
    options.chaos = true;
    let report = check(options).await;
    let passed = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.result.is_ok())
        .count();
    let others: Vec<_> = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.result.is_err())
        .collect();
    // Only what waits for the end of an hour is skipped.
    let is_expected = |outcome: &&CheckOutcome| {
        matches!(outcome.result, Err(Finding::Skipped(_)))
            && outcome.check.id.starts_with("tus/expiration/")
    };
    assert!(others.iter().all(is_expected), "{}", describe(&others));
    assert!(passed > 300, "only {passed} checks passed");
    assert!(report.is_conformant());
    assert_eq!(report.cleanup.remaining, 0);
    assert_eq!(server.uploads(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn reference_passes_the_checks_of_expired_uploads() {
    let server = Reference::start(None, Duration::from_secs(3)).await;
    let report = check(options(&server, "tus/expiration/*expired")).await;
    assert_eq!(report.outcomes.len(), 2);
    let others: Vec<_> = report
        .outcomes
        .iter()
        .filter(|outcome| outcome.result.is_err())
        .collect();
    assert!(others.is_empty(), "{}", describe(&others));
}

/// Each mutant with the check that has to fail.
const MUTANTS: &[(Mutant, &str)] = &[
    (Mutant::OptionsIsNotFound, "tus/options/succeeds"),
    (Mutant::OptionsWithoutVersion, "tus/options/has-version"),
    (
        Mutant::OptionsChecksVersion,
        "tus/options/ignores-the-clients-version",
    ),
    (
        Mutant::ErrorsWithoutTusResumable,
        "tus/version/not-found-has-tus-resumable",
    ),
    (
        Mutant::AnyVersion,
        "tus/version/unsupported-creation-is-412",
    ),
    (
        Mutant::RejectionWithoutVersions,
        "tus/version/creation-412-has-tus-version",
    ),
    (
        Mutant::DeletesInOtherVersions,
        "tus/version/unsupported-delete-removes-nothing",
    ),
    (Mutant::HeadIsCacheable, "tus/head/no-store"),
    (
        Mutant::HeadWithoutOffsetZero,
        "tus/head/offset-of-new-upload",
    ),
    (
        Mutant::HeadWithoutLengthAtTheEnd,
        "tus/head/length-of-complete-upload",
    ),
    (
        Mutant::UnknownUploadHasOffset,
        "tus/head/unknown-upload-has-no-offset",
    ),
    (Mutant::PatchIs200, "tus/patch/succeeds-with-204"),
    (
        Mutant::AnyContentType,
        "tus/patch/other-content-type-is-415",
    ),
    (
        Mutant::LowerOffsetTruncates,
        "tus/patch/lower-offset-is-409",
    ),
    (
        Mutant::HigherOffsetAppends,
        "tus/patch/higher-offset-is-409",
    ),
    (
        Mutant::PatchReturnsBytesOfRequest,
        "tus/patch/second-patch-returns-the-sum",
    ),
    (
        Mutant::LengthIsNoLimit,
        "tus/patch/offset-stays-below-the-length",
    ),
    (
        Mutant::InterruptedDataIsDropped,
        "tus/interruption/close-keeps-data",
    ),
    (
        Mutant::InterruptedDataIsDropped,
        "tus/interruption/acknowledged-bytes-are-kept",
    ),
    (
        Mutant::InterruptedRequestIsForgotten,
        "tus/interruption/reported-bytes-are-kept",
    ),
    (
        Mutant::RejectionForgetsData,
        "tus/patch/rejected-requests-keep-the-offset",
    ),
    (
        Mutant::InterruptedDataIsDamaged,
        "tus/interruption/resume-after-close",
    ),
    (
        Mutant::InterruptedOffsetIsDeclared,
        "tus/interruption/offset-is-not-above-the-data",
    ),
    (
        Mutant::CutChunksComplete,
        "tus/interruption/cut-chunked-is-not-complete",
    ),
    (
        Mutant::WritersAreNotExclusive,
        "tus/interruption/stalled-request-adds-nothing",
    ),
    (
        Mutant::OverrideIsIgnored,
        "tus/method-override/post-as-patch",
    ),
    (
        Mutant::OverrideOfPostAlone,
        "tus/method-override/put-as-patch",
    ),
    (
        Mutant::OverrideOfPostAlone,
        "tus/method-override/delete-as-patch",
    ),
    (
        Mutant::GzipIsDecoded,
        "tus/patch/content-encoding-is-not-decoded",
    ),
    (Mutant::InterimForTus, "tus/http/no-104"),
    (
        Mutant::MaxSizeIsNotReported,
        "tus/options/max-size-is-reported",
    ),
    (Mutant::CreationIs200, "tus/creation/succeeds-with-201"),
    (Mutant::CreationWithoutLocation, "tus/creation/has-location"),
    (
        Mutant::NegativeLengthIsZero,
        "tus/creation/negative-length-is-rejected",
    ),
    (Mutant::MaxSizeIsIgnored, "tus/creation/too-large-is-413"),
    (
        Mutant::EmptyMetadataIsDropped,
        "tus/metadata/key-without-value",
    ),
    (
        Mutant::CreationCountsUnstoredData,
        "tus/creation-with-upload/offset-is-that-of-head",
    ),
    (
        Mutant::DeferLengthStays,
        "tus/creation-defer-length/known-length-has-no-defer-length",
    ),
    (
        Mutant::LengthChanges,
        "tus/creation-defer-length/length-does-not-grow",
    ),
    (
        Mutant::DeferLengthOfAnyValue,
        "tus/creation-defer-length/2-is-400",
    ),
    (Mutant::ExpiresIsANumber, "tus/expiration/is-an-http-date"),
    (
        Mutant::PatchWithoutExpires,
        "tus/expiration/patch-has-upload-expires",
    ),
    (
        Mutant::ExpiredUploadsStay,
        "tus/expiration/expired-upload-is-gone",
    ),
    (Mutant::ChecksumIsNotVerified, "tus/checksum/sha1-mismatch"),
    (
        Mutant::MismatchKeepsData,
        "tus/checksum/mismatch-can-be-repeated",
    ),
    (
        Mutant::UnknownAlgorithmIsIgnored,
        "tus/checksum/unknown-algorithm-discards",
    ),
    (Mutant::TrailerIsIgnored, "tus/checksum-trailer/mismatch"),
    (Mutant::DeleteIs200, "tus/termination/succeeds-with-204"),
    (
        Mutant::DeletedUploadsStay,
        "tus/termination/head-is-not-found",
    ),
    (
        Mutant::FinalUploadConflicts,
        "tus/concatenation/patch-on-final-upload-is-403",
    ),
    (
        Mutant::PartsAreSorted,
        "tus/concatenation/order-of-the-list",
    ),
    (
        Mutant::FinalUploadWithoutConcat,
        "tus/concatenation/final-upload-has-upload-concat",
    ),
    (
        Mutant::PartMetadataIsCopied,
        "tus/concatenation/metadata-is-not-copied",
    ),
    (
        Mutant::UnfinishedFinalHasOffset,
        "tus/concatenation-unfinished/no-offset-before",
    ),
];

#[tokio::test(flavor = "multi_thread")]
async fn each_mutant_fails_the_check_of_its_fault() {
    let mut missed = Vec::new();
    for (mutant, id) in MUTANTS {
        let lifetime = match mutant {
            Mutant::ExpiredUploadsStay => Duration::from_secs(2),
            _ => HOUR,
        };
        let server = Reference::start(Some(*mutant), lifetime).await;
        let report = check(options(&server, id)).await;
        let outcome = report
            .outcomes
            .iter()
            .find(|outcome| outcome.check.id == *id);
        let outcome = outcome.unwrap_or_else(|| panic!("there is no check {id}"));
        if !matches!(outcome.result, Err(Finding::Failed(_))) {
            missed.push(format!(
                "{mutant:?} is not caught by {id}: {:?}",
                outcome.result
            ));
        }
        if outcome.check.level == Level::Must && report.is_conformant() {
            missed.push(format!("{mutant:?} is conformant"));
        }
    }
    assert!(missed.is_empty(), "{missed:#?}");
}
