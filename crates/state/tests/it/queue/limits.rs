//! Limits of a subject under concurrent requests.

use std::time::Duration;

use landfall_state::queue::{
    GrantLimits, GrantOutcome, JobEnd, LimitExceeded, NewJob, Queue, QueueSettings, RateLimit,
    Report, StartOutcome, StartRequest,
};

use super::harness::{Place, asked, everywhere, granted, started, until, upload};

/// Of all answers, how many jobs are new; the refusals.
async fn ask(queues: &[Queue], asks: impl Iterator<Item = NewJob>) -> (usize, Vec<LimitExceeded>) {
    let tasks: Vec<_> = asks
        .zip(queues.iter().cycle())
        .map(|(new, queue)| {
            let queue = queue.clone();
            tokio::spawn(async move { queue.grant(new).await.unwrap() })
        })
        .collect();
    let (mut new, mut refused) = (0, Vec::new());
    for task in tasks {
        match task.await.unwrap() {
            GrantOutcome::Created(..) => new += 1,
            GrantOutcome::LimitExceeded(refusal) => refused.push(refusal),
            other => panic!("{other:?}"),
        }
    }
    (new, refused)
}

/// The quota usage of the subject `ann`.
async fn usage(place: &Place) -> (i64, i64) {
    let sql = "SELECT CAST(SUM(reserved_bytes) AS BIGINT) AS reserved, CAST(SUM(used_bytes) AS BIGINT) AS used FROM queue_usage \
               WHERE subject = 'ann' GROUP BY quota_period ORDER BY quota_period DESC";
    let rows = place.rows(sql).await;
    rows.first().map_or((0, 0), |row| {
        (row.number("reserved").unwrap(), row.number("used").unwrap())
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_gets_more_by_asking_at_once() {
    everywhere(async |place| {
        let queues = [place.queue().await, place.queue().await];
        let many = |kind: &'static str, bounds: GrantLimits| {
            (0..10).map(move |n| {
                let mut new = asked(kind, &format!("{kind}{n}"), 30);
                new.limits = bounds.clone();
                new
            })
        };
        let bounds = GrantLimits {
            quota: Some(100),
            ..GrantLimits::default()
        };
        let (new, refused) = ask(&queues, many("quota", bounds)).await;
        assert_eq!(new, 3);
        let left = LimitExceeded::Quota {
            quota: 100,
            used: 90,
        };
        assert_eq!(refused, [left; 7]);

        let bounds = GrantLimits {
            max_active: Some(4),
            ..GrantLimits::default()
        };
        let (new, refused) = ask(&queues, many("active", bounds)).await;
        assert_eq!((new, refused), (4, vec![LimitExceeded::Active(4); 6]));

        let rate = RateLimit {
            count: 5,
            per: Duration::from_secs(60),
        };
        let bounds = GrantLimits {
            rate_limit: Some(rate),
            ..GrantLimits::default()
        };
        let (new, refused) = ask(&queues, many("rate", bounds)).await;
        assert_eq!(
            (new, refused),
            (5, vec![LimitExceeded::Rate(Duration::from_secs(60)); 5])
        );
        for queue in queues {
            queue.close().await;
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rate_lets_go_as_time_goes() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let mut number = 0;
        let mut ask = async || {
            number += 1;
            let mut new = asked("ann", &format!("r{number}"), 1);
            new.limits.rate_limit = Some(RateLimit {
                count: 2,
                per: Duration::from_secs(10),
            });
            match queue.grant(new).await.unwrap() {
                GrantOutcome::Created(..) => Duration::ZERO,
                GrantOutcome::LimitExceeded(LimitExceeded::Rate(wait)) => wait,
                other => panic!("{other:?}"),
            }
        };
        let second = Duration::from_secs(1);
        assert_eq!(ask().await, Duration::ZERO);
        place.hands.go(4 * second);
        assert_eq!(ask().await, Duration::ZERO);
        assert_eq!(ask().await, 6 * second);
        place.hands.go(6 * second - Duration::from_millis(1));
        assert_eq!(ask().await, Duration::from_millis(1));
        place.hands.go(Duration::from_millis(1));
        assert_eq!(ask().await, Duration::ZERO);
        assert_eq!(ask().await, 4 * second);
        let mut none = asked("bob", "r", 1);
        none.limits.rate_limit = Some(RateLimit {
            count: 0,
            per: second,
        });
        let answer = queue.grant(none).await.unwrap();
        assert_eq!(
            answer,
            GrantOutcome::LimitExceeded(LimitExceeded::Rate(second))
        );
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_ends_makes_room() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let new = |id: &str| {
            let mut new = asked("ann", id, 1);
            new.limits.max_active = Some(2);
            new
        };
        let (first, _) = granted(&queue, new("r1")).await;
        granted(&queue, new("r2")).await;
        let refused = GrantOutcome::LimitExceeded(LimitExceeded::Active(2));
        assert_eq!(queue.grant(new("r3")).await.unwrap(), refused);
        // A repeated request succeeds despite the limit.
        let again = queue.grant(new("r2")).await.unwrap();
        assert!(
            matches!(again, GrantOutcome::Existing(_, Some(_))),
            "{again:?}"
        );
        assert!(
            queue
                .finish(first.id, JobEnd::Cancelled(String::new()))
                .await
                .unwrap()
        );
        granted(&queue, new("r3")).await;
        assert_eq!(queue.grant(new("r4")).await.unwrap(), refused);
        // Expired grants are not active, even before a purge.
        place.hands.go(Duration::from_secs(3600));
        granted(&queue, new("r4")).await;
        granted(&queue, new("r5")).await;
        assert_eq!(queue.grant(new("r6")).await.unwrap(), refused);
        assert_eq!(queue.purge().await.unwrap(), (2, 0));
        assert_eq!(queue.grant(new("r6")).await.unwrap(), refused);
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_is_reserved_and_settled() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let new = |id: &str, size: Option<u64>| {
            let mut new = asked("ann", id, size);
            new.limits = GrantLimits {
                max_size: Some(50),
                quota: Some(100),
                ..GrantLimits::default()
            };
            new
        };
        let known = started(&queue, new("known", Some(30))).await;
        assert_eq!(usage(&place).await, (30, 0));
        let (unknown, _) = granted(&queue, new("unknown", None)).await;
        assert_eq!((unknown.size, unknown.max_size), (None, Some(50)));
        assert_eq!(usage(&place).await, (80, 0));
        let refused = queue.grant(new("more", Some(21))).await.unwrap();
        assert_eq!(
            refused,
            GrantOutcome::LimitExceeded(LimitExceeded::Quota {
                quota: 100,
                used: 80
            })
        );

        let start = |length| StartRequest::new(upload("u"), length, "d");
        assert_eq!(
            queue.start(unknown.id, start(Some(51))).await.unwrap(),
            StartOutcome::TooLarge
        );
        assert_eq!(
            queue.start(unknown.id, start(None)).await.unwrap(),
            StartOutcome::Bound
        );
        let report = Report {
            job: unknown.id,
            part: None,
            offset: 1,
            length: Some(20),
            at: std::time::SystemTime::now(),
        };
        queue.report(report);
        until(async || usage(&place).await == (50, 0)).await;
        let job = queue.get(unknown.id).await.unwrap().unwrap();
        assert_eq!(job.size, Some(20));
        // The request is equal, although its size is known now.
        let again = queue.grant(new("unknown", None)).await.unwrap();
        assert!(matches!(again, GrantOutcome::Existing(..)), "{again:?}");

        assert!(
            queue
                .finish(unknown.id, JobEnd::completed(20))
                .await
                .unwrap()
        );
        assert_eq!(usage(&place).await, (30, 20));
        assert!(
            queue
                .finish(known, JobEnd::Failed("broken".into()))
                .await
                .unwrap()
        );
        assert_eq!(usage(&place).await, (0, 20));
        granted(&queue, new("late", Some(40))).await;
        place.hands.go(Duration::from_secs(3600));
        queue.purge().await.unwrap();
        assert_eq!(usage(&place).await, (0, 20));

        // The rest of the quota limits an upload of unknown size.
        let mut all = asked("ann", "all", None);
        all.limits.quota = Some(100);
        let (all, _) = granted(&queue, all).await;
        assert_eq!((all.max_size, usage(&place).await), (Some(80), (80, 20)));
        let mut none = asked("ann", "none", None);
        none.limits.quota = Some(100);
        let refused = queue.grant(none).await.unwrap();
        assert_eq!(
            refused,
            GrantOutcome::LimitExceeded(LimitExceeded::Quota {
                quota: 100,
                used: 100
            })
        );
        queue.close().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quota_counts_anew_in_each_period() {
    everywhere(async |place| {
        let day = Duration::from_secs(24 * 3600);
        let mut settings: QueueSettings = place.settings();
        settings.quota_period = Some(day);
        let queue = Queue::open(settings).await.unwrap();
        let new = |id: &str| {
            let mut new = asked("ann", id, 60);
            new.limits.quota = Some(100);
            new
        };
        let first = started(&queue, new("r1")).await;
        let refused = queue.grant(new("r2")).await.unwrap();
        assert!(matches!(
            refused,
            GrantOutcome::LimitExceeded(LimitExceeded::Quota { .. })
        ));
        place.hands.go(day);
        granted(&queue, new("r2")).await;
        assert_eq!(usage(&place).await, (60, 0));
        // It is settled where it was reserved.
        assert!(queue.finish(first, JobEnd::completed(60)).await.unwrap());
        assert_eq!(usage(&place).await, (60, 0));
        let old = "SELECT used_bytes FROM queue_usage WHERE reserved_bytes = 0";
        assert_eq!(place.number(old).await, 60);
        place.hands.go(3 * day);
        queue.purge().await.unwrap();
        assert_eq!(place.number("SELECT COUNT(*) FROM queue_usage").await, 0);
        queue.close().await;
    })
    .await;
}
