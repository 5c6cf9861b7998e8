//! Uploads whose bytes don't pass through the handler.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use http::{HeaderName, HeaderValue, Request, StatusCode, header};
use landfall::{
    BoxError, Composer, Config, Handler, Resolution,
    event::{self, Event, EventKind, EventKinds, TerminationReason},
    external::ExternalUploads,
    hook::{
        Access, ClientResponse, CreateDecision, Decision, Hook, HookPoints, Intent, RequestInfo,
    },
    store::MemoryStore,
    upload::{Metadata, Snapshot, Upload, UploadId},
};
use landfall_testkit::record::RecordingSink;

fn id(text: &str) -> UploadId {
    UploadId::new(text).unwrap()
}

fn snapshot(name: &str) -> Snapshot {
    Snapshot::new(
        Arc::new(Upload::new(id(name), Some(5))),
        3,
        SystemTime::UNIX_EPOCH,
    )
}

/// A registry of uploads named `direct-…`, which records its calls.
#[derive(Debug, Default)]
struct Registry(Mutex<Vec<String>>);

#[async_trait]
impl ExternalUploads for Registry {
    fn owns(&self, id: &UploadId) -> bool {
        id.as_str().starts_with("direct-")
    }

    async fn get(&self, id: &UploadId) -> Result<Option<Snapshot>, BoxError> {
        self.0.lock().unwrap().push(format!("look {id}"));
        Ok(Some(snapshot(id.as_str())))
    }

    async fn remove(&self, id: &UploadId) -> Result<bool, BoxError> {
        self.0.lock().unwrap().push(format!("remove {id}"));
        Ok(true)
    }

    async fn resolve(
        &self,
        kind: EventKind,
        id: &UploadId,
        _: Option<SystemTime>,
    ) -> Result<Resolution, BoxError> {
        let mut asked = self.0.lock().unwrap();
        asked.push(format!("settle {kind:?} {id}"));
        Ok(Resolution::Busy)
    }
}

/// Denies uploads named `no`, fails for those named `unsure`, and records the requests.
#[derive(Debug, Default, Clone)]
struct Rules(Arc<Mutex<Vec<String>>>);

impl Rules {
    fn judge(
        &self,
        question: &str,
        request: &RequestInfo,
        name: &str,
    ) -> Result<Decision, BoxError> {
        let token = request.token.as_ref().map(|token| token.as_str());
        let shown = request.headers.contains_key("upload-token");
        let line = format!("{question} {name} {token:?} {shown}");
        self.0.lock().unwrap().push(line);
        match name {
            "no" => Ok(Decision::Deny(
                ClientResponse::text(451, "not here\n").header(
                    HeaderName::from_static("x-why"),
                    HeaderValue::from_static("law"),
                ),
            )),
            "unsure" => Err("unavailable".into()),
            _ => Ok(Decision::allow()),
        }
    }
}

fn name(upload: &Upload) -> String {
    upload.metadata.get_text("name").unwrap_or_default().into()
}

#[async_trait]
impl Hook for Rules {
    fn points(&self) -> HookPoints {
        HookPoints::ALL
    }

    async fn before_create(
        &self,
        request: &RequestInfo,
        upload: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        let answer = self.judge("create", request, &name(upload))?;
        Ok(CreateDecision::new(answer).label("tenant", "7"))
    }

    async fn before_finish(
        &self,
        request: &RequestInfo,
        upload: &Snapshot,
    ) -> Result<Decision, BoxError> {
        self.judge("finish", request, &name(&upload.upload))
    }

    async fn before_terminate(
        &self,
        request: &RequestInfo,
        upload: &Snapshot,
    ) -> Result<Decision, BoxError> {
        self.judge("terminate", request, &name(&upload.upload))
    }

    async fn on_access(
        &self,
        request: &RequestInfo,
        access: &Access,
    ) -> Result<Decision, BoxError> {
        let name = access
            .id
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default();
        self.judge(access.intent.as_str(), request, &name)
    }
}

fn config() -> Config {
    Config::new(Composer::join(MemoryStore::new()))
}

fn named(name: &str) -> Upload {
    let mut upload = Upload::new(id("direct-1"), Some(5));
    upload.metadata = Metadata::from_pairs([("name", name)]);
    upload
}

