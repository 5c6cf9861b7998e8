//! Clients behind a proxy that cuts a request after five seconds, while the completion of their upload takes longer.
//!
//! Each client decides as its source says, with the settings that it has by default. Nobody may end with a second upload
//! or a second event, and whoever still waits learns of the success. The clock is paused.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use landfall::{
    Composer, Config, Handler,
    event::EventKind,
    hook::{CreateDecision, Decision},
    lease::{Locker as _, MemoryLocker},
    store::{MemoryStore, Store},
    upload::UploadId,
};
use landfall_testkit::{
    fault::{Fault, FaultStore, Faults, StoreCall},
    record::RecordingSink,
};
use tokio::time::{Instant, sleep, timeout};

const CUT: Duration = Duration::from_secs(5);
const LENGTH: u64 = 100_000;
const OFFSET: &str = "upload-offset";
const LONGEST: Duration = Duration::from_secs(90);

/// What takes long.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Slow {
    /// The store's completion: a sync, or the request that makes one object of the parts.
    Store,
    /// The same, and nobody is told of the end.
    Untold,
    /// `pre-finish`.
    Hook,
}

/// A server behind a proxy.
struct Site {
    handler: Handler,
    store: Arc<FaultStore>,
    events: RecordingSink,
    faults: Faults,
}

/// The response, or none when the proxy answers 504.
struct Reply(Option<(StatusCode, HeaderMap)>);

impl Reply {
    fn status(&self) -> u16 {
        self.0.as_ref().map_or(504, |(status, _)| status.as_u16())
    }

    fn is_success(&self) -> bool {
        (200..300).contains(&self.status())
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.0.as_ref()?.1.get(name)?.to_str().ok()
    }

    fn number(&self, name: &str) -> Option<u64> {
        self.text(name)?.parse().ok()
    }
}

impl Site {
    fn new(slow: Slow, delay: Duration) -> Self {
        let faults = Faults::none();
        let store = Arc::new(FaultStore::new(MemoryStore::new(), faults.clone()));
        let events = RecordingSink::default();
        let shared: Arc<dyn Store> = store.clone();
        let mut config = Config::new(Composer::join_shared(shared));
        if slow != Slow::Untold {
            config = config.sink(events.clone());
        }
        match slow {
            Slow::Store | Slow::Untold => faults.plan(StoreCall::Finish, Fault::Slow(delay)),
            Slow::Hook => {
                config = config.before_finish(move |_, _| async move {
                    sleep(delay).await;
                    Ok(Decision::allow())
                });
            }
        }
        let handler = Handler::new(config).unwrap();
        Self {
            handler,
            store,
            events,
            faults,
        }
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        fields: &[(&str, &str)],
        content: Option<Bytes>,
    ) -> Reply {
        let mut request = Request::builder().method(method).uri(path);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        if let Some(content) = &content {
            request = request.header("content-length", content.len());
        }
        let request = request.body(Full::new(content.unwrap_or_default()));
        let exchange = async {
            let (parts, body) = self.handler.handle(request.unwrap()).await.into_parts();
            let _ = body.collect().await;
            (parts.status, parts.headers)
        };
        Reply(timeout(CUT, exchange).await.ok())
    }

    /// Waits for the end of the completion. Returns how many uploads and events there are.
    async fn count(&self) -> (usize, usize) {
        sleep(LONGEST * 2).await;
        let capabilities = self.store.capabilities();
        let page = capabilities.enumerator.unwrap().page(None, 100).await;
        let events = self.events.events();
        let completed = events
            .iter()
            .filter(|event| event.kind == EventKind::Completed);
        (page.unwrap().uploads.len(), completed.count())
    }
}

