//! Starting on a bucket: start-up lines and errors.

use std::{
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use landfall_test_services::{Garage, Redis};

use crate::{
    s3_harness::{Bucket, keyless},
    serve_harness::{Landfall, Request, TIMEOUT, eventually},
};

/// Starts a server that must fail, and returns its error.
#[track_caller]
fn refusal(command: &mut Command) -> String {
    command
        .args(["-port", "0", "-host", "127.0.0.1"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let end = Instant::now() + TIMEOUT;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > end {
            child.kill().unwrap();
            break;
        }
        thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}{told}");
    assert!(!said.contains("You can now upload"), "{said}");
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines.len(), 1, "{told}");
    assert!(told.starts_with("landfall: "), "{told}");
    told
}

#[test]
fn the_start_up_line_names_endpoint_and_bucket() {
    let bucket = Bucket::on_garage();
    let server = bucket.server(&[]);
    let line = server.says("S3 endpoint and bucket");
    let wanted = format!(
        "Using '{}/{}' as S3 endpoint and bucket for storage.",
        bucket.access.endpoint, bucket.name
    );
    assert!(line.ends_with(&wanted), "{line}");
    assert_eq!(
        server.client().ask(Request::get("/readyz")).text(),
        "ready\n"
    );
    server.stop();
}

#[test]
fn a_wrong_bucket_is_reported() {
    for mut bucket in Bucket::on_each() {
        bucket.name = "nothing-like-it".to_owned();
        let told = refusal(&mut bucket.command(&[]));
        let wanted = format!(
            "landfall: the bucket \"nothing-like-it\" does not exist at {}: create it, or correct",
            bucket.access.endpoint
        );
        assert!(told.starts_with(&wanted), "{told}");
    }
}

#[test]
fn wrong_credentials_are_reported() {
    let bucket = Bucket::on_garage();
    let secret = refusal(bucket.command(&[]).env("AWS_SECRET_ACCESS_KEY", "wrong"));
    assert!(secret.contains("AWS_SECRET_ACCESS_KEY"), "{secret}");
    let key = refusal(bucket.command(&[]).env("AWS_ACCESS_KEY_ID", "GKwrong"));
    assert!(key.contains("AWS_ACCESS_KEY_ID"), "{key}");
    let none = refusal(
        keyless(&[])
            .args(["-s3-bucket", &bucket.name])
            .args(["-s3-endpoint", &bucket.access.endpoint]),
    );
    assert!(
        none.contains("no credentials found: set AWS_ACCESS_KEY_ID"),
        "{none}"
    );
    let mut unreadable = bucket.command(&[]);
    unreadable.env_remove("AWS_SECRET_ACCESS_KEY");
    let unreadable = refusal(unreadable.env("AWS_SECRET_ACCESS_KEY_FILE", "/nonexistent"));
    let reason = "AWS_SECRET_ACCESS_KEY_FILE: cannot read \"/nonexistent\": No such file";
    assert!(unreadable.contains(reason), "{unreadable}");
}

#[test]
fn credentials_are_those_that_are_meant() {
    let bucket = Bucket::on_garage();
    let dir = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let (id, secret) = (&bucket.access.access_key, &bucket.access.secret_key);
    let command = || {
        let mut command = keyless(&["-port=0", "-host=127.0.0.1", "-s3-bucket", &bucket.name]);
        command.args([
            "-s3-endpoint",
            &bucket.access.endpoint,
            "-s3-region",
            &bucket.access.region,
        ]);
        command
    };
    let starts = |mut command: Command| {
        command.env("HOME", dir.path());
        let server = Landfall::spawn(command, dir.path());
        server.client().create(5);
        server.stop();
    };
    // Secrets of containers.
    let mut files = command();
    files.env("AWS_ACCESS_KEY_ID_FILE", file("id", id));
    files.env(
        "AWS_SECRET_ACCESS_KEY_FILE",
        file("secret", &format!("{secret}\n")),
    );
    starts(files);
    // A variable of a manifest that was left empty.
    let profile = format!("[work]\naws_access_key_id = {id}\naws_secret_access_key = {secret}\n");
    let mut empty = command();
    empty.env("AWS_SHARED_CREDENTIALS_FILE", file("credentials", &profile));
    empty.envs([
        ("AWS_ACCESS_KEY_ID", ""),
        ("AWS_SECRET_ACCESS_KEY", ""),
        ("AWS_PROFILE", "work"),
    ]);
    starts(empty);
    let mut mistyped = command();
    mistyped.env(
        "AWS_SHARED_CREDENTIALS_FILE",
        dir.path().join("credentials"),
    );
    let told = refusal(mistyped.env("AWS_PROFILE", "wrok"));
    assert!(told.contains("the profile \"wrok\" is not in "), "{told}");
    assert!(told.contains("there are work"), "{told}");
    assert!(
        told.contains(&*dir.path().join("credentials").to_string_lossy()),
        "{told}"
    );
}

#[test]
fn a_wrong_region_is_corrected_with_a_warning() {
    let bucket = Bucket::on_garage();
    let server = bucket.server(&["-s3-region", "eu-elsewhere-1"]);
    let line = server.says("the bucket is in another region");
    assert!(line.contains("region=garage"), "{line}");
    let mut client = server.client();
    let path = client.upload(b"hello");
    client.holds(&path, b"hello");
    server.stop();
}

#[test]
fn a_wrong_endpoint_is_reported() {
    let bucket = Bucket::on_garage();
    let told = refusal(
        bucket
            .command(&[])
            .args(["-s3-endpoint", "http://127.0.0.1:9"]),
    );
    assert!(
        told.starts_with("landfall: http://127.0.0.1:9 is unreachable: correct --s3-endpoint"),
        "{told}"
    );
    // A web server that isn't S3: Landfall itself.
    let other = crate::serve_harness::Landfall::start(&[]);
    let url = format!("http://{}", other.address());
    let told = refusal(bucket.command(&[]).args(["-s3-endpoint", &url]));
    assert!(told.contains("-s3-endpoint"), "{told}");
    other.stop();
}

#[test]
fn credentials_without_list_permission_cause_a_warning() {
    let bucket = Bucket::on_garage();
    // Garage cannot deny only listing: a write-only key cannot list either.
    let writer = Garage::shared().limited_access(&bucket.name, &["write"]);
    let limited = Bucket::new(writer, bucket.name);
    let server = limited.server(&[]);
    server.says("listing the bucket is not permitted");
    assert_eq!(server.client().ask(Request::get("/readyz")).status, 200);
    server.stop();
}

#[test]
fn it_is_unready_while_s3_is_unreachable() {
    let garage = Garage::start();
    let bucket = Bucket::new(garage.access(), garage.bucket("away"));
    let server = bucket.server(&[]);
    assert_eq!(server.client().ask(Request::get("/readyz")).status, 200);
    drop(garage);
    eventually("it is still ready", || {
        thread::sleep(Duration::from_millis(200));
        server.client().ask(Request::get("/readyz")).status == 503
    });
    let answer = server.client().ask(Request::get("/readyz"));
    assert_eq!(answer.text(), "the bucket is unreachable\n");
    assert_eq!(server.client().ask(Request::get("/healthz")).status, 200);
}

/// Stops a service of leases while requests come, and starts it again.
fn is_unready_while_leases_are_unavailable<S>(
    lease: &str,
    service: &mut S,
    stop: impl FnOnce(&mut S),
    restart: impl FnOnce(&mut S),
) {
    let bucket = Bucket::on_garage();
    let server = bucket.server(&["-lease", lease]);
    let mut client = server.client();
    let path = client.create(10);
    assert_eq!(client.patch(&path, 0, b"hello").status, 204);
    stop(service);
    eventually("it is still ready", || {
        thread::sleep(Duration::from_millis(200));
        server.client().ask(Request::get("/readyz")).status == 503
    });
    let refused = client.patch(&path, 5, b"world");
    refused.refuses(503, "ERR_STORAGE_UNAVAILABLE");
    assert!(refused.number("Retry-After") > 0);
    assert_eq!(client.offset(&path), 5, "reads need no lease");
    restart(service);
    eventually("it is not ready again", || {
        thread::sleep(Duration::from_millis(200));
        server.client().ask(Request::get("/readyz")).status == 200
    });
    client.resumes_to(&path, b"helloworld");
    server.stop();
}

#[test]
fn it_is_unready_while_redis_is_unreachable() {
    let mut redis = Redis::start();
    let url = redis.url();
    is_unready_while_leases_are_unavailable(&url, &mut redis, Redis::stop, Redis::restart);
}

#[test]
fn it_is_unready_while_postgresql_is_unreachable() {
    use landfall_test_services::Postgres;
    let mut postgres = Postgres::start(false);
    let url = postgres.url();
    is_unready_while_leases_are_unavailable(&url, &mut postgres, Postgres::stop, Postgres::restart);
}

#[test]
fn an_unusable_lease_backend_is_reported() {
    let bucket = Bucket::on_garage();
    let told = refusal(bucket.command(&[]).args(["-lease", "redis://127.0.0.1:9"]));
    assert!(
        told.contains("-lease") && told.contains("127.0.0.1:9"),
        "{told}"
    );
    {
        let url = "postgres://u:hunter2@127.0.0.1:9/d";
        let error = refusal(bucket.command(&[]).args(["-lease", url]));
        assert!(
            error.contains("--lease") && error.contains("refused"),
            "{error}"
        );
        assert!(!error.contains("hunter2"), "{error}");
    }
    // Garage ignores the conditions that bucket leases require.
    let told = refusal(bucket.command(&[]).args(["-lease", "store"]));
    assert!(told.contains("-lease redis://"), "{told}");
}
