//! Other ends: cancelled by clients and applications, and what sinks find out afterwards.

use landfall::{
    Resolution,
    event::{EventKind, TerminationReason},
};
use landfall_direct::{DirectError, Record, Standing, Way};
use landfall_grants::{JobState, gate};
use landfall_s3::client::{Condition, Payload};

use super::site::{Service, Site, long_ago, on_both, refuse};

on_both!(
    its_client_cancels_it,
    the_application_cancels_it,
    what_became_of_it,
    left_over_from_an_opening,
    what_the_application_put_at_its_key_stays,
);

const CREATED: EventKind = EventKind::Created;
const TERMINATED: EventKind = EventKind::Terminated;

fn removal(site: &Site) -> Option<TerminationReason> {
    let events = site.sink.events();
    let mut ends = events.iter().filter(|event| event.kind == TERMINATED);
    ends.next_back()?.reason
}

async fn its_client_cancels_it(service: Service) {
    let site = Site::on(service).await;
    for way in [Way::Put, Way::Multipart] {
        let record = site.opened(way, Some(5)).await;
        if way == Way::Multipart {
            site.send_part(&record, 1, "hello".into()).await;
        } else {
            assert_eq!(site.put(&record, "hello".into()).await, 200);
        }
        site.hook.next("terminate", refuse("it is mine"));
        let error = site.cancel(&record).await.unwrap_err();
        assert!(matches!(error, DirectError::Declined(_)), "{error}");
        assert_eq!(site.now(&record).await.standing, Standing::Open);
        site.cancel(&record).await.unwrap();
        site.assert_nothing_of(&record).await;
        let job = site.job(&record).await;
        assert_eq!(job.state, JobState::Cancelled);
        assert_eq!(job.reason.as_deref(), Some("by its client"));
        assert_eq!(site.told(&record), [CREATED, TERMINATED]);
        assert_eq!(removal(&site), Some(TerminationReason::Client));
        assert!(site.handler.get(record.id()).await.unwrap().is_none());
        // Once more does no harm.
        site.cancel(&record).await.unwrap();
        assert_eq!(site.told(&record), [CREATED, TERMINATED]);
    }
}

async fn the_application_cancels_it(service: Service) {
    let site = Site::on(service).await;
    for way in [Way::Post, Way::Multipart] {
        let record = site.opened(way, Some(5)).await;
        let job = site.job(&record).await;
        let ended = gate::cancel(&site.queue, &site.handler, &job, "no room").await;
        assert!(ended.unwrap());
        site.assert_nothing_of(&record).await;
        let job = site.job(&record).await;
        assert_eq!(
            (job.state, job.reason.as_deref()),
            (JobState::Cancelled, Some("no room"))
        );
        assert_eq!(site.told(&record), [CREATED, TERMINATED]);
        assert_eq!(removal(&site), Some(TerminationReason::Application));
        assert!(!site.handler.remove(record.id()).await.unwrap());
    }
    // A complete one goes, too, if that is what is wanted.
    let record = site.opened(Way::Put, Some(5)).await;
    assert_eq!(site.put(&record, "hello".into()).await, 200);
    site.check(&record).await.unwrap();
    assert!(site.handler.remove(record.id()).await.unwrap());
    site.assert_nothing_of(&record).await;
    assert_eq!(site.job(&record).await.state, JobState::Completed);
}

