//! Upload links: their files are counted, also when many are requested at once, and a revoked one grants nothing.

use std::time::Duration;

use landfall_state::queue::{
    GrantLimits, GrantOutcome, JobEnd, LimitExceeded, NewJob, NewLink, Queue, Token, UploadLink,
};

use super::harness::{Place, asked, everywhere, granted, started};

async fn link(queue: &Queue, max_files: Option<u64>, lifetime: Option<Duration>) -> UploadLink {
    let new = NewLink {
        hash: Token::api_key().hash(),
        name: "Photos for Ann".into(),
        limits: GrantLimits::default(),
        max_files,
        expires_at: lifetime.map(|lifetime| queue.now() + lifetime),
    };
    queue.add_link(new).await.unwrap()
}

fn file(link: &UploadLink, id: impl std::fmt::Display) -> NewJob {
    let mut new = asked(&link.subject, &id.to_string(), 10);
    new.link = Some(link.id);
    new
}

async fn files(queue: &Queue) -> u64 {
    queue.links().await.unwrap()[0].files
}

const ENDED: GrantOutcome = GrantOutcome::LimitExceeded(LimitExceeded::LinkEnded);
const FULL: GrantOutcome = GrantOutcome::LimitExceeded(LimitExceeded::Files(3));

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_requests_on_two_nodes_do_not_exceed_the_files() {
    everywhere(async |place| {
        let queues = [place.queue().await, place.queue().await];
        let link = link(&queues[0], Some(3), None).await;
        let tasks: Vec<_> = (0..20)
            .map(|n| {
                let (queue, new) = (queues[n % 2].clone(), file(&link, n));
                tokio::spawn(async move { queue.grant(new).await.unwrap() })
            })
            .collect();
        let mut count = 0;
        for task in tasks {
            match task.await.unwrap() {
                GrantOutcome::Created(..) => count += 1,
                other => assert_eq!(other, FULL),
            }
        }
        assert_eq!((count, files(&queues[0]).await), (3, 3));
    })
    .await;
}

#[tokio::test]
async fn files_that_failed_do_not_count_and_completed_ones_do() {
    everywhere(async |place: Place| {
        let queue = place.queue().await;
        let link = link(&queue, Some(3), None).await;
        for (n, end) in [
            JobEnd::completed(10),
            JobEnd::Cancelled("by the uploader".into()),
            JobEnd::Failed("denied".into()),
        ]
        .into_iter()
        .enumerate()
        {
            let job = started(&queue, file(&link, n)).await;
            queue.finish(job, end).await.unwrap();
        }
        granted(&queue, file(&link, "unused")).await;
        assert_eq!(files(&queue).await, 2);
        // The same request is the same file.
        assert!(matches!(
            queue.grant(file(&link, "unused")).await.unwrap(),
            GrantOutcome::Existing(..)
        ));
        // The rows of ended jobs are deleted; the number of files of the link is the same.
        place.hands.go(Duration::from_secs(60 * 24 * 3600));
        queue.purge().await.unwrap();
        place.hands.go(Duration::from_secs(60 * 24 * 3600));
        queue.purge().await.unwrap();
        assert_eq!(place.number("SELECT COUNT(*) FROM queue_jobs").await, 0);
        assert_eq!(files(&queue).await, 1);
        granted(&queue, file(&link, "second")).await;
        granted(&queue, file(&link, "third")).await;
        assert_eq!(queue.grant(file(&link, "fourth")).await.unwrap(), FULL);
    })
    .await;
}

#[tokio::test]
async fn a_link_that_was_revoked_or_has_expired_grants_nothing() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let day = Duration::from_secs(24 * 3600);
        let (revoked, expiring) = (
            link(&queue, None, None).await,
            link(&queue, None, Some(day)).await,
        );
        assert_ne!(revoked.subject, expiring.subject);
        granted(&queue, file(&revoked, 1)).await;
        assert!(queue.revoke_link(revoked.id).await.unwrap());
        assert!(!queue.revoke_link(revoked.id).await.unwrap());
        assert_eq!(queue.grant(file(&revoked, 1)).await.unwrap(), ENDED);
        assert_eq!(queue.grant(file(&revoked, 2)).await.unwrap(), ENDED);
        granted(&queue, file(&expiring, 1)).await;
        place.hands.go(day);
        assert_eq!(queue.grant(file(&expiring, 2)).await.unwrap(), ENDED);
        // It is still listed.
        assert_eq!(queue.links().await.unwrap().len(), 1);
    })
    .await;
}
