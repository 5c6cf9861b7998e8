//! Direct uploads into a bucket of a real service, with a queue, hooks and sinks.

use std::{
    collections::BTreeMap,
    io::Write as _,
    sync::{Arc, OnceLock},
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode, request::Parts};
use landfall::{
    Composer, Config, Handler,
    event::{Event, EventKind},
    store::MemoryStore,
    upload::UploadId,
};
use landfall_access::grants::enforce::{GrantHook, GrantHookSettings};
use landfall_direct::{
    Bucket, CompletedUpload, Direct, DirectError, DirectSettings, OpenRequest, Record, Repository,
    Requester, S3Bucket, SentHeaders, SignedOperation, SignedUpload, TransferMode,
};
use landfall_objects::Cloud as _;
use landfall_s3::client::{
    CallLimits, Client, ClientSettings, CredentialSource, Credentials, ObjectHead,
};
use landfall_state::queue::{
    GrantOutcome, Job, NewJob, Principal, Queue, QueueSettings, Scope, Token, tracking::JobTracker,
};
use landfall_state::sql::{Database, Durability};
use landfall_test_services::{Access, Azurite, Ceph, Garage, GcsFake, Moto};
use landfall_testkit::record::RecordingSink;
use tempfile::TempDir;

pub(crate) use super::script::{Script, refuse};
pub(crate) use landfall_test_services::http1::{Response as Answered, send};

/// Runs tests on one service.
macro_rules! on {
    ($module:ident, $service:ident: $($name:ident),* $(,)?) => {
        mod $module {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name($crate::uploads::harness::Service::$service).await;
            })*
        }
    };
}
pub(crate) use on;

/// Runs tests on each service.
macro_rules! on_each {
    ($($name:ident),* $(,)?) => {
        $crate::uploads::harness::on!(ceph, Ceph: $($name),*);
        $crate::uploads::harness::on!(garage, Garage: $($name),*);
        $crate::uploads::harness::on!(moto, Moto: $($name),*);
    };
}
pub(crate) use on_each;

pub(crate) const MIB: usize = 1 << 20;
const HOUR: Duration = Duration::from_secs(60 * 60);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    Ceph,
    Garage,
    Moto,
    /// The strict fake of Google Cloud Storage.
    Google,
    /// Azurite.
    Azure,
}

/// The fake that all tests of this process share.
pub(crate) fn google() -> &'static GcsFake {
    static SHARED: OnceLock<GcsFake> = OnceLock::new();
    SHARED.get_or_init(|| GcsFake::start(&[]))
}

impl Service {
    pub(crate) fn access(self) -> Access {
        match self {
            Self::Ceph => Ceph::shared().access(),
            Self::Garage => Garage::shared().access(),
            Self::Moto => Moto::shared().access(),
            Self::Google => google().access(),
            Self::Azure => Access {
                endpoint: Azurite::shared().endpoint(),
                region: "none".to_owned(),
                access_key: Azurite::ACCOUNT.to_owned(),
                secret_key: Azurite::KEY.to_owned(),
            },
        }
    }

    pub(crate) fn bucket(self) -> String {
        match self {
            Self::Ceph => Ceph::shared().bucket("direct"),
            Self::Garage => Garage::shared().bucket("direct"),
            Self::Moto => Moto::shared().bucket("direct"),
            Self::Google => {
                let name = format!("direct-{}", UploadId::random());
                google().create_bucket(&name);
                name
            }
            Self::Azure => Azurite::shared().container("direct"),
        }
    }

