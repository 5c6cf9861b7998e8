//! The server on Google Cloud Storage and on Azure: the fake of `landfall-test-services`, and Azurite.

use std::{path::Path, process::Command, thread, time::Duration};

use landfall_test_services::{Azurite, GcsEmulator, GcsFake, GcsObject, GcsRefusal};
use tempfile::NamedTempFile;

use crate::serve_harness::{
    Landfall, MIB, Request, assert_same, content, eventually, id_of, program, run,
};

/// A service, and what the program needs to use it.
pub(crate) enum Cloud {
    Google(GcsFake, NamedTempFile),
    Azure(Box<Azurite>),
}

pub(crate) const BUCKET: &str = "uploads";

/// The objects of uploads: the sweeper's own stay, and are of no upload.
fn stored(fake: &GcsFake) -> Vec<GcsObject> {
    let mut objects = fake.objects(BUCKET);
    objects.retain(|object| !object.name.contains("/.landfall/due/"));
    objects
}

impl Cloud {
    pub(crate) fn google() -> Self {
        let fake = GcsFake::start(&[BUCKET]);
        let key = key_file(&fake);
        Self::Google(fake, key)
    }

    /// It has no container: the server makes it.
    pub(crate) fn azure() -> Self {
        Self::Azure(Box::new(Azurite::start()))
    }

    pub(crate) fn each() -> [Self; 2] {
        [Self::google(), Self::azure()]
    }

    pub(crate) fn command(&self, command: &[&str]) -> Command {
        let mut program = without_clouds(command);
        match self {
            Self::Google(fake, key) => program
                .args(["-gcs-bucket", BUCKET, "-gcs-object-prefix", "in_box"])
                .args(["-gcs-endpoint", &format!("{}/storage/v1/", fake.endpoint())])
                .env("GCS_SERVICE_ACCOUNT_FILE", key.path()),
            Self::Azure(azurite) => program
                .args(["-azure-storage", BUCKET, "-azure-object-prefix", "in_box"])
                .args(["-azure-endpoint", &azurite.endpoint()])
                .env("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT)
                .env("AZURE_STORAGE_KEY", Azurite::KEY),
        };
        program
    }

    pub(crate) fn server(&self, args: &[&str]) -> Landfall {
        start(self.command(&["serve"]), args)
    }
}

fn start(mut command: Command, args: &[&str]) -> Landfall {
    command
        .args(["-host", "127.0.0.1", "-port", "0"])
        .args(args);
    Landfall::spawn(command, Path::new("/nonexistent"))
}

/// Writes a key of a service account, whose tokens the fake issues.
pub(crate) fn key_file(fake: &GcsFake) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    let key = fake.service_account(&fake.endpoint()).to_string();
    std::fs::write(file.path(), key).unwrap();
    file
}

/// Returns the program without credentials and metadata services of this machine.
pub(crate) fn without_clouds(command: &[&str]) -> Command {
    let mut program = program();
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        let is_cloud = ["AZURE_", "GCS_", "GOOGLE_", "GCE_", "STORAGE_", "IDENTITY_"];
        if is_cloud.iter().any(|prefix| text.starts_with(prefix)) {
            program.env_remove(&name);
        }
    }
    program.env("HOME", "/nonexistent").args(command);
    program
}

/// Starts a server that must fail, and returns its only line.
#[track_caller]
pub(crate) fn refusal(command: &mut Command) -> String {
    command.args(["-port", "0", "-host", "127.0.0.1"]);
    let (code, said, told) = run(command);
    assert_eq!(code, Some(1), "{said}{told}");
    assert!(!said.contains("You can now upload"), "{said}");
    assert_eq!(told.lines().count(), 1, "{told}");
    assert!(told.starts_with("landfall: "), "{told}");
    told
}

