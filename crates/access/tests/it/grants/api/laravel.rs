//! The Laravel package's front end, request by request.

use std::sync::Arc;

use landfall_access::grants::api::ApiStyle;
use landfall_state::queue::{GrantLimits, policy::PolicyDenial};
use serde_json::{Value, json};

use super::harness::{HttpReply, Plan, RequestBuilder, Site, everywhere};

fn package(plan: &mut Plan) {
    plan.api(|api| {
        api.style = ApiStyle::Laravel;
        api.policies.push(Arc::new(GrantLimits {
            max_size: Some(1000),
            ..GrantLimits::default()
        }));
    });
}

/// As axios sends it from a page of the application.
fn axios<'a>(site: &'a Site, method: &str, path: &str) -> RequestBuilder<'a> {
    site.ask(method, path)
        .with("cookie", "who=ann")
        .with("accept", "application/json, text/plain, */*")
        .with("x-requested-with", "XMLHttpRequest")
        .with("x-xsrf-token", "anything")
}

fn keys(row: &Value) -> Vec<&str> {
    row.as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect()
}

async fn ask_for(site: &Site, body: Value) -> HttpReply {
    let ask = axios(site, "POST", "/uploadjobs/").body(body.to_string());
    ask.with("content-type", "application/json;charset=UTF-8")
        .send()
        .await
}

