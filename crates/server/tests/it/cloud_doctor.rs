//! `landfall doctor gcs` and `landfall doctor azure`, on services that work and that do not.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use landfall_test_services::{Azurite, GcsEmulator, GcsFake, GcsRefusal, Redis};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::NamedTempFile;

use crate::{
    s3_doctor::{Findings, doctor, mark},
    serve_clouds::{BUCKET, key_file, without_clouds},
    serve_harness::{eventually, run},
};

/// A fake with a bucket that suits uploads, and the key of an account.
struct Google {
    fake: GcsFake,
    key: NamedTempFile,
}

impl Google {
    fn start() -> Self {
        let fake = GcsFake::start(&[BUCKET]);
        let none = json!({"retentionDurationSeconds": "0"});
        fake.set_bucket_field(BUCKET, "softDeletePolicy", none);
        let key = key_file(&fake);
        Self { fake, key }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = without_clouds(&["doctor", "gcs", "-gcs-bucket", BUCKET]);
        command
            .args(["-gcs-object-prefix", "in"])
            .args(["-gcs-endpoint", &self.fake.endpoint()])
            .env("GCS_SERVICE_ACCOUNT_FILE", self.key.path())
            .args(args);
        command
    }

    fn examine(&self) -> (i32, Findings) {
        doctor(&mut self.command(&[]))
    }

    fn names(&self) -> Vec<String> {
        let objects = self.fake.objects(BUCKET);
        objects.into_iter().map(|object| object.name).collect()
    }
}

