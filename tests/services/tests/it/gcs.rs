//! Google's SDK drives the fake of Google Cloud Storage, and an emulator by others. Calls that no SDK makes are sent raw.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::TcpStream,
    process::Command,
};

use landfall_test_services::{
    GcsEmulator, GcsFake, Proxy, google_sdk,
    proxy::{Fault, Rule},
};

const SCRIPT: &str = include_str!("gcs.py");

/// Runs the script in Google's Python, and fails with its output.
fn run_sdk(arguments: &[&str], metadata_server: &str) {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("gcs.py");
    fs::write(&script, SCRIPT).unwrap();
    let output = Command::new(google_sdk())
        .arg(&script)
        .args(arguments)
        .env("GCE_METADATA_HOST", metadata_server)
        .env("GCE_METADATA_IP", metadata_server)
        .env("PYTHONWARNINGS", "ignore")
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env_remove("STORAGE_EMULATOR_HOST")
        .env_remove("GOOGLE_APPLICATION_CREDENTIALS")
        .output()
        .unwrap();
    let printed = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{printed}{errors}");
    print!("{printed}");
}

#[test]
fn googles_sdk_uses_the_fake() {
    let fake = GcsFake::start(&["sdk"]);
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key.json");
    fs::write(
        &key_file,
        fake.service_account(&fake.endpoint()).to_string(),
    )
    .unwrap();
    let access = fake.access();
    run_sdk(
        &["strict", &fake.endpoint(), key_file.to_str().unwrap()],
        access.authority(),
    );

    for operation in [
        "batch",
        "objects.compose",
        "objects.delete",
        "objects.download",
        "objects.get",
        "objects.insert",
        "objects.list",
        "objects.patch",
        "objects.rewrite",
        "sessions.cancel",
        "sessions.create",
        "sessions.query",
        "sessions.write",
        "tokens.impersonate",
        "tokens.metadata",
        "tokens.oauth",
        "tokens.sts",
    ] {
        assert!(
            fake.count(operation) > 0,
            "no {operation}: {:?}",
            fake.counts()
        );
    }
    let signed = fake.signed_requests();
    assert_eq!(
        (signed[0].method.as_str(), signed[0].name.as_str()),
        ("PUT", "signed/a b")
    );
    assert_eq!((signed[0].bucket.as_str(), signed[0].expires), ("sdk", 600));
    assert!(signed.iter().all(|request| request.is_verified));
    let objects = fake.objects("sdk");
    let whole = objects
        .iter()
        .find(|object| object.name == "whole")
        .unwrap();
    assert_eq!((whole.components, whole.size), (Some(4), 302_000));
    assert_eq!(fake.bytes("sdk", "whole").unwrap().len(), 302_000);
}

#[test]
fn googles_sdk_uses_the_emulator() {
    let emulator = GcsEmulator::start();
    run_sdk(
        &["outsider", &emulator.endpoint(), GcsEmulator::BUCKET],
        "127.0.0.1:9",
    );
    let endpoint = emulator.access();
    drop(emulator);
    assert!(TcpStream::connect(endpoint.authority()).is_err());
}

/// Sends a request and returns everything that comes back.
fn send(endpoint: &str, token: &str, head: &str, body: &str) -> String {
    let mut stream = TcpStream::connect(endpoint.trim_start_matches("http://")).unwrap();
    let length = body.len();
    let request = format!(
        "{head} HTTP/1.0\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut response = String::new();
    let _ = stream.read_to_string(&mut response);
    response
}

const INSERT: &str = "POST /upload/storage/v1/b/raw/o?uploadType=media&name=a&ifGenerationMatch=0";

#[test]
fn an_object_appears_whole_or_not_at_all() {
    let fake = GcsFake::start(&["raw"]);
    let proxy = Proxy::start(&fake.access());
    let token = fake.token();
    for (fault, is_stored) in [
        (Fault::CutBefore, false),
        (Fault::CutInside, false),
        (Fault::CutAfter, true),
    ] {
        proxy.inject(Rule::any().once(), fault);
        assert_eq!(send(&proxy.endpoint(), &token, INSERT, "content"), "");
        assert_eq!(fake.bytes("raw", "a").is_some(), is_stored, "{fault:?}");
    }
    assert_eq!(fake.bytes("raw", "a").unwrap(), "content");
    let repeated = send(&proxy.endpoint(), &token, INSERT, "content");
    assert!(
        repeated.contains("412 Precondition Failed") && repeated.contains("conditionNotMet"),
        "{repeated}"
    );
}

#[test]
fn tokens_expire_and_rights_are_denied() {
    let fake = GcsFake::start(&["raw"]);
    let token = fake.token();
    fake.set_rate_limit(false);
    let generation = fake.insert("raw", "a", "1");
    fake.deny(&["storage.objects.delete"]);
    let overwrite = INSERT.replace("Match=0", &format!("Match={generation}"));
    for request in ["DELETE /storage/v1/b/raw/o/a", &overwrite] {
        let response = send(&fake.endpoint(), &token, request, "");
        assert!(
            response.contains("403 Forbidden") && response.contains("storage.objects.delete"),
            "{response}"
        );
    }
    let path = "GET /storage/v1/b/raw/iam/testPermissions?permissions=storage.objects.delete&permissions=storage.objects.get";
    let response = send(&fake.endpoint(), &token, path, "");
    assert!(
        response.contains(r#""permissions":["storage.objects.get"]"#),
        "{response}"
    );
    fake.deny(&[]);
    let response = send(&fake.endpoint(), &token, &overwrite, "2");
    assert!(response.contains("200 OK"), "{response}");
    fake.expire_token();
    let response = send(&fake.endpoint(), &token, "GET /storage/v1/b/raw", "");
    assert!(
        response.contains("401 Unauthorized") && response.contains("authError"),
        "{response}"
    );
    fake.set_bucket_field(
        "raw",
        "softDeletePolicy",
        serde_json::json!({"retentionDurationSeconds": "0"}),
    );
    let response = send(&fake.endpoint(), &fake.token(), "GET /storage/v1/b/raw", "");
    assert!(
        response.contains(r#"{"retentionDurationSeconds":"0"}"#),
        "{response}"
    );
    assert_eq!(
        (fake.count("objects.insert"), fake.count("buckets.get")),
        (2, 1)
    );
    let endpoint = fake.access();
    drop(fake);
    assert!(TcpStream::connect(endpoint.authority()).is_err());
}
