//! Events while transactions of several nodes commit in another order than that of their numbers.

use std::time::{Duration, Instant};

use landfall_state::queue::{EventReader, JobEnd, JobEventKind, Queue, Report, Scope};
use landfall_state::sql::{Connections, Statement, Transaction};

use super::harness::{Place, asked, started, until};

const LONG: Duration = Duration::from_secs(30);

/// The throughput of each node has a row, for which nodes of the same name would wait.
async fn node(place: &Place, number: usize) -> Queue {
    let mut settings = place.settings();
    settings.node = format!("node-{number}");
    Queue::open(settings).await.unwrap()
}

/// Makes each transaction that has taken numbers run `body` before it stores its events.
pub(super) async fn before_events(place: &Place, body: &str) {
    let connections = place.connections().await;
    let function = format!(
        "CREATE FUNCTION before_event() RETURNS trigger LANGUAGE plpgsql AS \
         'BEGIN {body} RETURN NEW; END'"
    );
    let trigger = "CREATE TRIGGER before_event BEFORE INSERT ON queue_events FOR EACH ROW \
                   EXECUTE FUNCTION before_event()";
    for sql in [&*function, trigger] {
        connections.execute(Statement::new(sql)).await.unwrap();
    }
    connections.close().await;
}

async fn locked(connections: &Connections, key: i64) -> Transaction {
    let mut transaction = connections.write().await.unwrap();
    let lock = format!("SELECT pg_advisory_xact_lock({key})");
    transaction.execute(Statement::new(lock)).await.unwrap();
    transaction
}

/// The request ids of the stored events.
async fn heard(reader: &mut EventReader, count: usize) -> Vec<(i64, String)> {
    let mut heard = Vec::new();
    while heard.len() < count {
        let next = tokio::time::timeout(LONG, reader.next());
        let event = next.await.expect("an event was missed").unwrap();
        if event.event.kind != JobEventKind::UploadProgress {
            heard.push((event.event.number, event.event.job.request_id.clone()));
        }
    }
    heard
}

