//! Termination.

use super::with_defaults;

#[tokio::test]
async fn t_trm_2_t_trm_3_t_trm_4_e_33_delete_removes_at_any_stage() {
    with_defaults(async |site| {
        for stored in ["", "hello", "helloworld"] {
            let path = site.create(10).await;
            site.patch(&path, 0, stored).await.expect(204);
            let reply = site.delete(&path).await.expect(204);
            assert_eq!(reply.body, "");
            assert_eq!(site.uploads().await, 0);
            for ask in [
                site.request("HEAD", &path),
                site.request("GET", &path),
                site.patching(&path, 0).body("x"),
                site.request("DELETE", &path),
            ] {
                let reply = ask.send().await;
                assert!(reply.status == 404 || reply.status == 410, "{reply:?}");
                assert_eq!(reply.header("upload-offset"), None);
            }
        }
    })
    .await;
}

#[tokio::test]
async fn e_34_delete_stops_a_running_append() {
    with_defaults(async |site| {
        let path = site.create(10).await;
        let mut open = site
            .patching(&path, 0)
            .with("Content-Length", "10")
            .open()
            .await;
        open.write("hello").await;
        site.until_offset(&path, 5).await;
        site.delete(&path).await.expect(204);
        let reply = open.reply().await;
        assert!((400..500).contains(&reply.status), "{reply:?}");
        site.head(&path).await.expect(404);
        assert_eq!(site.uploads().await, 0);
    })
    .await;
}

#[tokio::test]
async fn e_35_parts_may_be_removed_after_concatenation() {
    with_defaults(async |site| {
        let (first, second) = (site.partial("hello").await, site.partial("world").await);
        let list = format!("final;{first} {second}");
        let joined = site.create_with(&[("Upload-Concat", &list)]).await;
        site.delete(&first).await.expect(204);
        site.delete(&second).await.expect(204);
        assert_eq!(site.bytes(&joined).await, "helloworld");
        site.head(&joined).await.expect(200);
    })
    .await;
}

#[tokio::test]
async fn e_36_waiting_final_upload_answers_head_and_delete() {
    with_defaults(async |site| {
        let part = site
            .create_with(&[("Upload-Concat", "partial"), ("Upload-Length", "5")])
            .await;
        let list = format!("final;{part}");
        let waiting = site.create_with(&[("Upload-Concat", &list)]).await;
        site.head(&waiting).await.expect(200);
        site.delete(&waiting).await.expect(204);
        site.head(&waiting).await.expect(404);
        // Its part still exists, and completing it does not restore the final upload.
        site.patch(&part, 0, "hello").await.expect(204);
        site.head(&waiting).await.expect(404);
    })
    .await;
}
