//! Opening: who may, what is found again, what hooks and policies have to say.

use std::{sync::Arc, time::Duration};

use landfall::{
    event::EventKind,
    hook::{ClientResponse, CreateDecision, Decision},
};
use landfall_direct::{Asked, DirectError, DirectSettings, Standing, Way, Who};
use landfall_grants::{
    Caller, JobState, Limits,
    policy::Rules,
    queue::{End, Refusal},
};

use super::site::{
    Script, Service, Site, alice, is_conflict, is_gone, on_both, parts, refuse, texts, who,
};

on_both!(
    hooks_change_where_it_goes,
    an_object_that_was_there_before,
    the_multipart_upload_is_given_its_type,
);

async fn hooks_change_where_it_goes(service: Service) {
    let site = Site::on(service).await;
    site.hook.creation(|creation: CreateDecision| {
        creation
            .storage("Key", "elsewhere/x.bin")
            .storage("ContentType", "text/x-mine")
            .label("tenant", "7")
            .label("job", "999")
            .id(landfall::upload::UploadId::new("mine").unwrap())
    });
    for way in [Way::Put, Way::Multipart] {
        let record = site.opened(way, Some(5)).await;
        assert_eq!(record.place.key, "elsewhere/x.bin");
        let upload = &record.upload;
        assert_eq!(upload.storage["Type"], "s3store");
        assert_eq!(upload.storage["Bucket"], site.bucket);
        assert_eq!(upload.labels["tenant"], "7");
        assert_eq!(upload.labels["job"], record.job.to_string());
        assert_eq!(upload.labels["subject"], "alice");
        assert!(record.id().as_str().starts_with("direct-"));
        match way {
            Way::Put => {
                assert_eq!(site.put(&record, "hello".into()).await, 200);
                site.check(&record).await.unwrap();
            }
            _ => {
                let parts = [site.send_part(&record, 1, "hello".into()).await];
                site.complete(&record, &parts).await.unwrap();
            }
        }
        let head = site.head(&record).await.unwrap();
        assert_eq!(head.content_type.as_deref(), Some("text/x-mine"));
    }
}

async fn an_object_that_was_there_before(service: Service) {
    let site = Site::on(service).await;
    site.hook
        .creation(|creation: CreateDecision| creation.storage("Key", "avatar.png"));
    let first = site.opened(Way::Put, Some(5)).await;
    assert_eq!(site.put(&first, "hello".into()).await, 200);
    site.check(&first).await.unwrap();
    // The next one at this key isn't there because that one is, …
    let next = site.opened(Way::Put, Some(6)).await;
    assert!(matches!(site.check(&next).await, Err(DirectError::NotYet)));
    // … nor does its end remove that one.
    site.cancel(&next).await.unwrap();
    assert_eq!(site.head(&first).await.unwrap().size, 5);
    let last = site.opened(Way::Put, Some(6)).await;
    assert_eq!(site.put(&last, "second".into()).await, 200);
    assert_eq!(site.check(&last).await.unwrap().size, 6);
    assert_eq!(site.check(&first).await.unwrap().size, 5, "it was complete");
}

async fn the_multipart_upload_is_given_its_type(service: Service) {
    let site = Site::on(service).await;
    let mut asked = Asked::new(Way::Multipart, "a.PDF");
    asked.filetype = Some(String::new());
    let record = site.open(&alice(), asked).await.unwrap();
    let parts = [site.send_part(&record, 1, "hello".into()).await];
    site.complete(&record, &parts).await.unwrap();
    let head = site.head(&record).await.unwrap();
    assert_eq!(head.content_type.as_deref(), Some("application/pdf"));
    assert_eq!(
        site.job(&record).await.filetype.as_deref(),
        Some("application/pdf")
    );
}

async fn site() -> Site {
    Site::on(Service::Garage).await
}

/// One with a hook that is called, and one without.
async fn both() -> [Site; 2] {
    [site().await, without_hooks().await]
}