async fn stored(queue: &Queue, scope: &Scope) -> Vec<(i64, String)> {
    let events = queue.events(scope, 0, 1000).await.unwrap().into_iter();
    events
        .map(|event| (event.number, event.job.request_id))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn events_of_a_transaction_that_commits_late_are_not_skipped() {
    let place = Place::postgres();
    let [slow, fast, reading] = [
        node(&place, 0).await,
        node(&place, 1).await,
        node(&place, 2).await,
    ];
    before_events(
        &place,
        "IF NEW.subject = ''slow'' THEN PERFORM pg_advisory_xact_lock(42); END IF;",
    )
    .await;
    let [slow_scope, fast_scope] = ["slow", "fast"].map(|name| Scope::Subject(name.into()));
    let mut live = [
        reading.read_events(Scope::All, 0),
        fast.read_events(Scope::All, 0),
        reading.read_events(slow_scope.clone(), 0),
        fast.read_events(fast_scope.clone(), 0),
    ];
    let before = started(&fast, asked("fast", "before", 1)).await;
    assert_eq!(heard(&mut live[0], 1).await[0].1, "before");
    let connections = place.connections().await;
    let held = locked(&connections, 42).await;
    let late = tokio::spawn({
        let slow = slow.clone();
        async move { started(&slow, asked("slow", "late", 1)).await }
    });
    let waits = "SELECT COUNT(*) FROM pg_locks WHERE locktype = 'advisory' AND NOT granted \
                 AND objid = 42 AND database = (SELECT oid FROM pg_database WHERE datname = \
                 current_database())";
    until(async || place.number(waits).await == 1).await;
    // Others do not wait for it.
    let began = Instant::now();
    for n in 0..5 {
        started(&fast, asked("fast", &format!("f{n}"), 1)).await;
    }
    assert!(fast.finish(before, JobEnd::completed(1)).await.unwrap());
    assert!(began.elapsed() < Duration::from_secs(3), "{began:?}");
    // Their numbers are higher: they are not read yet, nor is a new listener started behind them.
    assert_eq!(stored(&fast, &Scope::All).await.len(), 1);
    let newest = reading.latest_event().await.unwrap();
    assert_eq!(newest, stored(&reading, &Scope::All).await[0].0);
    // A number is reserved for the last progress before the completion.
    assert_eq!(reading.last_event_number().await.unwrap(), newest + 8);
    let mut new = reading.read_events(Scope::All, newest);
    let next = tokio::time::timeout(Duration::from_millis(400), new.next());
    next.await.unwrap_err();
    held.rollback().await.unwrap();
    let released = Instant::now();
    late.await.unwrap();
    let wanted = ["before", "late", "f0", "f1", "f2", "f3", "f4", "before"];
    let of_reader = heard(&mut new, 7).await;
    println!("read after {:?}", released.elapsed());
    assert!(of_reader.is_sorted_by(|one, next| one.0 < next.0));
    let all = stored(&slow, &Scope::All).await;
    assert!(all.iter().map(|(_, id)| id).eq(wanted), "{all:?}");
    assert_eq!(of_reader, all[1..]);
    assert_eq!(heard(&mut live[0], 7).await, all[1..]);
    assert_eq!(heard(&mut live[1], 8).await, all);
    assert_eq!(
        heard(&mut live[2], 1).await,
        stored(&slow, &slow_scope).await
    );
    assert_eq!(
        heard(&mut live[3], 7).await,
        stored(&slow, &fast_scope).await
    );
    connections.close().await;
    for queue in [slow, fast, reading] {
        queue.close().await;
    }
}

/// The transactions of a node take up to 30 ms after they have their numbers.
#[tokio::test(flavor = "multi_thread")]
async fn readers_receive_each_event_once_and_in_order_while_commits_are_not() {
    const NODES: usize = 5;
    const JOBS: usize = 24;
    const EVENTS: usize = 2 * NODES * JOBS;
    let place = Place::postgres();
    let mut nodes = Vec::new();
    for number in 0..NODES {
        nodes.push(node(&place, number).await);
    }
    before_events(&place, "PERFORM pg_sleep(0.03 * random());").await;
    let own = Scope::Subject("s1".into());
    let mut live = nodes[0].read_events(Scope::All, 0);
    let mut live_own = nodes[1].read_events(own.clone(), 0);
    let writing = nodes.iter().enumerate().map(|(node, queue)| async move {
        for n in 0..JOBS {
            let job = asked(&format!("s{}", n % 3), &format!("{node}-{n}"), 5);
            let id = started(queue, job).await;
            assert!(queue.finish(id, JobEnd::completed(5)).await.unwrap());
        }
    });
    let paging = async {
        let mut read = Vec::new();
        while read.len() < EVENTS {
            let after = read.last().map_or(0, |(number, _)| *number);
            let events = nodes[2].events(&Scope::All, after, 3).await.unwrap();
            read.extend(
                events
                    .into_iter()
                    .map(|event| (event.number, event.job.request_id)),
            );
        }
        read
    };
    // It comes and goes, and continues after the last event that it has received.
    let resuming = async {
        let mut read: Vec<(i64, String)> = Vec::new();
        while read.len() < EVENTS {
            let after = read.last().map_or(0, |(number, _)| *number);
            let mut reader = nodes[3].read_events(Scope::All, after);
            read.extend(
                heard(
                    &mut reader,
                    1 + (after as usize % 5).min(EVENTS - read.len() - 1),
                )
                .await,
            );
        }
        read
    };
    let (_, paged, resumed, heard_live, heard_own) = tokio::time::timeout(2 * LONG, async {
        tokio::join!(
            futures_util::future::join_all(writing),
            paging,
            resuming,
            heard(&mut live, EVENTS),
            heard(&mut live_own, EVENTS / 3),
        )
    })
    .await
    .expect("an event was missed");
    let order = "SELECT number, job_json FROM queue_events ORDER BY number";
    let all: Vec<_> = place.rows(order).await;
    let all: Vec<i64> = all
        .iter()
        .map(|row| row.number("number").unwrap())
        .collect();
    let numbers =
        |read: &[(i64, String)]| read.iter().map(|(number, _)| *number).collect::<Vec<_>>();
    assert_eq!(all.len(), EVENTS);
    assert_eq!(numbers(&heard_live), all);
    assert_eq!(numbers(&paged), all);
    assert_eq!(numbers(&resumed), all);
    assert_eq!(heard_own, stored(&nodes[4], &own).await);
    for queue in nodes {
        queue.close().await;
    }
}

/// It takes an exclusive lock before its numbers, until its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_of_the_release_before_writes_beside_new_ones() {
    let place = Place::postgres();
    let queue = place.queue().await;
    started(&queue, asked("ann", "r1", 1)).await;
    let mut live = queue.read_events(Scope::All, 0);
    assert_eq!(heard(&mut live, 1).await[0].1, "r1");
    let connections = place.connections().await;
    let as_older = "INSERT INTO queue_events SELECT nextval('queue_event_number'), job_number, \
                    subject, kind, created_at, job_json FROM queue_events LIMIT 1";
    let mut older = locked(&connections, 7_002_461_339).await;
    older.execute(Statement::new(as_older)).await.unwrap();
    let new = tokio::spawn({
        let queue = queue.clone();
        async move { started(&queue, asked("ann", "r2", 1)).await }
    });
    assert_eq!(stored(&queue, &Scope::All).await.len(), 1);
    older.commit().await.unwrap();
    new.await.unwrap();
    let ids: Vec<_> = heard(&mut live, 2).await;
    assert!(ids.iter().map(|(_, id)| id).eq(["r1", "r2"]), "{ids:?}");
    // With one after the other, readers still advance.
    let over = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let busy = (0..2).map(|_| {
        let (connections, over) = (connections.clone(), over.clone());
        tokio::spawn(async move {
            let mut count = 0;
            while !over.load(std::sync::atomic::Ordering::Relaxed) {
                let mut older = locked(&connections, 7_002_461_339).await;
                older.execute(Statement::new(as_older)).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
                older.commit().await.unwrap();
                count += 1;
            }
            count
        })
    });
    let busy: Vec<_> = busy.collect();
    let read = heard(&mut live, 20).await;
    over.store(true, std::sync::atomic::Ordering::Relaxed);
    let mut count = 0;
    for task in busy {
        count += task.await.unwrap();
    }
    let rest = heard(&mut live, count - 20).await;
    let all = stored(&queue, &Scope::All).await;
    assert_eq!([read, rest].concat(), all[3..]);
    connections.close().await;
    queue.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_is_sent_to_nodes_with_readers_of_the_subject_alone() {
    let place = Place::postgres();
    let mut nodes = Vec::new();
    for number in 0..4 {
        nodes.push(node(&place, number).await);
    }
    let [uploading, reading, other, idle] = &nodes[..] else {
        unreachable!()
    };
    let id = started(uploading, asked("ann", "r1", 1 << 20)).await;
    let received = || nodes.iter().map(|node| node.stats().notifications);
    let mut offset = 0;
    let mut report = || {
        offset += 1;
        uploading.report(Report {
            job: id,
            part: None,
            offset,
            length: None,
            at: std::time::SystemTime::now(),
        });
        offset
    };
    // Without readers, nothing is sent.
    for _ in 0..6 {
        report();
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    assert!(received().eq([0, 0, 0, 0]));
    let mut of_other = other.read_events(Scope::Subject("bob".into()), 0);
    let mut of_ann = reading.read_events(Scope::Subject("ann".into()), 0);
    assert_eq!(heard(&mut of_ann, 1).await[0].1, "r1");
    let mut live = Vec::new();
    while live.len() < 6 {
        let reported = report();
        tokio::select! {
            event = of_ann.next() => live.push((reported, event.unwrap().event.job.offset)),
            _ = of_other.next() => panic!("not of this reader"),
            () = tokio::time::sleep(Duration::from_millis(300)) => {}
        }
    }
    // Written progress is read every ten seconds: this was sent.
    assert!(live.windows(2).all(|two| two[0].1 < two[1].1), "{live:?}");
    let counts: Vec<_> = received().collect();
    println!("notifications: {counts:?}");
    assert!(counts[1] >= 5, "{counts:?}");
    // Questions and announcements, but no progress.
    assert!(counts[2] <= 1, "{counts:?}");
    assert_eq!(counts[3], 0, "{counts:?}");
    assert_eq!(idle.totals().await.unwrap().jobs["progress"], 1);
    for queue in nodes {
        queue.close().await;
    }
}
