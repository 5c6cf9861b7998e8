//! `landfall doctor s3` on working and on failing services.

use std::{collections::BTreeMap, process::Command};

use landfall_test_services::{Garage, Moto, Redis};

use crate::{
    s3_harness::{Bucket, keyless},
    serve_harness::run,
};

/// Severities and texts by check.
pub(crate) type Findings = BTreeMap<String, Vec<(String, String)>>;

/// Runs it; returns its exit code and findings.
#[track_caller]
pub(crate) fn doctor(command: &mut Command) -> (i32, Findings) {
    let (code, said, told) = run(command);
    let mut findings = Findings::new();
    // The last line is the verdict.
    let lines: Vec<&str> = said.lines().collect();
    for line in &lines[..lines.len() - 1] {
        let (mark, rest) = line.split_at(6);
        let (check, text) = rest.split_at(23);
        let finding = (mark.trim().to_owned(), text.to_owned());
        findings
            .entry(check.trim().to_owned())
            .or_default()
            .push(finding);
    }
    assert_eq!(told, "", "{said}");
    (code.unwrap(), findings)
}

/// The one mark of a check.
#[track_caller]
pub(crate) fn mark<'a>(findings: &'a Findings, check: &str) -> &'a str {
    match findings.get(check).map(Vec::as_slice) {
        Some([(mark, _)]) => mark,
        other => panic!("{check}: {other:?} in {findings:#?}"),
    }
}

/// Without a warning.
const DIRECT: [&str; 3] = ["-direct", "-grants-max-size", "1GB"];

const PERMISSIONS: &[&str] = &[
    "put object",
    "head object",
    "get object",
    "create multipart",
    "upload part copy",
    "upload part",
    "list parts",
    "complete multipart",
    "list multiparts",
    "abort multipart",
    "delete object",
];

#[test]
fn a_working_bucket_passes_and_is_left_unchanged() {
    for bucket in Bucket::on_each() {
        bucket.put("in/kept", b"kept");
        let (code, found) = doctor(
            bucket
                .command(&["doctor", "s3"])
                .args(["-s3-object-prefix", "in"]),
        );
        assert_eq!(code, 0, "{found:#?}");
        for check in ["credentials", "clock", "bucket"] {
            assert_eq!(mark(&found, check), "ok", "{found:#?}");
        }
        for check in PERMISSIONS {
            assert_eq!(mark(&found, check), "ok", "{check}: {found:#?}");
        }
        let keys: Vec<String> = bucket.keys().into_keys().collect();
        assert_eq!(keys, ["in/kept"]);
        assert_eq!(bucket.multiparts(), Vec::<String>::new());
    }
}

#[test]
fn differences_between_services_are_reported() {
    let told = |bucket: &Bucket, check: &str| {
        let (_, found) = doctor(&mut bucket.command(&["doctor", "s3"]));
        found[check][0].1.clone()
    };
    assert!(
        told(&Bucket::on_garage(), "conditional writes")
            .starts_with("If-None-Match is ignored, If-Match is ignored")
    );
    for bucket in [&Bucket::on_moto(), &Bucket::on_ceph()] {
        let conditions = told(bucket, "conditional writes");
        assert!(
            conditions.starts_with("If-None-Match works, If-Match works"),
            "{conditions}"
        );
    }
}

/// Nothing that works is reported as a failure, on any service.
#[test]
fn pages_of_an_origin_may_use_a_working_bucket() {
    let origin = ["--origin", "https://app.example"];
    for bucket in Bucket::on_each() {
        let (code, said, told) = run(bucket.command(&["s3", "set-cors"]).args(origin));
        assert_eq!(code, Some(0), "{said}\n{told}");
        let command = &mut bucket.command(&["doctor", "s3"]);
        let (code, found) = doctor(command.args(origin).args(DIRECT));
        assert_eq!(code, 0, "{found:#?}");
        assert_eq!(mark(&found, "presigned PUT"), "ok", "{found:#?}");
        assert!(!found.contains_key("clean-up"), "{found:#?}");
    }
}