#[tokio::test]
async fn asked_for_uploaded_and_listed() {
    everywhere(package, async |site| {
        let id = "cjp0abc";
        let body = json!({
            "id": id, "filename": "holiday <&>'.mp4", "filesize": 5, "filetype": "video/mp4",
            "upload_request_id": id,
        });
        let reply = ask_for(site, body.clone()).await.expect(200);
        let fields = ["filename", "location", "request_id", "size", "upload_token"];
        assert_eq!(keys(&reply.json), fields);
        assert_eq!(reply.json["size"], 5);
        assert_eq!(reply.header("content-type").unwrap(), "application/json");
        let token = reply.json["upload_token"].as_str().unwrap();
        assert!(
            reply.json["location"]
                .as_str()
                .unwrap()
                .ends_with("/files/")
        );

        // tus-js-client puts all of it into the metadata.
        let metadata = landfall::upload::Metadata::from_pairs([
            ("filename", "holiday <&>'.mp4"),
            ("upload_request_id", id),
            ("token", token),
        ]);
        let create = site
            .ask("POST", "/files/")
            .with("upload-metadata", metadata.header());
        let created = create.with("upload-length", "5").send().await.expect(201);
        let path = super::harness::path_of(&created.header("location").unwrap());
        site.append(&path, 0, "hel").await.expect(204);
        loop {
            let list = axios(site, "GET", "/uploadjobs").send().await.expect(200);
            let row = &list.json[0];
            assert_eq!(
                (&row["completed_at"], &row["cancelled_at"]),
                (&json!(null), &json!(null))
            );
            if row["offset"] == 3 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        site.append(&path, 3, "lo").await.expect(204);
        let row = loop {
            let list = axios(site, "GET", "/uploadjobs/").send().await.expect(200);
            let rows = list.json.as_array().unwrap();
            assert_eq!(rows.len(), 1);
            if rows[0]["completed_at"].is_string() {
                break rows[0].clone();
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        let columns = [
            "cancelled_at",
            "completed_at",
            "created_at",
            "filename",
            "metadata",
            "mimetype",
            "offset",
            "request_id",
            "size",
            "updated_at",
        ];
        assert_eq!(keys(&row), columns);
        assert_eq!(row["filename"], "holiday <&>'.mp4");
        assert_eq!(row["mimetype"], "video/mp4");
        assert_eq!(row["metadata"], json!({"upload_request_id": id}));
        assert_eq!((&row["size"], &row["offset"]), (&json!(5), &json!(5)));
        assert_eq!(row["cancelled_at"], Value::Null);
        for time in ["completed_at", "created_at", "updated_at"] {
            let at = row[time].as_str().unwrap();
            assert!(at.len() == 27 && at.ends_with('Z'), "{at}");
            at.parse::<jiff::Timestamp>().unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn started_again_after_a_failure() {
    everywhere(package, async |site| {
        let mut body = json!({
            "id": "cjp1", "filename": "a", "filesize": 5, "filetype": "", "upload_request_id": "cjp1",
        });
        let first = ask_for(site, body.clone()).await.expect(200);
        // Its metadata holds the token by then, and all of that is sent along.
        body["token"] = first.json["upload_token"].clone();
        let again = ask_for(site, body).await.expect(200);
        let token = again.json["upload_token"].as_str().unwrap();
        site.create(token, 5).await;
        let list = axios(site, "GET", "/uploadjobs").send().await.expect(200);
        assert_eq!(list.json[0]["metadata"], json!({"upload_request_id": "cjp1"}));
        assert_eq!(list.json[0]["mimetype"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn stopped() {
    everywhere(package, async |site| {
        let body = json!({"id": "cjp2", "filename": "a", "filesize": ""});
        let reply = ask_for(site, body).await.expect(200);
        assert_eq!(reply.json["size"], 0);
        let token = reply.json["upload_token"].as_str().unwrap().to_owned();
        let path = site.create(&token, 5).await;
        let gone = axios(site, "DELETE", "/uploadjobs/cjp2")
            .send()
            .await
            .expect(200);
        assert_eq!(gone.json["metadata"], json!([]));
        assert!(gone.json["cancelled_at"].is_string());
        assert_eq!(gone.json["completed_at"], Value::Null);
        let status = site.append(&path, 0, "hello").await.status;
        assert!([404, 410].contains(&status), "{status}");
        axios(site, "DELETE", "/uploadjobs/cjp2")
            .send()
            .await
            .expect(200);
        let reply = axios(site, "DELETE", "/uploadjobs/none")
            .send()
            .await
            .expect(404);
        assert_eq!(keys(&reply.json), ["message"]);
    })
    .await;
}

#[tokio::test]
async fn as_a_form() {
    everywhere(package, async |site| {
        let ask = axios(site, "POST", "/uploadjobs");
        let ask = ask.with("content-type", "application/x-www-form-urlencoded");
        let body = "_token=csrf&id=f&filename=a+%26.txt&filesize=7&filetype=&album=9&mode=url";
        let reply = ask.body(body).send().await.expect(200);
        assert_eq!(
            (&reply.json["filename"], &reply.json["size"]),
            (&json!("a &.txt"), &json!(7))
        );
        assert!(reply.json["upload_token"].is_string());
        let list = axios(site, "GET", "/uploadjobs").send().await.expect(200);
        assert_eq!(
            list.json[0]["metadata"],
            json!({"album": "9", "mode": "url"})
        );
    })
    .await;
}

#[tokio::test]
async fn refused_in_laravels_words() {
    everywhere(package, async |site| {
        let reply = ask_for(site, json!({"filesize": -1})).await.expect(422);
        assert_eq!(keys(&reply.json), ["errors", "message"]);
        assert_eq!(reply.wrong_fields(), ["filename", "filesize", "id"]);
        let message = reply.json["message"].as_str().unwrap();
        assert!(message.ends_with("(and 2 more errors)"), "{message}");
        let big = json!({"id": "1", "filename": "a", "filesize": 1001});
        assert_eq!(
            ask_for(site, big).await.expect(422).wrong_fields(),
            ["filesize"]
        );

        let stranger = site.ask("GET", "/uploadjobs").send().await.expect(401);
        assert_eq!(stranger.json, json!({"message": "Unauthenticated."}));
        let cross_site = site.ask("POST", "/uploadjobs").with("cookie", "who=ann");
        let cross_site = cross_site.with("sec-fetch-site", "cross-site");
        let cross_site = cross_site
            .json(json!({"id": "1", "filename": "a"}))
            .send()
            .await
            .expect(419);
        assert_eq!(cross_site.json, json!({"message": "CSRF token mismatch."}));
        site.people.gone.lock().unwrap().insert("ann".into());
        let reply = ask_for(site, json!({"id": "1", "filename": "a"}))
            .await
            .expect(403);
        assert_eq!(
            reply.json,
            json!({"message": "This action is unauthorized."})
        );
        site.people.gone.lock().unwrap().clear();

        ask_for(site, json!({"id": "1", "filename": "a"}))
            .await
            .expect(200);
        let other = ask_for(site, json!({"id": "1", "filename": "b"}))
            .await
            .expect(409);
        assert_eq!(keys(&other.json), ["message"]);
    })
    .await;
}

/// The gate of the application says no.
#[derive(Debug)]
struct Closed;

#[async_trait::async_trait]
impl landfall_state::queue::policy::Policy for Closed {
    async fn decide(
        &self,
        _caller: &landfall_state::queue::Principal,
        _ask: &mut landfall_state::queue::NewJob,
        _request: &http::request::Parts,
    ) -> Result<(), PolicyDenial> {
        Err(PolicyDenial::forbidden("closed"))
    }
}

#[tokio::test]
async fn the_gate_says_no() {
    let closed = |plan: &mut Plan| {
        plan.api(|api| {
            api.style = ApiStyle::Laravel;
            api.policies.push(Arc::new(Closed));
        });
    };
    everywhere(closed, async |site| {
        let reply = ask_for(site, json!({"id": "1", "filename": "a"}))
            .await
            .expect(403);
        assert_eq!(
            reply.json,
            json!({"message": "This action is unauthorized."})
        );
    })
    .await;
}
