//! CORS rules of a bucket: checked by `landfall doctor s3`, set by `landfall s3 set-cors`.

use std::collections::HashSet;

use landfall_s3::client::CorsRule;
use landfall_test_services::Garage;

use crate::{
    s3_doctor::{Findings, doctor},
    s3_harness::Bucket,
    serve_harness::run,
};

const ORIGIN: &str = "https://pages.example";

fn examine(bucket: &Bucket) -> (i32, Findings) {
    doctor(bucket.command(&["doctor", "s3"]).args(["-origin", ORIGIN]))
}

/// Returns whether all findings of a check have this severity.
fn are(found: &Findings, check: &str, mark: &str) -> bool {
    let found = found.get(check).map(Vec::as_slice).unwrap_or_default();
    !found.is_empty() && found.iter().all(|(one, _)| one == mark)
}

fn set(bucket: &Bucket, rules: &[CorsRule]) {
    bucket.wait(async |client| client.set_bucket_cors(&bucket.name, rules).await);
}

fn rules(bucket: &Bucket) -> Vec<CorsRule> {
    let read = bucket.wait(async |client| client.bucket_cors(&bucket.name).await);
    read.unwrap_or_default()
}

fn rule(headers: &[&str], expose: &[&str]) -> CorsRule {
    let texts = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    CorsRule {
        allowed_origins: texts(&["https://*.example"]),
        allowed_methods: texts(&["PUT", "POST"]),
        allowed_headers: texts(headers),
        expose_headers: texts(expose),
        max_age_seconds: Some(300),
        ..CorsRule::default()
    }
}

