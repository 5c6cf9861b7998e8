//! A bucket in memory behind the client's transport: fast enough for lease tests, with faults on
//! demand.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use landfall::BoxError;
use landfall_s3::client::{
    CallSettings, Client, ClientSettings, CredentialSource, HttpSend, PayloadBody, ResponseBody,
};
use md5::{Digest, Md5};
use tokio::time::sleep;

#[derive(Debug, Clone)]
struct Object {
    bytes: Vec<u8>,
    etag: String,
    modified: SystemTime,
}

/// The bucket that all nodes share.
#[derive(Debug, Default)]
pub(crate) struct Bucket {
    objects: Mutex<BTreeMap<String, Object>>,
    calls: Mutex<BTreeMap<String, u64>>,
    rejected_header: Mutex<Option<&'static str>>,
}

/// The transport of one node.
#[derive(Debug, Clone, Default)]
pub(crate) struct NodeTransport {
    bucket: Arc<Bucket>,
    disconnected: Arc<AtomicBool>,
    drops_responses: Arc<AtomicBool>,
}

impl NodeTransport {
    /// Creates a new bucket.
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Creates another node's transport to the same bucket.
    pub(crate) fn another(&self) -> Self {
        Self {
            bucket: Arc::clone(&self.bucket),
            ..Self::default()
        }
    }

    /// Drops all requests without a response from now on.
    pub(crate) fn disconnect(&self) {
        self.disconnected.store(true, Ordering::SeqCst);
    }

    /// Executes requests and drops the responses from now on.
    pub(crate) fn drop_responses(&self) {
        self.drops_responses.store(true, Ordering::SeqCst);
    }

    pub(crate) fn reconnect(&self) {
        self.disconnected.store(false, Ordering::SeqCst);
        self.drops_responses.store(false, Ordering::SeqCst);
    }

    pub(crate) fn client(&self) -> Client {
        Client::new(ClientSettings {
            endpoint: Some("http://bucket.invalid".into()),
            credentials: CredentialSource::Anonymous,
            calls: CallSettings {
                http: Some(Arc::new(self.clone())),
                ..CallSettings::default()
            },
            ..ClientSettings::default()
        })
        .unwrap()
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        self.bucket
            .objects
            .lock()
            .unwrap()
            .keys()
            .cloned()
            .collect()
    }

    /// Answers requests with this header by 501 from now on.
    pub(crate) fn reject_header(&self, name: &'static str) {
        *self.bucket.rejected_header.lock().unwrap() = Some(name);
    }

    /// Makes all objects older.
    pub(crate) fn age(&self, by: Duration) {
        for object in self.bucket.objects.lock().unwrap().values_mut() {
            object.modified -= by;
        }
    }

    /// Returns the number of calls since the last call of this: `put lease`, `get node`, ….
    pub(crate) fn calls(&self) -> BTreeMap<String, u64> {
        std::mem::take(&mut self.bucket.calls.lock().unwrap())
    }
}

#[async_trait]
impl HttpSend for NodeTransport {
    async fn send(
        &self,
        request: Request<PayloadBody>,
    ) -> Result<Response<ResponseBody>, BoxError> {
        while self.disconnected.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(5)).await;
        }
        let (head, body) = request.into_parts();
        let body = body.collect().await?.to_bytes().to_vec();
        let response = self.bucket.respond(&head, body);
        while self.disconnected.load(Ordering::SeqCst)
            || self.drops_responses.load(Ordering::SeqCst)
        {
            sleep(Duration::from_millis(5)).await;
        }
        Ok(response.map(|bytes| {
            Full::from(bytes)
                .map_err(|never| match never {})
                .boxed_unsync()
        }))
    }
}

impl Bucket {
    fn respond(&self, head: &http::request::Parts, body: Vec<u8>) -> Response<Vec<u8>> {
        let path = head.uri.path().trim_start_matches('/');
        let key = path.split_once('/').map_or("", |(_, key)| key).to_owned();
        let mut objects = self.objects.lock().unwrap();
        let name = match (&head.method, key.is_empty()) {
            (&Method::GET, true) => "list",
            (&Method::GET, false) => "get",
            (&Method::PUT, _) => "put",
            (&Method::HEAD, _) => "head",
            _ => "delete",
        };
        let of = match () {
            () if key.contains("/leases/") => "lease",
            () if key.contains("/nodes/") => "node",
            () => "other",
        };
        let mut calls = self.calls.lock().unwrap();
        *calls.entry(format!("{name} {of}")).or_default() += 1;
        let rejected = *self.rejected_header.lock().unwrap();
        if rejected.is_some_and(|name| head.headers.contains_key(name)) {
            return refuse(StatusCode::NOT_IMPLEMENTED, "NotImplemented");
        }
        let there = objects.get(&key);
        match name {
            "list" => list(&objects, head.uri.query().unwrap_or_default()),
            "get" | "head" => match there {
                Some(object) => found(object),
                None => refuse(StatusCode::NOT_FOUND, "NoSuchKey"),
            },
            "put" => {
                let condition = |name: header::HeaderName| head.headers.get(name);
                if condition(header::IF_NONE_MATCH).is_some() && there.is_some() {
                    return refuse(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
                }
                if let Some(etag) = condition(header::IF_MATCH) {
                    match there {
                        None => return refuse(StatusCode::NOT_FOUND, "NoSuchKey"),
                        Some(object) if object.etag.as_bytes() == etag.as_bytes() => {}
                        Some(_) => {
                            return refuse(StatusCode::PRECONDITION_FAILED, "PreconditionFailed");
                        }
                    }
                }
                let digest = Md5::digest(&body);
                let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
                let object = Object {
                    bytes: body,
                    etag: format!("\"{digest}\""),
                    modified: SystemTime::now(),
                };
                let response = Response::builder().header(header::ETAG, &object.etag);
                objects.insert(key, object);
                response.body(Vec::new()).unwrap()
            }
            _ => {
                objects.remove(&key);
                let response = Response::builder().status(StatusCode::NO_CONTENT);
                response.body(Vec::new()).unwrap()
            }
        }
    }
}

fn found(object: &Object) -> Response<Vec<u8>> {
    Response::builder()
        .header(header::ETAG, &object.etag)
        .header(header::CONTENT_LENGTH, object.bytes.len())
        .body(object.bytes.clone())
        .unwrap()
}

fn refuse(status: StatusCode, code: &str) -> Response<Vec<u8>> {
    let text = format!("<Error><Code>{code}</Code><Message>no</Message></Error>");
    Response::builder()
        .status(status)
        .body(text.into_bytes())
        .unwrap()
}

/// All in one page.
fn list(objects: &BTreeMap<String, Object>, query: &str) -> Response<Vec<u8>> {
    let mut words = query.split('&').filter_map(|word| word.split_once('='));
    let prefix = words.find(|(name, _)| *name == "prefix").unwrap().1;
    let prefix = prefix.replace("%2F", "/");
    let mut text = String::from("<ListBucketResult><IsTruncated>false</IsTruncated>");
    for (key, object) in objects.iter().filter(|(key, _)| key.starts_with(&prefix)) {
        let modified = jiff::Timestamp::try_from(object.modified).unwrap();
        text += &format!(
            "<Contents><Key>{key}</Key><LastModified>{modified:.3}</LastModified>\
             <ETag>&quot;x&quot;</ETag><Size>{}</Size></Contents>",
            object.bytes.len()
        );
    }
    text += "</ListBucketResult>";
    Response::new(text.into_bytes())
}
