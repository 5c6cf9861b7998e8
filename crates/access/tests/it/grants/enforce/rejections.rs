//! Rejected creations.

use std::time::Duration;

use http::Method;
use landfall_access::auth::FailedAttempts;
use landfall_state::queue::{GrantOutcome, JobEnd, JobState, NewJob, Token};

use super::harness::{Site, ask, create};

/// `Upload-Metadata` for `upload_request_id`.
fn request_id(id: &str) -> String {
    landfall::upload::Metadata::from_pairs([("upload_request_id", id)])
        .header()
        .to_owned()
}

#[tokio::test]
async fn where_a_grant_is_required_nothing_goes_without() {
    let site = Site::with(|settings| settings.require_token = true).await;
    let length = [("Upload-Length", "5".to_owned())];
    let refused = ask(&site.handler, Method::POST, "/files/", &length, "")
        .await
        .expect(401);
    assert!(
        refused
            .header("www-authenticate")
            .unwrap()
            .starts_with("Bearer")
    );
    assert!(refused.body.contains("Upload-Token"), "{}", refused.body);
    let (_, token) = site.grant(Some(5)).await;
    site.create(&token, 5).await.expect(201);
}

#[tokio::test]
async fn where_none_is_required_a_wrong_one_is_refused_all_the_same() {
    let site = Site::start().await;
    let length = [("Upload-Length", "5".to_owned())];
    ask(&site.handler, Method::POST, "/files/", &length, "")
        .await
        .expect(201);
    site.create(&Token::random(), 5).await.expect(401);
}

#[tokio::test]
async fn the_length_is_that_of_the_grant() {
    let site = Site::start().await;
    let (job, token) = site.grant(Some(5)).await;
    site.create(&token, 6).await.expect(413);
    site.create(&token, 4).await.expect(400);
    assert_eq!(site.state(job.id).await, JobState::Received);
    site.create(&token, 5).await.expect(201);

    let (_, token) = site.grant(Some(5)).await;
    let deferred = [
        ("Upload-Defer-Length", "1".to_owned()),
        ("Upload-Token", token.reveal().to_owned()),
    ];
    let path = ask(&site.handler, Method::POST, "/files/", &deferred, "")
        .await
        .expect(201)
        .path();
    let snapshot = site.snapshot(&path).await.unwrap();
    assert_eq!(snapshot.upload.length, Some(5));

    let (_, token) = site.grant(Some(0)).await;
    site.create(&token, 0).await.expect(201);
}

#[tokio::test]
async fn an_unknown_length_has_a_largest_one() {
    let site = Site::start().await;
    let mut new = NewJob::new("alice", "1", "a");
    new.limits.max_size = Some(10);
    let GrantOutcome::Created(_, token) = site.queue.grant(new).await.unwrap() else {
        panic!("it is new");
    };
    site.create(&token, 11).await.expect(413);
    site.create(&token, 10).await.expect(201);
}

#[tokio::test]
async fn a_token_belongs_to_its_request() {
    let site = Site::start().await;
    let (one, token) = site.grant(Some(5)).await;
    let (other, _) = site.grant(Some(5)).await;
    let foreign = request_id(&other.request_id);
    create(&site.handler, &token, 5, &[("Upload-Metadata", &foreign)])
        .await
        .expect(401);
    let own = request_id(&one.request_id);
    create(&site.handler, &token, 5, &[("Upload-Metadata", &own)])
        .await
        .expect(201);
}

#[tokio::test]
async fn the_type_is_checked_where_that_is_wanted() {
    for check_type in [false, true] {
        let site = Site::with(|settings| settings.enforce_type = check_type).await;
        let (_, token) = site.grant(Some(5)).await;
        let metadata = landfall::upload::Metadata::from_pairs([("filetype", "text/html")]);
        let header = [("Upload-Metadata", metadata.header())];
        let answer = create(&site.handler, &token, 5, &header).await;
        assert_eq!(answer.status, if check_type { 415 } else { 201 });
        // The same type with the parameters of a recorder.
        let metadata =
            landfall::upload::Metadata::from_pairs([("filetype", "Video/mp4;codecs=avc1,opus")]);
        let header = [("Upload-Metadata", metadata.header())];
        let (_, token) = site.grant(Some(5)).await;
        create(&site.handler, &token, 5, &header).await.expect(201);
    }
}

#[tokio::test]
async fn the_name_is_that_of_the_grant() {
    let site = Site::start().await;
    let (_, token) = site.grant(Some(5)).await;
    let metadata = landfall::upload::Metadata::from_pairs([("filename", "evil.exe"), ("x", "y")]);
    let header = [("Upload-Metadata", metadata.header())];
    let path = create(&site.handler, &token, 5, &header)
        .await
        .expect(201)
        .path();
    let upload = site.snapshot(&path).await.unwrap().upload;
    assert_eq!(upload.metadata.get_text("filename").unwrap(), "holiday.mp4");
    assert_eq!(upload.metadata.get_text("filetype").unwrap(), "video/mp4");
    assert_eq!(upload.metadata.get_text("x").unwrap(), "y");
    assert_eq!(upload.labels["subject"], "alice");
}

#[tokio::test]
async fn a_token_is_good_for_an_hour_less_a_moment() {
    let hour = Duration::from_secs(3600);
    let moment = Duration::from_millis(1);
    let site = Site::start().await;
    let (_, early) = site.grant(Some(5)).await;
    site.time.pass(hour - moment);
    let path = site.create(&early, 5).await.expect(201).path();

    let (late_job, late) = site.grant(Some(5)).await;
    site.time.pass(hour);
    let refused = site.create(&late, 5).await.expect(410);
    assert!(refused.body.contains("another one"), "{}", refused.body);
    site.queue.purge().await.unwrap();
    assert_eq!(site.state(late_job.id).await, JobState::Expired);
    site.create(&late, 5).await.expect(410);

    // A started upload continues.
    site.patch(&path, 0, "hello").await.expect(204);
    site.create(&early, 5).await.expect(201);
}

#[tokio::test]
async fn what_has_ended_begins_no_more() {
    let site = Site::start().await;
    for end in [
        JobEnd::Cancelled("why not".into()),
        JobEnd::Failed("so".into()),
        JobEnd::Expired,
    ] {
        let (job, token) = site.grant(Some(5)).await;
        assert!(site.queue.finish(job.id, end).await.unwrap());
        site.create(&token, 5).await.expect(410);
    }
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let guesses = FailedAttempts::default();
    let site = Site::with(|settings| settings.failed_attempts = Some(guesses.clone())).await;
    let (_, token) = site.grant(Some(5)).await;
    let mut limited = None;
    for _ in 0..100 {
        let answer = site.create(&Token::random(), 5).await;
        if answer.status == 429 {
            limited = Some(answer);
            break;
        }
        answer.expect(401);
    }
    let limited = limited.expect("guesses are limited");
    assert!(
        limited
            .header("retry-after")
            .unwrap()
            .parse::<u64>()
            .unwrap()
            > 0
    );
    // Others behind the same address are not locked out.
    site.create(&token, 5).await.expect(201);
}