fn content() -> Bytes {
    (0..LENGTH).map(|n| n.to_le_bytes()[0]).collect()
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Protocol {
    Tus,
    /// tus-js-client speaks no later version than 6.
    Draft(&'static str),
}

impl Protocol {
    fn fields(self) -> Vec<(&'static str, &'static str)> {
        match self {
            Self::Tus => vec![("tus-resumable", "1.0.0")],
            Self::Draft(version) => vec![("upload-draft-interop-version", version)],
        }
    }

    fn of_content(self, is_last: bool) -> Vec<(&'static str, &'static str)> {
        let mut fields = self.fields();
        match self {
            Self::Tus => fields.push(("content-type", "application/offset+octet-stream")),
            Self::Draft(_) => {
                fields.push(("content-type", "application/partial-upload"));
                fields.push(("upload-complete", if is_last { "?1" } else { "?0" }));
            }
        }
        fields
    }
}

/// How a client has ended.
#[derive(Debug, PartialEq)]
enum End {
    Succeeded,
    GaveUp,
}

/// An attempt of a client.
enum Attempt {
    Done,
    /// By the status of the response.
    Failed(u16),
}

struct Client<'a> {
    site: &'a Site,
    protocol: Protocol,
    url: Option<String>,
    offset: Option<u64>,
}

impl<'a> Client<'a> {
    fn new(site: &'a Site, protocol: Protocol) -> Self {
        Self {
            site,
            protocol,
            url: None,
            offset: None,
        }
    }

    async fn create(&mut self) -> Result<(), u16> {
        let length = LENGTH.to_string();
        let mut fields = self.protocol.fields();
        fields.push(("upload-length", &length));
        if self.protocol != Protocol::Tus {
            fields.push(("upload-complete", "?0"));
        }
        let reply = self.site.send(Method::POST, "/files/", &fields, None).await;
        if !reply.is_success() {
            return Err(reply.status());
        }
        let location = reply.text("location").unwrap();
        let path = location.split_once("/files/").unwrap().1;
        self.url = Some(format!("/files/{path}"));
        self.offset = Some(0);
        Ok(())
    }

    async fn head(&self) -> Reply {
        let (began, url) = (Instant::now(), self.url.as_deref().unwrap());
        let reply = self
            .site
            .send(Method::HEAD, url, &self.protocol.fields(), None)
            .await;
        assert!(began.elapsed() <= Duration::from_secs(1), "HEAD waits");
        reply
    }

    async fn patch(&self, offset: u64) -> Reply {
        self.patch_until(offset, LENGTH).await
    }

    async fn patch_until(&self, offset: u64, end: u64) -> Reply {
        let at = offset.to_string();
        let mut fields = self.protocol.of_content(true);
        fields.push((OFFSET, &at));
        let [from, to] = [offset, end].map(|at| usize::try_from(at).unwrap());
        let rest = content().slice(from..to);
        let url = self.url.as_deref().unwrap();
        self.site
            .send(Method::PATCH, url, &fields, Some(rest))
            .await
    }

    /// Sends the rest. Only a client of the draft sends a request without content.
    async fn send_rest(&mut self) -> Attempt {
        let offset = self.offset.unwrap();
        let reply = self.patch(offset).await;
        if !reply.is_success() {
            return Attempt::Failed(reply.status());
        }
        self.offset = reply.number(OFFSET).or(Some(LENGTH));
        assert_eq!(self.offset, Some(LENGTH));
        Attempt::Done
    }

    /// `start()` of tus-js-client 4.3.
    async fn start(&mut self) -> Attempt {
        if self.url.is_some() {
            let reply = self.head().await;
            if reply.status() == 423 {
                return Attempt::Failed(423);
            }
            if reply.is_success() {
                let offset = reply.number(OFFSET).unwrap();
                if Some(offset) == reply.number("upload-length") {
                    return Attempt::Done;
                }
                self.offset = Some(offset);
                return self.send_rest().await;
            }
        }
        match self.create().await {
            Ok(()) => self.send_rest().await,
            Err(status) => Attempt::Failed(status),
        }
    }

    /// Its `_emitError`, with the default of `retryDelays`.
    async fn tus_js_client(mut self) -> End {
        let delays = [0, 1000, 3000, 5000];
        let (mut attempt, mut before) = (0, Some(0));
        loop {
            let Attempt::Failed(status) = self.start().await else {
                return End::Succeeded;
            };
            if self.offset > before {
                attempt = 0;
            }
            if attempt == delays.len()
                || ((400..500).contains(&status) && ![409, 423].contains(&status))
            {
                return End::GaveUp;
            }
            before = self.offset;
            sleep(Duration::from_millis(delays[attempt])).await;
            attempt += 1;
        }
    }

    /// `TusExecutor` of tus-java-client, with `resumeOrCreateUpload` and the URL in a store.
    async fn tus_java_client(mut self) -> End {
        let delays = [500, 1000, 2000, 3000];
        for attempt in 0..=delays.len() {
            let status = 'status: {
                if self.url.is_some() {
                    let reply = self.head().await;
                    if !reply.is_success() {
                        break 'status reply.status();
                    }
                    self.offset = reply.number(OFFSET);
                } else if let Err(status) = self.create().await {
                    break 'status status;
                }
                match self.send_rest().await {
                    Attempt::Done => return End::Succeeded,
                    Attempt::Failed(status) => status,
                }
            };
            if !(500..600).contains(&status) && status != 423 {
                break;
            }
            if let Some(delay) = delays.get(attempt) {
                sleep(Duration::from_millis(*delay)).await;
            }
        }
        End::GaveUp
    }

    /// `TUSClient` of TUSKit: it sends the request that failed again, twice.
    async fn tus_kit(mut self) -> End {
        self.create().await.unwrap();
        for _ in 0..3 {
            if let Attempt::Done = self.send_rest().await {
                return End::Succeeded;
            }
        }
        End::GaveUp
    }

    /// tuspy with `retries`, and its default of `retry_delay`.
    async fn tuspy(mut self, retries: usize) -> End {
        self.create().await.unwrap();
        for _ in 0..=retries {
            if let Attempt::Done = self.send_rest().await {
                return End::Succeeded;
            }
            sleep(Duration::from_secs(30)).await;
            if let Some(offset) = self.head().await.number(OFFSET) {
                self.offset = Some(offset);
            }
        }
        End::GaveUp
    }

    /// A client of the draft, that waits for ever longer.
    async fn draft(mut self) -> End {
        self.create().await.unwrap();
        let mut delay = Duration::from_secs(1);
        for _ in 0..10 {
            let reply = self.patch(self.offset.unwrap()).await;
            if reply.is_success() {
                assert_eq!(reply.text("upload-complete"), Some("?1"));
                return End::Succeeded;
            }
            sleep(delay).await;
            delay = (delay * 2).min(Duration::from_secs(20));
            let reply = self.head().await;
            assert_eq!(reply.status(), 204);
            if reply.text("upload-complete") == Some("?1") {
                return End::Succeeded;
            }
            assert!(reply.number(OFFSET) >= self.offset, "the offset has fallen");
            self.offset = reply.number(OFFSET);
        }
        End::GaveUp
    }
}

