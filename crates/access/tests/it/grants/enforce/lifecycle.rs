//! The lives of jobs, as their uploads live them.

use http::Method;
use landfall::upload::Metadata;
use landfall_state::queue::{JobState, Query, Scope, Token, tracking::cancel};

use super::harness::{Site, ask, create, id};

#[tokio::test]
async fn from_grant_to_completion() {
    let site = Site::start().await;
    let (job, token) = site.grant(Some(11)).await;
    assert_eq!(job.state, JobState::Received);
    let path = site.create(&token, 11).await.expect(201).path();
    let started = site.job(job.id).await;
    assert_eq!(started.state, JobState::Started);
    assert_eq!(started.upload_id.as_deref(), Some(id(&path).as_str()));
    assert_eq!(started.client, Some([192, 0, 2, 1].into()));
    site.patch(&path, 0, "hello").await.expect(204);
    let under_way = site.until(job.id, JobState::Progress).await;
    assert_eq!(under_way.offset, 5);
    site.patch(&path, 5, " world").await.expect(204);
    // The queue has the completion before the response is sent.
    let completed = site.job(job.id).await;
    assert_eq!(completed.state, JobState::Completed);
    assert_eq!((completed.offset, completed.size), (11, Some(11)));
    assert!(completed.ended_at.is_some());
    let told = site.told(job.id).await;
    assert_eq!(told.first(), Some(&"UploadStarted"));
    assert_eq!(told.last(), Some(&"UploadCompleted"));
    assert_eq!(
        told.iter()
            .filter(|kind| **kind == "UploadCompleted")
            .count(),
        1
    );
    // Its client asks again, since the answer was lost: there is one upload.
    let again = site.create(&token, 11).await.expect(201);
    assert_eq!(again.path(), path);
    assert_eq!(again.header("upload-offset"), Some("11"));
    // Something else isn't that.
    create(&site.handler, &token, 11, &[("Upload-Metadata", "x eQ==")])
        .await
        .expect(409);
    site.create(&token, 10).await.expect(409);
    site.create(&token, 12).await.expect(409);
}

#[tokio::test]
async fn ten_starts_on_two_nodes_make_one_upload() {
    let site = Site::start().await;
    let (_, other) = site.beside(true).await;
    let (job, token) = site.grant(Some(5)).await;
    let starts = (0..10).map(|n| {
        let handler = if n % 2 == 0 { &site.handler } else { &other };
        let (handler, token) = (handler.clone(), token.clone());
        tokio::spawn(async move { create(&handler, &token, 5, &[]).await.expect(201).path() })
    });
    let mut paths = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        paths.push(start.await.unwrap());
    }
    paths.dedup();
    assert_eq!(paths.len(), 1, "{paths:?}");
    assert_eq!(site.told(job.id).await, ["UploadStarted"]);
}

#[tokio::test]
async fn different_files_of_one_token_are_one_and_a_conflict() {
    let site = Site::start().await;
    let (_, token) = site.grant(None).await;
    let starts = (0..8_u64).map(|n| {
        let (handler, token) = (site.handler.clone(), token.clone());
        tokio::spawn(async move { create(&handler, &token, n, &[]).await.status.as_u16() })
    });
    let mut answers = Vec::new();
    for start in starts.collect::<Vec<_>>() {
        answers.push(start.await.unwrap());
    }
    answers.sort_unstable();
    assert_eq!(answers, [201, 409, 409, 409, 409, 409, 409, 409]);
}

/// Creates a partial upload and sends its bytes.
async fn part(site: &Site, token: &Token, data: &str) -> String {
    let concat = [("Upload-Concat", "partial")];
    let length = u64::try_from(data.len()).unwrap();
    let path = create(&site.handler, token, length, &concat)
        .await
        .expect(201)
        .path();
    site.patch(&path, 0, data).await.expect(204);
    path
}

async fn join(site: &Site, token: &Token, parts: &[String]) -> super::harness::Answered {
    let headers = [
        ("Upload-Concat", format!("final;{}", parts.join(" "))),
        ("Upload-Token", token.reveal().to_owned()),
    ];
    ask(&site.handler, Method::POST, "/files/", &headers, "").await
}

