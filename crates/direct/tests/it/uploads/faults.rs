//! Failures of S3, and lost responses.

use std::time::{Duration, SystemTime};

use landfall::event::EventKind;
use landfall_direct::{DirectError, OpenRequest, Record, Status, TransferMode};
use landfall_s3::client::Client;
use landfall_state::queue::JobState;
use landfall_test_services::{
    Proxy,
    proxy::{Fault, Operation, Rule},
};

use super::harness::{
    Harness, LONG, MIB, Script, Service, alice, bucket_by, on, on_each, pattern, settings,
};

on_each!(
    an_interrupted_creation_is_cleaned_up,
    a_creation_that_s3_denies_can_be_repeated,
    an_interrupted_removal_is_repeated,
);

// Ceph wants all parts.
on!(garage_selects, Garage: an_interrupted_completion_is_repeated);
on!(moto_selects, Moto: an_interrupted_completion_is_repeated);

/// Creates a harness whose connection to S3 goes through a proxy, without retries.
async fn behind(proxy: &Proxy, service: Service) -> Harness {
    behind_with(proxy, service, Script::default()).await
}

async fn behind_with(proxy: &Proxy, service: Service, hook: Script) -> Harness {
    let mut proxied = settings(&service.access().through_proxy(proxy));
    proxied.calls.limits.attempts = 1;
    let client = Client::new(proxied).unwrap();
    let bucket = bucket_by(client, service);
    Harness::by(service, hook, |settings| settings.bucket = bucket).await
}

async fn an_interrupted_completion_is_repeated(service: Service) {
    for fault in [
        Fault::SLOW_DOWN,
        Fault::ERROR_IN_200,
        Fault::INTERNAL_ERROR_AFTER,
        Fault::CutAfter,
    ] {
        let proxy = Proxy::start(&service.access());
        let harness = behind(&proxy, service).await;
        let record = harness.opened(TransferMode::Multipart, None).await;
        let first = harness.send_part(&record, 1, pattern(1, 5 * MIB)).await;
        harness.send_part(&record, 2, pattern(2, 5 * MIB)).await;
        let parts = [first, harness.send_part(&record, 3, "end".into()).await];
        proxy.inject(Rule::on(Operation::CompleteMultipartUpload), fault);
        let broken = harness.complete(&record, &parts).await;
        if let Err(error) = &broken {
            assert!(
                matches!(error, DirectError::Storage(_)),
                "{fault:?}: {error}"
            );
            assert_eq!(harness.now(&record).await.status, Status::Completing);
            assert_eq!(harness.emitted(&record), [EventKind::Created]);
        }
        proxy.revive();
        // The next request completes it as requested, once.
        let done = harness.check(&record).await.unwrap();
        assert_eq!(
            done.size,
            5 * MIB as u64 + 3,
            "{fault:?}: {}",
            proxy.transcript()
        );
        assert_eq!(harness.head(&record).await.unwrap().size, done.size);
        assert_eq!(
            harness.emitted(&record),
            [EventKind::Created, EventKind::Completed]
        );
        assert_eq!(harness.job(&record).await.state, JobState::Completed);
    }
}

/// Returns the only record in the repository.
async fn only(harness: &Harness) -> Record {
    let later = SystemTime::now() + 2 * LONG;
    let again = Duration::from_secs(1);
    let mut due = harness
        .repository
        .due_for_check(later, again, 10)
        .await
        .unwrap();
    assert_eq!(due.len(), 1, "{due:?}");
    due.remove(0)
}

async fn an_interrupted_creation_is_cleaned_up(service: Service) {
    for (is_kept, has_hooks) in [(true, true), (false, true), (true, false), (false, false)] {
        let proxy = Proxy::start(&service.access());
        let hook = match has_hooks {
            true => Script::default(),
            false => Script::silent(),
        };
        let harness = behind_with(&proxy, service, hook).await;
        let begins = Rule::on(Operation::CreateMultipartUpload);
        proxy.inject(begins, Fault::CutAfter);
        let mut asked = OpenRequest::new(TransferMode::Multipart, "a");
        asked.request_id = is_kept.then(|| "7".into());
        let error = harness.open(&alice(), asked.clone()).await.unwrap_err();
        assert!(matches!(error, DirectError::Storage(_)), "{error}");
        let record = only(&harness).await;
        assert_eq!(record.status, Status::Removed);
        let state = harness.job(&record).await.state;
        assert_eq!(
            state,
            if is_kept {
                JobState::Started
            } else {
                JobState::Failed
            }
        );
        assert_eq!(harness.emitted(&record), []);
        proxy.revive();
        // The multipart upload that was created nevertheless is removed by the next check.
        let object = &record.object;
        assert!(
            harness
                .direct
                .on_notification(&object.bucket, &object.key)
                .await
                .unwrap()
        );
        harness.assert_nothing_of(&record).await;
        if is_kept {
            let next = harness.of_alice(asked).await;
            assert_eq!((next.job, next.status), (record.job, Status::Open));
        }
    }
}

/// The bucket's policy is mended.
async fn a_creation_that_s3_denies_can_be_repeated(service: Service) {
    for hook in [Script::default(), Script::silent()] {
        let proxy = Proxy::start(&service.access());
        let harness = behind_with(&proxy, service, hook).await;
        let denied = Fault::Answer {
            status: 403,
            code: "AccessDenied",
        };
        proxy.inject(Rule::on(Operation::CreateMultipartUpload).times(2), denied);
        let mut asked = OpenRequest::new(TransferMode::Multipart, "a");
        asked.request_id = Some("7".into());
        for _ in 0..2 {
            let error = harness.open(&alice(), asked.clone()).await.unwrap_err();
            assert!(matches!(error, DirectError::Storage(_)), "{error}");
        }
        let record = harness.of_alice(asked).await;
        assert_eq!(record.status, Status::Open);
    }
}

async fn an_interrupted_removal_is_repeated(service: Service) {
    let proxy = Proxy::start(&service.access());
    let harness = behind(&proxy, service).await;
    for by_client in [true, false] {
        let record = harness.opened(TransferMode::Multipart, None).await;
        harness.send_part(&record, 1, "hello".into()).await;
        proxy.inject(Rule::on(Operation::AbortMultipartUpload), Fault::SLOW_DOWN);
        if by_client {
            harness.cancel(&record).await.unwrap();
        } else {
            harness.handler.remove(record.id()).await.unwrap_err();
        }
        let now = harness.now(&record).await;
        assert_eq!(now.status, Status::Removed);
        assert!(now.next_check_at.is_some());
        assert_eq!(harness.job(&record).await.state, JobState::Cancelled);
        assert_eq!(
            harness.emitted(&record),
            [EventKind::Created, EventKind::Terminated]
        );
        proxy.revive();
        assert!(!harness.handler.remove(record.id()).await.unwrap());
        assert_eq!(harness.now(&record).await.next_check_at, None);
        harness.assert_nothing_of(&record).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_parts_needs_no_call() {
    let proxy = Proxy::start(&Service::Garage.access());
    let harness = behind(&proxy, Service::Garage).await;
    let record = harness.opened(TransferMode::Multipart, None).await;
    let (key, id) = (&record.object.key, record.multipart.as_deref());
    harness.find(key, id).await;
    proxy.kill();
    for number in 1..=1000 {
        let found = harness.find(key, id).await;
        harness.direct.presign_part(&found, number).await.unwrap();
    }
}
