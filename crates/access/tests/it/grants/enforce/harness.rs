//! A handler whose uploads pass the gate, a queue, and a clock that tests set.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::stream;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, StreamBody};
use hyper::body::Frame;
use landfall::{
    BoxError, Composer, Config, Handler,
    hook::{ClientResponse, CreateDecision, Decision, Hook, HookPoints, RequestInfo},
    lease::MemoryLocker,
    service::{Peer, ResponseBody},
    store::MemoryStore,
    upload::{Snapshot, Upload, UploadId},
};
use landfall_access::grants::enforce::{GrantHook, GrantHookSettings};
use landfall_state::queue::{
    GrantOutcome, Job, JobEvent, JobId, JobState, NewJob, Queue, QueueSettings, Scope, StaleFilter,
    Token, tracking::JobTracker,
};
use landfall_state::sql::{Clock, Database, Durability};
use tempfile::TempDir;

/// The time in a test.
#[derive(Debug, Clone)]
pub(super) struct Time(Arc<Mutex<SystemTime>>);

impl Time {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(SystemTime::now())))
    }

    pub(super) fn pass(&self, time: Duration) {
        *self.0.lock().unwrap() += time;
    }

    fn clock(&self) -> Clock {
        let time = self.0.clone();
        Clock::new(move || *time.lock().unwrap())
    }
}

/// See the module.
#[derive(Debug)]
pub(super) struct Site {
    pub(super) queue: Queue,
    pub(super) handler: Handler,
    pub(super) parts: Composer,
    pub(super) time: Time,
    database: Database,
    _folder: TempDir,
}

/// Denies creations and completions by metadata.
#[derive(Debug)]
struct Picky;

#[async_trait]
impl Hook for Picky {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: true,
            before_finish: true,
            ..HookPoints::default()
        }
    }

    async fn before_create(
        &self,
        _: &RequestInfo,
        upload: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        Ok(match upload.metadata.get("refuse") {
            Some(status) => {
                let status = std::str::from_utf8(status)?.parse()?;
                CreateDecision::deny(ClientResponse::text(status, "no programs"))
            }
            None => CreateDecision::allow(),
        })
    }

    async fn before_finish(&self, _: &RequestInfo, found: &Snapshot) -> Result<Decision, BoxError> {
        Ok(match found.upload.metadata.get("virus") {
            Some(_) => Decision::Deny(ClientResponse::text(422, "a virus")),
            None => Decision::allow(),
        })
    }
}

impl Site {
    pub(super) async fn start() -> Self {
        Self::with(|_| {}).await
    }

