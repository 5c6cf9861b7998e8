//! Secrets never appear in logs, events or responses.

use std::{
    io,
    sync::{Arc, Mutex},
};

use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use super::harness::{Harness, SECRET};

/// Captures the log.
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
async fn secrets_never_leak() {
    // Only one subscriber is possible: other tests' threads would disable callsites first.
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::DEBUG)
        .with_writer(log.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    let harness = Harness::start().await;
    let token = harness.grant(|_| {}).await;
    let (token, key) = (token.reveal(), harness.ann.reveal());
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
        let request = harness
            .request(method, &path)
            .with("referer", &format!("http://h{path}"));
        let reply = request.json(&body).send().await;
        answers += &format!("{reply:?}");
    }
    let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
    assert!(log.contains("DirectResponseOutgoing"), "{log}");
    let told = format!(
        "{:?} {:?}",
        harness.uploads.hook.requests(),
        harness.uploads.sink
    );
    let mut repository = String::new();
    for job in harness
        .uploads
        .queue
        .list(&landfall_state::queue::Query::new(
            landfall_state::queue::Scope::All,
        ))
        .await
        .unwrap()
        .jobs
    {
        repository += &format!("{job:?}");
        if let Some(id) = job.upload_id {
            let id = landfall::upload::UploadId::new(&id).unwrap();
            repository += &format!("{:?}", harness.uploads.repository.get(&id).await.unwrap());
        }
    }
    assert!(repository.contains("direct-"), "{repository}");
    for secret in [token, key, SECRET] {
        for (object, text) in [
            ("log", &log),
            ("answers", &answers),
            ("told", &told),
            ("repository", &repository),
        ] {
            // An invalid key may appear in its error response, and nowhere else.
            assert!(!text.contains(secret), "{secret} in {object}: {text}");
        }
    }
}
