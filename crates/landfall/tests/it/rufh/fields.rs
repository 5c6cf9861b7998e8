//! Which protocol a request speaks.

use super::{
    DATA, NEWEST, PARTIAL, append, assert_complete, create, creation, everywhere, with_defaults,
};

#[tokio::test]
async fn r_5_creations_without_a_valid_upload_complete_are_of_tus() {
    with_defaults(async |site| {
        for value in ["true", "1", "?1, ?1", "?2", ""] {
            let sent = site.request("POST", "/files/").without("Tus-Resumable");
            let sent = sent.with("Upload-Complete", value).body("hello");
            let reply = sent.send().await.refused(412, "ERR_UNSUPPORTED_VERSION");
            assert_eq!(reply.header("upload-complete"), None);
        }
        assert_eq!(site.uploads().await, 0);
        let sent = site.request("POST", "/files/").without("Tus-Resumable");
        let sent = sent
            .with("Upload-Complete", "?1;a=b")
            .with("Upload-Length", "007");
        let reply = sent.body("1234567").send().await.expect(201);
        assert_complete(&reply, NEWEST, true);
        assert_eq!(reply.header("upload-draft-interop-version"), None);
    })
    .await;
}

#[tokio::test]
async fn tus_resumable_prevails() {
    with_defaults(async |site| {
        let path = site.create(5).await;
        let sent = site
            .patching(&path, 0)
            .with("Upload-Draft-Interop-Version", "6");
        let reply = sent
            .with("Upload-Complete", "?1")
            .body("hello")
            .send()
            .await
            .expect(204);
        assert_eq!(reply.header("tus-resumable"), Some("1.0.0"));
        assert_eq!(reply.header("upload-complete"), None);
        let sent = site.request("POST", "/files/").without("Tus-Resumable");
        let sent = sent
            .with("Tus-Resumable", "0.2.2")
            .with("Upload-Complete", "?1");
        sent.body("hello").send().await.expect(412);
    })
    .await;
}

#[tokio::test]
async fn contradictory_fields_are_rejected() {
    with_defaults(async |site| {
        for version in [3, 6, NEWEST] {
            let sent = creation(site, version, true);
            let (name, value) = if version == 3 {
                ("Upload-Complete", "?0")
            } else {
                ("Upload-Incomplete", "?1")
            };
            sent.with(name, value)
                .body("hello")
                .send()
                .await
                .expect(400);
        }
        let sent = creation(site, NEWEST, true).with("Upload-Concat", "final;/files/a");
        sent.body("hello").send().await.expect(400);
        let sent = creation(site, NEWEST, true).with("Upload-Offset", "5");
        sent.body("hello").send().await.expect(400);
        assert_eq!(site.uploads().await, 0);
    })
    .await;
}

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