#[tokio::test]
async fn a_handler_looks_where_they_are() {
    let registry = Arc::new(Registry::default());
    let mut config = config();
    config.external_uploads = Some(registry.clone());
    let handler = Handler::new(config).unwrap();
    let theirs = id("direct-7");
    assert_eq!(handler.get(&theirs).await.unwrap().unwrap().offset, 3);
    assert!(handler.remove(&theirs).await.unwrap());
    let settled = handler.resolve(EventKind::Completed, &theirs, None).await;
    assert!(matches!(settled, Ok(Resolution::Busy)));
    // The handler itself has no uploads.
    assert!(handler.get(&id("other")).await.unwrap().is_none());
    assert!(!handler.remove(&id("other")).await.unwrap());
    let asked = registry.0.lock().unwrap().join(", ");
    assert_eq!(
        asked,
        "look direct-7, remove direct-7, settle Completed direct-7"
    );
    // Nor are they to be had by the protocol.
    let head = Request::head("/files/direct-7")
        .header("tus-resumable", "1.0.0")
        .body(http_body_util::Empty::new());
    let answer = handler.handle(head.unwrap()).await;
    assert_eq!(answer.status(), StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn the_dispatcher_calls_the_hooks() {
    let rules = Rules::default();
    let handler = Handler::new(config().hook(rules.clone())).unwrap();
    let dispatcher = handler.hook_dispatcher();
    let request = Request::get("/s3/params")
        .header("upload-token", "lft_secret")
        .header(header::AUTHORIZATION, "Bearer application")
        .body(());
    let (mut parts, ()) = request.unwrap().into_parts();
    let request = dispatcher.request(&mut parts);
    assert!(!parts.headers.contains_key("upload-token"));
    assert!(parts.headers.contains_key(header::AUTHORIZATION));

    dispatcher
        .admit(&request, Intent::Create, None)
        .await
        .unwrap();
    let mut upload = named("yes");
    dispatcher
        .before_create(&request, &mut upload)
        .await
        .unwrap();
    assert_eq!(upload.labels["tenant"], "7");
    let mut whole = snapshot("direct-1");
    whole.upload = Arc::new(named("no"));
    let declined = dispatcher.before_finish(None, &whole).await.unwrap_err();
    assert_eq!(declined.status.as_u16(), 451);
    assert_eq!(declined.message, "not here");
    assert_eq!(declined.headers["x-why"], "law");
    assert!(declined.cause.is_none());
    let declined = dispatcher.before_terminate(&request, &whole).await;
    assert_eq!(declined.unwrap_err().status.as_u16(), 451);

    let declined = dispatcher
        .before_create(&request, &mut named("unsure"))
        .await;
    let declined = declined.unwrap_err();
    assert_eq!(declined.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert!(!declined.message.contains("unavailable"));
    let cause = declined.cause.unwrap().to_string();
    assert!(cause.contains("unavailable"), "{cause}");

    let asked = rules.0.lock().unwrap().join("\n");
    let token = "Some(\"lft_secret\") false";
    assert_eq!(
        asked,
        format!(
            "create  {token}\ncreate yes {token}\nfinish no None false\nterminate no {token}\n\
             create unsure {token}"
        )
    );
}

#[tokio::test]
async fn the_dispatcher_emits_to_the_sinks() {
    let sink = RecordingSink::default();
    let handler = Handler::new(config().sink(sink.clone())).unwrap();
    let dispatcher = handler.hook_dispatcher();
    let upload = Arc::new(named("file"));
    dispatcher
        .prepare(EventKind::Created, &upload, 0, None)
        .await
        .unwrap();
    let emit = async |kind, offset| {
        let room = dispatcher.reserve(kind).await.unwrap();
        let event = Event::new(kind, upload.clone(), offset, None);
        dispatcher.emit(room, event).await;
    };
    emit(EventKind::Created, 0).await;
    dispatcher.emit_progress(&upload, 3);
    emit(EventKind::Completed, 5).await;
    let room = dispatcher.reserve(EventKind::Terminated).await.unwrap();
    let mut removed = Event::new(EventKind::Terminated, upload.clone(), 5, None);
    removed.reason = Some(TerminationReason::Client);
    dispatcher.emit(room, removed).await;
    let told: Vec<_> = sink
        .events()
        .into_iter()
        .map(|event| (event.kind, event.offset, event.reason))
        .collect();
    assert_eq!(
        told,
        [
            (EventKind::Created, 0, None),
            (EventKind::Progress, 3, None),
            (EventKind::Completed, 5, None),
            (EventKind::Terminated, 5, Some(TerminationReason::Client)),
        ]
    );
}

#[tokio::test]
async fn room_for_an_event_is_reserved_before_its_effect() {
    let (sink, mut events) = event::channel(EventKinds::ALL, 1);
    let sink = sink.timeout(Duration::from_millis(50));
    let handler = Handler::new(config().sink(sink)).unwrap();
    let dispatcher = handler.hook_dispatcher();
    let upload = Arc::new(named("file"));
    let room = dispatcher.reserve(EventKind::Created).await.unwrap();
    let full = dispatcher.reserve(EventKind::Created).await.unwrap_err();
    assert!(full.cause.is_some() && full.status == 503, "{full:?}");
    drop(room);
    // Unused reservations are released.
    let room = dispatcher.reserve(EventKind::Created).await.unwrap();
    let created = Event::new(EventKind::Created, upload, 0, None);
    dispatcher.emit(room, created).await;
    assert_eq!(events.next().await.unwrap().kind, EventKind::Created);
}