fn azure(container: &str, credential: (&str, &str)) -> Command {
    let mut command = without_clouds(&["doctor", "azure", "-azure-storage", container]);
    command
        .args(["-azure-object-prefix", "in"])
        .args(["-azure-endpoint", &Azurite::shared().endpoint()])
        .env("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT)
        .env(credential.0, credential.1);
    command
}

const KEY: (&str, &str) = ("AZURE_STORAGE_KEY", Azurite::KEY);

/// The one finding of a check has this mark, and these words.
#[track_caller]
fn has(found: &Findings, check: &str, wanted: &str, words: &[&str]) {
    let [(mark, text)] = found.get(check).map_or(&[][..], Vec::as_slice) else {
        panic!("{check}: {found:#?}");
    };
    assert_eq!(mark, wanted, "{check}: {text}");
    for word in words {
        assert!(text.contains(word), "{check}: {text}, without {word}");
    }
}

/// Calls that both clouds have by this name.
const CALLS: [&str; 8] = [
    "put object",
    "head object",
    "get object",
    "list objects",
    "list parts",
    "remove parts",
    "conditional writes",
    "delete object",
];

#[test]
fn a_working_bucket_passes_and_is_left_unchanged() {
    let google = Google::start();
    google.fake.insert(BUCKET, "in/kept", "kept");
    let (code, found) = google.examine();
    assert_eq!(code, 0, "{found:#?}");
    let own = [
        "connection",
        "clock",
        "bucket",
        "permissions",
        "put part",
        "copy object",
        "compose objects",
        "storage class",
        "public access",
        "uploads",
    ];
    for check in CALLS.into_iter().chain(own) {
        assert_eq!(mark(&found, check), "ok", "{check}: {found:#?}");
    }
    has(
        &found,
        "credentials",
        "ok",
        &[
            "key of the service account landfall@test-project",
            "GCS_SERVICE_ACCOUNT_FILE: /",
        ],
    );
    let is_ok = |one: &(String, String)| one.0 == "ok";
    assert!(found.values().flatten().all(is_ok), "{found:#?}");
    assert_eq!(google.names(), ["in/kept"]);
}

#[test]
fn a_working_container_passes_and_is_left_unchanged() {
    let container = Azurite::shared().container("doctor");
    let (code, found) = doctor(&mut azure(&container, KEY));
    assert_eq!(code, 0, "{found:#?}");
    let own = [
        "connection",
        "clock",
        "container",
        "public access",
        "put block",
        "put block from URL",
        "put block list",
        "uploads",
    ];
    for check in CALLS.into_iter().chain(own) {
        assert_eq!(mark(&found, check), "ok", "{check}: {found:#?}");
    }
    has(
        &found,
        "credentials",
        "ok",
        &["account key of devstoreaccount1"],
    );
    has(
        &found,
        "lifecycle",
        "note",
        &["az storage account management-policy"],
    );
    // Were there a blob or a block, the second run would list it.
    let (_, again) = doctor(&mut azure(&container, KEY));
    has(&again, "uploads", "ok", &["0 examined"]);
    assert!(!again.contains_key("clean-up"), "{again:#?}");
}

#[test]
fn a_missing_permission_is_named() {
    let google = Google::start();
    for (permission, check, others) in [
        ("storage.objects.create", "put object", &["clean-up"][..]),
        ("storage.objects.get", "get object", &["put object"]),
        ("storage.objects.list", "list objects", &["put object"]),
        ("storage.objects.delete", "delete object", &["put object"]),
    ] {
        google.fake.deny(&[permission]);
        let (code, found) = google.examine();
        assert_eq!(code, 1, "{found:#?}");
        let role = "roles/storage.objectUser";
        has(&found, "permissions", "FAIL", &[permission, role]);
        let words = [permission, role];
        has(&found, check, "FAIL", &words);
        for other in others {
            let mark = found.get(*other).map(|one| one[0].0.as_str());
            assert!(mark.is_none_or(|mark| mark == "ok"), "{found:#?}");
        }
    }
    google.fake.deny(&["storage.buckets.get"]);
    let (code, found) = google.examine();
    assert_eq!(code, 0, "{found:#?}");
    has(&found, "bucket settings", "note", &["storage.buckets.get"]);
}

#[test]
fn a_missing_right_is_named() {
    let container = Azurite::shared().container("doctor");
    let signature = |token| azure(&container, ("AZURE_STORAGE_SAS_TOKEN", token));
    let (code, found) = doctor(&mut signature(Azurite::READ_ONLY_SAS));
    assert_eq!(code, 1, "{found:#?}");
    has(&found, "rights", "note", &["has r, and not acwdl"]);
    has(
        &found,
        "put object",
        "FAIL",
        &["create and write blobs (c, w)", "racwdl"],
    );
    let (code, found) = doctor(&mut signature(Azurite::LIST_SAS));
    assert_eq!(code, 1, "{found:#?}");
    has(&found, "container", "ok", &[]);
    has(&found, "container settings", "note", &["no upload needs"]);
    // Azurite takes no signature of the account for a copy.
    let (code, found) = doctor(&mut signature(Azurite::SAS));
    assert_eq!(code, 0, "{found:#?}");
    has(&found, "put block from URL", "warn", &["concatenation"]);
    has(&found, "expiry", "ok", &["2099"]);
    let (code, found) = doctor(&mut signature(Azurite::EXPIRED_SAS));
    assert_eq!(code, 1, "{found:#?}");
    has(&found, "expiry", "FAIL", &["2020", "create another"]);
    has(&found, "container", "FAIL", &["create another one"]);
    assert!(!found.contains_key("put object"), "{found:#?}");
}

#[test]
fn settings_of_a_bucket_that_cost_or_destroy_are_reported() {
    let google = Google::start();
    for (field, value, check, severity, word) in [
        (
            "softDeletePolicy",
            json!({"retentionDurationSeconds": "604800"}),
            "soft delete",
            "warn",
            "--clear-soft-delete",
        ),
        (
            "retentionPolicy",
            json!({"retentionPeriod": "60"}),
            "retention",
            "FAIL",
            "60 s",
        ),
        (
            "defaultEventBasedHold",
            json!(true),
            "holds",
            "FAIL",
            "--no-default-event-based-hold",
        ),
        (
            "versioning",
            json!({"enabled": true}),
            "versions",
            "warn",
            "--no-versioning",
        ),
        (
            "billing",
            json!({"requesterPays": true}),
            "requester pays",
            "warn",
            "--no-requester-pays",
        ),
        (
            "storageClass",
            json!("NEARLINE"),
            "storage class",
            "warn",
            "minimum time",
        ),
        (
            "iamConfiguration",
            json!({"uniformBucketLevelAccess": {"enabled": false}}),
            "uniform access",
            "note",
            "--uniform-bucket-level-access",
        ),
        (
            "lifecycle",
            json!({"rule": [{"action": {"type": "Delete"}, "condition": {"age": 1}}]}),
            "lifecycle",
            "warn",
            "deletes objects 1 days",
        ),
    ] {
        google.fake.set_bucket_field(BUCKET, field, value);
        let (code, found) = google.examine();
        has(&found, check, severity, &[word]);
        let fails = found.values().flatten().any(|one| one.0 == "FAIL");
        assert_eq!(code, i32::from(fails), "{found:#?}");
    }
}

#[test]
fn public_access_is_reported() {
    let google = Google::start();
    google.fake.set_public(true);
    let (code, found) = google.examine();
    assert_eq!(code, 0, "{found:#?}");
    has(
        &found,
        "public access",
        "warn",
        &["--public-access-prevention"],
    );
    assert_eq!(google.names(), Vec::<String>::new());
}

#[test]
fn a_project_that_cannot_be_used_is_explained() {
    let google = Google::start();
    for (status, reason, message, words) in [
        (
            403,
            "accessNotConfigured",
            "Cloud Storage JSON API has not been used in project 1 before or it is disabled.",
            &[
                "is not enabled",
                "gcloud services enable storage.googleapis.com",
            ],
        ),
        (
            403,
            "accountDisabled",
            "The billing account for the owning project is disabled in state absent",
            &["no active billing", "enable billing"],
        ),
        (
            400,
            "required",
            "Bucket is a requester pays bucket but no user project provided.",
            &["requester pays", "--no-requester-pays"],
        ),
    ] {
        google.fake.refuse(Some(GcsRefusal {
            status,
            reason,
            message,
        }));
        let (code, found) = google.examine();
        assert_eq!(code, 1, "{found:#?}");
        has(&found, "bucket", "FAIL", words);
        assert!(!found.contains_key("put object"), "{found:#?}");
    }
}

#[test]
fn credentials_that_cannot_be_used_are_explained() {
    let google = Google::start();
    google.fake.refuse_tokens("Invalid JWT Signature.");
    let (code, found) = google.examine();
    assert_eq!(code, 1, "{found:#?}");
    let words = ["give no access token", "Invalid JWT Signature", "clock"];
    has(&found, "credentials", "FAIL", &words);
    has(&found, "clock", "ok", &[]);
    let mut missing = google.command(&[]);
    let (_, found) = doctor(missing.env("GCS_SERVICE_ACCOUNT_FILE", "/nonexistent/key.json"));
    has(&found, "credentials", "FAIL", &["/nonexistent/key.json"]);
    let mut none = google.command(&[]);
    none.env_remove("GCS_SERVICE_ACCOUNT_FILE")
        .env("GCE_METADATA_HOST", "127.0.0.1:9");
    let (_, found) = doctor(&mut none);
    has(&found, "credentials", "FAIL", &["GCS_SERVICE_ACCOUNT_FILE"]);

    let wrong = ("AZURE_STORAGE_KEY", "bm90IHRoZSBrZXk=");
    let (code, found) = doctor(&mut azure("doctor", wrong));
    assert_eq!(code, 1, "{found:#?}");
    has(&found, "container", "FAIL", &["not of this account"]);
}

#[test]
fn a_wrong_bucket_or_endpoint_is_explained() {
    let google = Google::start();
    let (code, found) = doctor(&mut google.command(&["-gcs-bucket", "nothing-like-it"]));
    assert_eq!(code, 1, "{found:#?}");
    let words = ["does not exist", "create the bucket", "--gcs-bucket"];
    has(&found, "bucket", "FAIL", &words);
    let container = format!("{}-none", Azurite::shared().container("doctor"));
    let (code, found) = doctor(&mut azure(&container, KEY));
    assert_eq!(code, 1, "{found:#?}");
    let words = ["does not exist", "create the container", "--azure-storage"];
    has(&found, "container", "FAIL", &words);

    let tls = google.fake.endpoint().replace("http:", "https:");
    for endpoint in ["http://127.0.0.1:9", "http://nowhere.invalid", &tls] {
        let (code, found) = doctor(&mut google.command(&["-gcs-endpoint", endpoint]));
        assert_eq!(code, 1, "{found:#?}");
        let words = [endpoint, "is unreachable", "correct --gcs-endpoint"];
        has(&found, "connection", "FAIL", &words);
    }
    let mut closed = azure("doctor", KEY);
    let (code, found) = doctor(closed.args(["-azure-endpoint", "http://127.0.0.1:9"]));
    assert_eq!(code, 1, "{found:#?}");
    has(&found, "connection", "FAIL", &["correct --azure-endpoint"]);
}

#[test]
fn a_service_that_ignores_conditions_fails() {
    let emulator = GcsEmulator::start();
    let mut command = without_clouds(&["doctor", "gcs", "-gcs-bucket", GcsEmulator::BUCKET]);
    command.env("STORAGE_EMULATOR_HOST", emulator.endpoint());
    let (code, found) = doctor(&mut command);
    assert_eq!(code, 1, "{found:#?}");
    has(&found, "credentials", "ok", &["STORAGE_EMULATOR_HOST"]);
    has(&found, "conditional writes", "FAIL", &["was replaced"]);
}

#[test]
fn leases_are_checked() {
    let redis = Redis::start();
    let google = Google::start();
    let (code, found) = doctor(&mut google.command(&["-lease", &redis.url()]));
    assert_eq!((code, mark(&found, "Redis")), (0, "ok"), "{found:#?}");
    let (code, found) = doctor(&mut google.command(&["-lease", "redis://127.0.0.1:9"]));
    assert_eq!((code, mark(&found, "Redis")), (1, "FAIL"), "{found:#?}");
    let container = Azurite::shared().container("doctor");
    let (code, found) = doctor(azure(&container, KEY).args(["-lease", "store"]));
    assert_eq!(code, 0, "{found:#?}");
    has(&found, "conditional writes", "ok", &["leases"]);
}

#[test]
fn the_json_report_has_the_findings_and_no_secret() {
    let google = Google::start();
    google.fake.deny(&["storage.objects.delete"]);
    let (code, said, _) = run(&mut google.command(&["-json"]));
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["ok"]), (Some(1), &false.into()));
    assert_eq!(report["bucket"], BUCKET);
    let findings = report["findings"].as_array().unwrap();
    let of = |check: &str| findings.iter().find(|one| one["check"] == check).unwrap();
    assert_eq!(of("put object")["severity"], "ok");
    let delete = of("delete object");
    assert_eq!(delete["severity"], "fail");
    let remedy = delete["remedy"].as_str().unwrap();
    assert!(remedy.contains("Storage Object User"), "{remedy}");
    assert!(!said.contains(&google.fake.token()), "{said}");

    let container = Azurite::shared().container("doctor");
    let signature = ("AZURE_STORAGE_SAS_TOKEN", Azurite::SAS);
    let (code, said, _) = run(azure(&container, signature).arg("-json"));
    let report: serde_json::Value = serde_json::from_str(&said).unwrap();
    assert_eq!((code, &report["ok"]), (Some(0), &true.into()));
    assert_eq!(report["account"], Azurite::ACCOUNT);
    assert!(!said.contains("sig="), "{said}");
}

#[test]
fn an_interrupt_removes_the_objects() {
    let google = Google::start();
    let mut child = google
        .command(&[])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut lines = lines.map_while(Result::ok);
    // The next check waits for seconds, because of the limit of writes.
    assert!(lines.any(|line| line.starts_with("ok    remove parts")));
    eventually("no object was stored", || !google.names().is_empty());
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    let rest: Vec<String> = lines.collect();
    assert!(child.wait().unwrap().success(), "{rest:#?}");
    assert!(
        rest.iter().all(|line| !line.contains("clean-up")),
        "{rest:#?}"
    );
    assert_eq!(google.names(), Vec::<String>::new());
}