async fn each(delays: &[u64], client: impl AsyncFn(&Site, Duration) -> End, patience: u64) {
    for slow in [Slow::Store, Slow::Untold, Slow::Hook] {
        for delay in delays {
            let site = Site::new(slow, Duration::from_secs(*delay));
            let end = client(&site, Duration::from_secs(*delay)).await;
            let expected = if *delay <= patience {
                End::Succeeded
            } else {
                End::GaveUp
            };
            assert_eq!(end, expected, "{slow:?} takes {delay} s");
            let told = usize::from(slow != Slow::Untold);
            assert_eq!(site.count().await, (1, told), "{slow:?} takes {delay} s");
            let calls = u64::from(slow != Slow::Hook);
            assert_eq!(site.faults.happened(), calls, "{slow:?} takes {delay} s");
        }
    }
}

const DELAYS: &[u64] = &[1, 4, 6, 20, 90];

#[tokio::test(start_paused = true)]
async fn tus_js_client_ends_with_one_upload() {
    for protocol in [Protocol::Tus, Protocol::Draft("5"), Protocol::Draft("6")] {
        let client = async |site: &Site, _| Client::new(site, protocol).tus_js_client().await;
        each(DELAYS, client, u64::MAX).await;
    }
}

#[tokio::test(start_paused = true)]
async fn tus_java_client_ends_with_one_upload() {
    let client = async |site: &Site, _| Client::new(site, Protocol::Tus).tus_java_client().await;
    each(DELAYS, client, 30).await;
}

#[tokio::test(start_paused = true)]
async fn tus_kit_ends_with_one_upload() {
    let client = async |site: &Site, _| Client::new(site, Protocol::Tus).tus_kit().await;
    each(DELAYS, client, 14).await;
}

#[tokio::test(start_paused = true)]
async fn tuspy_ends_with_one_upload() {
    let client = async |site: &Site, _| Client::new(site, Protocol::Tus).tuspy(0).await;
    each(DELAYS, client, 4).await;
    let client = async |site: &Site, _| Client::new(site, Protocol::Tus).tuspy(3).await;
    each(DELAYS, client, u64::MAX).await;
}

#[tokio::test(start_paused = true)]
async fn a_client_of_the_draft_ends_with_one_upload() {
    for version in ["7", "10"] {
        let client =
            async |site: &Site, _| Client::new(site, Protocol::Draft(version)).draft().await;
        each(DELAYS, client, u64::MAX).await;
    }
}