#[tokio::test]
async fn one_grant_covers_parts_and_what_they_are_joined_to() {
    let site = Site::start().await;
    let (job, token) = site.grant(Some(11)).await;
    let first = part(&site, &token, "hello").await;
    assert_eq!(site.until(job.id, JobState::Progress).await.offset, 5);
    let second = part(&site, &token, " world").await;
    // There is no room for more.
    let concat = [("Upload-Concat", "partial")];
    create(&site.handler, &token, 1, &concat).await.expect(413);
    let parts = [first, second];
    let path = join(&site, &token, &parts).await.expect(201).path();
    let completed = site.job(job.id).await;
    assert_eq!(completed.state, JobState::Completed);
    assert_eq!(completed.offset, 11);
    assert_eq!(completed.upload_id.as_deref(), Some(id(&path).as_str()));
    assert_eq!(join(&site, &token, &parts).await.expect(201).path(), path);
    let told = site.told(job.id).await;
    assert_eq!(
        told.iter().filter(|kind| **kind == "UploadStarted").count(),
        1
    );
    assert_eq!(told.last(), Some(&"UploadCompleted"));
}

#[tokio::test]
async fn parts_of_others_are_not_joined() {
    let site = Site::start().await;
    let (_, mine) = site.grant(Some(5)).await;
    let (_, theirs) = site.grant(Some(5)).await;
    let foreign = part(&site, &theirs, "their").await;
    join(&site, &mine, &[foreign]).await.expect(403);
    let (_, short) = site.grant(Some(9)).await;
    let half = part(&site, &short, "half").await;
    join(&site, &short, &[half]).await.expect(400);
}

#[tokio::test]
async fn cancelling_takes_the_upload_and_its_parts() {
    let site = Site::start().await;
    let (job, token) = site.grant(Some(11)).await;
    let parts = [
        part(&site, &token, "hello").await,
        part(&site, &token, " worl").await,
    ];
    let job = site.job(job.id).await;
    assert!(
        cancel(&site.queue, &site.handler, &job, "changed my mind")
            .await
            .unwrap()
    );
    for path in &parts {
        assert!(site.snapshot(path).await.is_none());
    }
    let cancelled = site.job(job.id).await;
    assert_eq!(cancelled.state, JobState::Cancelled);
    assert_eq!(cancelled.reason.as_deref(), Some("changed my mind"));
    assert!(
        !cancel(&site.queue, &site.handler, &job, "again")
            .await
            .unwrap()
    );
    let told = site.told(job.id).await;
    assert_eq!(
        told.iter()
            .filter(|kind| **kind == "UploadCancelled")
            .count(),
        1
    );
    create(&site.handler, &token, 1, &[("Upload-Concat", "partial")])
        .await
        .expect(410);
}

#[tokio::test]
async fn what_is_complete_is_not_cancelled() {
    let site = Site::start().await;
    let (job, token) = site.grant(Some(5)).await;
    let path = site.create(&token, 5).await.path();
    site.patch(&path, 0, "hello").await.expect(204);
    assert!(
        !cancel(&site.queue, &site.handler, &job, "late")
            .await
            .unwrap()
    );
    assert!(site.snapshot(&path).await.is_some());
    // Its client may remove the file; the job was complete.
    ask(&site.handler, Method::DELETE, &path, &[], "")
        .await
        .expect(204);
    assert_eq!(site.state(job.id).await, JobState::Removed);
}

#[tokio::test]
async fn ends_have_their_reasons() {
    let site = Site::start().await;
    let (job, token) = site.grant(Some(5)).await;
    let path = site.create(&token, 5).await.path();
    ask(&site.handler, Method::DELETE, &path, &[], "")
        .await
        .expect(204);
    let by_client = site.job(job.id).await;
    assert_eq!(by_client.state, JobState::Cancelled);
    assert_eq!(by_client.reason.as_deref(), Some("by the client"));

    let (job, token) = site.grant(Some(5)).await;
    let virus = Metadata::from_pairs([("virus", "yes")]);
    let header = [("Upload-Metadata", virus.header())];
    let path = create(&site.handler, &token, 5, &header)
        .await
        .expect(201)
        .path();
    site.patch(&path, 0, "hello").await.expect(422);
    let refused = site.job(job.id).await;
    assert_eq!(refused.state, JobState::Failed);
    let why = "denied or stopped by a hook: 422 a virus";
    assert_eq!(refused.reason.as_deref(), Some(why));
}