    /// Returns settings for a bucket of it.
    fn direct_settings(self, client: &Client, bucket: &str) -> DirectSettings {
        let endpoint = Some(self.access().endpoint);
        match self {
            Self::Ceph | Self::Garage | Self::Moto => {
                DirectSettings::new(Arc::new(Bucket::new(client.clone())), bucket)
            }
            Self::Google => {
                let mut key = tempfile::NamedTempFile::new().unwrap();
                let account = google().service_account(&google().endpoint());
                key.write_all(account.to_string().as_bytes()).unwrap();
                // The client reads it when it needs a token.
                let (_, path) = key.keep().unwrap();
                let path = path.to_str().unwrap().to_owned();
                let settings = landfall_gcs::ClientSettings {
                    endpoint,
                    credentials: landfall_gcs::CredentialSource::File(path),
                    ..Default::default()
                };
                let client = landfall_gcs::Client::new(settings).unwrap();
                DirectSettings::new(Arc::new(Bucket::new(client)), bucket)
            }
            Self::Azure => {
                let settings = landfall_azure::AzureSettings {
                    endpoint,
                    variables: [
                        ("AZURE_STORAGE_ACCOUNT", Azurite::ACCOUNT),
                        ("AZURE_STORAGE_KEY", Azurite::KEY),
                    ]
                    .into(),
                    ..Default::default()
                };
                let client = landfall_azure::AzureClient::new(settings).unwrap();
                DirectSettings::new(Arc::new(Bucket::new(client)), bucket)
            }
        }
    }
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Harness {
    pub(crate) direct: Direct,
    pub(crate) queue: Queue,
    pub(crate) repository: Repository,
    pub(crate) handler: Handler,
    pub(crate) client: Client,
    pub(crate) bucket: String,
    pub(crate) hook: Script,
    pub(crate) sink: RecordingSink,
    pub(crate) access: Access,
    _folder: TempDir,
}

pub(crate) fn settings(access: &Access) -> ClientSettings {
    ClientSettings {
        endpoint: Some(access.endpoint.clone()),
        region: Some(access.region.clone()),
        credentials: CredentialSource::Static(Credentials::new(
            &access.access_key,
            &access.secret_key,
        )),
        calls: CallLimits {
            attempts: 3,
            ..CallLimits::default()
        }
        .into(),
        ..ClientSettings::default()
    }
}

/// Returns a bucket that the server reaches by another way than clients do.
pub(crate) fn bucket_by(client: Client, service: Service) -> Arc<S3Bucket> {
    let signer = Client::new(settings(&service.access())).unwrap();
    Arc::new(S3Bucket { client, signer })
}

impl Harness {
    pub(crate) async fn on(service: Service) -> Self {
        Self::with(service, |_| {}).await
    }

    pub(crate) async fn with(service: Service, change: impl FnOnce(&mut DirectSettings)) -> Self {
        Self::by(service, Script::default(), change).await
    }

    /// Creates a harness with a hook, which may be [silent](Script::silent).
    pub(crate) async fn by(
        service: Service,
        hook: Script,
        change: impl FnOnce(&mut DirectSettings),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("landfall.db"));
        Self::made(service, database, folder, hook, change).await
    }

    pub(crate) async fn at(
        service: Service,
        database: Database,
        folder: TempDir,
        change: impl FnOnce(&mut DirectSettings),
    ) -> Self {
        Self::made(service, database, folder, Script::default(), change).await
    }

    async fn made(
        service: Service,
        database: Database,
        folder: TempDir,
        hook: Script,
        change: impl FnOnce(&mut DirectSettings),
    ) -> Self {
        let (access, bucket) = (service.access(), service.bucket());
        let client = Client::new(settings(&access)).unwrap();
        let connections = database.open(Durability::ProcessCrash).await.unwrap();
        let mut queue = QueueSettings::new(database);
        queue.connections = Some(connections.share());
        let queue = Queue::open(queue).await.unwrap();
        let repository = Repository::open(connections).await.unwrap();
        let mut wanted = service.direct_settings(&client, &bucket);
        change(&mut wanted);
        let direct = Direct::new(wanted, queue.clone(), repository.clone());
        let sink = RecordingSink::default();
        let mut config = Config::new(Composer::join(MemoryStore::new()))
            .hook(GrantHook::new(queue.clone(), GrantHookSettings::default()))
            .hook(hook.clone())
            .sink(JobTracker::new(queue.clone()))
            .sink(sink.clone());
        config.external_uploads = Some(Arc::new(direct.clone()));
        let handler = Handler::new(config).unwrap();
        direct.set_handler(&handler);
        Self {
            direct,
            queue,
            repository,
            handler,
            client,
            bucket,
            hook,
            sink,
            access,
            _folder: folder,
        }
    }