#[test]
fn uploads_are_stored_resumed_read_and_removed() {
    for cloud in Cloud::each() {
        let server = cloud.server(&[]);
        let mut client = server.client();
        // Two parts and a rest, in requests that end within parts.
        let whole = content(1, 20 * MIB + 5);
        let path = client.create(whole.len() as u64);
        let mut offset = 0;
        for length in [3, 9 * MIB, 8 * MIB] {
            let end = offset + length;
            let piece = &whole[offset as usize..end as usize];
            let answer = client.patch(&path, offset, piece);
            assert_eq!((answer.status, answer.offset()), (204, end), "{answer:?}");
            assert_eq!(server.client().offset(&path), end);
            offset = end;
        }
        // Parts cannot be read, as in S3.
        assert_eq!(client.ask(Request::get(&path)).status, 400);
        server.stop();

        let server = cloud.server(&[]);
        let mut client = server.client();
        client.resumes_to(&path, &whole);
        client.holds(&path, &whole);
        let range = Request::get(&path).with("Range", "bytes=8388600-8388619");
        let answer = client.ask(range);
        assert_eq!(answer.status, 206);
        assert_same(&answer.body, &whole[8_388_600..8_388_620]);
        let metadata = "filename aGVsbG8udHh0,filetype dGV4dC9wbGFpbg==";
        let created = client.ask(
            Request::post()
                .with("Upload-Length", 0)
                .with("Upload-Metadata", metadata),
        );
        let empty = created.created();
        client.holds(&empty, b"");
        if let Cloud::Google(fake, _) = &cloud {
            let name = format!("in_box/{}", id_of(&path));
            assert_same(&fake.bytes(BUCKET, &name).unwrap(), &whole);
            let objects = stored(fake);
            let names: Vec<_> = objects.iter().map(|object| object.name.as_str()).collect();
            assert_eq!(names.len(), 4, "a file and a description each: {names:?}");
            let empty = format!("in_box/{}", id_of(&empty));
            let empty = objects.iter().find(|object| object.name == empty).unwrap();
            assert_eq!(empty.content_type.as_deref(), Some("text/plain"));
        }
        for path in [&path, &empty] {
            assert_eq!(client.ask(Request::new("DELETE", path)).status, 204);
            assert_eq!(client.head(path).status, 404);
        }
        if let Cloud::Google(fake, _) = &cloud {
            assert_eq!(stored(fake), []);
        }
        server.stop();
    }
}

#[test]
fn partial_uploads_are_concatenated() {
    for cloud in Cloud::each() {
        let server = cloud.server(&[]);
        let mut client = server.client();
        let whole = content(7, 9 * MIB + 11);
        let mut paths = Vec::new();
        for piece in [&whole[..5], &whole[5..]] {
            let partial = Request::post()
                .with("Upload-Length", piece.len())
                .with("Upload-Concat", "partial");
            let path = client.ask(partial).created();
            client.resumes_to(&path, piece);
            paths.push(path);
        }
        let all = format!("final;{}", paths.join(" "));
        let path = client
            .ask(Request::post().with("Upload-Concat", all))
            .created();
        eventually("it is not complete", || {
            server.client().head(&path).header("Upload-Length") == Some("9437195")
        });
        client.holds(&path, &whole);
        server.stop();
    }
}

#[test]
fn start_up_lines_are_those_of_tusd() {
    let google = Cloud::google();
    let server = google.server(&[]);
    let line = server.says("GCS bucket");
    assert!(
        line.ends_with("Using 'gcs://uploads' as GCS bucket for storage."),
        "{line}"
    );
    server.stop();
    let azure = Cloud::azure();
    let server = azure.server(&[]);
    let Cloud::Azure(azurite) = &azure else {
        unreachable!()
    };
    let line = server.says("authentication");
    let wanted = "Azure BlockBlob Storage authentication using account key";
    assert!(line.ends_with(wanted), "{line}");
    let line = server.says("Azure endpoint");
    // With the time in front, as every line has.
    let time = line.split(' ').next().unwrap();
    assert!(time.contains('/'), "{line}");
    let wanted = format!(
        "Using Azure endpoint {}/devstoreaccount1.",
        azurite.endpoint()
    );
    assert!(line.ends_with(&wanted), "{line}");
    server.stop();
}

