//! The clouds of the tests in `tests/it`: a service, a client of it, and stores. Each test runs on every cloud.
//!
//! Google Cloud Storage is the strict fake of `landfall-test-services`, Azure is Azurite.
#![allow(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "a test fails by panicking, and so does everything in here"
)]

use std::{
    fmt,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::Store,
    upload::{Upload, UploadId},
};
use landfall_azure::{AzureClient, AzureSettings};
use landfall_gcs::{AccessToken, ClientSettings, CredentialSource, ProvideToken};
use landfall_objects::{CallLimits, Cloud, ObjectStore, StoreOptions, UploadIds};
use landfall_test_services::{Access, Azurite, GcsFake};

/// A cloud with a bucket for each test.
pub trait Service: Sized + Send + Sync + 'static {
    /// Its client.
    type Client: Cloud + Clone;

    /// Returns the one that all tests of this process share.
    fn shared() -> &'static Self;

    /// Makes a bucket.
    fn bucket(&self, stem: &str) -> String;

    /// Returns its address, for a proxy.
    fn access(&self) -> Access;

    /// Creates a client of the service at this address.
    fn client(&self, endpoint: &str, prefix: &str, limits: CallLimits) -> Self::Client;
}

/// The fake of Google Cloud Storage.
#[derive(Debug)]
pub struct Google(pub GcsFake);

/// Azurite.
#[derive(Debug)]
pub struct Azure(&'static Azurite);

impl Service for Google {
    type Client = landfall_gcs::Client;

    fn shared() -> &'static Self {
        static SHARED: OnceLock<Google> = OnceLock::new();
        SHARED.get_or_init(|| {
            let fake = GcsFake::start(&[]);
            // Tests would take minutes; some turn it on.
            fake.set_rate_limit(false);
            Self(fake)
        })
    }

    fn bucket(&self, stem: &str) -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("{stem}-{}", NEXT.fetch_add(1, Ordering::Relaxed));
        self.0.create_bucket(&name);
        name
    }

    fn access(&self) -> Access {
        self.0.access()
    }

    fn client(&self, endpoint: &str, prefix: &str, limits: CallLimits) -> Self::Client {
        let settings = ClientSettings {
            endpoint: Some(endpoint.to_owned()),
            credentials: CredentialSource::Provider(Arc::new(Token(self.0.token()))),
            object_prefix: prefix.to_owned(),
            calls: limits.into(),
        };
        landfall_gcs::Client::new(settings).unwrap()
    }
}

struct Token(String);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token")
    }
}

#[async_trait::async_trait]
impl ProvideToken for Token {
    async fn token(&self) -> Result<AccessToken, landfall::BoxError> {
        Ok(AccessToken {
            token: self.0.clone(),
            expires: None,
        })
    }
}

impl Service for Azure {
    type Client = AzureClient;

    fn shared() -> &'static Self {
        static SHARED: OnceLock<Azure> = OnceLock::new();
        SHARED.get_or_init(|| Self(Azurite::shared()))
    }

    fn bucket(&self, stem: &str) -> String {
        self.0.container(stem)
    }

    fn access(&self) -> Access {
        Access {
            endpoint: self.0.endpoint(),
            region: String::new(),
            access_key: Azurite::ACCOUNT.to_owned(),
            secret_key: Azurite::KEY.to_owned(),
        }
    }

    fn client(&self, endpoint: &str, _: &str, limits: CallLimits) -> Self::Client {
        let settings = AzureSettings {
            endpoint: Some(endpoint.to_owned()),
            calls: limits.into(),
            variables: [
                ("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT),
                ("AZURE_STORAGE_KEY", Azurite::KEY),
            ]
            .into(),
            ..AzureSettings::default()
        };
        AzureClient::new(settings).unwrap()
    }
}

/// The prefix of all tests.
pub const PREFIX: &str = "up/";

/// 1024 bytes.
pub const KIB: usize = 1024;