async fn what_became_of_it(service: Service) {
    let site = Site::on(service).await;
    let record = site.opened(Way::Put, Some(5)).await;
    let settle = async |kind| {
        let created = record.upload.created;
        site.handler
            .resolve(kind, record.id(), created)
            .await
            .unwrap()
    };
    let happened = |outcome: &Resolution| matches!(outcome, Resolution::Happened(_));
    assert!(happened(&settle(EventKind::Created).await));
    assert!(matches!(
        settle(EventKind::Completed).await,
        Resolution::DidNotHappen
    ));
    assert!(matches!(settle(TERMINATED).await, Resolution::DidNotHappen));
    let other = site
        .handler
        .resolve(EventKind::Created, record.id(), Some(long_ago()));
    assert!(
        matches!(other.await.unwrap(), Resolution::DidNotHappen),
        "it is another one of this name"
    );

    // It was about to be complete when the process died, as it were.
    assert_eq!(site.put(&record, "hello".into()).await, 200);
    site.hook.next("finish", Err("the process dies".into()));
    site.check(&record).await.unwrap_err();
    assert_eq!(site.now(&record).await.standing, Standing::Finishing);
    let Resolution::Happened(Some(found)) = settle(EventKind::Completed).await else {
        panic!("it is complete");
    };
    assert!(found.upload.completion.is_done() && found.is_complete());
    assert_eq!(site.told(&record), [CREATED, EventKind::Completed]);
    assert!(happened(&settle(EventKind::Completed).await));
    assert_eq!(site.told(&record), [CREATED, EventKind::Completed]);
    assert!(matches!(
        settle(EventKind::Expired).await,
        Resolution::DidNotHappen
    ));
    let none = landfall::upload::UploadId::new("direct-0f8fad5b-d9cb-469f-a165-70867728950e");
    let none = site.handler.resolve(TERMINATED, &none.unwrap(), None).await;
    assert!(matches!(none.unwrap(), Resolution::Happened(None)));
}

async fn left_over_from_an_opening(service: Service) {
    let site = Site::on(service).await;
    let record = site.opened(Way::Multipart, None).await;
    // Its client had asked before, and nobody had answered.
    let id = landfall::upload::UploadId::new("direct-0f8fad5b-d9cb-469f-a165-70867728950e");
    let upload = landfall::upload::Upload::new(id.unwrap(), None);
    let mut place = record.place.clone();
    place
        .key
        .push_str("-before-0f8fad5b-d9cb-469f-a165-70867728950e");
    let mut draft = Record::new(
        upload,
        record.job,
        "alice",
        Way::Multipart,
        place,
        long_ago(),
    );
    draft.check_at = Some(long_ago());
    site.books.add(&draft).await.unwrap();
    let object = landfall_s3::client::ObjectHeaders::default();
    site.client
        .create_multipart(&draft.place, &object)
        .await
        .unwrap();
    let page = site.client.list_multiparts(&site.bucket, "", None, 10);
    assert_eq!(page.await.unwrap().uploads.len(), 2);
    site.direct.sweep().await.unwrap();
    assert_eq!(site.now(&draft).await.standing, Standing::Gone);
    site.assert_nothing_of(&draft).await;
    assert_eq!(site.job(&record).await.state, JobState::Started);
    let parts = [site.send_part(&record, 1, "hello".into()).await];
    site.complete(&record, &parts).await.unwrap();
}

/// A hook may have chosen a key that the application also uses.
async fn what_the_application_put_at_its_key_stays(service: Service) {
    let site = Site::on(service).await;
    let record = site.opened(Way::Put, None).await;
    let id = landfall::upload::UploadId::new("direct-1f8fad5b-d9cb-469f-a165-70867728950e");
    let upload = landfall::upload::Upload::new(id.unwrap(), None);
    let mut place = record.place.clone();
    place.key = "avatar.png".into();
    // It ended, and all that was signed for it, before the application wrote there.
    let mut ended = Record::new(upload, record.job, "alice", Way::Put, place, long_ago());
    ended.standing = Standing::Gone;
    ended.check_at = Some(long_ago());
    site.books.add(&ended).await.unwrap();
    let payload = Payload::new(vec!["of the application".into()], None);
    let headers = landfall_s3::client::ObjectHeaders::default();
    let put = site
        .client
        .put_object(&ended.place, payload, &headers, Condition::None);
    put.await.unwrap();
    site.direct.sweep().await.unwrap();
    site.client.head_object(&ended.place).await.unwrap();
}
