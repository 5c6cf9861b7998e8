//! Crash recovery.

use std::time::Duration;

use landfall::{Resolution, event::EventKind};
use landfall_state::queue::{JobEnd, JobState, Queue, tracking::reconcile};

use super::harness::{Site, all_silent, create, id};

async fn look(site: &Site, queue: &Queue) -> u64 {
    let found = reconcile(queue, &site.handler, all_silent(queue))
        .await
        .unwrap();
    assert_eq!(found.failed, 0);
    found.ended
}

#[tokio::test]
async fn a_completion_that_nobody_noted_is_found() {
    let site = Site::start().await;
    let (queue, crashed) = site.beside(false).await;
    let (job, token) = site.grant(Some(5)).await;
    let path = create(&crashed, &token, 5, &[]).await.expect(201).path();
    let (half, other) = site.grant(Some(5)).await;
    let halfway = create(&crashed, &other, 5, &[]).await.expect(201).path();
    for (path, data) in [(&path, "hello"), (&halfway, "hal")] {
        let headers = [
            ("Upload-Offset", "0".to_owned()),
            ("Content-Type", "application/offset+octet-stream".to_owned()),
        ];
        super::harness::ask(&crashed, http::Method::PATCH, path, &headers, data)
            .await
            .expect(204);
    }
    assert_eq!(site.state(job.id).await, JobState::Started);
    assert_eq!(look(&site, &queue).await, 1);
    assert_eq!(site.state(job.id).await, JobState::Completed);
    assert_eq!(
        site.told(job.id).await,
        ["UploadStarted", "UploadCompleted"]
    );
    assert_eq!(site.until(half.id, JobState::Progress).await.offset, 3);
    assert_eq!(look(&site, &queue).await, 0);
}

#[tokio::test]
async fn an_upload_that_vanishes_before_its_last_byte_has_failed() {
    let site = Site::start().await;
    let (job, token) = site.grant(Some(1_000_000)).await;
    let path = site.create(&token, 1_000_000).await.expect(201).path();
    // As tus-js-client does it: one PATCH that would bring all the rest.
    site.cut(&path, 1_000_000, &[b'x'; 30_000]).await;
    assert_eq!(site.until(job.id, JobState::Progress).await.offset, 30_000);
    remove_quietly(&site, &path).await;
    assert_eq!(look(&site, &site.queue).await, 1);
    let ended = site.job(job.id).await;
    assert_eq!((ended.state, ended.offset), (JobState::Failed, 30_000));
    assert_eq!(site.told(job.id).await.last(), Some(&"UploadFailed"));
}

#[tokio::test]
async fn a_removal_whose_process_died_ends_as_it_was_meant() {
    let site = Site::start().await;
    let (job, token) = site.grant(Some(5)).await;
    let path = site.create(&token, 5).await.expect(201).path();
    site.patch(&path, 0, "hell").await.expect(204);
    site.until(job.id, JobState::Progress).await;
    let why = JobEnd::Cancelled("by the client".into());
    site.queue.prepare_end(job.id, why).await.unwrap();
    remove_quietly(&site, &path).await;
    assert_eq!(look(&site, &site.queue).await, 1);
    let ended = site.job(job.id).await;
    assert_eq!(ended.state, JobState::Cancelled);
    assert_eq!(ended.reason.as_deref(), Some("by the client"));
}

#[tokio::test]
async fn a_removal_that_did_not_happen_leaves_no_trace() {
    let site = Site::start().await;
    let (job, token) = site.grant(Some(5)).await;
    let path = site.create(&token, 5).await.expect(201).path();
    let why = JobEnd::Cancelled("by the client".into());
    site.queue.prepare_end(job.id, why).await.unwrap();
    site.patch(&path, 0, "hel").await.expect(204);
    site.until(job.id, JobState::Progress).await;
    remove_quietly(&site, &path).await;
    assert_eq!(look(&site, &site.queue).await, 1);
    assert_eq!(site.state(job.id).await, JobState::Failed);
}

