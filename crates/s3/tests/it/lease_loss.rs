//! Requests that outlive their lease.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Request, StatusCode, header::LOCATION};
use http_body_util::Full;
use landfall::{Composer, Config, Handler, lease::MemoryLocker, upload::UploadId};
use landfall_s3::S3Store;
use landfall_test_services::{
    Garage, Proxy,
    proxy::{Fault, Operation, Rule},
};
use landfall_testkit::fault::FaultLocker;

use crate::support::{MIB, create, options, pattern, request};

/// Between two attempts, long enough that no attempt is on its way when the lease is lost after another one.
const BACKOFF: Duration = Duration::from_secs(1);

/// The number of calls that change something.
fn writes(proxy: &Proxy) -> usize {
    let calls = proxy.calls().into_iter();
    let is_read = |operation| {
        matches!(
            operation,
            Operation::GetObject | Operation::HeadObject | Operation::ListParts
        )
    };
    calls.filter(|call| !is_read(call.operation)).count()
}

/// A server whose S3 client retries for a long time, and whose leases can be revoked.
struct LateServer {
    proxy: Proxy,
    store: S3Store,
    locker: FaultLocker,
    handler: Arc<Handler>,
}

impl LateServer {
    fn start() -> Self {
        let garage = Garage::shared();
        let proxy = Proxy::start(&garage.access());
        let mut options = options(&garage.bucket("late"));
        options.conditional_writes = false;
        options.shared = true;
        let mut settings = crate::support::settings(&garage.access().through_proxy(&proxy));
        settings.calls.limits.attempts = u32::MAX;
        settings.calls.limits.deadline = Duration::from_secs(600);
        settings.calls.limits.backoff = BACKOFF;
        settings.calls.limits.max_backoff = BACKOFF;
        let slow = landfall_s3::client::Client::new(settings).unwrap();
        let store = S3Store::new(slow, options).unwrap();
        let locker = FaultLocker::new(MemoryLocker::new());
        let composer = Composer::join(store.clone()).with_locker(locker.clone());
        let handler = Arc::new(Handler::new(Config::new(composer)).unwrap());
        Self {
            proxy,
            store,
            locker,
            handler,
        }
    }

    /// Revokes the lease of a request while S3 answers SlowDown.
    ///
    /// SlowDown applies to calls that match a rule, except the first `skip`. The request must fail and
    /// make no further calls.
    async fn lose_lease(
        &self,
        (operation, end, skip): (Operation, &str, usize),
        id: Option<&UploadId>,
        request: Request<Full<Bytes>>,
    ) {
        let Self {
            proxy,
            locker,
            handler,
            ..
        } = self;
        proxy.forget();
        let rule = Rule::on(operation).key_ends(end).skip(skip);
        proxy.inject(rule, Fault::SLOW_DOWN);
        let (handler, name) = (handler.clone(), id.map(UploadId::to_string));
        let what = format!("{} {operation:?} {end}", request.method());
        let late = tokio::spawn(async move {
            let response = handler.handle_at(name.as_deref(), request).await;
            response.status()
        });
        let is_repeated = || {
            let calls = proxy.calls().into_iter();
            let same = calls.filter(|call| call.operation == operation && call.key.ends_with(end));
            same.count() >= skip + 2
        };
        while !is_repeated() {
            assert!(!late.is_finished(), "{what}: {}", proxy.transcript());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let [held] = &locker.held()[..] else {
            panic!("{what}: not one lease is held");
        };
        assert!(id.is_none_or(|id| id == held) && locker.lose(held));
        let status = tokio::time::timeout(Duration::from_secs(30), late).await;
        let status = status.expect("it ends with the lease").unwrap();
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{what}");
        let before = writes(proxy);
        tokio::time::sleep(2 * BACKOFF).await;
        assert_eq!(writes(proxy), before, "{what}: {}", proxy.transcript());
        proxy.revive();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn appends_and_removals_stop_when_lease_is_lost() {
    let server = LateServer::start();
    let id = create(&server.store, 100_000).await.id.clone();
    let patch = || request("PATCH", pattern(1, 1000));
    for call in [
        (Operation::PutObject, ".info", 0),
        (Operation::PutObject, ".part", 0),
    ] {
        server.lose_lease(call, Some(&id), patch()).await;
    }
    let removal = (Operation::DeleteObject, ".info", 0);
    let delete = request("DELETE", Bytes::new());
    server.lose_lease(removal, Some(&id), delete).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn completions_and_descriptions_stop_when_lease_is_lost() {
    let server = LateServer::start();
    let id = create(&server.store, 1000).await.id.clone();
    let complete = (Operation::CompleteMultipartUpload, "", 0);
    let last = request("PATCH", pattern(1, 1000));
    server.lose_lease(complete, Some(&id), last).await;

    let id = create(&server.store, None).await.id.clone();
    // The first description names the writer.
    let describe = (Operation::PutObject, ".info", 1);
    let mut length = request("PATCH", pattern(1, 1000));
    let headers = length.headers_mut();
    headers.insert("Upload-Length", 2000.into());
    server.lose_lease(describe, Some(&id), length).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn concatenations_stop_when_lease_is_lost() {
    let server = LateServer::start();
    let post = |concat: &str, body: Bytes| {
        let mut post = request("POST", body.clone());
        let headers = post.headers_mut();
        headers.remove("Upload-Offset");
        headers.insert("Upload-Concat", concat.parse().unwrap());
        if concat == "partial" {
            headers.insert("Upload-Length", body.len().into());
        }
        post
    };
    let mut parts = String::from("final;");
    for seed in 0..2 {
        let partial = post("partial", pattern(seed, 6 * MIB));
        let created = server.handler.handle_at(None, partial).await;
        assert_eq!(created.status(), StatusCode::CREATED);
        let location = created.headers()[LOCATION].to_str().unwrap();
        parts.push_str(location);
        parts.push(' ');
    }
    for call in [
        (Operation::UploadPartCopy, "", 0),
        (Operation::CompleteMultipartUpload, "", 0),
        // The first part names the final upload; the next two create that and name its writer.
        (Operation::PutObject, ".info", 3),
    ] {
        let mut concatenation = post(parts.trim_end(), Bytes::new());
        // An equal one would be a repetition of the one that failed.
        let name = format!("{:?}", call.0).parse().unwrap();
        concatenation.headers_mut().insert("Upload-Metadata", name);
        server.lose_lease(call, None, concatenation).await;
    }
}
