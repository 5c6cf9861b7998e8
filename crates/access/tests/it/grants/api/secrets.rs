//! Secrets are not revealed.

use std::{
    io,
    sync::{Arc, Mutex},
};

use landfall_state::queue::{GrantLimits, NewKey, Token};
use serde_json::json;
use tracing_subscriber::fmt::MakeWriter;

use super::harness::with_defaults;

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
async fn tokens_and_keys_are_shown_once() {
    // With one subscriber alone, what other tests' threads come by first is never logged.
    let _other = tracing::Dispatch::new(tracing_subscriber::registry());
    let log = Log::default();
    let subscriber = tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(log.clone())
        .finish();
    let _logging = tracing::subscriber::set_default(subscriber);
    with_defaults(async |site| {
        let key = Token::api_key();
        let new = NewKey {
            hash: key.hash(),
            name: "app".into(),
            subject: "ann".into(),
            limits: GrantLimits::default(),
            is_admin: false,
            expires_at: None,
        };
        site.queue.add_key(new).await.unwrap();
        let bearer = format!("Bearer {}", key.reveal());
        let ask = |method: &str, path: &str| site.ask(method, path).with("authorization", &bearer);
        let mut secrets = vec![key.reveal().to_owned()];
        let mut answers = String::new();
        for (id, mode) in [("token", "token"), ("url", "url"), ("late", "token")] {
            let body = json!({
                "id": id, "filename": "a", "filesize": 5, "mode": mode, "_token": "csrf-secret",
                "token": "lft_of-an-earlier-grant",
            });
            for status in [201, 200] {
                let reply = ask("POST", "/uploadjobs")
                    .json(body.clone())
                    .send()
                    .await
                    .expect(status);
                let token = reply.json["upload_token"].as_str();
                secrets.extend(token.map(str::to_owned));
                // Only a grant holds its own token, and none that came before.
                for earlier in &secrets[..secrets.len() - usize::from(token.is_some())] {
                    assert!(!reply.text.contains(earlier));
                }
            }
        }
        secrets.extend(["csrf-secret".into(), "lft_of-an-earlier-grant".into()]);
        let path = site.create(&secrets[1], 5).await;
        let refused = site
            .ask("POST", "/files/")
            .with("upload-token", &secrets[1]);
        let refused = refused.with("upload-length", "6").send().await;
        answers += &format!("{refused:?}");
        answers += &format!("{:?}", site.ask("HEAD", &path).send().await);
        answers += &format!("{:?}", site.append(&path, 0, "hello").await.expect(204));
        site.until("ann", "token", "state", json!("completed"))
            .await;
        answers += &format!(
            "{:?}",
            ask("DELETE", "/uploadjobs/late").send().await.expect(200)
        );
        answers += &format!("{:?}", ask("GET", "/uploadjobs").send().await.expect(200));
        answers += &format!(
            "{:?}",
            ask("GET", "/uploadjobs/url").send().await.expect(200)
        );
        answers += &format!("{:?}", site.get("root", "/uploadjobs").await.expect(200));
        let wrong = site
            .ask("GET", "/uploadjobs")
            .with("authorization", "Bearer lfk_made-up");
        answers += &format!("{:?}", wrong.send().await.expect(401));
        secrets.push("lfk_made-up".into());
        let events = ask("GET", "/uploadjobs/events")
            .with("last-event-id", "0")
            .open()
            .await;
        let mut body = events.into_body();
        let mut told = String::new();
        while !told.contains("UploadCancelled") {
            let frame = http_body_util::BodyExt::frame(&mut body)
                .await
                .unwrap()
                .unwrap();
            told += std::str::from_utf8(&frame.into_data().unwrap()).unwrap();
        }
        let log = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
        assert!(log.contains("UploadGranted"), "nothing was logged");
        assert_eq!(secrets.len(), 1 + 4 + 2 + 1);
        for secret in &secrets {
            assert!(
                !answers.contains(secret),
                "{secret} is in an answer: {answers}"
            );
            assert!(!told.contains(secret), "{secret} is in an event: {told}");
            assert!(!log.contains(secret), "{secret} is in the log");
        }
    })
    .await;
}
