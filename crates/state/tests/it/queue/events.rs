//! Events and their order.

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, UNIX_EPOCH},
};

use landfall_state::queue::{
    JobEnd, JobEventKind, JobId, Queue, Report, Scope, StaleFilter, StartOutcome, StartRequest,
};
use landfall_state::sql::Statement;

use super::harness::{asked, everywhere, granted, started, until, upload};

fn report(job: JobId, offset: u64) -> Report {
    Report {
        job,
        part: None,
        offset,
        length: None,
        at: std::time::SystemTime::now(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_reads_on_misses_nothing() {
    everywhere(async |place| {
        let queues = [place.queue().await, place.queue().await];
        let mut tasks = Vec::new();
        for (n, queue) in (0..8).zip(queues.iter().cycle()) {
            let queue = queue.clone();
            tasks.push(tokio::spawn(async move {
                for round in 0..20 {
                    let id =
                        started(&queue, asked(&format!("s{n}"), &format!("r{round}"), 1)).await;
                    assert!(queue.finish(id, JobEnd::completed(1)).await.unwrap());
                }
            }));
        }
        let reader = queues[1].clone();
        let mut seen = Vec::new();
        while seen.len() < 8 * 20 * 2 {
            let after = seen.last().copied().unwrap_or_default();
            let events = reader.events(&Scope::All, after, 7).await.unwrap();
            if events.is_empty() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            seen.extend(events.iter().map(|event| event.number));
        }
        for task in tasks {
            task.await.unwrap();
        }
        assert!(seen.is_sorted_by(|a, b| a < b));
        let all = reader.events(&Scope::All, 0, 1000).await.unwrap();
        let all: Vec<_> = all.iter().map(|event| event.number).collect();
        assert_eq!(seen, all, "nothing turned up behind the reader");
        for queue in queues {
            queue.close().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn other_processes_are_heard_of_soon() {
    everywhere(async |place| {
        let (one, other) = (place.queue().await, place.queue().await);
        let before = other.latest_event().await.unwrap();
        let mut reader = other.read_events(Scope::All, before);
        started(&one, asked("ann", "r1", 1)).await;
        let began = Instant::now();
        assert_eq!(reader.next().await.unwrap().event.number, before + 1);
        println!("heard after {:?}", began.elapsed());
        // Without readers, and then with one.
        drop(reader);
        tokio::time::sleep(Duration::from_millis(300)).await;
        started(&one, asked("ann", "r2", 1)).await;
        let mut reader = other.read_events(Scope::All, before + 1);
        assert_eq!(reader.next().await.unwrap().event.number, before + 2);
        one.close().await;
        other.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn offsets_never_fall_and_the_last_is_written() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let id = started(&queue, asked("ann", "r1", 100)).await;
        let offset = async || queue.get(id).await.unwrap().unwrap().offset;
        queue.report(report(id, 10));
        assert_eq!(offset().await, 10);
        let sql = "SELECT upload_offset FROM queue_jobs";
        until(async || place.number(sql).await == 10).await;
        queue.report(report(id, 40));
        queue.report(report(id, 30));
        queue.report(report(id, 20));
        assert_eq!(offset().await, 40);
        queue.report(report(id, 5));
        tokio::time::sleep(Duration::from_millis(1200)).await;
        assert_eq!(offset().await, 40);
        assert_eq!(place.number(sql).await, 10, "written every ten seconds");
        queue.report(report(id, 60));
        // Reports are written at the end at the latest.
        queue.close().await;
        let queue = place.queue().await;
        assert_eq!(queue.get(id).await.unwrap().unwrap().offset, 60);
        queue.report(report(id, 400));
        assert!(
            queue
                .finish(id, JobEnd::Failed("broken".into()))
                .await
                .unwrap()
        );
        queue.report(report(id, 90));
        tokio::time::sleep(Duration::from_millis(100)).await;
        let job = queue.get(id).await.unwrap().unwrap();
        assert_eq!((job.offset, job.reason.as_deref()), (100, Some("broken")));
        let events = queue.events(&Scope::All, 0, 100).await.unwrap();
        let kinds: Vec<_> = events.iter().map(|event| event.kind).collect();
        let expected = [JobEventKind::UploadStarted, JobEventKind::UploadFailed];
        assert_eq!(kinds, expected);
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_can_be_told_at_the_grant() {
    everywhere(async |place| {
        let mut settings = place.settings();
        settings.started_at_grant = true;
        let queue = Queue::open(settings).await.unwrap();
        let (job, _) = granted(&queue, asked("ann", "r1", 1)).await;
        let told = async || {
            let events = queue.events(&Scope::All, 0, 100).await.unwrap();
            events.iter().map(|event| event.kind).collect::<Vec<_>>()
        };
        assert_eq!(told().await, [JobEventKind::UploadStarted]);
        let start = StartRequest::new(upload("u"), Some(1), "d");
        assert_eq!(
            queue.start(job.id, start).await.unwrap(),
            StartOutcome::Bound
        );
        assert_eq!(told().await, [JobEventKind::UploadStarted]);
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_silent_is_found() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let second = Duration::from_secs(1);
        let began = place.hands.now();
        let old = started(&queue, asked("ann", "old", 5)).await;
        place.hands.go(10 * second);
        let parted = granted(&queue, asked("ann", "parted", 5)).await.0.id;
        for part in ["a", "b"] {
            let start = StartRequest::part(upload(part), Some(2));
            assert_eq!(
                queue.start(parted, start).await.unwrap(),
                StartOutcome::Bound
            );
        }
        let ending = JobEnd::Cancelled("by the client".into());
        queue.prepare_end(parted, ending.clone()).await.unwrap();
        granted(&queue, asked("ann", "received", 5)).await;
        let done = started(&queue, asked("ann", "done", 5)).await;
        assert!(queue.finish(done, JobEnd::completed(5)).await.unwrap());
        place.hands.go(10 * second);
        started(&queue, asked("ann", "new", 5)).await;
        let find = async |since, before| {
            let filter = StaleFilter { before, since };
            queue.stale_jobs(filter, None, 100).await.unwrap()
        };
        let found = find(UNIX_EPOCH, began + 11 * second).await;
        let ids: Vec<_> = found
            .iter()
            .map(|one| (one.job.id, one.prepared_end.clone()))
            .collect();
        assert_eq!(ids, [(old, None), (parted, Some(ending))]);
        assert_eq!(found[0].uploads, [upload(&format!("u{old}"))]);
        let parts: BTreeSet<_> = found[1].uploads.iter().cloned().collect();
        assert_eq!(parts, BTreeSet::from([upload("a"), upload("b")]));
        assert_eq!(find(began + second, began + 11 * second).await.len(), 1);
        let filter = StaleFilter {
            before: began + 11 * second,
            since: UNIX_EPOCH,
        };
        let after = Some(&found[0].job);
        let page = queue.stale_jobs(filter, after, 1).await.unwrap();
        assert_eq!(page[0].job.id, parted);
        // An unchanged offset does not update the job.
        queue.report(report(old, 0));
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(find(UNIX_EPOCH, began + 11 * second).await.len(), 2);
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn events_by_another_version_are_skipped_and_counted() {
    everywhere(async |place| {
        let queue = place.queue().await;
        for n in 0..10 {
            started(&queue, asked("ann", &format!("r{n}"), 1)).await;
        }
        let numbers = async |after, limit| {
            let events = queue.events(&Scope::All, after, limit).await.unwrap();
            events.iter().map(|event| event.number).collect::<Vec<_>>()
        };
        let all = numbers(0, 100).await;
        assert_eq!(all.len(), 10);
        let connections = place.connections().await;
        let mut transaction = connections.write().await.unwrap();
        for (number, change) in [(2..8, "kind = 99"), (8..9, "job_json = '{}'")] {
            let (first, last) = (all[number.start], all[number.end - 1]);
            let update = format!(
                "UPDATE queue_events SET {change} WHERE number >= {first} AND number <= {last}"
            );
            transaction.execute(Statement::new(&update)).await.unwrap();
        }
        transaction.commit().await.unwrap();
        connections.close().await;
        // More of them than a page has are not taken for the end.
        assert_eq!(numbers(0, 3).await, [all[0], all[1], all[9]]);
        assert_eq!(numbers(0, 100).await, [all[0], all[1], all[9]]);
        assert_eq!(numbers(all[1], 1).await, [all[9]]);
        assert_eq!(queue.stats().unreadable_events, 7, "each is counted once");
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reader_receives_events_and_progress_of_all_nodes_in_order() {
    everywhere(async |place| {
        let (one, other) = (place.queue().await, place.queue().await);
        let mut readers = [
            one.read_events(Scope::All, 0),
            other.read_events(Scope::Subject("ann".into()), 0),
        ];
        started(&one, asked("bob", "r0", 5)).await;
        let first = readers[0].next().await.unwrap();
        assert_eq!(first.event.job.subject.as_deref(), Some("bob"));
        let id = started(&one, asked("ann", "r1", 100)).await;
        let connections = place.connections().await;
        // Processes on one SQLite see each other's progress when it is written.
        let live = if connections.is_postgres() { 2 } else { 1 };
        for reader in &mut readers {
            let event = reader.next().await.unwrap();
            assert_eq!(event.event.kind, JobEventKind::UploadStarted);
            assert_eq!(event.event.job.id, id);
        }
        for offset in [10, 20, 30] {
            one.report(report(id, offset));
            for reader in &mut readers[..live] {
                let event = reader.next().await.unwrap();
                assert_eq!(event.event.kind, JobEventKind::UploadProgress);
                assert_eq!((event.event.job.id, event.event.job.offset), (id, offset));
            }
        }
        assert!(one.finish(id, JobEnd::completed(100)).await.unwrap());
        for reader in &mut readers {
            for kind in [JobEventKind::UploadProgress, JobEventKind::UploadCompleted] {
                let event = reader.next().await.unwrap();
                assert_eq!((event.event.kind, event.event.job.id), (kind, id));
                assert_eq!(event.event.job.offset, 100);
            }
        }
        // Read later, the story is the same.
        let mut late = other.read_events(Scope::Subject("ann".into()), 0);
        for kind in [
            JobEventKind::UploadStarted,
            JobEventKind::UploadProgress,
            JobEventKind::UploadCompleted,
        ] {
            assert_eq!(late.next().await.unwrap().event.kind, kind);
        }
        connections.close().await;
        one.close().await;
        readers[0].next().await.unwrap_err();
        other.close().await;
    })
    .await;
}

/// Events become visible in the order of their numbers, whichever node writes them.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missed_while_many_nodes_write() {
    everywhere(async |place| {
        const NODES: usize = 4;
        const JOBS: usize = 60;
        let reader = place.queue().await;
        let mut nodes = Vec::new();
        for _ in 0..NODES {
            nodes.push(place.queue().await);
        }
        let writing = nodes.iter().enumerate().map(|(node, queue)| async move {
            let jobs = (0..JOBS).map(|n| async move {
                let id = started(queue, asked("ann", &format!("{node}-{n}"), 5)).await;
                assert!(queue.finish(id, JobEnd::completed(5)).await.unwrap());
            });
            futures_util::future::join_all(jobs).await;
        });
        let reading = async {
            let mut numbers = Vec::new();
            while numbers.len() < 2 * NODES * JOBS {
                let after = numbers.last().copied().unwrap_or_default();
                let events = reader.events(&Scope::All, after, 7).await.unwrap();
                numbers.extend(events.iter().map(|event| event.number));
            }
            numbers
        };
        let all = futures_util::future::join_all(writing);
        let read = tokio::time::timeout(Duration::from_secs(60), async {
            tokio::join!(all, reading).1
        });
        let numbers = read.await.expect("an event was missed");
        assert!(numbers.is_sorted_by(|one, next| one < next));
        let totals = reader.totals().await.unwrap();
        assert_eq!(totals.jobs["completed"], (NODES * JOBS) as u64);
        for queue in nodes.into_iter().chain([reader]) {
            queue.close().await;
        }
    })
    .await;
}