    pub(super) async fn with(change: impl Fn(&mut GrantHookSettings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = Database::Sqlite(folder.path().join("queue.db"));
        let time = Time::new();
        let queue = open(&database, &time, "one").await;
        let parts = Composer::join(MemoryStore::new()).with_locker(MemoryLocker::new());
        let handler = handler(&parts, &queue, &change, true);
        Self {
            queue,
            handler,
            parts,
            time,
            database,
            _folder: folder,
        }
    }

    /// Another process on the same store and database; one that crashes before it tells the queue
    /// anything, unless `tells`.
    pub(super) async fn beside(&self, tells: bool) -> (Queue, Handler) {
        let queue = open(&self.database, &self.time, "two").await;
        let handler = handler(&self.parts, &queue, |_| {}, tells);
        (queue, handler)
    }

    pub(super) async fn grant(&self, size: Option<u64>) -> (Job, Token) {
        let mut new = NewJob::new("alice", UploadId::random().as_str(), "holiday.mp4");
        new.size = size;
        new.filetype = Some("video/mp4".into());
        match self.queue.grant(new).await.unwrap() {
            GrantOutcome::Created(job, token) => (*job, token),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn job(&self, id: JobId) -> Job {
        self.queue.get(id).await.unwrap().unwrap()
    }

    pub(super) async fn state(&self, id: JobId) -> JobState {
        self.job(id).await.state
    }

    /// Waits until the job is in a state.
    pub(super) async fn until(&self, id: JobId, state: JobState) -> Job {
        for _ in 0..400 {
            let job = self.job(id).await;
            if job.state == state {
                return job;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?} never became {state}", self.job(id).await);
    }

    /// The events of a job.
    pub(super) async fn told(&self, id: JobId) -> Vec<&'static str> {
        let events = self.queue.events(&Scope::All, 0, 1000).await.unwrap();
        let its = events.iter().filter(|event: &&JobEvent| event.job.id == id);
        its.map(|event| event.kind.as_str()).collect()
    }

    pub(super) async fn snapshot(&self, path: &str) -> Option<Snapshot> {
        self.handler.get(&id(path)).await.unwrap()
    }

    pub(super) async fn create(&self, token: &Token, length: u64) -> Answered {
        create(&self.handler, token, length, &[]).await
    }

    /// Sends a PATCH that states `length` bytes and breaks off after `data`.
    pub(super) async fn cut(&self, path: &str, length: u64, data: &[u8]) {
        let frames = [
            Ok(Frame::data(Bytes::copy_from_slice(data))),
            Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset)),
        ];
        let mut request = Request::patch(path)
            .header("Host", "localhost")
            .header("Tus-Resumable", "1.0.0")
            .header("Upload-Offset", "0")
            .header("Content-Type", "application/offset+octet-stream")
            .header("Content-Length", length)
            .body(StreamBody::new(stream::iter(frames)))
            .unwrap();
        request.extensions_mut().insert(peer());
        self.handler.handle(request).await;
    }

    pub(super) async fn patch(&self, path: &str, offset: u64, data: &str) -> Answered {
        let headers = [
            ("Upload-Offset", offset.to_string()),
            ("Content-Type", "application/offset+octet-stream".into()),
        ];
        ask(&self.handler, Method::PATCH, path, &headers, data).await
    }
}

/// Everything, however long it has been silent.
pub(super) fn all_silent(queue: &Queue) -> StaleFilter {
    StaleFilter {
        before: queue.now() + Duration::from_secs(1),
        since: SystemTime::UNIX_EPOCH,
    }
}

async fn open(database: &Database, time: &Time, node: &str) -> Queue {
    let mut settings = QueueSettings::new(database.clone());
    settings.clock = time.clock();
    settings.node = node.into();
    settings.connections = Some(database.open(Durability::ProcessCrash).await.unwrap());
    Queue::open(settings).await.unwrap()
}

fn handler(
    parts: &Composer,
    queue: &Queue,
    change: impl Fn(&mut GrantHookSettings),
    tells: bool,
) -> Handler {
    let mut settings = GrantHookSettings::default();
    change(&mut settings);
    let mut config = Config::new(parts.clone())
        .hook(GrantHook::new(queue.clone(), settings))
        .hook(Picky);
    config.progress_interval = Duration::from_millis(1);
    if tells {
        config = config.sink(JobTracker::new(queue.clone()));
    }
    Handler::new(config).unwrap()
}

pub(super) fn id(path: &str) -> UploadId {
    UploadId::new(path.rsplit('/').next().unwrap()).unwrap()
}

/// An answer, read to its end.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) response: Response<()>,
    pub(super) body: String,
}

impl Answered {
    pub(super) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}", self.body);
        self
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    pub(super) fn path(&self) -> String {
        let location = self.header("location").expect("a Location");
        location[location.find("/files/").unwrap()..].to_owned()
    }

    async fn read(response: Response<ResponseBody>) -> Self {
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        Self {
            status: parts.status,
            response: Response::from_parts(parts, ()),
            body: String::from_utf8_lossy(&body).into_owned(),
        }
    }
}

pub(super) async fn create(
    handler: &Handler,
    token: &Token,
    length: u64,
    more: &[(&str, &str)],
) -> Answered {
    let mut headers = vec![
        ("Upload-Length", length.to_string()),
        ("Upload-Token", token.reveal().to_owned()),
    ];
    headers.extend(
        more.iter()
            .map(|(name, value)| (*name, (*value).to_owned())),
    );
    ask(handler, Method::POST, "/files/", &headers, "").await
}

fn peer() -> Peer {
    Peer {
        address: Some(([192, 0, 2, 1], 4000).into()),
        tls: false,
    }
}

pub(super) async fn ask(
    handler: &Handler,
    method: Method,
    path: &str,
    headers: &[(&str, String)],
    body: &str,
) -> Answered {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("Host", "localhost")
        .header("Tus-Resumable", "1.0.0");
    for (name, value) in headers {
        request = request.header(*name, value);
    }
    let body: Full<Bytes> = body.to_owned().into();
    let mut request = request.body(body).unwrap();
    request.extensions_mut().insert(peer());
    Answered::read(handler.handle(request).await).await
}