    pub(crate) async fn open(
        &self,
        requester: &Requester,
        asked: OpenRequest,
    ) -> Result<Arc<Record>, DirectError> {
        self.direct.open(requester, asked, &mut parts()).await
    }

    /// Opens an upload of alice.
    pub(crate) async fn of_alice(&self, asked: OpenRequest) -> Arc<Record> {
        self.open(&alice(), asked).await.unwrap()
    }

    pub(crate) async fn opened(&self, mode: TransferMode, size: Option<u64>) -> Arc<Record> {
        let mut asked = OpenRequest::new(mode, "a file.bin");
        asked.size = size;
        self.of_alice(asked).await
    }

    /// Finds an upload of alice.
    pub(crate) async fn find(&self, key: &str, multipart: Option<&str>) -> Arc<Record> {
        let found = self.direct.find(&alice(), key, multipart).await;
        found.unwrap()
    }

    pub(crate) async fn presign_upload(
        &self,
        record: &Record,
        headers: SentHeaders,
    ) -> SignedUpload {
        let put = self.direct.presign_upload(record, LONG, headers).await;
        put.unwrap()
    }

    pub(crate) async fn presign(&self, record: &Record, operation: SignedOperation) -> String {
        let url = self.direct.presign_operation(record, operation).await;
        url.unwrap()
    }

    pub(crate) async fn check(&self, record: &Record) -> Result<CompletedUpload, DirectError> {
        self.direct.check(record, Some(&mut parts())).await
    }

    pub(crate) async fn complete(
        &self,
        record: &Record,
        parts_of: &[(u32, String)],
    ) -> Result<CompletedUpload, DirectError> {
        self.direct.complete(record, parts_of, &mut parts()).await
    }

    pub(crate) async fn cancel(&self, record: &Record) -> Result<(), DirectError> {
        self.direct.cancel(record, &mut parts()).await
    }

    /// Returns the current record.
    pub(crate) async fn now(&self, record: &Record) -> Record {
        self.repository.get(record.id()).await.unwrap().unwrap()
    }

    pub(crate) async fn job(&self, record: &Record) -> Job {
        self.queue.get(record.job).await.unwrap().unwrap()
    }

    /// Returns the emitted events of an upload without progress; each was prepared.
    pub(crate) fn emitted(&self, record: &Record) -> Vec<EventKind> {
        let unannounced = self.sink.unprepared();
        let is_news = |event: &&Event| event.kind != EventKind::Progress;
        let unannounced: Vec<_> = unannounced.iter().filter(is_news).collect();
        assert!(unannounced.is_empty(), "{unannounced:?}");
        self.sink.kinds(record.id())
    }

