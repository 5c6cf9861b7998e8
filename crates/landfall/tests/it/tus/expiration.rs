//! Expiration.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::{Duration, SystemTime},
};

use landfall::{
    Config, Handler, Lifetimes, SweepEntry,
    event::{self, EventKinds},
    removal::{Reading, RemovalClock},
};
use landfall_test_services::until;
use tokio::{runtime::Handle, task::block_in_place};

use super::{DATA, everywhere, with_defaults};
use crate::harness::{Site, TestResponse};

const HOUR: Duration = Duration::from_secs(3600);
/// Times are rounded up to whole seconds.
const SECOND: Duration = Duration::from_secs(1);

fn unfinished(life: Duration) -> impl Fn(&mut Config) {
    move |config| {
        config.lifetimes = Lifetimes {
            unfinished: Some(life),
            finished: None,
        }
    }
}

/// Returns the expiration time in a response.
fn expires(reply: &TestResponse) -> Option<SystemTime> {
    let date = reply.header("upload-expires")?;
    let at = httpdate::parse_http_date(date).unwrap();
    // In the preferred format of HTTP dates.
    assert_eq!(httpdate::fmt_http_date(at), date);
    Some(at)
}

#[tokio::test]
async fn unfinished_upload_reports_its_expiration() {
    everywhere(unfinished(HOUR), async |site| {
        let near = |reply: &TestResponse| {
            let left = expires(reply)
                .unwrap()
                .duration_since(SystemTime::now())
                .unwrap();
            assert!(
                left <= HOUR + SECOND && left > HOUR - Duration::from_secs(60),
                "{left:?}"
            );
        };
        let reply = site.post(&[("Upload-Length", "10")]).await.expect(201);
        near(&reply);
        let path = reply.location();
        near(&site.head(&path).await);
        near(&site.patch(&path, 0, "hello").await.expect(204));
        let with_data = site.request("POST", "/files/").with("Upload-Length", "10");
        near(
            &with_data
                .with("Content-Type", DATA)
                .body("hello")
                .send()
                .await
                .expect(201),
        );
        // Complete uploads do not expire here, so they have no header.
        let reply = site.patch(&path, 5, "world").await.expect(204);
        assert_eq!(reply.header("upload-expires"), None);
        assert_eq!(site.head(&path).await.header("upload-expires"), None);
        assert_eq!(
            site.post(&[("Upload-Length", "0")])
                .await
                .header("upload-expires"),
            None
        );
    })
    .await;
    with_defaults(async |site| {
        let reply = site.post(&[("Upload-Length", "10")]).await.expect(201);
        assert_eq!(reply.header("upload-expires"), None);
    })
    .await;
}