/// Returns options with parts of 64 KiB, so that little data makes many.
#[must_use]
pub fn options(bucket: &str) -> StoreOptions {
    let mut options = StoreOptions::new(bucket);
    options.object_prefix = PREFIX.into();
    options.min_part = 1;
    options.min_copy = 1;
    options.part_size = 64 << 10;
    options.max_parts = 50_000;
    options.ids = UploadIds::Plain;
    options.content_hashes = false;
    options.conditional_writes = true;
    options
}

/// Returns a client of the service, which waits for nothing long.
#[must_use]
pub fn client<S: Service>(service: &S) -> S::Client {
    let endpoint = service.access().endpoint;
    service.client(&endpoint, PREFIX, CallLimits::default())
}

/// Returns a store.
#[must_use]
pub fn store<S: Service>(service: &S, options: StoreOptions) -> ObjectStore<S::Client> {
    let endpoint = service.access().endpoint;
    let client = service.client(&endpoint, &options.object_prefix, CallLimits::default());
    ObjectStore::new(client, options).unwrap()
}

/// Returns a store whose client makes no second attempt, of the service at `endpoint`.
#[must_use]
pub fn store_without_retries<S: Service>(
    service: &S,
    endpoint: &str,
    options: StoreOptions,
) -> ObjectStore<S::Client> {
    let limits = CallLimits {
        attempts: 1,
        deadline: Duration::from_secs(20),
        ..CallLimits::default()
    };
    let client = service.client(endpoint, &options.object_prefix, limits);
    ObjectStore::new(client, options).unwrap()
}

/// Creates an upload.
pub async fn create(store: &impl Store, id: &str, length: impl Into<Option<u64>>) -> Arc<Upload> {
    let upload = Upload::new(UploadId::new(id).unwrap(), length.into());
    store.create(upload).await.unwrap()
}

/// Appends bytes in one request and returns the offset.
pub async fn append(store: &impl Store, id: &UploadId, fence: u64, bytes: &Bytes) -> u64 {
    let (_, mut append) = store.resume(id, Fence(fence)).await.unwrap();
    append.write(&mut pieces(bytes)).await.unwrap();
    append.commit().await.unwrap()
}

/// Finishes an upload that has all its bytes.
pub async fn finish(store: &impl Store, upload: &Upload, fence: u64) {
    let finisher = store.capabilities().finisher.unwrap();
    finisher.finish(upload, Fence(fence)).await.unwrap();
}

/// Splits bytes into chunks as a connection would.
#[must_use]
pub fn pieces(bytes: &Bytes) -> Vec<Bytes> {
    (0..bytes.len())
        .step_by(30_000)
        .map(|at| bytes.slice(at..bytes.len().min(at + 30_000)))
        .collect()
}

/// Reads a range of an upload.
pub async fn read(store: &impl Store, upload: &Upload, range: std::ops::Range<u64>) -> Vec<u8> {
    let reader = store.capabilities().reader.unwrap();
    let mut stream = reader.read(upload, range).await.unwrap();
    let mut bytes = Vec::new();
    while let Some(piece) = std::future::poll_fn(|cx| stream.as_mut().poll_next(cx)).await {
        bytes.extend_from_slice(&piece.unwrap());
    }
    bytes
}

/// Bytes that differ everywhere.
#[must_use]
pub fn pattern(seed: u64, len: usize) -> Bytes {
    landfall_testkit::test_data::bytes(seed, len)
}

/// Compares without printing the bytes.
pub fn assert_same(got: &[u8], wanted: &[u8]) {
    assert_eq!(got.len(), wanted.len());
    if let Some(at) = got.iter().zip(wanted).position(|(a, b)| a != b) {
        panic!("byte {at} of {} differs", wanted.len());
    }
}

/// Runs a test that is generic over [`Service`] on each cloud.
#[macro_export]
macro_rules! on_each_cloud {
    ($($name:ident),* $(,)?) => {
        mod google {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(<$crate::Google as $crate::Service>::shared()).await;
            })*
        }

        mod azure {
            $(#[tokio::test(flavor = "multi_thread")]
            async fn $name() {
                super::$name(<$crate::Azure as $crate::Service>::shared()).await;
            })*
        }
    };
}
