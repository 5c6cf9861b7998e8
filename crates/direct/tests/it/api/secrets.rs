//! Nobody finds a secret anywhere.

use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use super::site::{SECRET, Site};

/// All that is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Log {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        self.clone()
    }
}

#[tokio::test]
async fn tokens_and_keys_stay_with_their_owners() {
    // With one subscriber alone, what other tests' threads come by first is never logged.
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(log.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let site = Site::start().await;
    let token = site.grant(|_| {}).await;
    let (token, key) = (token.reveal(), site.ann.reveal());
    let mut answers = String::new();
    for (method, path) in [
        ("GET", format!("/t/{token}/s3/params?filename=a")),
        (
            "GET",
            format!("/s3/params?filename=a&metadata[upload_token]={token}"),
        ),
        (
            "GET",
            format!("/s3/params?filename=a&upload_token={token}&metadata[x]={key}"),
        ),
        (
            "GET",
            format!("/t/{key}/s3/params?filename=a&metadata[x]={key}"),
        ),
        ("GET", format!("/t/{key}/s3/multipart/x/1?key={token}")),
        ("POST", format!("/t/{key}/s3/multipart")),
        ("POST", format!("/t/{token}/api/sign_s3")),
        ("POST", format!("/t/{SECRET}/api/s3_events")),
        ("POST", format!("/api/s3_events?token={SECRET}")),
        ("DELETE", format!("/t/{key}/nothing")),
    ] {
        let body = json!({
            "filename": "a", "file_name": "a", "type": "a/b",
            "metadata": {"token": token, "x": key, "y": format!("{token}")},
        });
        let ask = site
            .ask(method, &path)
            .with("referer", &format!("http://h{path}"));
        let reply = ask.json(&body).send().await;
        answers += &format!("{reply:?}");
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("DirectResponseOutgoing"), "{log}");
    let told = format!("{:?} {:?}", site.uploads.hook.requests(), site.uploads.sink);
    let mut books = String::new();
    for job in site
        .uploads
        .queue
        .list(&landfall_grants::queue::Query::new(
            landfall_grants::queue::Scope::All,
        ))
        .await
        .unwrap()
        .jobs
    {
        books += &format!("{job:?}");
        if let Some(id) = job.upload_id {
            let id = landfall::upload::UploadId::new(&id).unwrap();
            books += &format!("{:?}", site.uploads.books.get(&id).await.unwrap());
        }
    }
    assert!(books.contains("direct-"), "{books}");
    for secret in [token, key, SECRET] {
        for (place, text) in [
            ("log", &log),
            ("answers", &answers),
            ("told", &told),
            ("books", &books),
        ] {
            // What a client says is a key may come back in its refusal, and nowhere else.
            assert!(!text.contains(secret), "{secret} in {place}: {text}");
        }
    }
}
