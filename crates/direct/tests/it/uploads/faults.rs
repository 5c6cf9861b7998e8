//! S3 fails, or its answers are lost.

use std::time::{Duration, SystemTime};

use landfall::event::EventKind;
use landfall_direct::{Asked, DirectError, Record, Standing, Way};
use landfall_grants::JobState;
use landfall_s3::client::Client;
use landfall_test_services::{
    Proxy,
    proxy::{Fault, Operation, Rule},
};

use super::site::{LONG, MIB, Script, Service, Site, alice, on_both, pattern, settings};

on_both!(
    completing_breaks_off,
    beginning_breaks_off,
    removing_breaks_off,
);

/// A site whose server reaches S3 by way of a proxy, and gives up at once.
async fn behind(proxy: &Proxy, service: Service) -> Site {
    behind_with(proxy, service, Script::default()).await
}

async fn behind_with(proxy: &Proxy, service: Service, hook: Script) -> Site {
    let mut proxied = settings(&service.access().via(proxy));
    proxied.attempts = 1;
    let client = Client::new(proxied).unwrap();
    Site::by(service, hook, |settings| settings.client = client).await
}

async fn completing_breaks_off(service: Service) {
    for fault in [
        Fault::SLOW_DOWN,
        Fault::ERROR_IN_200,
        Fault::INTERNAL_ERROR_AFTER,
        Fault::CutAfter,
    ] {
        let proxy = Proxy::start(&service.access());
        let site = behind(&proxy, service).await;
        let record = site.opened(Way::Multipart, None).await;
        let first = site.send_part(&record, 1, pattern(1, 5 * MIB)).await;
        site.send_part(&record, 2, pattern(2, 5 * MIB)).await;
        let parts = [first, site.send_part(&record, 3, "end".into()).await];
        proxy.inject(Rule::on(Operation::CompleteMultipartUpload), fault);
        let broken = site.complete(&record, &parts).await;
        if let Err(error) = &broken {
            assert!(matches!(error, DirectError::S3(_)), "{fault:?}: {error}");
            assert_eq!(site.now(&record).await.standing, Standing::Finishing);
            assert_eq!(site.told(&record), [EventKind::Created]);
        }
        proxy.revive();
        // Whoever asks next: it becomes what was meant, once.
        let done = site.check(&record).await.unwrap();
        assert_eq!(
            done.size,
            5 * MIB as u64 + 3,
            "{fault:?}: {}",
            proxy.story()
        );
        assert_eq!(site.head(&record).await.unwrap().size, done.size);
        assert_eq!(
            site.told(&record),
            [EventKind::Created, EventKind::Completed]
        );
        assert_eq!(site.job(&record).await.state, JobState::Completed);
    }
}

/// The only one in the books.
async fn only(site: &Site) -> Record {
    let later = SystemTime::now() + 2 * LONG;
    let again = Duration::from_secs(1);
    let mut due = site.books.due(later, again, 10).await.unwrap();
    assert_eq!(due.len(), 1, "{due:?}");
    due.remove(0)
}

async fn beginning_breaks_off(service: Service) {
    for (is_kept, has_hooks) in [(true, true), (false, true), (true, false), (false, false)] {
        let proxy = Proxy::start(&service.access());
        let hook = match has_hooks {
            true => Script::default(),
            false => Script::silent(),
        };
        let site = behind_with(&proxy, service, hook).await;
        let begins = Rule::on(Operation::CreateMultipartUpload);
        proxy.inject(begins, Fault::CutAfter);
        let mut asked = Asked::new(Way::Multipart, "a");
        asked.request_id = is_kept.then(|| "7".into());
        let error = site.open(&alice(), asked.clone()).await.unwrap_err();
        assert!(matches!(error, DirectError::S3(_)), "{error}");
        let record = only(&site).await;
        assert_eq!(record.standing, Standing::Gone);
        let state = site.job(&record).await.state;
        assert_eq!(
            state,
            if is_kept {
                JobState::Started
            } else {
                JobState::Failed
            }
        );
        assert_eq!(site.told(&record), []);
        proxy.revive();
        // What was begun all the same goes with the next look at it.
        let place = &record.place;
        assert!(
            site.direct
                .on_notification(&place.bucket, &place.key)
                .await
                .unwrap()
        );
        site.assert_nothing_of(&record).await;
        if is_kept {
            let next = site.open(&alice(), asked).await.unwrap();
            assert_eq!((next.job, next.standing), (record.job, Standing::Open));
        }
    }
}

async fn removing_breaks_off(service: Service) {
    let proxy = Proxy::start(&service.access());
    let site = behind(&proxy, service).await;
    for by_client in [true, false] {
        let record = site.opened(Way::Multipart, None).await;
        site.send_part(&record, 1, "hello".into()).await;
        proxy.inject(Rule::on(Operation::AbortMultipartUpload), Fault::SLOW_DOWN);
        if by_client {
            site.cancel(&record).await.unwrap();
        } else {
            site.handler.remove(record.id()).await.unwrap_err();
        }
        let now = site.now(&record).await;
        assert_eq!(now.standing, Standing::Gone);
        assert!(now.check_at.is_some());
        assert_eq!(site.job(&record).await.state, JobState::Cancelled);
        assert_eq!(
            site.told(&record),
            [EventKind::Created, EventKind::Terminated]
        );
        proxy.revive();
        assert!(!site.handler.remove(record.id()).await.unwrap());
        assert_eq!(site.now(&record).await.check_at, None);
        site.assert_nothing_of(&record).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_parts_asks_nobody() {
    let proxy = Proxy::start(&Service::Garage.access());
    let site = behind(&proxy, Service::Garage).await;
    let record = site.opened(Way::Multipart, None).await;
    let (key, id) = (&record.place.key, record.multipart.as_deref());
    site.direct.find(&alice(), key, id).await.unwrap();
    proxy.kill();
    for number in 1..=1000 {
        let found = site.direct.find(&alice(), key, id).await.unwrap();
        site.direct.part(&found, number).await.unwrap();
    }
}