#[tokio::test]
async fn a_settled_completion_is_in_the_queue_before_it_is_delivered() {
    let site = Site::start().await;
    let (_, crashed) = site.beside(false).await;
    let (job, token) = site.grant(Some(5)).await;
    let path = create(&crashed, &token, 5, &[]).await.expect(201).path();
    let headers = [
        ("Upload-Offset", "0".to_owned()),
        ("Content-Type", "application/offset+octet-stream".to_owned()),
    ];
    super::harness::ask(&crashed, http::Method::PATCH, &path, &headers, "hello")
        .await
        .expect(204);
    assert_eq!(site.state(job.id).await, JobState::Started);
    let upload = id(&path);
    let created = site.snapshot(&path).await.unwrap().upload.created;
    let settled = site
        .handler
        .resolve(EventKind::Completed, &upload, created)
        .await
        .unwrap();
    assert!(
        matches!(settled, Resolution::Happened(Some(_))),
        "{settled:?}"
    );
    assert_eq!(site.state(job.id).await, JobState::Completed);
    // A second process may settle it again.
    site.handler
        .resolve(EventKind::Completed, &upload, created)
        .await
        .unwrap();
    assert_eq!(
        site.told(job.id).await,
        ["UploadStarted", "UploadCompleted"]
    );
}

#[tokio::test]
async fn a_settled_removal_is_in_the_queue_with_its_reason() {
    let site = Site::start().await;
    for (ending, state) in [
        (Some(JobEnd::Failed("a virus".into())), JobState::Failed),
        (None, JobState::Cancelled),
    ] {
        let (job, token) = site.grant(Some(5)).await;
        let path = site.create(&token, 5).await.expect(201).path();
        site.patch(&path, 0, "hell").await.expect(204);
        site.until(job.id, JobState::Progress).await;
        let created = site.snapshot(&path).await.unwrap().upload.created;
        if let Some(end) = ending {
            site.queue.prepare_end(job.id, end).await.unwrap();
        }
        remove_quietly(&site, &path).await;
        let settled = site
            .handler
            .resolve(EventKind::Terminated, &id(&path), created)
            .await
            .unwrap();
        assert!(matches!(settled, Resolution::Happened(None)), "{settled:?}");
        assert_eq!(site.state(job.id).await, state);
    }
}

#[tokio::test]
async fn what_is_gone_has_failed() {
    let site = Site::start().await;
    let (job, token) = site.grant(Some(5)).await;
    let path = site.create(&token, 5).await.expect(201).path();
    site.patch(&path, 0, "hel").await.expect(204);
    site.until(job.id, JobState::Progress).await;
    remove_quietly(&site, &path).await;
    assert_eq!(look(&site, &site.queue).await, 1);
    assert_eq!(site.state(job.id).await, JobState::Failed);
}

#[tokio::test]
async fn a_creation_that_came_to_nothing_may_come_again_in_its_time() {
    let site = Site::start().await;
    let (job, token) = site.grant(Some(5)).await;
    let path = site.create(&token, 5).await.expect(201).path();
    remove_quietly(&site, &path).await;
    assert_eq!(look(&site, &site.queue).await, 0);
    let again = site.create(&token, 5).await.expect(201).path();
    assert_ne!(again, path);
    let bound = site.job(job.id).await.upload_id;
    assert_eq!(bound.as_deref(), Some(id(&again).as_str()));
    remove_quietly(&site, &again).await;
    site.time.pass(Duration::from_secs(3601));
    assert_eq!(look(&site, &site.queue).await, 1);
    assert_eq!(site.state(job.id).await, JobState::Expired);
}

/// Removes an upload behind everybody's back.
async fn remove_quietly(site: &Site, path: &str) {
    let id = id(path);
    let lease = site.parts.locker().try_acquire(&id).await.unwrap();
    let found = site.parts.store().load(&id).await.unwrap();
    let terminator = site.parts.terminator().unwrap();
    terminator
        .terminate(&found.upload, lease.fence())
        .await
        .unwrap();
}
