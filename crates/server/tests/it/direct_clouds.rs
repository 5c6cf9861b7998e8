//! Direct uploads to Google Cloud Storage and Azure, and redirected downloads from them, by the real program.

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use landfall_test_services::{
    Azurite, GcsEmulator,
    http1::{self, Response},
};
use serde_json::{Value, json};

use crate::{
    direct_harness::App,
    serve_clouds::{BUCKET, Cloud, refusal, without_clouds},
    serve_harness::{MIB, Request, assert_same, content, program, run},
};

/// Sends a request without credentials, as every client does.
fn send(method: Method, url: &str, headers: &HeaderMap, body: &'static str) -> Response {
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    runtime.block_on(http1::send(method, url, headers, body))
}

#[test]
fn downloads_are_redirected_with_their_range() {
    for cloud in Cloud::each() {
        let flag = match &cloud {
            Cloud::Google(..) => "-gcs-download=redirect",
            Cloud::Azure(_) => "-azure-download=redirect",
        };
        let server = cloud.server(&[flag]);
        let mut client = server.client();
        let bytes = content(5, 9 * MIB);
        let path = client.upload(&bytes);
        let range = "bytes=8388600-8388619";
        let answer = client.ask(Request::get(&path).with("Range", range));
        assert_eq!(answer.status, 307, "{answer:?}");
        let url = answer.header("Location").unwrap();
        // The client sends its headers again.
        let mut headers = HeaderMap::new();
        let (status, answered, body) = send(Method::GET, url, &headers, "");
        assert_eq!(status, 200);
        assert_same(&body, &bytes);
        assert_eq!(answered["content-disposition"], "attachment");
        headers.insert("range", HeaderValue::from_static(range));
        let (status, _, body) = send(Method::GET, url, &headers, "");
        assert_eq!(status, 206);
        assert_same(&body, &bytes[8_388_600..8_388_620]);
        server.stop();
    }
}

#[test]
fn files_are_sent_to_the_cloud() {
    for cloud in Cloud::each() {
        let state = tempfile::tempdir().unwrap();
        let state = state.path().to_str().unwrap();
        let own = ["-direct", "-max-size=1MiB", "-state-dir", state];
        let server = cloud.server(&own);
        let mut add = program();
        add.args(["keys", "add", "app", "-state-dir", state]);
        let (code, key, told) = run(&mut add);
        assert_eq!(code, Some(0), "{told}");
        let app = App::new(&server, key.trim_end());
        let ask = json!({"file_name": "a.txt", "file_type": "text/plain", "file_size": 5});
        let signed = app.post("/api/sign", ask);
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        let (url, public) = (text(&signed["signed_request"]), text(&signed["url"]));
        assert!(public.contains("/uploads/in_box/uploads/"), "{public}");
        let headers = signed["headers"].as_object().unwrap().iter();
        let headers = headers.map(|(name, value)| {
            let name = HeaderName::from_bytes(name.as_bytes()).unwrap();
            (name, HeaderValue::from_str(&text(value)).unwrap())
        });
        let (status, _, body) = send(Method::PUT, &url, &headers.collect(), "hello");
        assert!(status.is_success(), "{body:?}");
        let done = app.post("/api/complete", json!({"url": public}));
        assert_eq!(
            (done["state"].as_str(), &done["size"]),
            (Some("completed"), &json!(5))
        );
        let too_large = json!({"file_name": "a", "file_size": (1 << 20) + 1});
        let answer = app.ask("POST", "/api/sign", Some(too_large));
        assert!(matches!(answer.status, 413 | 422), "{}", answer.text());
        // A sweep of tus uploads does not take the object for a remainder.
        server.stop();
        let mut sweep = cloud.command(&["sweep"]);
        let (code, said, told) = run(sweep.args(own));
        assert_eq!(code, Some(0), "{said}{told}");
        let direct = "checked 0 direct uploads";
        assert!(
            said.contains(direct) || told.contains(direct),
            "{said}{told}"
        );
        if let Cloud::Google(fake, _) = &cloud {
            let names = fake.objects(BUCKET).into_iter().map(|object| object.name);
            let names: Vec<_> = names.filter(|name| name.ends_with("/a.txt")).collect();
            assert_eq!(names.len(), 1, "{names:?}");
        }
    }
}

#[test]
fn credentials_that_cannot_sign_end_the_start() {
    let emulator = GcsEmulator::start();
    let state = tempfile::tempdir().unwrap();
    let state = state.path().to_str().unwrap();
    let azurite = Azurite::shared();
    let container = azurite.container("direct");
    for (args, needs) in [
        (
            &["-direct", "-max-size=1MiB", "-state-dir", state][..],
            "--direct",
        ),
        (&["-gcs-download=redirect"], "--gcs-download"),
        (&["-azure-download=redirect"], "--azure-download"),
    ] {
        let mut command = without_clouds(&["serve"]);
        command.args(args);
        match needs {
            "--azure-download" => command
                .args([
                    "-azure-storage",
                    &container,
                    "-azure-endpoint",
                    &azurite.endpoint(),
                ])
                .env("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT)
                .env("AZURE_STORAGE_SAS_TOKEN", Azurite::SAS),
            _ => command
                .args(["-gcs-bucket", GcsEmulator::BUCKET])
                .env("STORAGE_EMULATOR_HOST", emulator.endpoint()),
        };
        let told = refusal(&mut command);
        let wanted = format!("{needs} needs credentials that can sign URLs for clients");
        assert!(told.contains(&wanted), "{told}");
    }
}