/// Sends a PATCH that is cut, and looks at the upload while its completion runs.
async fn while_completing(slow: Slow, test: impl AsyncFn(&Site, &Client<'_>)) {
    let site = Site::new(slow, Duration::from_secs(60));
    let mut client = Client::new(&site, Protocol::Tus);
    client.create().await.unwrap();
    assert_eq!(client.patch(0).await.status(), 504);
    test(&site, &client).await;
    assert_eq!(site.count().await, (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_last_bytes_count_with_the_completion() {
    for slow in [Slow::Store, Slow::Hook] {
        while_completing(slow, async |site, client| {
            let mut offset = 0;
            for _ in 0..300 {
                let reply = client.head().await;
                assert_eq!(reply.status(), 200);
                let told = reply.number(OFFSET).unwrap();
                assert!(told == LENGTH - 1 || told > offset, "{told} after {offset}");
                assert!(told < LENGTH);
                offset = told;
                // A completion of a minute has not ended before.
                if offset == LENGTH - 1 || site.events.events().len() > 1 {
                    break;
                }
            }
            let url = client.url.as_deref().unwrap();
            let fields = Protocol::Tus.fields();
            let reply = site.send(Method::GET, url, &fields, None).await;
            assert_eq!(reply.status(), 423);
            let id = UploadId::new(url.strip_prefix("/files/").unwrap()).unwrap();
            let found = site.handler.get(&id).await.unwrap().unwrap();
            assert!(found.upload.completion.is_pending());
            // It repeats nothing that was received.
            assert_eq!(client.patch(7).await.status(), 409);
        })
        .await;
    }
}

/// The node that has received the last bytes stands still, and another one, which knows nothing of what was told,
/// completes the upload.
#[tokio::test(start_paused = true)]
async fn the_offset_does_not_fall_at_another_node() {
    let slow = Duration::from_secs(60);
    let site = Site::new(Slow::Store, slow);
    let mut client = Client::new(&site, Protocol::Tus);
    client.create().await.unwrap();
    assert_eq!(client.patch_until(0, LENGTH - 2).await.status(), 204);
    assert_eq!(client.patch(LENGTH - 2).await.status(), 504);
    assert_eq!(client.head().await.number(OFFSET), Some(LENGTH - 2));

    site.faults.plan(StoreCall::Finish, Fault::Slow(slow));
    let shared: Arc<dyn Store> = site.store.clone();
    // The lease was lost, and the fence of the next one is larger.
    let leases = MemoryLocker::new();
    for _ in 0..10 {
        drop(leases.try_acquire(&UploadId::random()).await.unwrap());
    }
    let composer = Composer::join_shared(shared).with_locker(leases);
    let config = Config::new(composer).sink(site.events.clone());
    let other = Site {
        handler: Handler::new(config).unwrap(),
        store: site.store.clone(),
        events: site.events.clone(),
        faults: site.faults.clone(),
    };
    client.site = &other;
    for _ in 0..3 {
        let reply = client.head().await;
        assert_eq!((reply.status(), reply.number(OFFSET)), (423, None));
    }
    // It is that node's completion which is told, not a lease that is taken.
    client.protocol = Protocol::Draft("8");
    let reply = client.head().await;
    assert_eq!(reply.number(OFFSET), Some(LENGTH));
    assert_eq!(reply.text("upload-complete"), Some("?0"));
}

#[tokio::test(start_paused = true)]
async fn requests_that_come_again_join_the_completion() {
    for slow in [Slow::Store, Slow::Hook] {
        let site = Site::new(slow, Duration::from_secs(9));
        let mut client = Client::new(&site, Protocol::Tus);
        client.create().await.unwrap();
        assert_eq!(client.patch(0).await.status(), 504);
        let told = client.head().await.number(OFFSET).unwrap();
        let (whole, rest, empty) =
            tokio::join!(client.patch(0), client.patch(told), client.patch(LENGTH));
        for reply in [whole, rest, empty] {
            assert_eq!((reply.status(), reply.number(OFFSET)), (204, Some(LENGTH)));
        }
        // One that has learned of the offset, and comes after the end.
        let late = client.patch(told).await;
        assert_eq!((late.status(), late.number(OFFSET)), (204, Some(LENGTH)));
        assert_eq!(client.head().await.number(OFFSET), Some(LENGTH));
        assert_eq!(site.count().await, (1, 1));
        // Later, it is a mistake.
        assert_eq!(client.patch(told).await.status(), 409);
    }
}

/// The hook chooses the id, so the client may send its creation again.
#[tokio::test(start_paused = true)]
async fn a_creation_with_all_bytes_joins_its_completion() {
    let faults = Faults::none();
    let store = Arc::new(FaultStore::new(MemoryStore::new(), faults.clone()));
    let events = RecordingSink::default();
    let shared: Arc<dyn Store> = store.clone();
    let config = Config::new(Composer::join_shared(shared)).sink(events.clone());
    let config = config.before_create(|_, _| async {
        Ok(CreateDecision::allow().id(UploadId::new("report").unwrap()))
    });
    let site = Site {
        handler: Handler::new(config).unwrap(),
        store,
        events,
        faults,
    };
    site.faults
        .plan(StoreCall::Finish, Fault::Slow(Duration::from_secs(12)));
    let length = LENGTH.to_string();
    let mut fields = Protocol::Tus.of_content(true);
    fields.push(("upload-length", &length));
    let mut statuses = Vec::new();
    for _ in 0..3 {
        let reply = site.send(Method::POST, "/files/", &fields, Some(content()));
        let reply = reply.await;
        statuses.push(reply.status());
        assert!(!reply.is_success() || reply.number(OFFSET) == Some(LENGTH));
    }
    assert_eq!(statuses, [504, 504, 201]);
    assert_eq!(site.count().await, (1, 1));
}
