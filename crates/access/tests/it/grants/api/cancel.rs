//! `DELETE /uploadjobs/{request_id}`.

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use http::Request;
use http_body_util::StreamBody;
use hyper::body::Frame;
use landfall::upload::UploadId;
use landfall_state::queue::JobEnd;
use serde_json::json;
use tokio::sync::mpsc;

use super::harness::{Site, with_defaults};

async fn is_gone(site: &Site, path: &str) {
    for method in ["HEAD", "PATCH"] {
        let ask = site.ask(method, path).with("upload-offset", "0");
        let ask = ask.with("content-type", "application/offset+octet-stream");
        let status = ask.send().await.status;
        assert!([404, 410].contains(&status), "{method}: {status}");
    }
    let id = UploadId::new(path.strip_prefix("/files/").unwrap()).unwrap();
    assert!(
        !site.handler.remove(&id).await.unwrap(),
        "{id} is still there"
    );
}

#[tokio::test]
async fn before_it_begins() {
    with_defaults(async |site| {
        let token = site
            .grant("ann", json!({"id": "1", "filename": "a", "filesize": 5}))
            .await;
        let row = site.delete("ann", "1").await.expect(200).json;
        assert_eq!(
            (&row["state"], &row["reason"]),
            (&json!("cancelled"), &json!("cancelled by its owner"))
        );
        assert_eq!(row["ended_at"], row["updated_at"]);
        // A repeated cancellation returns the same job.
        assert_eq!(site.delete("ann", "1").await.expect(200).json, row);
        assert_eq!(site.row("ann", "1").await, row);
        let ask = site.ask("POST", "/files/").with("upload-token", &token);
        ask.with("upload-length", "5").send().await.expect(410);
    })
    .await;
}

#[tokio::test]
async fn with_some_of_it_there() {
    with_defaults(async |site| {
        let token = site
            .grant("ann", json!({"id": "1", "filename": "a", "filesize": 5}))
            .await;
        let path = site.create(&token, 5).await;
        site.append(&path, 0, "hel").await.expect(204);
        site.until("ann", "1", "offset", json!(3)).await;
        let row = site.delete("ann", "1").await.expect(200).json;
        assert_eq!(
            (&row["state"], &row["offset"]),
            (&json!("cancelled"), &json!(3))
        );
        is_gone(site, &path).await;
    })
    .await;
}

#[tokio::test]
async fn while_its_bytes_come_in() {
    with_defaults(async |site| {
        let token = site
            .grant("ann", json!({"id": "1", "filename": "a", "filesize": 1000}))
            .await;
        let path = site.create(&token, 1000).await;
        // A client that has sent something and holds back the rest.
        let (bytes, coming) = mpsc::channel(1);
        bytes.send("x".repeat(100)).await.unwrap();
        let coming = tokio_stream(coming);
        let handler = site.handler.clone();
        let request = Request::patch(&path)
            .header("tus-resumable", "1.0.0")
            .header("upload-offset", "0")
            .header("content-length", "1000")
            .header("content-type", "application/offset+octet-stream")
            .body(StreamBody::new(coming))
            .unwrap();
        let patch = tokio::spawn(async move { handler.handle(request).await.status() });
        while site
            .ask("HEAD", &path)
            .send()
            .await
            .header("upload-offset")
            .unwrap()
            != "100"
        {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        let row = site.delete("ann", "1").await.expect(200).json;
        assert_eq!(row["state"], "cancelled");
        // It ends although its client sends nothing more.
        let status = tokio::time::timeout(Duration::from_secs(30), patch).await;
        let status = status.expect("the transfer continues").unwrap();
        assert!(status.is_client_error(), "{status}");
        drop(bytes);
        is_gone(site, &path).await;
        let row = site.row("ann", "1").await;
        assert_eq!(row["state"], "cancelled");
    })
    .await;
}

fn tokio_stream(
    receiver: mpsc::Receiver<String>,
) -> impl futures_util::Stream<Item = Result<Frame<bytes::Bytes>, std::io::Error>> + Send {
    let receiver = Arc::new(tokio::sync::Mutex::new(receiver));
    futures_util::stream::unfold(receiver, |receiver| async {
        let next = receiver.lock().await.recv().await?;
        Some((next, receiver))
    })
    .map(|text| Ok(Frame::data(text.into())))
    .boxed()
}

#[tokio::test]
async fn what_is_over_stays_as_it_is() {
    with_defaults(async |site| {
        let token = site
            .grant("ann", json!({"id": "done", "filename": "a", "filesize": 5}))
            .await;
        let path = site.create(&token, 5).await;
        site.append(&path, 0, "hello").await.expect(204);
        site.until("ann", "done", "state", json!("completed")).await;
        site.delete("ann", "done").await.problem(409, "complete");
        assert_eq!(site.row("ann", "done").await["state"], "completed");
        assert_eq!(
            site.ask("HEAD", &path)
                .send()
                .await
                .expect(200)
                .header("upload-offset")
                .unwrap(),
            "5"
        );

        for (id, end) in [
            ("failed", JobEnd::Failed("why".into())),
            ("expired", JobEnd::Expired),
        ] {
            site.grant("ann", json!({"id": id, "filename": "a"})).await;
            let job = site.queue.by_request("ann", id).await.unwrap().unwrap();
            assert!(site.queue.finish(job.id, end).await.unwrap());
            let row = site.delete("ann", id).await.expect(200).json;
            assert_eq!(row["state"], id);
        }
        site.delete("ann", "none").await.problem(404, "not found");
    })
    .await;
}

#[tokio::test]
async fn many_at_once_tell_one_event() {
    with_defaults(async |site| {
        let token = site
            .grant("ann", json!({"id": "1", "filename": "a", "filesize": 5}))
            .await;
        let path = site.create(&token, 5).await;
        let replies = (0..10).map(|_| site.delete("ann", "1"));
        for reply in futures_util::future::join_all(replies).await {
            assert_eq!(reply.expect(200).json["state"], "cancelled");
        }
        is_gone(site, &path).await;
        let scope = landfall_state::queue::Scope::All;
        let events = site.queue.events(&scope, 0, 100).await.unwrap();
        let kinds: Vec<_> = events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds, ["UploadStarted", "UploadCancelled"]);
    })
    .await;
}
