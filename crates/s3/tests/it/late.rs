//! Requests that outlive their lease.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use http::StatusCode;
use landfall::{Composer, Config, Handler, lease::MemoryLocker};
use landfall_s3::S3Store;
use landfall_test_services::{
    Garage, Proxy,
    proxy::{Fault, Operation, Rule},
};
use landfall_testkit::fault::FaultLocker;

use crate::support::{create, options, pattern, request};

/// The calls that change something.
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

/// S3 answers SlowDown, the client tries again for a long time, and meanwhile the lease is lost.
#[tokio::test(flavor = "multi_thread")]
async fn calls_end_with_the_lease() {
    let garage = Garage::shared();
    let proxy = Proxy::start(&garage.access());
    let mut options = options(&garage.bucket("late"));
    options.conditional_writes = false;
    options.shared = true;
    let mut settings = crate::support::settings(&garage.access().via(&proxy));
    settings.attempts = 1000;
    settings.deadline = Duration::from_secs(600);
    settings.longest_backoff = Duration::from_millis(100);
    let slow = landfall_s3::client::Client::new(settings).unwrap();
    let store = S3Store::new(slow, options).unwrap();
    let upload = create(&store, 100_000).await;
    let id = &upload.id;
    let locker = FaultLocker::new(MemoryLocker::new());
    let composer = Composer::join(store.clone()).locker(locker.clone());
    let handler = Arc::new(Handler::new(Config::new(composer)).unwrap());

    let append = (Operation::PutObject, ".part", "PATCH", pattern(1, 1000));
    let removal = (Operation::DeleteObject, ".info", "DELETE", Bytes::new());
    for (operation, end, method, body) in [append, removal] {
        proxy.forget();
        proxy.inject(Rule::on(operation).key_ends(end), Fault::SLOW_DOWN);
        let (handler, name) = (Arc::clone(&handler), id.to_string());
        let late = tokio::spawn(async move {
            let request = request(method, body);
            let response = match method {
                "PATCH" => handler.append(&name, request).await,
                _ => handler.terminate(&name, request).await,
            };
            response.status()
        });
        while proxy.count(operation) < 2 {
            assert!(!late.is_finished(), "{method}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(locker.lose(id));
        let status = tokio::time::timeout(Duration::from_secs(60), late).await;
        let status = status.expect("it ends with the lease").unwrap();
        assert!(!status.is_success() && status != StatusCode::OK, "{status}");
        let before = writes(&proxy);
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(writes(&proxy), before, "{method}: {}", proxy.story());
        proxy.revive();
    }
}
