//! Lists, API keys and purging.

use std::time::Duration;

use landfall_state::queue::{
    GrantLimits, JobEnd, JobState, NewKey, Query, RateLimit, Scope, TokenHash,
};
use landfall_state::sql::{Database, Statement};

use super::harness::{asked, everywhere, granted, started, until, upload};

#[tokio::test(flavor = "multi_thread")]
async fn pages_hold_everything_once() {
    everywhere(async |place| {
        let queue = place.queue().await;
        for n in 0..25 {
            let subject = if n % 5 == 0 { "bob" } else { "ann" };
            let mut new = asked(subject, &format!("r{n}"), 1);
            new.filename = format!("{} {n}", if n % 2 == 0 { "ÄPFEL" } else { "birnen" });
            let id = started(&queue, new).await;
            if n % 3 == 0 {
                assert!(queue.finish(id, JobEnd::completed(1)).await.unwrap());
            }
        }
        let everything = async |mut query: Query| {
            query.limit = 4;
            let mut ids: Vec<i64> = Vec::new();
            loop {
                let page = queue.list(&query).await.unwrap();
                assert!(page.jobs.len() <= 4);
                ids.extend(page.jobs.iter().map(|job| job.id.0 - 1));
                if !page.has_more {
                    return ids;
                }
                query.after = page.jobs.last().map(|job| job.id);
            }
        };
        let of = |fits: fn(&i64) -> bool| (0..25).filter(fits).collect::<Vec<_>>();
        let all = Query::new(Scope::All);
        assert_eq!(everything(all.clone()).await, of(|_| true));
        let mut newest = all.clone();
        newest.newest_first = true;
        let backwards: Vec<_> = (0..25).rev().collect();
        assert_eq!(everything(newest).await, backwards);
        let ann = Query::new(Scope::Subject("ann".into()));
        assert_eq!(everything(ann.clone()).await, of(|n| n % 5 != 0));
        let mut states = ann.clone();
        states.states = vec![JobState::Started, JobState::Received];
        assert_eq!(
            everything(states.clone()).await,
            of(|n| n % 5 != 0 && n % 3 != 0)
        );
        states.states.push(JobState::Completed);
        assert_eq!(everything(states).await, of(|n| n % 5 != 0));
        for (text, found) in [
            ("äpf", of(|n| n % 2 == 0)),
            (
                "Birnen 1",
                of(|n| n % 2 == 1 && (*n == 1 || *n > 9 && *n < 20)),
            ),
            ("bob", of(|n| n % 5 == 0)),
            ("r2", of(|n| *n == 2 || *n > 19)),
            ("u25", of(|n| *n == 24)),
            ("FEL", of(|n| n % 2 == 0)),
            ("BOB", Vec::new()),
            ("%", Vec::new()),
        ] {
            for states in [vec![], JobState::ALL.to_vec()] {
                let mut query = all.clone();
                query.search = Some(text.into());
                query.states = states;
                assert_eq!(everything(query).await, found, "{text}");
            }
        }
        let mut own = ann.clone();
        own.search = Some("r2".into());
        assert_eq!(everything(own).await, of(|n| *n == 2 || *n > 20));
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_old_goes() {
    everywhere(async |place| {
        let mut settings = place.settings();
        settings.retention = Duration::from_secs(100);
        settings.event_retention = Duration::from_secs(50);
        let queue = landfall_state::queue::Queue::open(settings).await.unwrap();
        let (cancelled, token) = granted(&queue, asked("ann", "r1", 1)).await;
        assert!(
            queue
                .finish(cancelled.id, JobEnd::Cancelled("no".into()))
                .await
                .unwrap()
        );
        let going = started(&queue, asked("ann", "r2", 1)).await;
        let completed = started(&queue, asked("ann", "r3", 7)).await;
        place.hands.go(Duration::from_secs(30));
        assert!(queue.finish(completed, JobEnd::completed(7)).await.unwrap());
        place.hands.go(Duration::from_secs(70));
        assert_eq!(queue.purge().await.unwrap(), (0, 0), "kept for so long");
        let left = queue.events(&Scope::All, 0, 10).await.unwrap();
        assert_eq!(left.len(), 1, "the newest has the last number");
        assert_eq!(left[0].number, queue.latest_event().await.unwrap());
        place.hands.go(Duration::from_millis(1));
        assert_eq!(queue.purge().await.unwrap(), (0, 1));
        assert_eq!(queue.by_token(&token.hash()).await.unwrap(), None);
        assert_eq!(queue.get(cancelled.id).await.unwrap(), None);
        let totals = queue.totals().await.unwrap();
        assert_eq!((totals.jobs["cancelled"], totals.jobs["completed"]), (0, 1));
        assert_eq!(totals.completed_bytes, 7);
        place.hands.go(Duration::from_secs(30));
        assert_eq!(queue.purge().await.unwrap(), (0, 1));
        assert_eq!(queue.totals().await.unwrap().completed_bytes, 0);
        assert!(queue.get(going).await.unwrap().is_some());
        // Numbers are not reused, and purged request ids can be used again.
        let (new, _) = granted(&queue, asked("ann", "r1", 1)).await;
        assert!(new.id > completed);
        assert_eq!(place.number("SELECT COUNT(*) FROM queue_tokens").await, 2);
        assert_eq!(queue.by_upload(&upload("nothing")).await.unwrap(), None);
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_come_and_go() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let limits = GrantLimits {
            max_size: Some(u64::MAX),
            allowed_types: vec!["image/*".into()],
            max_active: Some(3),
            rate_limit: Some(RateLimit {
                count: 10,
                per: Duration::from_secs(60),
            }),
            quota: Some(5),
            require_size: true,
        };
        let key = |name: &str| NewKey {
            hash: TokenHash::from_secret(name),
            name: name.into(),
            subject: format!("subject of {name}"),
            limits: limits.clone(),
            is_admin: false,
            expires_at: None,
        };
        let made = queue.add_key(key("one")).await.unwrap();
        assert!(
            queue.add_key(key("one")).await.is_err(),
            "a secret is one key's"
        );
        let found = queue
            .key(&TokenHash::from_secret("one"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(found, made);
        assert_eq!(
            (&found.limits, &*found.subject),
            (&limits, "subject of one")
        );
        let used = async || queue.keys().await.unwrap()[0].used_at;
        let first = place.hands.now();
        until(async || used().await == Some(first)).await;
        place.hands.go(Duration::from_millis(59_999));
        queue
            .key(&TokenHash::from_secret("one"))
            .await
            .unwrap()
            .unwrap();
        assert_eq!(used().await, Some(first));
        place.hands.go(Duration::from_millis(1));
        queue
            .key(&TokenHash::from_secret("one"))
            .await
            .unwrap()
            .unwrap();
        until(async || used().await == Some(place.hands.now())).await;

        let mut short = key("short");
        short.expires_at = Some(place.hands.now() + Duration::from_secs(1));
        short.is_admin = true;
        let short = queue.add_key(short).await.unwrap();
        let find = async || queue.key(&TokenHash::from_secret("short")).await.unwrap();
        assert!(find().await.unwrap().is_admin);
        place.hands.go(Duration::from_secs(1));
        assert_eq!(find().await, None);
        assert_eq!(queue.keys().await.unwrap().len(), 2);
        assert_eq!(queue.revoke_key(&short.id.to_string()).await.unwrap(), 1);
        assert_eq!(queue.revoke_key("one").await.unwrap(), 1);
        assert_eq!(queue.revoke_key("one").await.unwrap(), 0);
        assert_eq!(
            queue.key(&TokenHash::from_secret("one")).await.unwrap(),
            None
        );
        assert_eq!(queue.keys().await.unwrap(), []);
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_found_while_the_writer_is_blocked() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let key = NewKey {
            hash: TokenHash::from_secret("one"),
            name: "one".into(),
            subject: "ann".into(),
            limits: GrantLimits::default(),
            is_admin: false,
            expires_at: None,
        };
        queue.add_key(key).await.unwrap();
        // As another node's writer does, with the time of a use.
        let connections = place.connections().await;
        let mut blocking = connections.write().await.unwrap();
        let lock = Statement::new("UPDATE api_keys SET used_at = used_at");
        blocking.execute(lock).await.unwrap();
        for _ in 0..3 {
            let found = queue
                .key(&TokenHash::from_secret("one"))
                .await
                .unwrap()
                .unwrap();
            assert_eq!(found.used_at, None);
        }
        drop(blocking);
        connections.close().await;
        // The next use is stored, if those before met the lock of the other node.
        let used = async || {
            let key = queue.key(&TokenHash::from_secret("one")).await.unwrap();
            key.unwrap().used_at
        };
        until(async || used().await == Some(place.hands.now())).await;
        queue.close().await;
    })
    .await;
}

/// On SQLite there is one transaction at a time.
#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread")]
async fn two_nodes_delete_a_job_once() {
    let place = super::harness::Place::postgres();
    let (one, two) = (place.queue().await, place.queue().await);
    let job = started(&one, asked("ann", "r1", 7)).await;
    assert!(one.finish(job, JobEnd::completed(7)).await.unwrap());
    let connections = place.connections().await;
    let mut blocking = connections.write().await.unwrap();
    let lock = format!("SELECT 1 FROM queue_jobs WHERE number = {job} FOR UPDATE");
    blocking.fetch(Statement::new(lock)).await.unwrap();
    let [first, second] = [one.clone(), two.clone()]
        .map(|queue| tokio::spawn(async move { queue.delete_ended(job).await.unwrap() }));
    let waiting = "SELECT COUNT(DISTINCT pid) FROM pg_locks WHERE NOT granted AND pid IN \
                   (SELECT pid FROM pg_stat_activity WHERE datname = current_database())";
    until(async || place.number(waiting).await == 2).await;
    blocking.commit().await.unwrap();
    let deleted = [first.await.unwrap(), second.await.unwrap()];
    assert_eq!(deleted.iter().filter(|deleted| **deleted).count(), 1);
    let totals = one.totals().await.unwrap();
    assert_eq!((totals.jobs["completed"], totals.completed_bytes), (0, 0));
    connections.close().await;
    one.close().await;
    two.close().await;
}

/// Each comparison is a request to the store, so nodes must not repeat those of others.
#[tokio::test(flavor = "multi_thread")]
async fn one_node_at_a_time_reconciles() {
    everywhere(async |place| {
        let (one, two) = (place.queue().await, place.queue().await);
        let first = one.reconcile_turn().await.unwrap().unwrap();
        assert!(first.is_held());
        let second = two.reconcile_turn().await.unwrap();
        assert_eq!(
            second.is_some(),
            matches!(place.database, Database::Sqlite(_))
        );
        drop((first, second));
        until(async || two.reconcile_turn().await.unwrap().is_some()).await;
        one.close().await;
        two.close().await;
    })
    .await;
}
