//! Direct uploads: a service that signs requests, and one that receives the bytes.

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use landfall_client::{DirectMode, Error, FileFingerprints, GrantRequest, Source};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::{net::TcpListener, task::JoinHandle};

use crate::{builder, client, content, in_time};

/// An application and a bucket in one, at two addresses.
#[derive(Default)]
struct Service {
    parts: Mutex<BTreeMap<u64, Bytes>>,
    object: Mutex<Option<Bytes>>,
    /// Requests with credentials that reached the bucket.
    leaks: AtomicUsize,
    created: AtomicUsize,
    puts: AtomicUsize,
    /// PUTs with this number fail.
    fails: Vec<usize>,
    token_seen: AtomicUsize,
}

struct Site {
    service: Arc<Service>,
    endpoint: String,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Site {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

impl Site {
    async fn start(fails: Vec<usize>) -> Self {
        let service = Arc::new(Service {
            fails,
            ..Service::default()
        });
        let application = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let bucket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, bucket_address) = (
            application.local_addr().unwrap(),
            bucket.local_addr().unwrap(),
        );
        let tasks = [
            tokio::spawn(serve(application, service.clone(), bucket_address, false)),
            tokio::spawn(serve(bucket, service.clone(), bucket_address, true)),
        ];
        Self {
            service,
            endpoint: format!("http://{address}"),
            tasks,
        }
    }
}

async fn serve(listener: TcpListener, service: Arc<Service>, bucket: SocketAddr, is_bucket: bool) {
    while let Ok((stream, _)) = listener.accept().await {
        let service = service.clone();
        tokio::spawn(async move {
            let service = hyper::service::service_fn(move |request| {
                let service = service.clone();
                async move {
                    let response = match is_bucket {
                        true => service.store(request).await,
                        false => service.sign(request, bucket).await,
                    };
                    Ok::<_, std::convert::Infallible>(response)
                }
            });
            // An error is a closed connection.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}

fn answer(status: u16, value: &Value) -> Response<Full<Bytes>> {
    let body = Full::from(value.to_string());
    let builder = Response::builder().status(status);
    builder
        .header("content-type", "application/json")
        .body(body)
        .unwrap()
}

impl Service {
    async fn sign(&self, request: Request<Incoming>, bucket: SocketAddr) -> Response<Full<Bytes>> {
        let path = request.uri().path().to_owned();
        let is_get = request.method() == "GET";
        let has_token = request.headers().contains_key("upload-token");
        self.token_seen.fetch_add(usize::from(has_token), Relaxed);
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let fields: Value = serde_json::from_slice(&body).unwrap_or_default();
        let object = format!("http://{bucket}/key");
        match path.as_str() {
            "/api/sign_s3" => answer(
                200,
                &json!({
                    "file_type": fields["file_type"],
                    "signed_request": format!("{object}?signature"),
                    "url": object,
                    "headers": {"x-condition": fields["file_size"].to_string()},
                }),
            ),
            "/api/complete_s3" => match self.object.lock().as_ref() {
                Some(bytes) if fields["url"] == object => answer(
                    200,
                    &json!({"state": "completed", "key": "key", "size": bytes.len(), "etag": "e", "location": object}),
                ),
                _ => answer(409, &json!({"message": "the object does not exist"})),
            },
            "/s3/multipart" => {
                self.created.fetch_add(1, Relaxed);
                answer(
                    200,
                    &json!({"key": "a key", "uploadId": "an/id", "bucket": "b"}),
                )
            }
            "/s3/multipart/an%2Fid" if is_get => {
                let parts = self.parts.lock();
                let parts: Vec<_> = parts
                    .iter()
                    .map(|(number, bytes)| json!({"PartNumber": number, "ETag": format!("\"{number}\""), "Size": bytes.len()}))
                    .collect();
                answer(200, &parts.into())
            }
            "/s3/multipart/an%2Fid/complete" => {
                let parts = self.parts.lock();
                let listed = fields["parts"].as_array().unwrap();
                let is_all = listed.len() == parts.len()
                    && listed.iter().zip(parts.keys()).all(|(part, number)| {
                        part["PartNumber"] == *number && part["ETag"] == format!("\"{number}\"")
                    });
                assert!(is_all, "{listed:?}");
                let whole: Vec<u8> = parts.values().flatten().copied().collect();
                *self.object.lock() = Some(whole.into());
                answer(
                    200,
                    &json!({"location": object, "key": "key", "bucket": "b"}),
                )
            }
            path => {
                let number: u64 = path
                    .strip_prefix("/s3/multipart/an%2Fid/")
                    .unwrap()
                    .parse()
                    .unwrap();
                answer(
                    200,
                    &json!({"url": format!("http://{bucket}/part/{number}"), "expires": 60}),
                )
            }
        }
    }

    async fn store(&self, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let names = ["authorization", "upload-token", "x-own"];
        let leaks = names
            .iter()
            .any(|name| request.headers().contains_key(*name));
        self.leaks.fetch_add(usize::from(leaks), Relaxed);
        let number = self.puts.fetch_add(1, Relaxed);
        let part = request
            .uri()
            .path()
            .strip_prefix("/part/")
            .map(|n| n.parse().unwrap());
        let condition = request
            .headers()
            .get("x-condition")
            .map(|v| v.to_str().unwrap().to_owned());
        let Ok(body) = request.into_body().collect().await else {
            return answer(400, &Value::Null);
        };
        let bytes = body.to_bytes();
        if self.fails.contains(&number) {
            return answer(
                if number.is_multiple_of(2) { 403 } else { 503 },
                &Value::Null,
            );
        }
        let tag = match part {
            Some(number) => {
                self.parts.lock().insert(number, bytes);
                format!("\"{number}\"")
            }
            None => {
                assert_eq!(condition, Some(bytes.len().to_string()));
                *self.object.lock() = Some(bytes);
                "\"whole\"".into()
            }
        };
        let mut stored = answer(200, &Value::Null);
        stored.headers_mut().insert("etag", tag.parse().unwrap());
        stored
    }
}

#[tokio::test]
async fn a_small_file_is_one_put() {
    let site = Site::start(vec![0, 1]).await;
    let bytes = content(300_000);
    let client = builder()
        .authentication(|_| async { Ok("Bearer key".parse()?) })
        .build()
        .unwrap();
    let upload = client
        .upload(&site.endpoint, Source::bytes(bytes.clone()))
        .metadata("filename", "a.png")
        .metadata("filetype", "image/png")
        .header("x-own".parse().unwrap(), "1".parse().unwrap())
        .token("lft_x")
        .direct(DirectMode::Auto);
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(completed.length, 300_000);
    assert_eq!(*site.service.object.lock(), Some(bytes));
    assert_eq!(site.service.puts.load(Relaxed), 3);
    assert_eq!(site.service.leaks.load(Relaxed), 0);
    assert!(site.service.token_seen.load(Relaxed) >= 4);
}

#[tokio::test]
async fn parts_are_sent_several_at_a_time_and_again_after_failures() {
    let site = Site::start(vec![0, 2, 3]).await;
    let bytes = content(42_000_000);
    let upload = client()
        .upload(&site.endpoint, Source::bytes(bytes.clone()))
        .parallel(3)
        .direct(DirectMode::Multipart);
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(completed.length, 42_000_000);
    assert!(site.service.object.lock().as_ref() == Some(&bytes));
    assert_eq!(site.service.puts.load(Relaxed), 6 + 3);
}

#[tokio::test]
async fn another_run_sends_the_missing_parts() {
    let site = Site::start(Vec::new()).await;
    let bytes = content(42_000_000);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("file");
    std::fs::write(&path, &bytes).unwrap();
    let upload = || {
        let store = FileFingerprints::new(dir.path().join("records"));
        let client = builder().fingerprints(store).build().unwrap();
        client
            .upload(&site.endpoint, Source::file(&path))
            .direct(DirectMode::Multipart)
    };
    let first = upload();
    let control = first.control();
    let stop = async {
        while site.service.parts.lock().len() < 3 {
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
        control.cancel();
    };
    let (result, ()) = tokio::join!(first.run(), stop);
    assert!(matches!(result, Err(Error::Cancelled)), "{result:?}");
    let completed = in_time(upload().run()).await.unwrap();
    assert!(
        completed.resumed_from >= 3 * 8 * 1024 * 1024,
        "{completed:?}"
    );
    assert_eq!(completed.resumed_from + completed.bytes_sent, 42_000_000);
    assert!(site.service.object.lock().as_ref() == Some(&bytes));
    assert_eq!(site.service.created.load(Relaxed), 1);
}

#[tokio::test]
async fn streams_are_not_supported() {
    let site = Site::start(Vec::new()).await;
    let source = Source::stream(std::io::Cursor::new("abc"), Some(3));
    let upload = client()
        .upload(&site.endpoint, source)
        .direct(DirectMode::Auto);
    let error = upload.run().await.unwrap_err();
    assert!(matches!(error, Error::Unsupported(_)), "{error}");
}

#[tokio::test]
async fn a_grant_is_an_upload_with_its_token_or_to_its_url() {
    let server = crate::server::Server::start().await;
    let endpoint = server.endpoint();
    let grants = crate::server::Server::with(
        |_| {},
        move |request| {
            let is_url = request.headers().get("x-mode").is_some();
            let mut value = json!({
                "request_id": "1", "upload_token": "lft_x", "expires_at": "2030-01-01T00:00:00Z",
                "filename": "a", "size": 3, "location": endpoint, "state": "received",
            });
            if is_url {
                value["upload_token"] = Value::Null;
                value["upload_url"] = format!("{endpoint}unknown").into();
            }
            let text: &'static str = value.to_string().leak();
            Some(
                crate::server::response(201, &[("content-type", "application/json")]).map(|_| text),
            )
        },
    )
    .await;
    let request = GrantRequest {
        id: "1".into(),
        filename: "a".into(),
        filesize: Some(3),
        ..GrantRequest::default()
    };
    let grant = client().grant(grants.endpoint(), &request).await.unwrap();
    assert_eq!((grant.size, grant.state.as_str()), (Some(3), "received"));
    let upload = client().upload_granted(&grant, Source::bytes("abc"));
    let completed = in_time(upload.run()).await.unwrap();
    assert_eq!(server.bytes(&completed.url).await, "abc");
    let seen = server.seen();
    let post = seen.iter().find(|seen| seen.method == "POST").unwrap();
    assert_eq!(post.header("upload-token"), Some("lft_x"));

    let used =
        crate::server::Server::with(|_| {}, |_| Some(crate::server::response(409, &[]))).await;
    let error = client().grant(used.endpoint(), &request).await.unwrap_err();
    assert!(matches!(error, Error::Rejected(_)), "{error}");
    assert_eq!(used.count("POST"), 1);

    let by_url = builder()
        .header("x-mode".parse().unwrap(), "url".parse().unwrap())
        .build()
        .unwrap();
    let grant = by_url.grant(grants.endpoint(), &request).await.unwrap();
    let error = in_time(client().upload_granted(&grant, Source::bytes("abc")).run()).await;
    assert!(matches!(error, Err(Error::Gone(_))), "{error:?}");
}
