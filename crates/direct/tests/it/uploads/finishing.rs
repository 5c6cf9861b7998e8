//! Completion: once, after the hooks were asked, whoever is faster or goes away.

use landfall::{
    event::EventKind,
    hook::{Answer, Reply},
};
use landfall_direct::{DirectError, Standing, Way};
use landfall_grants::JobState;

use super::site::{MIB, Service, Site, is_gone, on_both, pattern, refuse};

on_both!(
    completed_by_two_at_once,
    a_hook_refuses_the_end,
    a_hook_cannot_be_asked,
    it_goes_on_without_its_client,
    some_parts_only,
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
    let reply = Reply::text(503, "later");
    site.hook.next("finish", Ok(Answer::Fail(reply)));
    let thanks = Reply::text(200, "thank you");
    site.hook.next("finish", Ok(Answer::Allow(thanks.clone())));
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
