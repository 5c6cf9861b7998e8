//! Offset retrieval (section 4.3).

use std::time::Duration;

use super::{
    NEWEST, VERSIONS, assert_complete, create_of, everywhere, head, request, with_defaults,
};

#[tokio::test]
async fn r_60_r_62_r_66_head_and_get_return_the_state() {
    let expiring = |config: &mut landfall::Config| {
        config.limits.max_size = Some(100);
        config.lifetimes.unfinished = Some(Duration::from_secs(60));
    };
    everywhere(expiring, async |site| {
        for version in VERSIONS {
            let path = create_of(site, version, 10, "hello").await;
            for method in ["HEAD", "GET"] {
                let reply = request(site, version, method, &path)
                    .send()
                    .await
                    .expect(204);
                assert_eq!(reply.number("upload-offset"), 5);
                assert_eq!(reply.number("upload-length"), 10);
                assert_complete(&reply, version, false);
                assert_eq!(reply.header("cache-control"), Some("no-store"));
                assert_eq!(reply.header("tus-resumable"), None);
                assert_eq!(reply.header("content-length"), None);
                let limit = reply.header("upload-limit").unwrap();
                let lifetime = if version <= 6 { "expires" } else { "max-age" };
                let left = limit.strip_prefix(&format!("min-size=0, max-size=100, {lifetime}="));
                let left: u64 = left.expect(limit).parse().unwrap();
                assert!((50..=61).contains(&left), "{limit}");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn unknown_uploads_are_not_found() {
    with_defaults(async |site| {
        let reply = head(site, NEWEST, "/files/unknown").await.expect(404);
        assert_complete(&reply, NEWEST, false);
        request(site, NEWEST, "PUT", "/files/unknown")
            .send()
            .await
            .expect(405);
    })
    .await;
}