#[tokio::test]
async fn expired_upload_is_gone_before_and_after_the_sweep() {
    everywhere(unfinished(Duration::from_secs(2)), async |site| {
        let path = site.create(10).await;
        site.patch(&path, 0, "hello").await.expect(204);
        tokio::time::sleep(3 * SECOND).await;
        for ask in [
            site.request("HEAD", &path),
            site.request("GET", &path),
            site.patching(&path, 5).body("world"),
            site.request("DELETE", &path),
        ] {
            let reply = ask.send().await.expect(410);
            assert_eq!(reply.header("upload-offset"), None);
        }
        let swept = site.handler.sweeper().run(|_| {}).await.unwrap();
        assert_eq!((swept.removed, swept.failed), (1, 0));
        assert_eq!(site.uploads().await, 0);
        let status = site.head(&path).await.status;
        assert!(status == 404 || status == 410, "{status}");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_skips_what_another_one_has_removed() {
    everywhere(unfinished(Duration::from_secs(1)), async |site| {
        for _ in 0..5 {
            site.create(10).await;
        }
        tokio::time::sleep(2 * SECOND).await;
        let [sweeper, other] = [site.handler.sweeper(), site.handler.sweeper()];
        let mut is_first = true;
        let swept = sweeper.run(|_| {
            // All are listed now.
            if std::mem::take(&mut is_first) {
                let other = block_in_place(|| Handle::current().block_on(other.run(|_| {})));
                let other = other.unwrap();
                assert_eq!((other.removed, other.failed), (4, 0), "{other:?}");
            }
        });
        let swept = swept.await.unwrap();
        assert_eq!((swept.removed, swept.skipped, swept.failed), (1, 4, 0));
        assert_eq!(site.uploads().await, 0);
    })
    .await;
}

#[tokio::test]
async fn running_append_may_finish_after_expiration() {
    everywhere(unfinished(Duration::from_secs(2)), async |site| {
        let (path, mut open) = site.half_sent().await;
        tokio::time::sleep(3 * SECOND).await;
        let swept = site.handler.sweeper().run(|_| {}).await.unwrap();
        assert_eq!(swept.removed, 0, "{swept:?}");
        open.write("world").await;
        open.reply().await.expect(204);
        assert_eq!(site.bytes(&path).await, "helloworld");
    })
    .await;
}

#[tokio::test]
async fn finished_uploads_have_a_separate_lifetime() {
    let change = |config: &mut Config| {
        config.lifetimes = Lifetimes {
            unfinished: Some(2 * HOUR),
            finished: Some(HOUR),
        };
    };
    everywhere(change, async |site| {
        let path = site.create(5).await;
        let reply = site.patch(&path, 0, "hello").await.expect(204);
        let left = expires(&reply)
            .unwrap()
            .duration_since(SystemTime::now())
            .unwrap();
        assert!(left <= HOUR + SECOND, "{left:?}");
    })
    .await;
}

#[tokio::test]
async fn failed_append_reports_the_expiration() {
    everywhere(unfinished(HOUR), async |site| {
        let path = site.create(10).await;
        site.patch(&path, 0, "he").await.expect(204);
        let wrong = "sha1 AAAAAAAAAAAAAAAAAAAAAAAAAAA=";
        for (status, ask) in [
            (400, site.request("PATCH", &path).with("Content-Type", DATA)),
            (400, site.patching(&path, 2).with("Upload-Length", "11")),
            (409, site.patching(&path, 3).body("l")),
            (413, site.patching(&path, 2).body("012345678")),
            (415, site.request("PATCH", &path).with("Upload-Offset", "2")),
            (
                460,
                site.patching(&path, 2)
                    .with("Upload-Checksum", wrong)
                    .body("l"),
            ),
        ] {
            let reply = ask.send().await.expect(status);
            let at = expires(&reply).unwrap_or_else(|| panic!("no Upload-Expires: {reply:?}"));
            assert!(at > SystemTime::now(), "{reply:?}");
        }
        let missing = site.patching("/files/none", 0).send().await.expect(404);
        assert_eq!(expires(&missing), None);
        // A finished upload does not expire here, whatever else is wrong.
        site.patch(&path, 2, "llo wo!!").await.expect(204);
        let reply = site.patching(&path, 3).send().await.expect(409);
        assert_eq!(expires(&reply), None);
    })
    .await;
}

#[tokio::test]
async fn upload_expires_at_the_reported_time() {
    everywhere(unfinished(Duration::from_secs(1)), async |site| {
        let reply = site.post(&[("Upload-Length", "10")]).await.expect(201);
        let path = reply.location();
        let mut reported = expires(&reply).unwrap();
        loop {
            let before = SystemTime::now();
            let reply = site.head(&path).await;
            if reply.status == 200 {
                assert!(before < reported, "it should be gone");
                // Now by the time of its file, which may be another second.
                let again = expires(&reply).unwrap();
                let difference = again
                    .max(reported)
                    .duration_since(again.min(reported))
                    .unwrap();
                assert!(difference <= Duration::from_secs(1), "{difference:?}");
                reported = again;
            } else {
                reply.expect(410);
                assert!(SystemTime::now() >= reported, "it should be there");
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[tokio::test]
async fn complete_partial_upload_expires_like_an_unfinished_one() {
    everywhere(unfinished(Duration::from_secs(2)), async |site| {
        let part = site
            .create_with(&[("Upload-Concat", "partial"), ("Upload-Length", "5")])
            .await;
        let reply = site.patch(&part, 0, "hello").await.expect(204);
        let reported = expires(&reply).expect("it expires");
        let list = format!("final;{part}");
        let joined = site.create_with(&[("Upload-Concat", &list)]).await;
        assert_eq!(site.head(&joined).await.header("upload-expires"), None);
        while SystemTime::now() < reported {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        site.head(&part).await.expect(410);
        let swept = site.handler.sweeper().run(|_| {}).await.unwrap();
        assert_eq!((swept.removed, swept.failed), (1, 0));
        assert_eq!(site.bytes(&joined).await, "hello");
    })
    .await;
}

#[tokio::test]
async fn the_sweeper_wakes_up_when_an_upload_expires() {
    everywhere(unfinished(Duration::from_secs(1)), async |site| {
        let sweeper = site.handler.sweeper();
        let task = tokio::spawn(async move { sweeper.run_forever(HOUR).await });
        site.create(10).await;
        until(async || site.uploads().await == 0).await;
        task.abort();
    })
    .await;
}

const MINUTE: Duration = Duration::from_secs(60);
const WEEK: Duration = Duration::from_secs(7 * 24 * 3600);

/// A clock of a machine on which this time passes once it is read.
fn clock_after(time: Duration) -> RemovalClock {
    let was_read = AtomicBool::new(false);
    RemovalClock::with_source(move || {
        let passed = match was_read.swap(true, Ordering::Relaxed) {
            true => time,
            false => Duration::ZERO,
        };
        Reading {
            wall: SystemTime::now() + passed,
            monotonic: HOUR + passed,
        }
    })
}

/// What a sweep would remove after a time.
async fn due_after(handler: &Handler, time: Duration) -> Vec<SweepEntry> {
    let sweeper = handler.sweeper().dry_run().clock(clock_after(time));
    let mut due = Vec::new();
    sweeper.run(|entry| due.push(entry.clone())).await.unwrap();
    due
}

/// Sends a part of the content of a creation, and leaves without a response. Returns the path.
async fn cancelled_creation(site: &Site) -> String {
    let request = site.request("POST", "/files/").with("Upload-Length", "10");
    let request = request.with("Content-Type", DATA);
    let mut open = request.with("Content-Length", "10").open().await;
    open.write("hello").await;
    let before = site.handler.stats().bytes_received;
    until(async || site.handler.stats().live_uploads == 1).await;
    drop(open);
    until(async || {
        let stats = site.handler.stats();
        stats.live_uploads == 0 && stats.bytes_received == before + 5
    })
    .await;
    loop {
        // It is not listed while its description changes.
        if let [due] = &due_after(&site.handler, WEEK + MINUTE).await[..] {
            return format!("/files/{}", due.name);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_cancelled_creation_that_nobody_knows_expires_after_an_hour() {
    everywhere(unfinished(WEEK), async |site| {
        let path = cancelled_creation(site).await;
        until(async || due_after(&site.handler, HOUR + MINUTE).await.len() == 1).await;
        assert!(due_after(&site.handler, HOUR - MINUTE).await.is_empty());
        // As any other, the server says when.
        let at = expires(&site.head(&path).await.expect(200)).unwrap();
        assert!(at <= SystemTime::now() + HOUR + SECOND);
        // Its client has learned the URL nevertheless, as from an operator.
        site.patch(&path, 5, "wo").await.expect(204);
        assert!(due_after(&site.handler, WEEK - MINUTE).await.is_empty());
        let at = expires(&site.head(&path).await.expect(200)).unwrap();
        assert!(at > SystemTime::now() + WEEK - MINUTE);
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_creation_is_removed_by_a_sweep() {
    everywhere(unfinished(WEEK), async |site| {
        cancelled_creation(site).await;
        until(async || {
            let swept = site.handler.sweeper().clock(clock_after(HOUR + MINUTE));
            let swept = swept.run(|_| {}).await;
            swept.unwrap().removed == 1
        })
        .await;
        assert_eq!(site.uploads().await, 0);
        assert_eq!(site.handler.stats().expired, 1);
    })
    .await;
}

#[tokio::test]
async fn a_cancelled_creation_that_the_application_knows_stays() {
    let change = |config: &mut Config| {
        unfinished(WEEK)(config);
        let kinds = EventKinds {
            created: true,
            ..EventKinds::NONE
        };
        // Its events are discarded.
        config
            .sinks
            .push(std::sync::Arc::new(event::channel(kinds, 1).0));
    };
    everywhere(change, async |site| {
        cancelled_creation(site).await;
        // A mark would have been stored by now.
        site.handler.shutdown().await;
        assert!(due_after(&site.handler, WEEK - MINUTE).await.is_empty());
    })
    .await;
}
