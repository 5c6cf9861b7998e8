//! Upload links: grants within their limits, and nothing else.

use std::time::Duration;

use landfall_state::queue::{GrantLimits, NewLink, Token};
use serde_json::{Value, json};

use super::harness::{HttpReply, Plan, Site, clock, everywhere, with_defaults};

async fn link(site: &Site, max_files: Option<u64>, lifetime: Option<Duration>) -> (i64, Token) {
    let secret = Token::api_key();
    let new = NewLink {
        hash: secret.hash(),
        name: "Photos for Ann".into(),
        limits: GrantLimits {
            max_size: Some(10),
            ..GrantLimits::default()
        },
        max_files,
        expires_at: lifetime.map(|lifetime| site.queue.now() + lifetime),
    };
    (site.queue.add_link(new).await.unwrap().id, secret)
}

async fn ask(site: &Site, secret: &Token, method: &str, path: &str) -> HttpReply {
    let bearer = format!("Bearer {}", secret.reveal());
    let request = site.ask(method, path).with("authorization", &bearer);
    request.send().await
}

async fn post(site: &Site, secret: &Token, id: &str, size: u64) -> HttpReply {
    let bearer = format!("Bearer {}", secret.reveal());
    let request = site
        .ask("POST", "/uploadjobs")
        .with("authorization", &bearer);
    let body = json!({"id": id, "filename": "a.jpg", "filesize": size});
    request.json(body).send().await
}

#[tokio::test]
async fn a_link_uploads_within_its_limits_and_does_nothing_else() {
    with_defaults(async |site| {
        let (_, secret) = link(site, Some(2), None).await;
        let about = ask(site, &secret, "GET", "/uploadjobs/link").await.expect(200);
        let expected = json!({
            "name": "Photos for Ann", "max_size": 10, "files": 0, "max_files": 2, "expires_at": null,
        });
        assert_eq!(about.json, expected);
        let granted = post(site, &secret, "1", 5).await.expect(201);
        let token = granted.json["upload_token"].as_str().unwrap();
        let path = site.create(token, 5).await;
        site.append(&path, 0, "hello").await.expect(204);
        let large = post(site, &secret, "2", 11).await.expect(422);
        assert_eq!(large.wrong_fields(), ["filesize"]);
        post(site, &secret, "2", 10).await.expect(201);
        let full = post(site, &secret, "3", 1).await;
        full.problem(403, "this link accepts 2 files, and no more");
        for (method, path) in [
            ("GET", "/uploadjobs"),
            ("GET", "/uploadjobs/1"),
            ("GET", "/uploadjobs/events"),
            ("DELETE", "/uploadjobs/1"),
            ("DELETE", "/uploadjobs/link"),
            ("DELETE", "/uploadjobs/2"),
        ] {
            let denied = ask(site, &secret, method, path).await;
            denied.problem(403, "a link is for uploads only");
        }
        let about = ask(site, &secret, "GET", "/uploadjobs/link").await.expect(200);
        assert_eq!(about.json["files"], 2);
        // An application may use the id.
        site.get("ann", "/uploadjobs/link").await.expect(404);
        let body = json!({"id": "link", "filename": "a", "filesize": 1});
        site.post("ann", body).await.expect(201);
        assert_eq!(site.row("ann", "link").await["filename"], "a");
    })
    .await;
}

#[tokio::test]
async fn a_link_ends_at_once_with_a_sentence() {
    let ended = "this link is no longer valid; ask its sender for another one";
    with_defaults(async |site| {
        let (id, secret) = link(site, None, None).await;
        post(site, &secret, "1", 5).await.expect(201);
        assert!(site.queue.revoke_link(id).await.unwrap());
        // While it is cached, too.
        post(site, &secret, "1", 5).await.problem(403, ended);
        post(site, &secret, "2", 5).await.problem(403, ended);
        let about = ask(site, &secret, "GET", "/uploadjobs/link").await;
        about.problem(403, ended);
    })
    .await;
    let with_clock = |plan: &mut Plan| plan.queue.clock = clock().0;
    everywhere(with_clock, async |site| {
        let (_, secret) = link(site, None, Some(Duration::ZERO)).await;
        post(site, &secret, "1", 5).await.problem(403, ended);
        let about = ask(site, &secret, "GET", "/uploadjobs/link").await;
        assert_eq!(about.problem(403, ended).json["errors"], Value::Null);
    })
    .await;
}
