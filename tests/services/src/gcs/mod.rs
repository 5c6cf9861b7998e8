//! A strict fake of Google Cloud Storage, for rules that no emulator enforces: generations and their preconditions, also of
//! each source of a compose, granules of resumable sessions, checksums, bearer tokens, and one write of a name per second.
//!
//! It serves the JSON API, signed URLs of the XML API, and the endpoints that issue tokens, all on one port. It is made from
//! Google's documentation, and Google's Python SDK proves it (`tests/it/gcs.rs`). It must never be more lenient than the
//! service: a parameter, field or operation that it does not know is a 501. It injects no faults, which a
//! [`Proxy`](crate::Proxy) in front of it does.

mod batch;
mod content;
mod json;
mod multipart;
mod objects;
mod request;
mod sessions;
mod signature;
mod tokens;
mod upload;
mod xml;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{Ipv4Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    thread,
};

use bytes::Bytes;
use futures_util::stream;
use http::Response;
use http_body_util::{BodyExt as _, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::{net::TcpListener, sync::oneshot};

use self::{content::Content, objects::Buckets, tokens::Tokens};
use crate::{
    Access,
    process::{find, user_folder},
};

/// The fake. It runs in its own thread and ends when it is dropped; its objects are in memory.
#[derive(Debug)]
pub struct GcsFake {
    address: SocketAddr,
    service: Arc<Mutex<Service>>,
    end: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

/// An object, for assertions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GcsObject {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub size: u64,
    /// Its generation.
    pub generation: u64,
    /// The number of objects that it was composed of; `None` if it was not.
    pub components: Option<u64>,
    /// Its content type.
    pub content_type: Option<String>,
    /// Its custom metadata.
    pub metadata: BTreeMap<String, String>,
}

/// A request with a signed URL that was accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedRequest {
    /// Its method.
    pub method: String,
    /// The bucket.
    pub bucket: String,
    /// The name of the object.
    pub name: String,
    /// Seconds for which the URL is valid.
    pub expires: u64,
    /// The account that signed, as in the URL.
    pub account: String,
    /// The names of the signed headers.
    pub signed_headers: Vec<String>,
    /// The signature was verified, because it is of the account of [`GcsFake::service_account`].
    pub is_verified: bool,
}

/// A refusal of every call of the API, as of a project whose API or billing is disabled.
#[derive(Debug, Clone)]
pub struct Refusal {
    /// The status of the response.
    pub status: u16,
    /// The reason, such as `accessNotConfigured`.
    pub reason: &'static str,
    /// The message.
    pub message: &'static str,
}

/// The state of the fake.
#[derive(Debug)]
struct Service {
    buckets: Buckets,
    tokens: Tokens,
    counts: BTreeMap<&'static str, usize>,
    denied: BTreeSet<String>,
    /// Of every call of the API.
    refusal: Option<Refusal>,
    is_public: bool,
    signed: Vec<SignedRequest>,
}

impl Service {
    fn count(&mut self, operation: &'static str) {
        *self.counts.entry(operation).or_default() += 1;
    }
}

impl GcsFake {
    /// Starts a fake with these buckets.
    ///
    /// # Panics
    ///
    /// When there is no port left.
    #[must_use]
    pub fn start(buckets: &[&str]) -> Self {
        Self::start_on(0, buckets)
    }