#[test]
fn old_versions_and_retention_are_reported() {
    let moto = Moto::shared();
    let bucket = Bucket::new(moto.access(), moto.bucket_with_retention("retained"));
    let (code, found) = doctor(&mut bucket.command(&["doctor", "s3"]));
    assert_eq!(code, 0, "{found:#?}");
    let (versions, lock) = (&found["versions"][0], &found["object lock"][0]);
    assert!(
        versions.0 == "warn" && versions.1.contains("NoncurrentVersionExpiration"),
        "{versions:?}"
    );
    assert!(
        lock.0 == "warn" && lock.1.contains("with a digest"),
        "{lock:?}"
    );
    let (code, found) = doctor(bucket.command(&["doctor", "s3"]).args(DIRECT));
    assert_eq!(
        (code, mark(&found, "object lock")),
        (1, "FAIL"),
        "{found:#?}"
    );
}

#[test]
fn a_prefix_that_the_service_changes_is_refused() {
    let prefix = ["-s3-object-prefix", "/uploads"];
    let garage = Bucket::on_garage();
    let (code, found) = doctor(garage.command(&["doctor", "s3"]).args(prefix));
    assert_eq!((code, mark(&found, "prefix")), (1, "FAIL"), "{found:#?}");
    let mut command = garage.command(&["serve", "-host", "127.0.0.1", "-port", "0"]);
    let (code, _, told) = run(command.args(prefix));
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("leave out the slash"), "{told}");

    let ceph = Bucket::on_ceph();
    let (code, found) = doctor(ceph.command(&["doctor", "s3"]).args(prefix));
    assert_eq!(
        (code, found.contains_key("prefix")),
        (0, false),
        "{found:#?}"
    );
    let server = ceph.server(&prefix);
    let mut client = server.client();
    let path = client.upload(b"hello");
    client.holds(&path, b"hello");
    let keys: Vec<_> = ceph.keys().into_keys().collect();
    assert!(
        keys.iter().all(|key| key.starts_with("/uploads/")),
        "{keys:?}"
    );
    server.stop();
}

#[test]
fn leases_in_a_bucket_need_conditional_writes() {
    let garage = Bucket::on_garage();
    let (code, found) = doctor(garage.command(&["doctor", "s3"]).args(["-lease", "store"]));
    assert_eq!(
        (code, mark(&found, "conditional writes")),
        (1, "FAIL"),
        "{found:#?}"
    );
    let moto = Bucket::on_moto();
    let (code, found) = doctor(moto.command(&["doctor", "s3"]).args(["-lease", "store"]));
    assert_eq!(
        (code, mark(&found, "conditional writes")),
        (0, "ok"),
        "{found:#?}"
    );
}

#[test]
fn a_missing_permission_is_named() {
    let bucket = Bucket::on_garage();
    let reader = Garage::shared().limited_access(&bucket.name, &["read"]);
    let (code, found) = doctor(&mut Bucket::new(reader, bucket.name).command(&["doctor", "s3"]));
    assert_eq!(code, 1);
    let (mark, text) = &found["put object"][0];
    assert!(
        mark == "FAIL" && text.contains("allow s3:PutObject"),
        "{found:#?}"
    );
}