#[test]
fn missing_cors_rules_are_reported() {
    for bucket in Bucket::on_each() {
        let (code, found) = examine(&bucket);
        assert_eq!(code, 0, "{found:#?}");
        assert!(are(&found, "CORS", "warn"), "{found:#?}");
        let (_, remedy) = &found["CORS to set"][0];
        assert!(remedy.starts_with("landfall s3 set-cors --origin https://pages.example"));
        assert!(remedy.contains(r#"{"CORSRules":[{"#), "{remedy}");

        let text = |found: &Findings, check: &str| found[check][0].1.clone();
        set(&bucket, &[rule(&["*"], &[])]);
        let (_, found) = examine(&bucket);
        assert!(are(&found, "CORS", "warn"), "{found:#?}");
        let lacks = text(&found, "CORS");
        assert!(lacks.contains("do not expose ETag"), "{lacks}");
        assert!(are(&found, "CORS signer mode", "note"), "{found:#?}");
        let lacks = text(&found, "CORS signer mode");
        assert!(
            lacks.contains("GET, allow DELETE, expose Location"),
            "{lacks}"
        );
        assert!(found.contains_key("CORS to set"), "{found:#?}");

        set(&bucket, &[rule(&["x-other"], &["ETag", "Location"])]);
        let (_, found) = examine(&bucket);
        assert!(are(&found, "CORS", "warn"), "{found:#?}");
        let lacks = text(&found, "CORS");
        assert!(
            lacks.contains("do not allow the header content-type"),
            "{lacks}"
        );
        assert!(!lacks.contains("ETag"), "{lacks}");
        assert!(
            !text(&found, "CORS signer mode").contains("Location"),
            "{found:#?}"
        );
    }
}

/// moto allows all origins, whatever the rules are.
#[test]
fn responses_of_garage_are_checked() {
    let bucket = Bucket::on_garage();
    let (_, found) = examine(&bucket);
    assert!(are(&found, "preflight", "warn"), "{found:#?}");
    assert!(are(&found, "presigned PUT", "warn"), "{found:#?}");

    set(&bucket, &[rule(&["*"], &[])]);
    let (_, found) = examine(&bucket);
    assert!(are(&found, "preflight", "ok"), "{found:#?}");
    assert!(found["presigned PUT"][0].1.contains("expose"), "{found:#?}");

    set(&bucket, &[rule(&["*"], &["ETag", "Location"])]);
    let (_, found) = examine(&bucket);
    assert!(are(&found, "presigned PUT", "ok"), "{found:#?}");
    assert!(!found.contains_key("CORS to set"), "{found:#?}");
    assert_eq!(bucket.keys().len(), 0);
}

#[test]
fn without_read_permission_the_responses_are_checked() {
    let bucket = Bucket::on_garage();
    set(&bucket, &[rule(&["*"], &["ETag"])]);
    let rights = &["read", "write"];
    let access = Garage::shared().limited_access(&bucket.name, rights);
    let limited = Bucket::new(access, bucket.name.clone());
    let (code, found) = examine(&limited);
    assert_eq!(code, 0, "{found:#?}");
    assert!(are(&found, "CORS", "note"), "{found:#?}");
    let marks: Vec<_> = found["preflight"]
        .iter()
        .map(|(mark, _)| mark.as_str())
        .collect();
    assert_eq!(marks, ["ok", "ok", "note", "note"], "{found:#?}");
    assert!(are(&found, "presigned PUT", "ok"), "{found:#?}");

    let mut command = limited.command(&["s3", "set-cors", "-origin", ORIGIN]);
    let (code, said, told) = run(&mut command);
    assert_eq!((code, said.as_str()), (Some(1), ""));
    assert!(told.contains("cannot read the CORS rules"), "{told}");
    assert!(told.contains("s3:GetBucketCORS"), "{told}");
    assert!(told.contains(r#"{"CORSRules":[{"#), "{told}");
    assert_eq!(rules(&bucket).len(), 1);
}

#[test]
fn rules_are_set_and_other_rules_kept() {
    for bucket in Bucket::on_each() {
        let theirs = rule(&["x-theirs"], &[]);
        set(&bucket, std::slice::from_ref(&theirs));
        let set_cors = |args: &[&str]| {
            let mut command = bucket.command(&["s3", "set-cors"]);
            let (code, said, told) = run(command.args(["-origin", ORIGIN]).args(args));
            assert_eq!((code, told.as_str()), (Some(0), ""), "{said}");
            said
        };
        let said = set_cors(&["-dry-run"]);
        assert!(said.contains("Nothing was set"), "{said}");
        assert_eq!(rules(&bucket), std::slice::from_ref(&theirs));

        let said = set_cors(&[]);
        let (before, after) = said.split_once("After: ").unwrap();
        assert!(
            before.contains("x-theirs") && !before.contains(ORIGIN),
            "{said}"
        );
        assert!(
            after.contains("x-theirs") && after.contains(ORIGIN),
            "{said}"
        );
        let (_, found) = examine(&bucket);
        assert!(are(&found, "CORS", "ok"), "{found:#?}");
        // moto uses the last matching rule instead of the first.
        if bucket.access.region == "garage" {
            for check in ["preflight", "presigned PUT"] {
                assert!(are(&found, check, "ok"), "{check}: {found:#?}");
            }
            assert!(!found.contains_key("CORS to set"), "{found:#?}");
        }

        // Once more, for another page, too.
        set_cors(&["-origin", "http://localhost:3000"]);
        let now = rules(&bucket);
        assert_eq!(now.len(), 2, "{now:#?}");
        // Ceph sorts them.
        let origins: HashSet<_> = now[0].allowed_origins.iter().map(String::as_str).collect();
        assert_eq!(origins, HashSet::from([ORIGIN, "http://localhost:3000"]));
        assert_eq!(now[1], theirs);
    }
}

#[test]
fn the_json_report_contains_the_rules_to_set() {
    let bucket = Bucket::on_garage();
    let mut command = bucket.command(&["doctor", "s3", "-json", "-origin", ORIGIN]);
    let (_, said, _) = run(&mut command);
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    let findings = report["findings"].as_array().unwrap();
    let found = findings.iter().find(|one| one["check"] == "CORS to set");
    let rule = &found.unwrap()["rules"]["CORSRules"][0];
    assert_eq!(rule["AllowedOrigins"], serde_json::json!([ORIGIN]));
    assert_eq!(
        rule["ExposeHeaders"],
        serde_json::json!(["ETag", "Location"])
    );
}
