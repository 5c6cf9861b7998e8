//! Binding uploads: once, in time, and not more than was granted.

use std::{net::IpAddr, time::Duration};

use landfall::upload::{Metadata, Upload};
use landfall_state::queue::{
    GrantOutcome, Job, JobEnd, JobId, JobState, LimitExceeded, Queue, Report, Scope, StartOutcome,
    StartRequest,
};
use landfall_state::sql::Statement;

use super::harness::{asked, everywhere, granted, started, until, upload};

const HOUR: Duration = Duration::from_secs(3600);

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_starts_at_once_one_wins() {
    everywhere(async |place| {
        let queues = [place.queue().await, place.queue().await];
        let (job, _) = granted(&queues[0], asked("ann", "r1", 10)).await;
        let tasks: Vec<_> = (0..10)
            .zip(queues.iter().cycle())
            .map(|(n, queue)| {
                let (queue, id) = (queue.clone(), job.id);
                let start = StartRequest::new(upload(&format!("u{n}")), Some(10), "digest");
                tokio::spawn(async move {
                    let answer = queue.start(id, start.clone()).await.unwrap();
                    (start.upload, answer)
                })
            })
            .collect();
        let (mut bound, mut others) = (Vec::new(), Vec::new());
        for task in tasks {
            match task.await.unwrap() {
                (mine, StartOutcome::Bound) => bound.push(mine),
                (_, StartOutcome::Other(other)) => others.push(other),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(bound.len(), 1);
        assert_eq!(others, vec![bound[0].clone(); 9]);
        for queue in queues {
            let found = queue.bound_upload(job.id).await.unwrap();
            assert_eq!(found, Some((bound[0].clone(), "digest".into())));
            queue.close().await;
        }
        let told = "SELECT COUNT(*) FROM queue_events";
        assert_eq!(place.number(told).await, 1, "it started once");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_goes_along_is_kept_with_the_start_or_not_at_all() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let connections = place.connections().await;
        let mut transaction = connections.write().await.unwrap();
        let table = Statement::new("CREATE TABLE others (upload TEXT PRIMARY KEY)");
        transaction.execute(table).await.unwrap();
        transaction.commit().await.unwrap();
        connections.close().await;
        let start = |to: &str, length| {
            let note = "INSERT INTO others (upload) VALUES ($1) ON CONFLICT DO NOTHING";
            let note = Statement::new(note).with(to);
            StartRequest::new(upload(to), Some(length), "d").with_statement(note)
        };
        let (job, _) = granted(&queue, asked("ann", "r1", 10)).await;
        for (to, length, answer) in [
            ("large", 11, StartOutcome::TooLarge),
            ("one", 10, StartOutcome::Bound),
            ("one", 10, StartOutcome::Bound),
            ("other", 10, StartOutcome::Other(upload("one"))),
        ] {
            let started = queue.start(job.id, start(to, length)).await.unwrap();
            assert_eq!(started, answer, "{to}");
        }
        let rows = place.rows("SELECT upload FROM others").await;
        assert_eq!(rows.len(), 1);
        assert_eq!(rows[0].text("upload").unwrap(), "one");

        // Without the one, not the other either.
        let (job, _) = granted(&queue, asked("ann", "r2", 10)).await;
        let broken = Statement::new("INSERT INTO nowhere (upload) VALUES ('x')");
        let start = StartRequest::new(upload("two"), Some(10), "d").with_statement(broken);
        queue.start(job.id, start).await.unwrap_err();
        assert_eq!(queue.bound_upload(job.id).await.unwrap(), None);
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grant_and_its_start_are_one() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let connections = place.connections().await;
        let mut transaction = connections.write().await.unwrap();
        let table = Statement::new("CREATE TABLE others (job BIGINT PRIMARY KEY)");
        transaction.execute(table).await.unwrap();
        transaction.commit().await.unwrap();
        connections.close().await;
        let start = |length| {
            move |job: &Job| {
                let note = Statement::new("INSERT INTO others (job) VALUES ($1)");
                let start = StartRequest::new(upload(&format!("u{}", job.id)), Some(length), "d");
                start.with_statement(note.with(job.id.0))
            }
        };
        let with_quota = |id: &str| {
            let mut new = asked("ann", id, 10);
            new.limits.quota = Some(20);
            new
        };
        let both = queue.grant_and_start(with_quota("r1"), start(10)).await;
        let GrantOutcome::Created(job, StartOutcome::Bound) = both.unwrap() else {
            panic!("not started");
        };
        assert_eq!(queue.stats().batches, 1);
        assert_eq!(queue.get(job.id).await.unwrap(), Some(*job.clone()));
        assert_eq!(job.state, JobState::Started);
        let bound = (upload(&format!("u{}", job.id)), "d".to_owned());
        assert_eq!(queue.bound_upload(job.id).await.unwrap(), Some(bound));
        // The same request finds the job, and another one with its id does not.
        let again = queue.grant_and_start(with_quota("r1"), start(10)).await;
        assert_eq!(again.unwrap(), GrantOutcome::Existing(job.clone(), ()));
        let mut other = with_quota("r1");
        other.filename = "other".into();
        let other = queue.grant_and_start(other, start(10)).await;
        assert_eq!(other.unwrap(), GrantOutcome::Conflict(job));
        // A start that does not fit leaves a grant.
        let large = queue.grant_and_start(with_quota("r2"), start(11)).await;
        let GrantOutcome::Created(large, StartOutcome::TooLarge) = large.unwrap() else {
            panic!("started");
        };
        assert_eq!(large.state, JobState::Received);
        // Without quota, or if a statement fails, nothing is written.
        let full = queue.grant_and_start(with_quota("r3"), start(10)).await;
        let quota = LimitExceeded::Quota {
            quota: 20,
            used: 20,
        };
        assert_eq!(full.unwrap(), GrantOutcome::LimitExceeded(quota));
        let broken = |_: &Job| {
            let broken = Statement::new("INSERT INTO nowhere (job) VALUES (1)");
            StartRequest::new(upload("broken"), Some(10), "d").with_statement(broken)
        };
        let new = asked("bob", "r4", 10);
        queue.grant_and_start(new, broken).await.unwrap_err();
        for (subject, id) in [("ann", "r3"), ("bob", "r4")] {
            assert_eq!(queue.by_request(subject, id).await.unwrap(), None);
        }
        queue.close().await;
        for (count, of) in [
            (1, "others"),
            (1, "queue_events"),
            (2, "queue_jobs"),
            (0, "queue_tokens"),
        ] {
            let rows = format!("SELECT COUNT(*) FROM {of}");
            assert_eq!(place.number(&rows).await, count, "{of}");
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hour_to_start_and_not_a_moment_more() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let (early, _) = granted(&queue, asked("ann", "early", 1)).await;
        let (late, late_token) = granted(&queue, asked("ann", "late", 1)).await;
        let start = |id: JobId| StartRequest::new(upload(&format!("u{id}")), Some(1), "d");
        place.hands.go(HOUR - Duration::from_millis(1));
        assert_eq!(queue.purge().await.unwrap(), (0, 0));
        assert_eq!(
            queue.start(early.id, start(early.id)).await.unwrap(),
            StartOutcome::Bound
        );
        place.hands.go(Duration::from_millis(1));
        assert_eq!(
            queue.start(late.id, start(late.id)).await.unwrap(),
            StartOutcome::Expired
        );
        let job = queue.by_token(&late_token.hash()).await.unwrap().unwrap();
        assert_eq!(job.state, JobState::Expired);
        let again = queue.start(late.id, start(late.id)).await.unwrap();
        assert_eq!(again, StartOutcome::Ended(JobState::Expired));
        // Started uploads are not affected.
        place.hands.go(24 * HOUR);
        assert_eq!(queue.purge().await.unwrap(), (0, 0));
        assert_eq!(
            queue.start(early.id, start(early.id)).await.unwrap(),
            StartOutcome::Bound
        );
        assert!(queue.finish(early.id, JobEnd::completed(1)).await.unwrap());
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_start_has_to_be_the_same() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let id = started(&queue, asked("ann", "r1", 10)).await;
        let mine = upload(&format!("u{id}"));
        let start =
            |to: &str, length, digest: &str| StartRequest::new(upload(to), Some(length), digest);
        let go = async |start| queue.start(id, start).await.unwrap();
        assert_eq!(go(start("other", 10, "else")).await, StartOutcome::Conflict);
        assert_eq!(
            go(start("other", 10, "digest")).await,
            StartOutcome::Other(mine.clone())
        );
        assert_eq!(
            go(start("other", 11, "digest").replacing(Some(mine.clone()))).await,
            StartOutcome::TooLarge
        );
        assert_eq!(
            go(start("other", 9, "digest").replacing(Some(mine.clone()))).await,
            StartOutcome::Conflict
        );
        assert_eq!(
            go(start("other", 10, "digest").replacing(Some(mine.clone()))).await,
            StartOutcome::Bound
        );
        assert_eq!(
            go(start("third", 10, "digest").replacing(Some(mine))).await,
            StartOutcome::Other(upload("other"))
        );
        assert_eq!(
            go(StartRequest::part(upload("part"), Some(1))).await,
            StartOutcome::Conflict
        );
        assert_eq!(queue.uploads_of(id).await.unwrap(), [upload("other")]);
        assert_eq!(
            queue.start(JobId(99), start("x", 1, "d")).await.unwrap(),
            StartOutcome::NotFound
        );
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_have_what_was_granted_together() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let (job, _) = granted(&queue, asked("ann", "r1", 10)).await;
        let part = async |name: &str, length| {
            let start = StartRequest::part(upload(name), Some(length));
            queue.start(job.id, start).await.unwrap()
        };
        assert_eq!(part("a", 6).await, StartOutcome::Bound);
        assert_eq!(part("a", 6).await, StartOutcome::Bound);
        assert_eq!(part("b", 5).await, StartOutcome::TooLarge);
        assert_eq!(part("b", 4).await, StartOutcome::Bound);
        assert_eq!(part("c", 4).await, StartOutcome::TooLarge);
        let report = |name: &str, offset| Report {
            job: job.id,
            part: Some(upload(name)),
            offset,
            length: None,
            at: std::time::SystemTime::now(),
        };
        queue.report(report("a", 6));
        until(async || queue.get(job.id).await.unwrap().unwrap().offset == 6).await;
        // The answer to the creation of `b` was lost: it makes room, once it has had time.
        place.hands.go(Duration::from_millis(9_999));
        assert_eq!(part("c", 4).await, StartOutcome::TooLarge);
        place.hands.go(Duration::from_millis(1));
        assert_eq!(part("c", 4).await, StartOutcome::Bound);
        queue.report(report("c", 3));
        queue.report(report("a", 5));
        until(async || queue.get(job.id).await.unwrap().unwrap().offset == 9).await;
        assert_eq!(
            queue.uploads_of(job.id).await.unwrap(),
            [upload("a"), upload("c")]
        );
        let whole = StartRequest::new(upload("whole"), Some(10), "d");
        assert_eq!(
            queue.start(job.id, whole).await.unwrap(),
            StartOutcome::Bound
        );
        assert_eq!(part("d", 0).await, StartOutcome::Conflict);
        assert!(queue.finish(job.id, JobEnd::completed(10)).await.unwrap());
        let uploads = queue.uploads_of(job.id).await.unwrap();
        assert_eq!(uploads, [upload("a"), upload("c"), upload("whole")]);
        let job = queue.get(job.id).await.unwrap().unwrap();
        assert_eq!((job.offset, job.upload_id.as_deref()), (10, Some("whole")));
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn there_is_an_end_to_parts() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let (job, _) = granted(&queue, asked("ann", "r1", None)).await;
        let part = async |n: usize| {
            let start = StartRequest::part(upload(&format!("p{n}")), Some(1));
            queue.start(job.id, start).await.unwrap()
        };
        let mut bound = 0;
        for some in (0..1000).collect::<Vec<_>>().chunks(50) {
            let starts = some.iter().map(|n| part(*n));
            for answer in futures_util::future::join_all(starts).await {
                assert_eq!(answer, StartOutcome::Bound);
                bound += 1;
            }
        }
        assert_eq!(bound, 1000);
        assert_eq!(part(1000).await, StartOutcome::TooLarge);
        queue.close().await;
    })
    .await;
}

fn without_grant(id: &str) -> Upload {
    let mut upload = Upload::new(upload(id), Some(10));
    upload.metadata =
        Metadata::from_pairs([("filename", "Cat.png"), ("type", "image/png"), ("a", "b")]);
    upload
}

#[tokio::test(flavor = "multi_thread")]
async fn uploads_without_a_grant_are_followed() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let mut theirs = without_grant("u1");
        theirs.created = Some(place.hands.now());
        let follow =
            async |queue: &Queue, upload: &Upload| queue.track(upload, None).await.unwrap();
        let id = follow(&queue, &theirs).await;
        assert_eq!(follow(&queue, &theirs).await, id);
        let job = queue.get(id).await.unwrap().unwrap();
        assert_eq!(
            (job.subject.as_deref(), job.state),
            (None, JobState::Started)
        );
        assert_eq!((job.request_id.as_str(), job.size), ("u1", Some(10)));
        assert_eq!(job.filename.as_deref(), Some("Cat.png"));
        assert_eq!(job.filetype.as_deref(), Some("image/png"));
        assert_eq!(job.metadata.len(), 1);
        place.hands.go(Duration::from_secs(5));
        assert!(queue.finish(id, JobEnd::completed(10)).await.unwrap());
        assert_eq!(follow(&queue, &theirs).await, id);
        // A later upload with the same id is another one.
        theirs.created = Some(place.hands.now() + Duration::from_secs(1));
        let other = follow(&queue, &theirs).await;
        assert_ne!(other, id);
        let newest = queue.by_upload(&upload("u1")).await.unwrap().unwrap();
        assert_eq!(newest.id, other);
        assert_eq!(place.number("SELECT COUNT(*) FROM queue_usage").await, 0);
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_keep_the_address_of_the_client_that_created_the_upload() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let addresses = ["192.0.2.7", "2001:db8::7", "192.0.2.8"];
        let [first, second, third] = addresses.map(|text| Some(text.parse::<IpAddr>().unwrap()));
        let tracked = queue.track(&without_grant("u1"), first).await.unwrap();
        let granted = granted(&queue, asked("ann", "r1", 10)).await.0.id;
        let start = |id: &str| StartRequest::new(upload(id), Some(10), "digest");
        let part = StartRequest::part(upload("part"), Some(10));
        for (start, client) in [
            (part.from_client(second), second),
            (start("whole").from_client(third), third),
            // A repetition whose address is unknown.
            (start("whole"), third),
        ] {
            let outcome = queue.start(granted, start).await.unwrap();
            assert_eq!(outcome, StartOutcome::Bound);
            let job = queue.get(granted).await.unwrap().unwrap();
            assert_eq!(job.client, client);
        }
        for (id, client) in [(tracked, first), (granted, third)] {
            let denied = JobEnd::Failed("denied or stopped by a hook".into());
            assert!(queue.finish(id, denied).await.unwrap());
            let job = queue.get(id).await.unwrap().unwrap();
            assert_eq!((job.state, job.client), (JobState::Failed, client));
            let events = queue.events(&Scope::All, 0, 100).await.unwrap();
            let last = events.iter().rfind(|event| event.job.id == id).unwrap();
            assert_eq!(last.job.client, client);
        }
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_length_below_the_written_progress_caps_it() {
    everywhere(async |place| {
        let queue = place.queue().await;
        for (request, ends) in [("r1", false), ("r2", true)] {
            let id = started(&queue, asked("ann", request, None)).await;
            queue.report(Report {
                job: id,
                part: None,
                offset: 7,
                length: None,
                at: std::time::SystemTime::now(),
            });
            until(async || {
                let offset = "SELECT upload_offset FROM queue_jobs WHERE number =";
                place.number(&format!("{offset} {}", id.0)).await == 7
            })
            .await;
            if ends {
                assert!(queue.finish(id, JobEnd::completed(5)).await.unwrap());
            } else {
                let start = StartRequest::new(upload(&format!("u{id}")), Some(5), "digest");
                let outcome = queue.start(id, start).await.unwrap();
                assert_eq!(outcome, StartOutcome::Bound);
            }
            let job = queue.get(id).await.unwrap().unwrap();
            assert_eq!((job.offset, job.size), (5, Some(5)), "{request}");
        }
    })
    .await;
}