    /// Returns the job's events, as sent by SSE.
    pub(crate) async fn events(&self, record: &Record) -> Vec<&'static str> {
        let events = self.queue.events(&Scope::All, 0, 1000).await.unwrap();
        let its = events.iter().filter(|event| event.job.id == record.job);
        its.map(|event| event.kind.as_str()).collect()
    }

    /// Returns the reserved and used bytes of a quota; an exceeded quota reports their sum.
    pub(crate) async fn used(&self, subject: &str) -> u64 {
        let mut new = NewJob::new(subject, UploadId::random().as_str(), "x");
        new.size = Some(1);
        new.limits.quota = Some(0);
        match self.queue.grant(new).await.unwrap() {
            GrantOutcome::LimitExceeded(landfall_state::queue::LimitExceeded::Quota {
                used,
                ..
            }) => used,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn grant(
        &self,
        size: Option<u64>,
        filetype: Option<&str>,
    ) -> (Requester, Token) {
        let mut new = NewJob::new("alice", UploadId::random().as_str(), "holiday.mp4");
        new.size = size;
        new.filetype = filetype.map(Into::into);
        match self.queue.grant(new).await.unwrap() {
            GrantOutcome::Created(job, token) => (Requester::Token(job), token),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) async fn head(&self, record: &Record) -> Option<ObjectHead> {
        let bucket = &self.direct.settings().bucket;
        match bucket.cloud().head_object(&record.object).await {
            Ok(head) => Some(head),
            Err(error) if error.status() == Some(StatusCode::NOT_FOUND) => None,
            Err(error) => panic!("{error}"),
        }
    }

    /// Asserts that the bucket has neither an object nor a multipart upload of it.
    pub(crate) async fn assert_nothing_of(&self, record: &Record) {
        assert_eq!(self.head(record).await, None);
        let key = &record.object.key;
        let page = self
            .client
            .list_multiparts(&record.object.bucket, key, None, 10);
        assert_eq!(page.await.unwrap().uploads, []);
    }

    /// Sends a part like a browser; returns its number and entity tag.
    pub(crate) async fn send_part(
        &self,
        record: &Record,
        number: u32,
        bytes: Bytes,
    ) -> (u32, String) {
        let url = self.direct.presign_part(record, number).await.unwrap();
        let (status, headers, body) = send(Method::PUT, &url, &HeaderMap::new(), bytes).await;
        assert_eq!(status, 200, "{body:?}");
        (number, headers["etag"].to_str().unwrap().to_owned())
    }

    /// Sends a file by its presigned PUT.
    pub(crate) async fn put(&self, record: &Record, bytes: Bytes) -> StatusCode {
        let put = self.presign_upload(record, SentHeaders::All).await;
        let (status, _, body) = send(Method::PUT, &put.url, &put.headers, bytes).await;
        if !status.is_success() {
            eprintln!("{status} {body:?}");
        }
        status
    }
}

pub(crate) fn requester(subject: &str) -> Requester {
    Requester::Principal(Principal::new(subject))
}

pub(crate) fn alice() -> Requester {
    requester("alice")
}

/// Returns the head of a request.
pub(crate) fn parts() -> Parts {
    let request = Request::post("/s3/anything?metadata%5Btoken%5D=lft_secret")
        .header("authorization", "Bearer lfk_secret")
        .header("user-agent", "test");
    request.body(()).unwrap().into_parts().0
}

/// Sends a form like browsers do, with `file` at the end.
pub(crate) async fn post(form: &landfall_s3::client::PostPolicy, file: &[u8]) -> Answered {
    let fields = form.fields.iter();
    let fields = fields.map(|(name, value)| (name.as_str(), value.as_str()));
    landfall_test_services::http1::post_form(&form.url, fields, file).await
}

/// Returns bytes that differ everywhere.
pub(crate) fn pattern(seed: u64, length: usize) -> Bytes {
    landfall_testkit::test_data::bytes(seed, length)
}

pub(crate) fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let pairs = pairs.iter();
    pairs.map(|(k, v)| ((*k).into(), (*v).into())).collect()
}

/// Returns whether an error reports that the upload is gone.
pub(crate) fn is_gone(error: &DirectError) -> bool {
    matches!(error, DirectError::Conflict { gone: true, .. })
}

/// Returns whether an error reports a conflict.
pub(crate) fn is_conflict(error: &DirectError) -> bool {
    matches!(error, DirectError::Conflict { gone: false, .. })
}

pub(crate) const LONG: Duration = HOUR;

/// Returns a time in the past.
pub(crate) fn long_ago() -> SystemTime {
    SystemTime::now() - 24 * HOUR
}
