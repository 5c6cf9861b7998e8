//! Completion: once, after the hooks were asked, whoever is faster or goes away.

use std::{sync::Arc, time::Duration};

use http::{Method, header};
use landfall::{
    event::EventKind,
    hook::{ClientResponse, Decision},
};
use landfall_direct::{DirectError, DirectSettings, Standing, Way};
use landfall_grants::JobState;

use super::site::{MIB, Service, Site, is_conflict, is_gone, on_both, pattern, post, refuse, send};

on_both!(
    completed_by_two_at_once,
    a_hook_refuses_the_end,
    a_hook_cannot_be_asked,
    it_goes_on_without_its_client,
    some_parts_only,
    what_replaces_a_file_is_checked_as_well,
);

const CREATED: EventKind = EventKind::Created;
const COMPLETED: EventKind = EventKind::Completed;
const TERMINATED: EventKind = EventKind::Terminated;

async fn completed_by_two_at_once(service: Service) {
    let site = Site::on(service).await;
    let record = site.opened(Way::Multipart, None).await;
    let parts = [site.send_part(&record, 1, "hello".into()).await];
    let (one, other) = tokio::join!(
        site.complete(&record, &parts),
        site.complete(&record, &parts)
    );
    assert_eq!(one.unwrap(), other.unwrap());
    assert_eq!(site.told(&record), [CREATED, COMPLETED]);
    assert_eq!(site.hook.asked(), ["create a file.bin", "finish 5"]);

    let record = site.opened(Way::Put, Some(5)).await;
    assert_eq!(site.put(&record, "hello".into()).await, 200);
    let (one, other, third) = tokio::join!(
        site.check(&record),
        site.check(&record),
        site.direct.check(&record, None)
    );
    assert_eq!(one.unwrap(), other.unwrap());
    third.unwrap();
    assert_eq!(site.told(&record), [CREATED, COMPLETED]);
    assert_eq!(site.hook.asked().len(), 4);
}

async fn a_hook_refuses_the_end(service: Service) {
    let site = Site::on(service).await;
    let record = site.opened(Way::Multipart, None).await;
    let parts = [site.send_part(&record, 1, "a virus".into()).await];
    site.hook.next("finish", refuse("a virus"));
    let error = site.complete(&record, &parts).await.unwrap_err();
    let DirectError::Declined(declined) = error else {
        panic!("{error}");
    };
    assert_eq!(
        (declined.status.as_u16(), &*declined.message),
        (422, "a virus")
    );
    site.assert_nothing_of(&record).await;
    let job = site.job(&record).await;
    assert_eq!(job.state, JobState::Failed);
    assert_eq!(job.reason.as_deref(), Some("refused or stopped by a hook"));
    assert_eq!(site.told(&record), [CREATED, TERMINATED]);
    assert!(is_gone(&site.complete(&record, &parts).await.unwrap_err()));
    assert_eq!(site.hook.asked().len(), 2, "it isn't asked again");
}

async fn a_hook_cannot_be_asked(service: Service) {
    let site = Site::on(service).await;
    let record = site.opened(Way::Put, Some(5)).await;
    assert_eq!(site.put(&record, "hello".into()).await, 200);
    site.hook.next("finish", Err("nobody at home".into()));
    let reply = ClientResponse::text(503, "later");
    site.hook.next("finish", Ok(Decision::Fail(reply)));
    let thanks = ClientResponse::text(200, "thank you");
    site.hook
        .next("finish", Ok(Decision::Allow(thanks.clone())));
    for _ in 0..2 {
        let error = site.check(&record).await.unwrap_err();
        let DirectError::Declined(declined) = error else {
            panic!("{error}");
        };
        assert!(declined.cause.is_some());
        assert_eq!(site.now(&record).await.standing, Standing::Finishing);
        assert_eq!(site.told(&record), [CREATED]);
        assert!(site.head(&record).await.is_some());
    }
    let done = site.check(&record).await.unwrap();
    assert_eq!(done.reply, thanks);
    assert_eq!(site.told(&record), [CREATED, COMPLETED]);
    let again = site.check(&record).await.unwrap();
    assert_eq!(again.reply, thanks);
    let ids: Vec<_> = site
        .sink
        .announced()
        .iter()
        .map(landfall::event::Event::id)
        .collect();
    assert_eq!(ids[1], ids[2], "it is the same event each time");
}

