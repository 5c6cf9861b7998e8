//! The formats of reports.

use std::time::Duration;

use landfall_conformance::report::{Text, badge, json, junit};

use crate::mutants::{check, options};
use crate::reference::{Mutant, Reference};

#[tokio::test]
async fn reports_name_the_failure_with_its_requests() {
    let server = Reference::start(Some(Mutant::CreationIs200), Duration::from_secs(60)).await;
    let mut options = options(&server, "tus/creation/succeeds-with-201");
    options
        .headers
        .push(("Authorization".to_owned(), "secret-value".to_owned()));
    let report = check(options).await;

    let mut text = Vec::new();
    let mut writer = Text::new(&mut text, false);
    report
        .outcomes
        .iter()
        .for_each(|outcome| writer.line(outcome).unwrap());
    writer.summary(&report).unwrap();
    let text = String::from_utf8(text).unwrap();
    for expected in [
        "tus 1.0.0, Creation",
        "failed     MUST   tus/creation/succeeds-with-201",
        "(tus 1.0.0, Creation, POST)",
        "the status is 200, not 201",
        "> POST /files/ HTTP/1.1",
        "> Authorization: (from --header)",
        "< HTTP/1.1 200 Reference",
        "MUST      0 passed    1 failed",
    ] {
        assert!(text.contains(expected), "{expected:?} is not in:\n{text}");
    }

    let json = json(&report);
    let value: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(value["conformant"], false);
    assert_eq!(value["must"]["failed"], 1);
    assert_eq!(value["checks"][0]["result"], "failed");
    assert_eq!(value["checks"][0]["message"], "the status is 200, not 201");

    let junit = junit(&report);
    assert!(
        junit.contains("tests=\"1\" failures=\"1\" errors=\"0\" skipped=\"0\""),
        "{junit}"
    );
    assert!(
        junit.contains("<failure message=\"the status is 200, not 201\">"),
        "{junit}"
    );
    assert!(junit.contains("&lt; HTTP/1.1 200 Reference"), "{junit}");
    assert!(badge(&report).contains("0 of 1 MUST"));
    for report in [text, json, junit] {
        assert!(!report.contains("secret-value"), "a secret is in a report");
    }
}

#[tokio::test]
async fn badge_of_a_conformant_server() {
    let server = Reference::start(None, Duration::from_secs(60)).await;
    let report = check(options(&server, "tus/head/")).await;
    let image = badge(&report);
    assert!(image.contains("tus 1.0.0: 9 of 9 MUST"), "{image}");
}
