//! Limits (section 4.1.4).

use std::time::Duration;

use landfall::{Config, ConfigError, Handler, store::MemoryStore};

use super::{NEWEST, append, assert_problem, create, creation, everywhere, head, request};

const LIMITS: &str = "min-size=0, max-size=100, min-append-size=3, max-append-size=5";

fn limited(config: &mut Config) {
    config.limits.max_size = Some(100);
    config.limits.min_append_size = Some(3);
    config.limits.max_append_size = Some(5);
}

#[tokio::test]
async fn all_limits_are_reported() {
    let expiring = |config: &mut Config| {
        limited(config);
        config.lifetimes.unfinished = Some(Duration::from_secs(60));
    };
    everywhere(expiring, async |site| {
        for (version, lifetime) in [(6, "expires"), (NEWEST, "max-age")] {
            let reply = request(site, version, "OPTIONS", "/files/").send().await;
            let expected = format!("{LIMITS}, {lifetime}=60");
            assert_eq!(reply.header("upload-limit"), Some(&*expected));
            let path = create(site, version, "").await;
            let reply = head(site, version, &path).await.expect(204);
            let limit = reply.header("upload-limit").unwrap();
            let left = limit.strip_prefix(&format!("{LIMITS}, {lifetime}="));
            let left: u64 = left.expect(limit).parse().unwrap();
            assert!((50..=61).contains(&left), "{limit}");
        }
    })
    .await;
}

/// A request that exceeds the limit of one request does not end an upload whose length it does not exceed.
#[tokio::test]
async fn requests_that_are_too_large_end_no_upload() {
    everywhere(limited, async |site| {
        let sent = creation(site, NEWEST, false).with("Upload-Length", "7");
        let path = sent.body("").send().await.expect(201).location();
        let sent = append(site, NEWEST, &path, 0, true).chunked(&["helloyou"], &[]);
        let reply = sent.send().await.expect(413);
        assert_eq!(reply.number("upload-offset"), 5);
        let sent = append(site, NEWEST, &path, 5, true).chunked(&["you"], &[]);
        let reply = sent.send().await.expect(400);
        assert_problem(&reply, Some("inconsistent-upload-length"));
        head(site, NEWEST, &path).await.expect(404);
    })
    .await;
}

#[tokio::test]
async fn clients_of_tus_choose_the_size_of_their_requests() {
    everywhere(limited, async |site| {
        let path = site.create(10).await;
        site.patch(&path, 0, "helloworl").await.expect(204);
        site.patch(&path, 9, "d").await.expect(204);
    })
    .await;
}

#[test]
fn limits_of_requests_must_be_possible() {
    for (min, max_append, max_size, expected) in [
        (6, Some(5), None, Some(5)),
        (6, None, Some(4), Some(4)),
        (5, Some(5), None, None),
    ] {
        let mut config = Config::new(MemoryStore::new());
        config.limits.min_append_size = Some(min);
        config.limits.max_append_size = max_append;
        config.limits.max_size = max_size;
        let expected = expected.map(|max| ConfigError::AppendSizes { min, max });
        assert_eq!(Handler::new(config).err(), expected);
    }
}
