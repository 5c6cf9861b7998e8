//! `"mode": "url"`: uploads that are created for clients which can set nothing.

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use landfall::{
    BoxError,
    hook::{ClientResponse, CreateDecision, Hook, HookPoints, RequestInfo},
    upload::Upload,
};
use serde_json::{Value, json};

use super::harness::{Plan, Site, everywhere, path_of};

/// Denies creations by file name.
#[derive(Debug)]
struct Looking;

#[async_trait]
impl Hook for Looking {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: true,
            ..HookPoints::default()
        }
    }

    async fn before_create(
        &self,
        request: &RequestInfo,
        upload: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        for secret in ["authorization", "cookie", "x-who", "upload-token"] {
            assert!(!request.headers.contains_key(secret), "{secret}");
        }
        assert_eq!(request.uri.path(), "/files/");
        assert_eq!(request.remote, "127.0.0.1:4711");
        assert_eq!(upload.labels["subject"], "ann");
        let name = upload.metadata.get_text("filename").unwrap().into_owned();
        match &*name {
            "refused" => Ok(CreateDecision::deny(ClientResponse::text(
                403,
                "we don't want it\n",
            ))),
            "odd" => Ok(CreateDecision::deny(ClientResponse::text(
                200,
                "fine, but no",
            ))),
            "down" => Err("the application is away".into()),
            _ => Ok(CreateDecision::allow()),
        }
    }
}

async fn everywhere_looking(test: impl AsyncFn(&Site)) {
    let plan = |plan: &mut Plan| plan.config.hooks.push(Arc::new(Looking));
    everywhere(plan, test).await;
}

fn file(id: &str, name: &str) -> Value {
    json!({
        "id": id, "filename": name, "filesize": 5, "filetype": "text/plain", "mode": "url",
        "album": "ü", "count": 3, "upload_request_id": "other",
    })
}

#[tokio::test]
async fn the_url_is_all_one_needs() {
    everywhere_looking(async |site| {
        let ask = site
            .ask("POST", "/uploadjobs")
            .by("ann")
            .json(file("1", "a.txt"));
        let ask = ask
            .with("cookie", "session=1")
            .with("authorization", "Bearer secret");
        let ask = ask
            .with("x-forwarded-host", "up.example")
            .with("x-forwarded-proto", "https");
        let reply = ask.send().await.expect(201);
        assert_eq!(reply.json["state"], "started");
        assert_eq!(reply.json["upload_token"], Value::Null);
        let url = reply.json["upload_url"].as_str().unwrap();
        assert!(url.starts_with("https://up.example/files/"), "{url}");
        let path = path_of(url);
        let head = site.ask("HEAD", &path).send().await.expect(200);
        assert_eq!(head.header("upload-length").unwrap(), "5");
        let metadata = head.header("upload-metadata").unwrap();
        // Texts only.
        assert_eq!(
            metadata,
            "filename YS50eHQ=,filetype dGV4dC9wbGFpbg==,album w7w="
        );
        site.append(&path, 0, "hello").await.expect(204);
        site.until("ann", "1", "state", json!("completed")).await;
        // The upload is created once.
        let again = site.post("ann", file("1", "a.txt")).await.expect(200);
        assert_eq!(again.json["state"], "completed");
    })
    .await;
}

/// Base64 makes a third more of them than a grant accepts.
#[tokio::test]
async fn fields_that_an_upload_cannot_have_are_rejected_before_there_is_a_job() {
    everywhere_looking(async |site| {
        let with = |id: &str, fields: Value| {
            let mut file = file(id, "a.txt");
            let all = file.as_object_mut().unwrap();
            all.extend(fields.as_object().unwrap().clone());
            file
        };
        let many: serde_json::Map<_, _> =
            (0..128).map(|n| (format!("key{n}"), json!("1"))).collect();
        for (id, fields, limit) in [
            ("long", json!({"note": "x".repeat(13_000)}), "16384"),
            ("many", json!(many), "128"),
        ] {
            let reply = site.post("ann", with(id, fields.clone())).await.expect(422);
            assert!(reply.json.to_string().contains(limit), "{}", reply.json);
            // The id is free for a request that fits, and with a token it needs no room.
            site.post("ann", with(id, json!({}))).await.expect(201);
            let token = format!("{id}-token");
            let mut other = with(&token, fields);
            other["mode"] = json!("token");
            site.post("ann", other).await.expect(201);
        }
        let fits = json!({"note": "x".repeat(12_000)});
        site.post("ann", with("fits", fits)).await.expect(201);
    })
    .await;
}

#[tokio::test]
async fn asked_again_it_is_the_same_url() {
    everywhere_looking(async |site| {
        let asked = (0..5).map(|_| site.post("ann", file("1", "a.txt")));
        let replies = futures_util::future::join_all(asked).await;
        let first = replies[0].json["upload_url"].as_str().unwrap();
        for reply in &replies {
            assert!([200, 201].contains(&reply.status), "{reply:?}");
            assert_eq!(reply.json["upload_url"], first);
        }
        site.append(&path_of(first), 0, "hel").await.expect(204);
        let again = site.post("ann", file("1", "a.txt")).await.expect(200);
        assert_eq!(again.json["upload_url"], first);
        site.until("ann", "1", "offset", json!(3)).await;
    })
    .await;
}

#[tokio::test]
async fn of_any_length() {
    everywhere_looking(async |site| {
        let mut unknown = file("unknown", "a");
        unknown["filesize"] = json!(null);
        let reply = site.post("ann", unknown).await.expect(201);
        let path = path_of(reply.json["upload_url"].as_str().unwrap());
        let head = site.ask("HEAD", &path).send().await.expect(200);
        assert_eq!(head.header("upload-defer-length").unwrap(), "1");
        let mut empty = file("empty", "a");
        empty["filesize"] = json!(0);
        let reply = site.post("ann", empty).await.expect(201);
        assert!(reply.json["upload_url"].is_string());
        site.until("ann", "empty", "state", json!("completed"))
            .await;
    })
    .await;
}

#[tokio::test]
async fn what_is_refused_isnt_kept() {
    everywhere_looking(async |site| {
        let reply = site.post("ann", file("1", "refused")).await;
        reply.problem(403, "we don't want it");
        let row = site.row("ann", "1").await;
        assert_eq!(row["state"], "failed");
        let reason = row["reason"].as_str().unwrap();
        assert!(reason.contains("we don't want it"), "{reason}");
        // Asked again, the hook decides again, and about what is mended.
        let again = site.post("ann", file("1", "refused")).await;
        again.problem(403, "we don't want it");
        let mended = site.post("ann", file("1", "wanted")).await.expect(201);
        assert_eq!(mended.json["state"], "started");
        let lost = site.post("ann", file("1", "wanted")).await.expect(200);
        assert_eq!(lost.json["upload_url"], mended.json["upload_url"]);
        // An unexpected hook response is an error.
        let status = site.post("ann", file("2", "odd")).await.status;
        assert!(
            StatusCode::from_u16(status).unwrap().is_server_error(),
            "{status}"
        );
        // After a temporary failure, the request can be repeated.
        let reply = site.post("ann", file("3", "down")).await;
        assert!(reply.status >= 500, "{reply:?}");
        assert!(reply.header("retry-after").is_some(), "{reply:?}");
        assert_eq!(site.row("ann", "3").await["state"], "received");
        let status = site.post("ann", file("3", "down")).await.status;
        assert!(status >= 500, "{status}");
    })
    .await;
}