async fn without_hooks() -> Site {
    Site::by(Service::Garage, Script::silent(), |_| {}).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_hooks_an_upload_is_opened_in_one_transaction() {
    let site = without_hooks().await;
    let mut caller = Caller::new("alice");
    caller.limits.quota = Some(10);
    let alice = Who::Caller(caller);
    for way in [Way::Put, Way::Post, Way::Multipart, Way::SignedMultipart] {
        let before = site.queue.stats();
        let mut asked = Asked::new(way, "a.bin");
        asked.size = Some(5);
        asked.metadata = texts(&[("album", "1")]);
        let record = site.open(&alice, asked.clone()).await.unwrap();
        let after = site.queue.stats();
        assert_eq!(after.batches - before.batches, 1, "{way:?}");
        assert_eq!(site.now(&record).await, *record);
        assert_eq!(record.standing, Standing::Open);
        let job = site.job(&record).await;
        assert_eq!(job.state, JobState::Started);
        assert_eq!(job.upload_id.as_deref(), Some(record.id().as_str()));
        let labels = &record.upload.labels;
        assert_eq!(labels["job"], job.id.to_string());
        assert_eq!(labels["request_id"], job.request_id);
        assert_eq!(labels["subject"], "alice");
        assert_eq!(site.told(&record), [EventKind::Created]);
        assert_eq!(site.events(&record).await, ["UploadStarted"]);
        assert_eq!(site.used("alice").await, 5);
        // A limit that is exceeded leaves nothing.
        asked.size = Some(6);
        asked.request_id = Some("6".into());
        let error = site.open(&alice, asked).await.unwrap_err();
        assert!(matches!(error, DirectError::Refused(_)), "{error}");
        let job = site.queue.by_request("alice", "6").await.unwrap();
        assert_eq!(job, None);
        site.cancel(&record).await.unwrap();
        assert_eq!(site.used("alice").await, 0);
    }
}

/// The most bytes that an upload may have follow from the quota that is left.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upload_of_unknown_length_gets_what_is_left_of_the_quota() {
    for site in both().await {
        let mut caller = Caller::new("alice");
        caller.limits.quota = Some(10);
        let alice = Who::Caller(caller);
        let record = site.open(&alice, Asked::new(Way::Put, "a")).await.unwrap();
        assert_eq!(record.upload.max_size, Some(10));
        assert_eq!(site.now(&record).await, *record);
        let error = site.open(&alice, Asked::new(Way::Put, "a")).await;
        assert!(matches!(error, Err(DirectError::Refused(_))), "{error:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hook_refuses_or_fails() {
    let site = site().await;
    let mut caller = Caller::new("alice");
    caller.limits.quota = Some(1000);
    let alice = Who::Caller(caller);
    let mut asked = Asked::new(Way::Multipart, "a");
    asked.size = Some(10);
    asked.request_id = Some("1".into());
    site.hook.next("create", refuse("not that"));
    let error = site.open(&alice, asked.clone()).await.unwrap_err();
    let DirectError::Declined(declined) = &error else {
        panic!("{error}");
    };
    assert_eq!(
        (declined.status.as_u16(), &*declined.message),
        (422, "not that")
    );
    assert_eq!(site.used("alice").await, 0);
    let job = site.queue.by_request("alice", "1").await.unwrap().unwrap();
    assert_eq!(job.state, JobState::Failed);
    assert!(job.reason.unwrap().contains("not that"));
    assert!(is_gone(
        &site.open(&alice, asked.clone()).await.unwrap_err()
    ));

    // What couldn't be asked can be asked for again.
    asked.request_id = Some("2".into());
    site.hook.next("create", Err("nobody at home".into()));
    let later = Ok(Decision::Fail(ClientResponse::text(503, "later")));
    site.hook.next("create", later);
    for _ in 0..2 {
        let error = site.open(&alice, asked.clone()).await.unwrap_err();
        assert!(matches!(error, DirectError::Declined(_)), "{error}");
    }
    assert_eq!(site.used("alice").await, 10);
    let record = site.open(&alice, asked).await.unwrap();
    assert_eq!(site.used("alice").await, 10);
    assert_eq!(record.standing, Standing::Open);

    // If it can't, it is over.
    let mut asked = Asked::new(Way::Put, "a");
    asked.size = Some(100);
    site.hook.next("create", Err("nobody at home".into()));
    site.open(&alice, asked).await.unwrap_err();
    assert_eq!(site.used("alice").await, 10);
    let page = site.client.list_multiparts(&site.bucket, "", None, 10);
    assert_eq!(page.await.unwrap().uploads.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_request_finds_the_same_upload() {
    for site in both().await {
        finds_the_same(site).await;
    }
}

async fn finds_the_same(site: Site) {
    let mut asked = Asked::new(Way::Multipart, "a.bin");
    asked.request_id = Some("7".into());
    asked.metadata = texts(&[("album", "1")]);
    let first = site.open(&alice(), asked.clone()).await.unwrap();
    let again = site.open(&alice(), asked.clone()).await.unwrap();
    assert_eq!(
        (first.id(), &first.multipart),
        (again.id(), &again.multipart)
    );
    assert!(site.hook.asked().len() <= 1);
    // Another's request of this name is another.
    let bobs = site.open(&who("bob"), asked.clone()).await.unwrap();
    assert_ne!(bobs.id(), first.id());
    for change in [
        |asked: &mut Asked| asked.filename = "b.bin".into(),
        |asked: &mut Asked| asked.way = Way::Put,
        |asked: &mut Asked| asked.size = Some(7),
        |asked: &mut Asked| asked.metadata = texts(&[("album", "2")]),
    ] {
        let mut other = asked.clone();
        change(&mut other);
        let error = site.open(&alice(), other).await.unwrap_err();
        assert!(is_conflict(&error), "{error}");
    }
    let parts = [site.send_part(&first, 1, "hello".into()).await];
    site.complete(&first, &parts).await.unwrap();
    let again = site.open(&alice(), asked.clone()).await.unwrap();
    assert_eq!(
        (again.id(), again.standing),
        (first.id(), Standing::Finished)
    );
    let found = site.direct.by_request(&alice(), "7").await.unwrap();
    assert_eq!(found.id(), first.id());
    site.cancel(&bobs).await.unwrap();
    let error = site.open(&who("bob"), asked).await.unwrap_err();
    assert!(is_gone(&error), "{error}");
    let page = site.client.list_multiparts(&site.bucket, "", None, 10);
    assert_eq!(page.await.unwrap().uploads, []);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_once_it_is_opened_once() {
    for site in both().await {
        opens_once(Arc::new(site)).await;
    }
}

async fn opens_once(site: Arc<Site>) {
    let mut asked = Asked::new(Way::Multipart, "a.bin");
    asked.request_id = Some("7".into());
    let mut opening = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (site, asked) = (site.clone(), asked.clone());
        opening.spawn(async move {
            loop {
                match site.open(&alice(), asked.clone()).await {
                    Err(DirectError::Busy) => tokio::task::yield_now().await,
                    opened => return opened.unwrap().id().clone(),
                }
            }
        });
    }
    let mut ids = opening.join_all().await;
    ids.dedup();
    assert_eq!(ids.len(), 1, "{ids:?}");
    let page = site.client.list_multiparts(&site.bucket, "", None, 10);
    assert_eq!(page.await.unwrap().uploads.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_upload_comes_of_a_grant() {
    let site = site().await;
    let (grant, token) = site.grant(Some(5), Some("video/mp4")).await;
    let mut asked = Asked::new(Way::Put, "other.avi");
    for (size, kind, said) in [
        (Some(6), None, "too many"),
        (Some(4), None, "not with fewer"),
        (None, Some("text/html"), "granted with the type"),
    ] {
        let mut wrong = asked.clone();
        wrong.size = size;
        wrong.filetype = kind.map(Into::into);
        let error = site.open(&grant, wrong).await.unwrap_err();
        assert!(error.to_string().contains(said), "{error}");
    }
    // A refusal leaves the token good.
    site.hook.next("create", refuse("not that"));
    site.open(&grant, asked.clone()).await.unwrap_err();
    asked.metadata = texts(&[("name", "other.avi"), ("upload_token", token.reveal())]);
    let record = site.open(&grant, asked.clone()).await.unwrap();
    assert!(
        record.place.key.ends_with("/holiday.mp4"),
        "{:?}",
        record.place
    );
    assert_eq!(record.upload.length, Some(5));
    assert_eq!(
        record.upload.metadata.get_text("filetype").unwrap(),
        "video/mp4"
    );
    assert!(!record.upload.metadata.header().contains("upload_token"));
    let again = site.open(&grant, asked.clone()).await.unwrap();
    assert_eq!(again.id(), record.id());
    asked.way = Way::Multipart;
    assert!(is_conflict(
        &site.open(&grant, asked.clone()).await.unwrap_err()
    ));
    // The token is good for this one only, and the caller may see it, too.
    let mine = site.opened(Way::Put, Some(5)).await;
    let found = site.direct.find(&grant, &mine.place.key, None).await;
    assert!(matches!(found, Err(DirectError::NotFound)));
    site.direct
        .find(&grant, &record.place.key, None)
        .await
        .unwrap();
    site.direct
        .find(&alice(), &record.place.key, None)
        .await
        .unwrap();
    assert_eq!(site.put(&record, "hello".into()).await, 200);
    site.check(&record).await.unwrap();
    assert_eq!(site.job(&record).await.state, JobState::Completed);

    let (grant, _) = site.grant(None, None).await;
    let Who::Grant(job) = &grant else { panic!() };
    site.queue
        .end(job.id, End::Cancelled("no".into()))
        .await
        .unwrap();
    let error = site
        .open(&grant, Asked::new(Way::Put, "a"))
        .await
        .unwrap_err();
    assert!(is_gone(&error), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grant_outlives_a_fault_of_ours() {
    let site = Site::with(Service::Garage, |settings| {
        settings.objects.bucket = "there-is-none".into();
    })
    .await;
    let (grant, _) = site.grant(Some(5), None).await;
    let asked = Asked::new(Way::Multipart, "a");
    for _ in 0..2 {
        site.open(&grant, asked.clone()).await.unwrap_err();
        let Who::Grant(job) = &grant else { panic!() };
        let job = site.queue.get(job.id).await.unwrap().unwrap();
        assert!(!job.state.is_terminal(), "{job:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_and_quotas_hold() {
    let limits = Limits {
        content_types: vec!["image/*".into()],
        size_required: true,
        ..Limits::default()
    };
    for hook in [Script::default(), Script::silent()] {
        let rules = Rules::new(limits.clone());
        let change = |settings: &mut DirectSettings| settings.policies = vec![Arc::new(rules)];
        limits_hold(Site::by(Service::Garage, hook, change).await).await;
    }
}

async fn limits_hold(site: Site) {
    let mut caller = Caller::new("alice");
    caller.limits.quota = Some(10);
    let alice = Who::Caller(caller);
    let mut asked = Asked::new(Way::Put, "a.png");
    let error = site.open(&alice, asked.clone()).await.unwrap_err();
    assert!(error.to_string().contains("size must be stated"), "{error}");
    asked.size = Some(8);
    let record = site.open(&alice, asked.clone()).await.unwrap();
    assert_eq!(site.used("alice").await, 8);
    let error = site.open(&alice, asked.clone()).await.unwrap_err();
    let quota = Refusal::Quota { quota: 10, used: 8 };
    assert!(
        matches!(&error, DirectError::Refused(refusal) if *refusal == quota),
        "{error}"
    );
    asked.filename = "a.html".into();
    let error = site.open(&alice, asked.clone()).await.unwrap_err();
    assert!(error.to_string().contains("text/html"), "{error}");
    site.cancel(&record).await.unwrap();
    assert_eq!(site.used("alice").await, 0);
    for name in ["", "..", "a/"] {
        let error = site
            .open(&alice, Asked::new(Way::Put, name))
            .await
            .unwrap_err();
        assert!(
            matches!(
                error,
                DirectError::Bad {
                    field: "file_name",
                    ..
                }
            ),
            "{error}"
        );
    }
}

#[tokio::test]
async fn a_hook_that_names_no_place_opens_nothing() {
    let with_zero: fn(CreateDecision) -> CreateDecision =
        |creation| creation.storage("Key", "a\0b");
    let too_long: fn(CreateDecision) -> CreateDecision =
        |creation| creation.storage("Key", format!("end/{}", "k".repeat(1024)));
    for names in [with_zero, too_long] {
        let site = site().await;
        site.hook.creation(names);
        for way in [Way::Put, Way::Multipart] {
            let opened = site.open(&alice(), Asked::new(way, "a.bin")).await;
            assert!(matches!(opened, Err(DirectError::Fault(_))), "{opened:?}");
        }
        // At a key of the client's own, a hook may still choose the bucket.
        site.hook
            .creation(|creation| creation.storage("Bucket", "b\0"));
        let mut asked = Asked::new(Way::Put, "a.bin");
        asked.key = Some("own.bin".into());
        let opened = site.open(&alice(), asked).await;
        assert!(matches!(opened, Err(DirectError::Fault(_))), "{opened:?}");
        let looked_at = site
            .books
            .due(
                site.queue.now() + Duration::from_secs(3600),
                Duration::ZERO,
                10,
            )
            .await;
        assert_eq!(looked_at.unwrap(), []);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_finds_anothers() {
    let site = site().await;
    let record = site.opened(Way::Multipart, None).await;
    let id = record.multipart.as_deref();
    let key = &record.place.key;
    // Remembered or not.
    for _ in 0..2 {
        site.direct.find(&alice(), key, id).await.unwrap();
        for (who, key, id) in [
            (who("bob"), &**key, id),
            (who("bob"), &**key, None),
            (alice(), "other", id),
            (alice(), &**key, Some("other")),
            (alice(), "a\0b", None),
            (who(""), &**key, id),
        ] {
            let found = site.direct.find(&who, key, id).await;
            assert!(matches!(found, Err(DirectError::NotFound)), "{found:?}");
        }
        let id = site.job(&record).await.request_id;
        let found = site.direct.by_request(&who("bob"), &id).await;
        assert!(matches!(found, Err(DirectError::NotFound)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_handler_that_is_missing_is_a_fault() {
    let site = site().await;
    let alone = landfall_direct::Direct::new(
        landfall_direct::DirectSettings::new(site.client.clone(), &site.bucket),
        site.queue.clone(),
        site.books.clone(),
    );
    let asked = Asked::new(Way::Put, "a");
    let error = alone.open(&alice(), asked, &mut parts()).await.unwrap_err();
    assert!(matches!(error, DirectError::Fault(_)), "{error}");
}