async fn it_goes_on_without_its_client(service: Service) {
    let site = Site::on(service).await;
    let record = site.opened(Way::Multipart, None).await;
    let parts = [site.send_part(&record, 1, "hello".into()).await];
    // The client is gone as soon as it has asked.
    let asked = futures_util::poll!(Box::pin(site.complete(&record, &parts)));
    assert!(asked.is_pending());
    while site.now(&record).await.standing != Standing::Finished {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(site.head(&record).await.unwrap().size, 5);
    site.complete(&record, &parts).await.unwrap();
    assert_eq!(site.told(&record), [CREATED, COMPLETED]);
}

async fn some_parts_only(service: Service) {
    let site = Site::on(service).await;
    let record = site.opened(Way::Multipart, None).await;
    let first = site.send_part(&record, 1, pattern(1, 5 * MIB)).await;
    site.send_part(&record, 2, pattern(2, 5 * MIB)).await;
    let third = site.send_part(&record, 3, "end".into()).await;
    site.hook.next("finish", Err("not now".into()));
    let parts = [first, third];
    let error = site.complete(&record, &parts).await.unwrap_err();
    assert!(matches!(error, DirectError::Declined(_)), "{error}");
    assert_eq!(site.now(&record).await.standing, Standing::Finishing);
    let done = site.complete(&record, &parts).await.unwrap();
    assert_eq!(done.size, 5 * MIB as u64 + 3);
    assert_eq!(site.head(&record).await.unwrap().size, done.size);
    assert!(!done.record.upload.storage.contains_key("Parts"));
}

/// A form can be sent again while the hook examines what arrived.
async fn what_replaces_a_file_is_checked_as_well(service: Service) {
    let site = Arc::new(Site::on(service).await);
    let record = site.opened(Way::Post, Some(5)).await;
    let form = site.direct.form(&record).await.unwrap();
    assert_eq!(post(&form, b"clean").await.0, 201);
    let pause = site.hook.pause();
    let check = {
        let (site, record) = (site.clone(), record.clone());
        tokio::spawn(async move { site.check(&record).await })
    };
    pause.called.notified().await;
    assert_eq!(post(&form, b"virus").await.0, 201);
    pause.answer.notify_one();
    let error = check.await.unwrap().unwrap_err();
    assert!(is_conflict(&error), "{error}");
    assert_eq!(site.now(&record).await.standing, Standing::Finishing);
    assert_eq!(site.told(&record), [CREATED]);
    // The hook is called for the other one, too.
    site.hook.next("finish", refuse("a virus"));
    let error = site.check(&record).await.unwrap_err();
    assert!(matches!(error, DirectError::Declined(_)), "{error}");
    site.assert_nothing_of(&record).await;
    assert_eq!(site.told(&record), [CREATED, TERMINATED]);
    assert_eq!(site.hook.asked().len(), 3);
}

/// Where the service honors conditions, a signed PUT writes once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_signed_put_does_not_replace_a_file() {
    let honors = |settings: &mut DirectSettings| settings.objects.conditional_writes = true;
    let site = Site::with(Service::Moto, honors).await;
    let record = site.opened(Way::Put, Some(5)).await;
    let lifetime = Duration::from_secs(60);
    let put = site.direct.put(&record, lifetime, true).await.unwrap();
    assert_eq!(put.headers[header::IF_NONE_MATCH], "*");
    assert!(put.url.contains("if-none-match"), "{}", put.url);
    let sent = send(Method::PUT, &put.url, &put.headers, "clean").await;
    assert_eq!(sent.0, 200);
    let done = site.check(&record).await.unwrap();
    let sent = send(Method::PUT, &put.url, &put.headers, "virus").await;
    assert_eq!(sent.0, 412);
    assert_eq!(site.head(&record).await.unwrap().etag, done.etag);

    // A client that does not know the type is not known to send headers.
    let record = site.opened(Way::Put, Some(5)).await;
    let put = site.direct.put(&record, lifetime, false).await.unwrap();
    assert!(put.headers.is_empty(), "{:?}", put.headers);
    // Nor where it is not known whether the service honors it: that would lock out clients.
    let site = Site::on(Service::Moto).await;
    let record = site.opened(Way::Put, Some(5)).await;
    let put = site.direct.put(&record, lifetime, true).await.unwrap();
    assert!(!put.headers.contains_key(header::IF_NONE_MATCH));
}

/// A service that verifies signatures takes a PUT only with the condition that was signed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_condition_is_signed() {
    let honors = |settings: &mut DirectSettings| settings.objects.conditional_writes = true;
    let site = Site::with(Service::Garage, honors).await;
    let record = site.opened(Way::Put, Some(5)).await;
    let put = site
        .direct
        .put(&record, Duration::from_secs(60), true)
        .await;
    let put = put.unwrap();
    let mut without = put.headers.clone();
    without.remove(header::IF_NONE_MATCH);
    let sent = send(Method::PUT, &put.url, &without, "hello").await;
    assert!(sent.0.is_client_error(), "{sent:?}");
    assert_eq!(
        send(Method::PUT, &put.url, &put.headers, "hello").await.0,
        200
    );
    assert_eq!(site.check(&record).await.unwrap().size, 5);
}