/// As in Google's tools, requests have no token then.
#[test]
fn the_variable_of_an_emulator_is_honored() {
    let emulator = GcsEmulator::start();
    let mut command = without_clouds(&["-gcs-bucket", GcsEmulator::BUCKET]);
    command.env("STORAGE_EMULATOR_HOST", emulator.endpoint());
    let server = start(command, &[]);
    let mut client = server.client();
    let path = client.upload(b"hello");
    client.holds(&path, b"hello");
    server.stop();
}

#[test]
fn what_ends_the_start_is_one_sentence() {
    let fake = GcsFake::start(&[BUCKET]);
    let key = key_file(&fake);
    let told = refusal(
        without_clouds(&["-gcs-bucket", "nothing-like-it"])
            .args(["-gcs-endpoint", &fake.endpoint()])
            .env("GCS_SERVICE_ACCOUNT_FILE", key.path()),
    );
    let wanted = "create the bucket \"nothing-like-it\", or correct --gcs-bucket";
    assert!(told.contains(wanted), "{told}");
    let told = refusal(
        without_clouds(&["-gcs-bucket", BUCKET])
            .env("GCS_SERVICE_ACCOUNT_FILE", "/nonexistent/key.json")
            .args(["-gcs-endpoint", &fake.endpoint()]),
    );
    assert!(told.contains("/nonexistent/key.json"), "{told}");

    let azurite = Azurite::shared();
    let azure = || {
        let mut command = without_clouds(&["-azure-storage", BUCKET]);
        command.args(["-azure-endpoint", &azurite.endpoint()]);
        command
    };
    let told = refusal(&mut azure());
    let tusd = "No service account name for Azure BlockBlob Storage using the AZURE_STORAGE_ACCOUNT \
                environment variable.";
    assert!(told.contains(tusd), "{told}");
    let told = refusal(
        azure()
            .env("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT)
            .env("AZURE_STORAGE_KEY", "bm90IHRoZSBrZXk="),
    );
    assert!(told.contains("the key is not of this account"), "{told}");
    let told = refusal(
        azure()
            .env("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT)
            .env("AZURE_STORAGE_KEY", Azurite::KEY)
            .args(["-azure-storage", "Not_A_Name"]),
    );
    assert!(told.contains("lower-case letters"), "{told}");
}

/// As `landfall doctor` does.
#[test]
fn what_ends_the_start_says_what_to_do() {
    let fake = GcsFake::start(&[BUCKET]);
    let key = key_file(&fake);
    let google = |endpoint: &str| {
        let mut command = without_clouds(&["-gcs-bucket", BUCKET, "-gcs-endpoint", endpoint]);
        command.env("GCS_SERVICE_ACCOUNT_FILE", key.path());
        command
    };
    let endpoint = fake.endpoint();
    for (status, reason, message, problem, fix) in [
        (
            403,
            "accessNotConfigured",
            "Cloud Storage JSON API has not been used in project 1 before or it is disabled.",
            "the API of Cloud Storage is not enabled in the project",
            "enable the API: gcloud services enable storage.googleapis.com",
        ),
        (
            403,
            "accountDisabled",
            "The billing account for the owning project is disabled in state absent",
            "the project of \"uploads\" has no active billing",
            "enable billing",
        ),
        (
            400,
            "required",
            "Bucket is a requester pays bucket but no user project provided.",
            "unexpected response",
            "--no-requester-pays",
        ),
        (
            401,
            "authError",
            "Invalid Credentials",
            "Google Cloud Storage rejects the credentials",
            "check GCS_SERVICE_ACCOUNT_FILE",
        ),
    ] {
        fake.refuse(Some(GcsRefusal {
            status,
            reason,
            message,
        }));
        let told = refusal(&mut google(&endpoint));
        let start = format!("landfall: {problem}");
        assert!(told.starts_with(&start) || status == 400, "{told}");
        assert!(told.contains(problem) && told.contains(fix), "{told}");
    }
    fake.refuse(None);
    let told = refusal(&mut google("http://127.0.0.1:9"));
    assert!(told.contains("http://127.0.0.1:9 is unreachable"), "{told}");
    assert!(told.contains("correct --gcs-endpoint"), "{told}");
    fake.refuse_tokens("Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe.");
    let told = refusal(&mut google(&endpoint));
    assert!(told.contains("give no access token"), "{told}");
    assert!(told.contains("synchronize this machine's clock"), "{told}");

    let azurite = Azurite::shared();
    let azure = |endpoint: &str, signature: &str| {
        let mut command = without_clouds(&["-azure-storage", BUCKET, "-azure-endpoint", endpoint]);
        command
            .env("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT)
            .env("AZURE_STORAGE_SAS_TOKEN", signature);
        command
    };
    let told = refusal(&mut azure(&azurite.endpoint(), Azurite::EXPIRED_SAS));
    assert!(told.contains("rejects the credentials"), "{told}");
    assert!(told.contains("has expired; create another one"), "{told}");
    let told = refusal(&mut azure("http://127.0.0.1:9", Azurite::SAS));
    assert!(told.contains("http://127.0.0.1:9 is unreachable"), "{told}");
    assert!(told.contains("correct --azure-endpoint"), "{told}");
}

#[test]
fn a_missing_right_is_a_warning_at_the_start() {
    let google = Cloud::google();
    let Cloud::Google(fake, _) = &google else {
        unreachable!()
    };
    fake.deny(&["storage.objects.list"]);
    let server = google.server(&[]);
    let line = server.says("listing is not permitted");
    for wanted in ["storage.objects.list", "roles/storage.objectUser"] {
        assert!(line.contains(wanted), "{line}");
    }
    server.stop();
}

/// In tusd, such a refusal ends the start.
#[test]
fn a_container_that_exists_need_not_be_created() {
    let azurite = Azurite::shared();
    let container = azurite.container("existing");
    for signature in [Azurite::LIST_SAS, Azurite::READ_ONLY_SAS] {
        let mut command = without_clouds(&["-azure-storage", &container]);
        command
            .args(["-azure-endpoint", &azurite.endpoint()])
            .env("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT)
            .env("AZURE_STORAGE_SAS_TOKEN", signature);
        let server = start(command, &[]);
        server.says("authentication using shared access signature");
        let refused = server
            .client()
            .ask(Request::post().with("Upload-Length", 5));
        refused.refuses(403, "ERR_STORAGE_REFUSED");
        server.stop();
    }
}

#[test]
fn it_is_unready_while_the_cloud_is_unreachable() {
    for cloud in Cloud::each() {
        let server = cloud.server(&[]);
        assert_eq!(server.client().ask(Request::get("/readyz")).status, 200);
        drop(cloud);
        eventually("it is still ready", || {
            thread::sleep(Duration::from_millis(200));
            server.client().ask(Request::get("/readyz")).status == 503
        });
        let answer = server.client().ask(Request::get("/readyz"));
        assert_eq!(answer.text(), "the bucket is unreachable\n");
        assert_eq!(server.client().ask(Request::get("/healthz")).status, 200);
    }
}

#[test]
fn calls_and_memory_are_measured() {
    for cloud in Cloud::each() {
        let server = cloud.server(&[]);
        let mut client = server.client();
        let path = client.upload(&content(3, MIB));
        client.holds(&path, &content(3, MIB));
        let page = client.ask(Request::get("/metrics")).text();
        let sum = |family: &str| -> f64 {
            let lines = page
                .lines()
                .filter(|line| line.starts_with(&format!("{family}{{")));
            lines
                .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
                .sum()
        };
        assert!(sum("landfall_cloud_calls_total") >= 4.0, "{page}");
        assert!(
            sum("landfall_cloud_bytes_out_total") >= MIB as f64,
            "{page}"
        );
        assert!(sum("landfall_cloud_bytes_in_total") >= MIB as f64, "{page}");
        assert!(
            page.contains("landfall_cloud_request_duration_seconds_bucket"),
            "{page}"
        );
        assert!(server.metric("landfall_cloud_memory_limit_bytes") > 0.0);
        assert_eq!(server.metric("landfall_cloud_parts"), 0.0);
        server.stop();
    }
}

#[test]
fn a_sweep_removes_expired_uploads_and_a_dry_run_lists_them() {
    for cloud in Cloud::each() {
        let server = cloud.server(&["-sweep-interval=0"]);
        let mut client = server.client();
        let finished = client.upload(b"finished");
        let unfinished = client.create(20 * MIB);
        assert_eq!(
            client.patch(&unfinished, 0, &content(1, 9 * MIB)).status,
            204
        );
        server.stop();
        // The lifetime, and the second to which the clock of the service is rounded.
        thread::sleep(Duration::from_millis(3200));
        let sweep = |args: &[&str]| {
            let mut command = cloud.command(&["sweep", "-expire-unfinished=2s"]);
            let (code, said, told) = run(command.args(args));
            assert_eq!(code, Some(0), "{said}{told}");
            said
        };
        let said = sweep(&["-dry-run"]);
        assert!(
            said.contains("would remove") && said.contains(id_of(&unfinished)),
            "{said}"
        );
        assert!(!said.contains(id_of(&finished)), "{said}");
        let server = cloud.server(&["-sweep-interval=0"]);
        assert_eq!(server.client().offset(&unfinished), 9 * MIB);
        server.stop();
        let said = sweep(&[]);
        assert!(said.contains("removed 1 of "), "{said}");
        let server = cloud.server(&["-sweep-interval=0"]);
        assert_eq!(server.client().head(&unfinished).status, 404);
        server.client().holds(&finished, b"finished");
        if let Cloud::Google(fake, _) = &cloud {
            assert_eq!(stored(fake).len(), 2);
        }
        server.stop();
    }
}

/// Requests alternate between two nodes; one takes an upload over from the other, which is then killed.
#[test]
fn two_nodes_share_uploads() {
    for cloud in Cloud::each() {
        let flags = ["-lease", "store", "-lease-ttl=10s"];
        let (one, two) = (cloud.server(&flags), cloud.server(&flags));
        let whole = content(5, 30 * MIB + 5);
        let path = one.client().create(whole.len() as u64);
        let mut offset = 0;
        for (round, length) in [MIB, 9 * MIB, 3].into_iter().enumerate() {
            let server = if round % 2 == 0 { &two } else { &one };
            let end = offset + length;
            let piece = &whole[offset as usize..end as usize];
            let answer = server.client().patch(&path, offset, piece);
            assert_eq!((answer.status, answer.offset()), (204, end), "{answer:?}");
            for server in [&one, &two] {
                assert_eq!(server.client().offset(&path), end);
            }
            offset = end;
        }
        let mut doomed = two.client();
        doomed.begin(Request::patch(&path, offset), 10 * MIB);
        doomed.send(&whole[offset as usize..(offset + MIB) as usize]);
        eventually("nothing is being written", || {
            two.metric("landfall_uploads_live") == 1.0
        });
        two.kill();
        let mut client = one.client();
        let kept = client.offset(&path);
        assert!(kept >= offset, "{offset} acknowledged, {kept} kept");
        client.resumes_to(&path, &whole);
        client.holds(&path, &whole);
        one.stop();
    }
}
