//! The states of a job.

use std::time::Duration;

use landfall_state::queue::{
    Completion, GrantOutcome, JobEnd, JobEventKind, JobState, Query, Queue, Report, Scope,
    StartOutcome, StartRequest, ThroughputQuery,
};

use super::harness::{asked, everywhere, granted, until, upload};

fn report(queue: &Queue, job: landfall_state::queue::JobId, offset: u64) -> Report {
    Report {
        job,
        part: None,
        offset,
        length: None,
        at: queue.now(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_from_its_grant_to_its_end() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let mut new = asked("ann", "r1", 10);
        new.filetype = Some("image/png".into());
        new.metadata.insert("album".into(), "summer".into());
        let (job, token) = granted(&queue, new).await;
        assert_eq!(job.state, JobState::Received);
        assert_eq!(job.subject.as_deref(), Some("ann"));
        assert_eq!(job.filename.as_deref(), Some("r1.bin"));
        assert_eq!(
            job.expires_at,
            place.hands.now() + Duration::from_secs(3600)
        );
        let id = job.id;
        let found = queue.by_token(&token.hash()).await.unwrap();
        assert_eq!(found.as_ref(), Some(&job));
        assert_eq!(
            queue.by_request("ann", "r1").await.unwrap().as_ref(),
            Some(&job)
        );
        assert_eq!(queue.by_request("bob", "r1").await.unwrap(), None);
        assert_eq!(queue.get(id).await.unwrap().as_ref(), Some(&job));
        let newest = async || queue.latest_event().await.unwrap();
        assert_eq!(newest().await, 0, "a grant emits no event");

        place.hands.go(Duration::from_secs(5));
        let start = StartRequest::new(upload("up1"), Some(10), "digest");
        assert_eq!(
            queue.start(id, start.clone()).await.unwrap(),
            StartOutcome::Bound
        );
        assert_eq!(queue.start(id, start).await.unwrap(), StartOutcome::Bound);
        let bound = queue.bound_upload(id).await.unwrap();
        assert_eq!(bound, Some((upload("up1"), "digest".into())));
        let job = queue.by_upload(&upload("up1")).await.unwrap().unwrap();
        assert_eq!(
            (job.state, job.started_at),
            (JobState::Started, Some(place.hands.now()))
        );
        assert_eq!(job.node.as_deref(), Some("one"));

        place.hands.go(Duration::from_secs(2));
        queue.report(report(&queue, id, 6));
        until(async || place.number("SELECT upload_offset FROM queue_jobs").await == 6).await;
        let job = queue.get(id).await.unwrap().unwrap();
        assert_eq!((job.state, job.rate), (JobState::Progress, 3));
        assert_eq!(job.received_at, Some(place.hands.now()));

        queue.report(report(&queue, id, 9));
        let end = JobEnd::Completed(Completion {
            bytes: 10,
            etag: Some("\"5d41\"".into()),
        });
        assert!(queue.finish(id, end).await.unwrap());
        assert!(
            !queue
                .finish(id, JobEnd::Cancelled("late".into()))
                .await
                .unwrap()
        );
        let job = queue.get(id).await.unwrap().unwrap();
        assert_eq!((job.state, job.offset), (JobState::Completed, 10));
        assert_eq!(job.ended_at, Some(place.hands.now()));
        assert_eq!(job.reason, None);
        assert_eq!(job.etag.as_deref(), Some("\"5d41\""));
        assert_eq!(job.metadata["album"], "summer");

        let events = queue.events(&Scope::All, 0, 100).await.unwrap();
        let kinds: Vec<_> = events
            .iter()
            .map(|event| (event.kind, event.job.offset))
            .collect();
        let expected = [
            (JobEventKind::UploadStarted, 0),
            (JobEventKind::UploadCompleted, 10),
        ];
        assert_eq!(kinds, expected, "progress is not stored");
        assert_eq!(events[1].job, job);
        assert_eq!(newest().await, events[1].number);
        let of_others = Scope::Subject("bob".into());
        assert_eq!(queue.events(&of_others, 0, 100).await.unwrap(), []);
        let own = Scope::Subject("ann".into());
        let last = queue.events(&own, events[0].number, 100).await.unwrap();
        assert_eq!(last, events[1..]);

        let totals = queue.totals().await.unwrap();
        assert_eq!((totals.jobs["completed"], totals.completed_bytes), (1, 10));
        assert_eq!(totals.jobs["received"], 0);

        // Deleted afterwards: it is not among the completed ones, and there is no event for it.
        let removed = JobEnd::Removed("by the client".into());
        assert!(queue.finish(id, removed.clone()).await.unwrap());
        assert!(!queue.finish(id, removed).await.unwrap());
        let job = queue.get(id).await.unwrap().unwrap();
        assert_eq!(job.state, JobState::Removed);
        assert_eq!(job.reason.as_deref(), Some("by the client"));
        assert_eq!((job.offset, job.ended_at), (10, events[1].job.ended_at));
        let totals = queue.totals().await.unwrap();
        assert_eq!((totals.jobs["completed"], totals.completed_bytes), (0, 0));
        assert_eq!(totals.jobs["removed"], 1);
        assert_eq!(newest().await, events[1].number);

        let minutes = queue
            .throughput(&ThroughputQuery {
                since: std::time::UNIX_EPOCH,
                interval: 10,
                node: None,
            })
            .await
            .unwrap();
        let sum =
            |of: fn(&landfall_state::queue::Throughput) -> u64| minutes.iter().map(of).sum::<u64>();
        assert_eq!(sum(|minute| minute.bytes), 10);
        assert_eq!(
            (sum(|minute| minute.started), sum(|minute| minute.completed)),
            (1, 1)
        );
        let of_node = async |node: &str| {
            let (since, node) = (std::time::UNIX_EPOCH, Some(node.into()));
            let range = ThroughputQuery {
                since,
                interval: 60,
                node,
            };
            queue.throughput(&range).await.unwrap().len()
        };
        assert_eq!((of_node("one").await, of_node("two").await), (1, 0));
        let nodes = queue.throughput_nodes(std::time::UNIX_EPOCH).await.unwrap();
        assert_eq!(nodes, ["one"]);
        queue.check().await.unwrap();
        let page = queue.list(&Query::new(Scope::All)).await.unwrap();
        assert_eq!((page.jobs, page.has_more), (vec![job], false));
        queue.close().await;
        assert!(queue.check().await.is_err());
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_words_again_are_the_same_job() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let (job, first) = granted(&queue, asked("ann", "r1", 10)).await;
        let mut tokens = vec![first];
        for _ in 0..6 {
            match queue.grant(asked("ann", "r1", 10)).await.unwrap() {
                GrantOutcome::Existing(again, Some(token)) if again.id == job.id => {
                    tokens.push(token)
                }
                other => panic!("{other:?}"),
            }
        }
        let mut known = Vec::new();
        for token in &tokens {
            known.push(queue.by_token(&token.hash()).await.unwrap().is_some());
        }
        assert_eq!(known, [false, false, true, true, true, true, true]);
        for other in [asked("ann", "r1", 11), asked("ann", "r1", None)] {
            let answer = queue.grant(other).await.unwrap();
            assert!(matches!(answer, GrantOutcome::Conflict(_)), "{answer:?}");
        }
        granted(&queue, asked("bob", "r1", 11)).await;
        assert!(
            queue
                .finish(job.id, JobEnd::Cancelled("no".into()))
                .await
                .unwrap()
        );
        match queue.grant(asked("ann", "r1", 10)).await.unwrap() {
            GrantOutcome::Existing(again, None) => {
                assert_eq!(again.state, JobState::Cancelled);
                assert_eq!(again.reason.as_deref(), Some("no"));
            }
            other => panic!("{other:?}"),
        }
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn texts_that_databases_dislike() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let mut new = asked("it's \u{1f4e6}", "a\0b", u64::MAX);
        new.filename = "nul\0 \"quoted\" ÄÖ".into();
        new.metadata.insert("k\0".into(), "v\0".into());
        let (job, token) = granted(&queue, new.clone()).await;
        let found = queue.by_token(&token.hash()).await.unwrap().unwrap();
        assert_eq!(found.metadata, job.metadata);
        assert_eq!(found.filename.as_deref(), Some("nul\u{fffd} \"quoted\" ÄÖ"));
        assert_eq!(found.size, Some(i64::MAX.unsigned_abs()));
        let long = "x".repeat(2000);
        assert!(queue.grant(asked(&long, "r", 1)).await.is_err());
        assert!(queue.grant(asked("ann", &long, 1)).await.is_err());
        let mut long_name = asked("ann", "long", 1);
        long_name.filename = "\u{1f4e6}".repeat(5000);
        granted(&queue, long_name).await;
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_listed_by_time_and_deleted_after_their_end() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let mut jobs = Vec::new();
        for number in 0..5 {
            jobs.push(
                granted(&queue, asked("ann", &format!("r{number}"), 10))
                    .await
                    .0,
            );
            place.hands.go(Duration::from_secs(60));
        }
        for (from, before, newest_first) in
            [(1, 4, true), (1, 4, false), (0, 2, true), (3, 3, true)]
        {
            for search in [None, Some("r".to_owned())] {
                let mut query = Query::new(Scope::All);
                query.created_from = Some(jobs[from].created_at);
                query.created_before = Some(jobs[before].created_at);
                (query.newest_first, query.search) = (newest_first, search);
                let mut wanted = jobs[from..before].to_vec();
                if newest_first {
                    wanted.reverse();
                }
                assert_eq!(queue.list(&query).await.unwrap().jobs, wanted, "{query:?}");
            }
        }

        let id = jobs[0].id;
        assert!(!queue.delete_ended(id).await.unwrap(), "it is active");
        let end = JobEnd::Cancelled("late".into());
        assert!(queue.finish(id, end).await.unwrap());
        assert_eq!(queue.totals().await.unwrap().jobs["cancelled"], 1);
        assert!(queue.delete_ended(id).await.unwrap());
        assert!(!queue.delete_ended(id).await.unwrap());
        assert_eq!(queue.get(id).await.unwrap(), None);
        assert_eq!(queue.totals().await.unwrap().jobs["cancelled"], 0);
    })
    .await;
}
