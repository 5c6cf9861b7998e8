//! Creation (section 4.2).

use landfall::{
    hook::{ClientResponse, CreateDecision},
    upload::UploadId,
};

use super::{
    NEWEST, append, assert_complete, assert_problem, complete, creation, everywhere, request,
    with_defaults,
};

#[tokio::test]
async fn representation_fields_become_metadata() {
    with_defaults(async |site| {
        let sent = creation(site, NEWEST, true)
            .with("Content-Type", "Text/Plain; charset=utf-8")
            .with(
                "Content-Disposition",
                "inline; filename*=UTF-8''%e2%82%ac.txt",
            )
            .with("Content-Language", "de")
            .with("Upload-Metadata", "filename d3Jvbmc=,tag eA==");
        let path = sent.body("x").send().await.expect(201).location();
        let upload = site
            .parts
            .store()
            .load(&crate::harness::id(&path))
            .await
            .unwrap()
            .upload;
        let text = |key| upload.metadata.get_text(key).map(String::from);
        assert_eq!(text("filename").as_deref(), Some("€.txt"));
        assert_eq!(text("filetype").as_deref(), Some("text/plain"));
        assert_eq!(text("content-language").as_deref(), Some("de"));
        assert_eq!(text("tag").as_deref(), Some("x"));
    })
    .await;
}

#[tokio::test]
async fn unknown_versions_get_whole_uploads_only() {
    with_defaults(async |site| {
        for version in ["2", "11", "abc", "\"6\"", "3,4", "3.0"] {
            let sent = |is_complete| {
                let sent = site.request("POST", "/files/").without("Tus-Resumable");
                sent.with("Upload-Draft-Interop-Version", version)
                    .with_all(&[complete(NEWEST, is_complete)])
                    .body("hello")
            };
            let reply = sent(true).send().await.expect(201);
            assert!(reply.header("location").is_some());
            // An ordinary request: the client and the server know no common protocol.
            for name in [
                "upload-draft-interop-version",
                "upload-complete",
                "upload-offset",
                "upload-limit",
                "tus-resumable",
            ] {
                assert_eq!(reply.header(name), None, "{name}");
            }
            let before = site.uploads().await;
            let reply = sent(false).send().await.expect(400);
            assert_problem(&reply, None);
            assert_eq!(site.uploads().await, before);
        }
        let sent = creation(site, 6, true).with("Upload-Draft-Interop-Version", "6");
        let reply = sent.body("hello").send().await.expect(201);
        assert_eq!(
            reply.header("upload-draft-interop-version"),
            None,
            "sent twice"
        );
    })
    .await;
}

/// The harness passes requests for `/photos/…` to the handler, as a route of the application.
#[tokio::test]
async fn uploads_are_created_at_urls_of_the_application() {
    let named = |config: &mut landfall::Config| {
        *config = config.clone().before_create(|request, _| async move {
            let name = request.uri.path().trim_start_matches('/');
            Ok(match UploadId::new(name) {
                Ok(id) => CreateDecision::allow().id(id),
                Err(error) => CreateDecision::deny(ClientResponse::text(400, error.to_string())),
            })
        });
    };
    everywhere(named, async |site| {
        for (method, path) in [("PUT", "/photos/a.jpg"), ("POST", "/photos/2026/b.jpg")] {
            let sent = request(site, NEWEST, method, path).with_all(&[complete(NEWEST, false)]);
            let reply = sent.clone().body("hello").send().await.expect(201);
            assert_complete(&reply, NEWEST, false);
            let location = reply.location();
            assert_eq!(location, format!("/files{path}"));
            let reply = append(site, NEWEST, &location, 5, true)
                .body("world")
                .send();
            assert_complete(&reply.await.expect(201), NEWEST, true);
            assert_eq!(site.bytes(&location).await, "helloworld");
            let reply = sent.body("again").send().await.expect(409);
            assert_eq!(assert_problem(&reply, None)["code"], "ERR_UPLOAD_EXISTS");
        }
        let sent = request(site, NEWEST, "PUT", "/photos/c.jpg");
        let sent = sent.with_all(&[complete(NEWEST, true)]).body("whole");
        assert_complete(&sent.send().await.expect(201), NEWEST, true);
        let reply = request(site, NEWEST, "OPTIONS", "/photos/d.jpg")
            .send()
            .await;
        assert_eq!(reply.header("upload-limit"), Some("min-size=0"));
        // Without a valid Upload-Complete it is a request of tus, which has no PUT.
        let sent = site.request("PUT", "/photos/d.jpg").body("plain");
        sent.send().await.expect(405);
        // Below the base path, the URL is that of an upload.
        let sent = request(site, NEWEST, "PUT", "/files/d.jpg").with_all(&[complete(NEWEST, true)]);
        sent.body("whole").send().await.expect(405);
    })
    .await;
}

#[tokio::test]
async fn a_creation_with_the_id_of_a_running_upload_does_not_interrupt_it() {
    let named = |config: &mut landfall::Config| {
        *config = config.clone().before_create(|_, _| async {
            Ok(CreateDecision::allow().id(UploadId::new("report").unwrap()))
        });
    };
    everywhere(named, async |site| {
        let sent = creation(site, NEWEST, true).with("Content-Length", "10");
        let mut open = sent.open().await;
        open.write("hello").await;
        site.until_offset("/files/report", 5).await;
        let other = creation(site, NEWEST, true).body("other").send().await;
        assert_eq!(
            assert_problem(&other.expect(409), None)["code"],
            "ERR_UPLOAD_EXISTS"
        );
        open.write("world").await;
        open.reply().await.expect(201);
        assert_eq!(site.bytes("/files/report").await, "helloworld");
    })
    .await;
}