#[test]
fn a_wrong_endpoint_or_secret_is_reported() {
    let bucket = Bucket::on_garage();
    let closed = ["-s3-endpoint", "http://127.0.0.1:9"];
    let (code, found) = doctor(bucket.command(&["doctor", "s3"]).args(closed));
    assert_eq!((code, mark(&found, "bucket")), (1, "FAIL"), "{found:#?}");
    assert!(!found.contains_key("put object"));

    let (code, found) = doctor(
        bucket
            .command(&["doctor", "s3"])
            .args(["-s3-region", "eu-elsewhere-1"]),
    );
    assert_eq!((code, mark(&found, "region")), (0, "warn"), "{found:#?}");
    assert!(found["region"][0].1.ends_with("set --s3-region garage"));

    let nowhere = ["-s3-endpoint", "http://nowhere.invalid"];
    let (code, found) = doctor(bucket.command(&["doctor", "s3"]).args(nowhere));
    assert_eq!((code, mark(&found, "bucket")), (1, "FAIL"), "{found:#?}");
    assert!(
        found["bucket"][0].1.contains("is unreachable"),
        "{found:#?}"
    );

    let tls = bucket.access.endpoint.replace("http:", "https:");
    let (code, found) = doctor(
        bucket
            .command(&["doctor", "s3"])
            .args(["-s3-endpoint", &tls]),
    );
    assert_eq!((code, mark(&found, "bucket")), (1, "FAIL"), "{found:#?}");
    assert!(found["bucket"][0].1.contains("http://"), "{found:#?}");

    let (code, found) = doctor(
        bucket
            .command(&["doctor", "s3"])
            .env("AWS_SECRET_ACCESS_KEY", "wrong"),
    );
    assert_eq!((code, mark(&found, "bucket")), (1, "FAIL"), "{found:#?}");

    let mut none = keyless(&["doctor", "s3", "-s3-bucket", &bucket.name]);
    let (code, found) = doctor(none.args(["-s3-endpoint", &bucket.access.endpoint]));
    assert_eq!(
        (code, mark(&found, "credentials")),
        (1, "FAIL"),
        "{found:#?}"
    );
}

#[test]
fn redis_is_checked() {
    let redis = Redis::start();
    let bucket = Bucket::on_moto();
    let (code, found) = doctor(
        bucket
            .command(&["doctor", "s3"])
            .args(["-lease", &redis.url()]),
    );
    assert_eq!(code, 0, "{found:#?}");
    assert_eq!(mark(&found, "Redis"), "ok", "{found:#?}");
    let (code, found) = doctor(
        bucket
            .command(&["doctor", "s3"])
            .args(["-lease", "redis://127.0.0.1:9"]),
    );
    assert_eq!((code, mark(&found, "Redis")), (1, "FAIL"), "{found:#?}");
}

#[test]
fn the_json_report_has_the_same_findings() {
    let bucket = Bucket::on_moto();
    let (code, said, _) = run(bucket.command(&["doctor", "s3"]).arg("-json"));
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["ok"]), (Some(0), &true.into()));
    assert_eq!(report["bucket"], bucket.name.as_str());
    let findings = report["findings"].as_array().unwrap();
    let of = |check: &str| findings.iter().find(|one| one["check"] == check).unwrap();
    assert_eq!(of("put object")["severity"], "ok");
    assert_eq!(of("lifecycle")["severity"], "note");
    assert!(!said.contains(&bucket.access.secret_key));
}

#[test]
fn postgresql_is_checked() {
    use landfall_test_services::{PgBouncer, Postgres};
    let examine = |url: &str| {
        let bucket = Bucket::on_moto();
        doctor(bucket.command(&["doctor", "s3"]).args(["-lease", url]))
    };
    let url = Postgres::shared().database("leases");
    let (code, found) = examine(&url);
    assert_eq!(code, 0, "{found:#?}");
    assert_eq!(mark(&found, "PostgreSQL"), "ok", "{found:#?}");
    let (code, found) = examine("postgres://u@127.0.0.1:9/d");
    assert_eq!(
        (code, mark(&found, "PostgreSQL")),
        (1, "FAIL"),
        "{found:#?}"
    );
    let bouncer = PgBouncer::start(&url);
    let (code, found) = examine(&bouncer.url(&url));
    assert_eq!((code, mark(&found, "PostgreSQL")), (0, "ok"), "{found:#?}");
    let without = bouncer.url(&url).replace("statement-cache-capacity=0", "");
    let (code, found) = examine(&without);
    let (mark, text) = &found["PostgreSQL"][0];
    assert_eq!((code, &**mark), (1, "FAIL"), "{found:#?}");
    assert!(text.contains("statement-cache-capacity=0"), "{text}");
}