/// A job that begins no more takes no place in a link or a quota.
#[tokio::test]
async fn a_grant_ends_when_a_hook_denies_its_upload() {
    let site = Site::start().await;
    for (status, is_final) in [
        (400, true),
        (403, true),
        (409, false),
        (423, false),
        (429, false),
        (503, false),
    ] {
        let (job, token) = site.grant(Some(5)).await;
        let refuse = Metadata::from_pairs([("refuse", status.to_string())]);
        let header = [("Upload-Metadata", refuse.header())];
        create(&site.handler, &token, 5, &header)
            .await
            .expect(status);
        let refused = site.job(job.id).await;
        if is_final {
            let why = format!("denied or stopped by a hook: {status} no programs");
            assert_eq!(
                (refused.state, refused.reason),
                (JobState::Failed, Some(why))
            );
            assert_eq!(refused.client, Some([192, 0, 2, 1].into()));
            assert_eq!(site.told(job.id).await, ["UploadFailed"]);
            create(&site.handler, &token, 5, &[]).await.expect(410);
        } else {
            assert_eq!(refused.state, JobState::Received, "{status}");
            create(&site.handler, &token, 5, &[]).await.expect(201);
        }
    }
    // Another upload of the same job is running.
    let (job, token) = site.grant(Some(5)).await;
    let path = site.create(&token, 5).await.path();
    let metadata = Metadata::from_pairs([("refuse", "403")]);
    let refuse = [("Upload-Metadata", metadata.header())];
    create(&site.handler, &token, 5, &refuse).await.expect(403);
    site.patch(&path, 0, "hello").await.expect(204);
    assert_eq!(site.state(job.id).await, JobState::Completed);
}

#[tokio::test]
async fn a_creation_that_is_undone_may_be_tried_again() {
    let site = Site::start().await;
    let (job, token) = site.grant(Some(5)).await;
    let bad = [
        ("Upload-Length", "5".to_owned()),
        ("Upload-Token", token.reveal().to_owned()),
        ("Content-Type", "application/offset+octet-stream".to_owned()),
        (
            "Upload-Checksum",
            "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=".to_owned(),
        ),
    ];
    ask(&site.handler, Method::POST, "/files/", &bad, "hello")
        .await
        .expect(460);
    let good = &bad[..3];
    ask(&site.handler, Method::POST, "/files/", good, "hello")
        .await
        .expect(201);
    assert_eq!(site.state(job.id).await, JobState::Completed);
}

#[tokio::test]
async fn uploads_without_a_grant_are_followed_where_that_is_wanted() {
    let site = Site::with(|settings| settings.track_all = true).await;
    let headers = [
        ("Upload-Length", "5".to_owned()),
        (
            "Upload-Metadata",
            Metadata::from_pairs([("filename", "a.txt")])
                .header()
                .to_owned(),
        ),
    ];
    let path = ask(&site.handler, Method::POST, "/files/", &headers, "")
        .await
        .expect(201)
        .path();
    let job = site.queue.by_upload(&id(&path)).await.unwrap().unwrap();
    assert_eq!(
        (job.state, job.subject.as_deref()),
        (JobState::Started, None)
    );
    assert_eq!(job.filename.as_deref(), Some("a.txt"));
    assert_eq!(job.client, Some([192, 0, 2, 1].into()));
    site.patch(&path, 0, "hello").await.expect(204);
    assert_eq!(site.state(job.id).await, JobState::Completed);
}

#[tokio::test]
async fn jobs_of_the_doctor_end_with_their_uploads() {
    let site = Site::with(|settings| settings.track_all = true).await;
    // The second has the name alone, and stays in the list.
    let name = "filename bGFuZGZhbGwtZG9jdG9y";
    for (metadata, is_listed) in [(format!("{name},landfall-doctor"), 0), (name.into(), 1)] {
        for data in ["", "hell", "hello"] {
            let headers = [
                ("Upload-Length", "5".into()),
                ("Upload-Metadata", metadata.clone()),
            ];
            let created = ask(&site.handler, Method::POST, "/files/", &headers, "").await;
            let path = created.expect(201).path();
            site.patch(&path, 0, data).await.expect(204);
            let job = site.queue.by_upload(&id(&path)).await.unwrap();
            assert!(job.is_some(), "it is listed as long as it is stored");
            let deleted = ask(&site.handler, Method::DELETE, &path, &[], "").await;
            deleted.expect(204);
        }
        let all = Query::new(Scope::All);
        assert_eq!(
            site.queue.list(&all).await.unwrap().jobs.len(),
            3 * is_listed
        );
        let totals = site.queue.totals().await.unwrap();
        assert_eq!(totals.jobs.values().sum::<u64>(), 3 * is_listed as u64);
    }
}