    /// Starts a fake with these buckets on a port of 127.0.0.1; 0 is a free one.
    ///
    /// # Panics
    ///
    /// When the port is taken.
    #[must_use]
    pub fn start_on(port: u16, buckets: &[&str]) -> Self {
        let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let service = Arc::new(Mutex::new(Service {
            buckets: Buckets::new(buckets),
            tokens: Tokens::new(),
            counts: BTreeMap::new(),
            denied: BTreeSet::new(),
            refusal: None,
            is_public: false,
            signed: Vec::new(),
        }));
        let (end, ended) = oneshot::channel();
        let shared = service.clone();
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = accept(listener, shared) => {}
                    _ = ended => {}
                }
            });
        });
        Self {
            address,
            service,
            end: Some(end),
            thread: Some(thread),
        }
    }

    /// Returns its address, as in `STORAGE_EMULATOR_HOST`: scheme, host and port, without a slash at the end.
    #[must_use]
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Returns its address for a [`Proxy`](crate::Proxy). It has no keys.
    #[must_use]
    pub fn access(&self) -> Access {
        Access {
            endpoint: self.endpoint(),
            region: "auto".to_owned(),
            access_key: String::new(),
            secret_key: String::new(),
        }
    }

    /// Returns the bearer token that it accepts, which its endpoints issue.
    #[must_use]
    pub fn token(&self) -> String {
        self.lock().tokens.current().to_owned()
    }

    /// Lets the token expire: another one is issued and accepted from now on.
    pub fn expire_token(&self) {
        self.lock().tokens.renew();
    }

    /// Sets the number of seconds for which its endpoints say that a token is valid; 3599 at first.
    pub fn set_token_lifetime(&self, seconds: u64) {
        self.lock().tokens.lifetime = seconds;
    }

    /// Returns a key file of a service account, whose `token_uri` is at `endpoint`: that of the fake or of its proxy.
    #[must_use]
    pub fn service_account(&self, endpoint: &str) -> Value {
        tokens::service_account(endpoint)
    }

    /// Makes a bucket.
    pub fn create_bucket(&self, name: &str) {
        self.lock().buckets.create_bucket(name);
    }

    /// Sets a field of a bucket's description, such as `softDeletePolicy`, `lifecycle` or `retentionPolicy`, which has no
    /// effect on objects.
    ///
    /// # Panics
    ///
    /// When there is no such bucket.
    pub fn set_bucket_field(&self, bucket: &str, field: &str, value: Value) {
        self.lock().buckets.set_bucket_field(bucket, field, value);
    }

    /// Denies these permissions, such as `storage.objects.delete`, and grants all others.
    pub fn deny(&self, permissions: &[&str]) {
        self.lock().denied = permissions.iter().map(|&name| name.to_owned()).collect();
    }

    /// Refuses every call of the API, or none.
    pub fn refuse(&self, refusal: Option<Refusal>) {
        self.lock().refusal = refusal;
    }

    /// Refuses to issue tokens, as for a key that was deleted, or an assertion of a machine with a wrong clock.
    pub fn refuse_tokens(&self, description: &'static str) {
        self.lock().tokens.refusal = Some(description);
    }

    /// Lets callers without a token read objects, as with the role Storage Object Viewer of `allUsers`.
    pub fn set_public(&self, is_public: bool) {
        self.lock().is_public = is_public;
    }

    /// Says whether a name may be written only once per second, and an object's metadata be changed only once per second.
    /// True at first; tests that would take hours turn it off.
    pub fn set_rate_limit(&self, is_limited: bool) {
        self.lock().buckets.is_rate_limited = is_limited;
    }

    /// Returns a bucket's objects in the order of their names.
    #[must_use]
    pub fn objects(&self, bucket: &str) -> Vec<GcsObject> {
        self.lock().buckets.objects(bucket)
    }

    /// Returns the bytes of an object, or `None` if there is none.
    #[must_use]
    pub fn bytes(&self, bucket: &str, name: &str) -> Option<Bytes> {
        let content = self.lock().buckets.content(bucket, name)?;
        Some(content.to_bytes())
    }

    /// Stores an object, without a rate limit and without counting it. Its generation is returned.
    ///
    /// # Panics
    ///
    /// When there is no such bucket.
    pub fn insert(&self, bucket: &str, name: &str, bytes: impl Into<Bytes>) -> u64 {
        self.lock()
            .buckets
            .insert_for_test(bucket, name, bytes.into())
    }

    /// Returns the number of calls of an operation, rejected ones included, unless by their token. Those in a batch count, too.
    ///
    /// Operations have their names in Google's reference: `objects.insert`, `objects.get`, `objects.list`, `objects.patch`,
    /// `objects.delete`, `objects.compose`, `objects.rewrite`, `buckets.get`, `buckets.insert`, `buckets.testIamPermissions`.
    /// Beyond those there are `objects.download`, `batch`, `sessions.create`, `sessions.write`, `sessions.query` and
    /// `sessions.cancel`, `xml.get`, `xml.put` and `xml.delete`, and `tokens.oauth`, `tokens.sts`, `tokens.impersonate` and
    /// `tokens.metadata`.
    #[must_use]
    pub fn count(&self, operation: &str) -> usize {
        self.lock().counts.get(operation).copied().unwrap_or(0)
    }

    /// Returns the number of calls by operation.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<&'static str, usize> {
        self.lock().counts.clone()
    }

    /// Sets all counters to 0 and forgets signed requests.
    pub fn reset_counts(&self) {
        let mut service = self.lock();
        service.counts.clear();
        service.signed.clear();
    }

    /// Returns the requests with signed URLs that were accepted.
    #[must_use]
    pub fn signed_requests(&self) -> Vec<SignedRequest> {
        self.lock().signed.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Service> {
        self.service.lock().unwrap()
    }
}

/// Returns the Python that has Google's SDK.
///
/// # Panics
///
/// When it is not installed.
#[must_use]
pub fn google_sdk() -> PathBuf {
    let folder = user_folder("XDG_CACHE_HOME", ".cache").join("landfall-tests");
    // A Python in $PATH would not have the SDK.
    find("gcs/bin/python", &folder)
}

impl Drop for GcsFake {
    fn drop(&mut self) {
        drop(self.end.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

async fn accept(listener: std::net::TcpListener, service: Arc<Mutex<Service>>) {
    let listener = TcpListener::from_std(listener).unwrap();
    loop {
        let Ok((stream, _)) = listener.accept().await else {
            continue;
        };
        let _ = stream.set_nodelay(true);
        let service = service.clone();
        tokio::spawn(async move {
            let answer = service_fn(move |request: http::Request<Incoming>| {
                let service = service.clone();
                async move {
                    let (head, body) = request.into_parts();
                    // An object appears whole or not at all, so a body that is cut ends here.
                    let body = body.collect().await?.to_bytes();
                    let response = request::handle(&mut service.lock().unwrap(), &head, body);
                    Ok::<_, hyper::Error>(stream_segments(response))
                }
            });
            // A request that is cut ends its connection by an error.
            let _ = server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

/// Sends an object's segments one by one, since joining them would copy it. The head has its length.
fn stream_segments(
    response: Response<Content>,
) -> Response<impl hyper::body::Body<Data = Bytes, Error = std::convert::Infallible>> {
    response.map(|content| {
        let frames = content.into_segments().into_iter().map(Frame::data);
        StreamBody::new(stream::iter(frames.map(Ok)))
    })
}
