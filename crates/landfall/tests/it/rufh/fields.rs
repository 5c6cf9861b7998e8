//! Which protocol a request speaks.

use super::{
    DATA, NEWEST, PARTIAL, append, assert_complete, create, creation, everywhere, with_defaults,
};

#[tokio::test]
async fn versions_can_be_chosen_and_turned_off() {
    let off = |config: &mut landfall::Config| config.interop_versions = "off".parse().unwrap();
    everywhere(off, async |site| {
        let sent = creation(site, 6, true).body("hello");
        sent.send().await.refused(412, "ERR_UNSUPPORTED_VERSION");
        let reply = site.request("OPTIONS", "/files/").send().await.expect(200);
        assert_eq!(reply.header("upload-limit"), None);
    })
    .await;
    let chosen = |config: &mut landfall::Config| config.interop_versions = "6,11".parse().unwrap();
    everywhere(chosen, async |site| {
        for version in [6, 11] {
            let path = create(site, version, "hel").await;
            append(site, version, &path, 3, true)
                .body("lo")
                .send()
                .await;
            assert_eq!(site.bytes(&path).await, "hello");
        }
        creation(site, 10, false)
            .body("hel")
            .send()
            .await
            .expect(400);
        creation(site, 10, true)
            .body("hel")
            .send()
            .await
            .expect(201);
    })
    .await;
}

#[tokio::test]
async fn the_media_type_of_the_draft_is_a_sign_of_it() {
    with_defaults(async |site| {
        let path = create(site, NEWEST, "").await;
        let sent = site.request("PATCH", &path).without("Tus-Resumable");
        let sent = sent
            .with("Content-Type", PARTIAL)
            .with("Upload-Offset", "0");
        let reply = sent.body("hello").send().await.expect(400);
        assert_complete(&reply, NEWEST, false);
        let sent = site
            .request("PATCH", &path)
            .without("Tus-Resumable")
            .with("Content-Type", DATA);
        let sent = sent.with("Upload-Offset", "0").body("hello");
        sent.send().await.refused(412, "ERR_UNSUPPORTED_VERSION");
    })
    .await;
}
