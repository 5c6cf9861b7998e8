//! `POST /uploadjobs`.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use http::{HeaderValue, StatusCode, request::Parts};
use landfall_access::auth::AuthError;
use landfall_state::queue::{
    GrantLimits, NewJob, Principal, RateLimit,
    policy::{Policy, PolicyDenial},
};
use serde_json::{Value, json};

use super::harness::{Site, clock, everywhere, with_defaults};

fn file(id: &str) -> Value {
    json!({"id": id, "filename": "holiday.mp4", "filesize": 5, "filetype": "video/mp4"})
}

#[tokio::test]
async fn a_grant_says_all_that_is_needed() {
    with_defaults(async |site| {
        let mut body = file("one");
        body["album"] = json!({"name": "<b>&"});
        let ask = site.ask("POST", "/uploadjobs").by("ann");
        let reply = ask
            .with("host", "up.example:1")
            .json(body)
            .send()
            .await
            .expect(201);
        let granted = reply.json.as_object().unwrap();
        let fields = [
            "expires_at",
            "filename",
            "location",
            "request_id",
            "size",
            "state",
            "upload_token",
        ];
        assert_eq!(granted.keys().collect::<Vec<_>>(), fields);
        assert_eq!(granted["request_id"], "one");
        assert_eq!(granted["filename"], "holiday.mp4");
        assert_eq!(
            (&granted["size"], &granted["state"]),
            (&json!(5), &json!("received"))
        );
        assert_eq!(granted["location"], "http://up.example:1/files/");
        let token = granted["upload_token"].as_str().unwrap();
        assert!(token.starts_with("lft_") && token.len() == 47, "{token}");
        assert_eq!(reply.header("cache-control").unwrap(), "no-store");

        let row = site.row("ann", "one").await;
        assert_eq!(row["metadata"], json!({"album": {"name": "<b>&"}}));
        let expires: jiff::Timestamp = row["expires_at"].as_str().unwrap().parse().unwrap();
        let created: jiff::Timestamp = row["created_at"].as_str().unwrap().parse().unwrap();
        assert_eq!(expires.duration_since(created).as_secs(), 3600);
        assert_eq!(row["expires_at"], granted["expires_at"]);

        let path = site.create(token, 5).await;
        site.append(&path, 0, "hello").await.expect(204);
        site.until("ann", "one", "state", json!("completed")).await;
    })
    .await;
}

#[tokio::test]
async fn asked_again_it_is_the_same_grant() {
    with_defaults(async |site| {
        let first = site.grant("ann", file("one")).await;
        let again = site.post("ann", file("one")).await.expect(200);
        assert_eq!(again.json["state"], "received");
        // In other spellings of the same.
        let mut spelled = file("one");
        spelled["filesize"] = json!("5");
        let again = site.post("ann", spelled).await.expect(200);
        let second = again.json["upload_token"].as_str().unwrap().to_owned();
        assert_ne!(first, second);
        // Both tokens are for one upload.
        let path = site.create(&first, 5).await;
        assert_eq!(site.create(&second, 5).await, path);
        let started = site.post("ann", file("one")).await.expect(200);
        assert_eq!(started.json["state"], "started");
        assert!(started.json["upload_token"].is_string());

        for (field, other) in [
            ("filename", json!("other")),
            ("filesize", json!(6)),
            ("filesize", json!(null)),
            ("filetype", json!("")),
            ("album", json!(1)),
        ] {
            let mut body = file("one");
            body[field] = other;
            site.post("ann", body).await.problem(409, "another request");
        }
        // Ids are each caller's own.
        site.post("bob", file("one")).await.expect(201);

        site.append(&path, 0, "hello").await.expect(204);
        site.until("ann", "one", "state", json!("completed")).await;
        let done = site.post("ann", file("one")).await.expect(200);
        assert_eq!(done.json["state"], "completed");
        assert_eq!(done.json["upload_token"], Value::Null);
    })
    .await;
}

#[tokio::test]
async fn after_a_restart_it_is_the_same_grant() {
    with_defaults(async |site| {
        let first = site.grant("ann", file("one")).await;
        let again = async || Site::start(site.database.clone(), None, &|_| {}).await;
        let second = again().await;
        let reply = second.post("ann", file("one")).await.expect(200);
        assert_eq!(reply.json["state"], "received");
        let path = second.create(&first, 5).await;
        // The response was lost.
        assert_eq!(second.create(&first, 5).await, path);
        second.append(&path, 0, "hello").await.expect(204);
        second
            .until("ann", "one", "state", json!("completed"))
            .await;
        second.queue.close().await;
        let third = again().await;
        let reply = third.post("ann", file("one")).await.expect(200);
        assert_eq!(reply.json["state"], "completed");
        third.queue.close().await;
    })
    .await;
}

#[tokio::test]
async fn ten_at_once_make_one_job() {
    with_defaults(async |site| {
        let asked = (0..10).map(|_| site.post("ann", file("one")));
        let replies = futures_util::future::join_all(asked).await;
        let mut statuses: Vec<_> = replies.iter().map(|reply| reply.status).collect();
        statuses.sort_unstable();
        assert_eq!(statuses, [[200; 9].as_slice(), &[201]].concat());
        let list = site.get("ann", "/uploadjobs").await.expect(200);
        assert_eq!(list.json.as_array().unwrap().len(), 1);
    })
    .await;
}

#[tokio::test]
async fn what_has_ended_is_gone() {
    let (clock, now) = clock();
    everywhere(
        |plan| plan.queue.clock = clock.clone(),
        async |site| {
            site.grant("ann", file("cancelled")).await;
            site.delete("ann", "cancelled").await.expect(200);
            site.post("ann", file("cancelled"))
                .await
                .problem(410, "cancelled");
            site.grant("ann", file("late")).await;
            *now.lock().unwrap() += Duration::from_secs(3600);
            site.queue.purge().await.unwrap();
            site.post("ann", file("late")).await.problem(410, "expired");
            // Different fields are a conflict, too.
            let mut other = file("late");
            other["filename"] = json!("x");
            site.post("ann", other)
                .await
                .problem(409, "another request");
        },
    )
    .await;
}

#[tokio::test]
async fn everything_wrong_is_said_at_once() {
    with_defaults(async |site| {
        let reply = site.post("ann", json!({})).await;
        let reply = reply.problem(422, "the id is required (and 1 more error)");
        assert_eq!(reply.wrong_fields(), ["filename", "id"]);
        let nonsense = json!({
            "id": true, "filename": ["x"], "filesize": -1, "filetype": {}, "mode": "x",
            "more": "x".repeat(20_000),
        });
        let reply = site.post("ann", nonsense).await.expect(422);
        let fields = ["filename", "filesize", "filetype", "id", "metadata", "mode"];
        assert_eq!(reply.wrong_fields(), fields);
        assert_eq!(site.get("ann", "/uploadjobs").await.json, json!([]));
    })
    .await;
}

#[tokio::test]
async fn bodies_that_are_none() {
    with_defaults(async |site| {
        let post = |body: &'static str| site.ask("POST", "/uploadjobs").by("ann").body(body);
        let json = |body| post(body).with("content-type", "application/json");
        json("{").send().await.problem(400, "not valid JSON");
        json("[]").send().await.problem(400, "object");
        json("").send().await.problem(400, "not valid JSON");
        // Nothing is said of the body, and it is JSON.
        post("{}").send().await.problem(422, "");
        let text = post("{}").with("content-type", "text/plain;charset=UTF-8");
        text.send().await.problem(415, "application/json");
        let form =
            post("id=1&filename=a").with("content-type", "application/x-www-form-urlencoded");
        form.send().await.problem(415, "application/json");
        let long = json!({"id": "1", "filename": "a", "x": "x".repeat(64 * 1024)});
        site.post("ann", long).await.problem(413, "65536 bytes");
    })
    .await;
}

#[tokio::test]
async fn sizes_that_nobody_knows() {
    with_defaults(async |site| {
        let ask = |id: &str, size: Value| json!({"id": id, "filename": "a", "filesize": size});
        for (id, size) in [("null", json!(null)), ("empty", json!(""))] {
            let reply = site.post("ann", ask(id, size)).await.expect(201);
            assert_eq!(reply.json["size"], Value::Null);
        }
        let missing = json!({"id": "missing", "filename": "a"});
        let reply = site.post("ann", missing).await.expect(201);
        assert_eq!(reply.json["size"], Value::Null);
        // None at all is a size like any other.
        let token = site.grant("ann", ask("zero", json!(0))).await;
        site.create(&token, 0).await;
        let row = site.until("ann", "zero", "state", json!("completed")).await;
        assert_eq!((&row["size"], &row["offset"]), (&json!(0), &json!(0)));
    })
    .await;
}

#[tokio::test]
async fn nobody_knows_who_asks() {
    with_defaults(async |site| {
        for (method, path) in [
            ("POST", "/uploadjobs"),
            ("GET", "/uploadjobs"),
            ("GET", "/uploadjobs/one"),
            ("DELETE", "/uploadjobs/one"),
            ("GET", "/uploadjobs/events"),
        ] {
            let reply = site
                .ask(method, path)
                .send()
                .await
                .problem(401, "authentication");
            assert_eq!(
                reply.header("www-authenticate").unwrap(),
                "Bearer",
                "{method} {path}"
            );
        }
        for (denied, status, words) in [
            (AuthError::Forbidden("not you".into()), 403, "not you"),
            (AuthError::Unavailable, 503, "temporarily unavailable"),
            (
                AuthError::TooManyFailures {
                    retry_after: Duration::from_millis(2500),
                },
                429,
                "too many",
            ),
            (
                AuthError::Unauthenticated {
                    challenge: HeaderValue::from_static("Bearer error=\"x\""),
                    is_guess: false,
                },
                401,
                "authentication required",
            ),
        ] {
            *site.people.denied.lock().unwrap() = Some(denied.clone());
            let reply = site.post("ann", file("one")).await.problem(status, words);
            match status {
                429 => assert_eq!(reply.wait(), 3),
                503 => assert!(reply.wait() > 0),
                401 => assert_eq!(
                    reply.header("www-authenticate").unwrap(),
                    "Bearer error=\"x\""
                ),
                _ => assert_eq!(reply.header("retry-after"), None),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_cookie_alone_counts_on_our_pages_only() {
    with_defaults(async |site| {
        let post = |origin: &str| {
            let ask = site.ask("POST", "/uploadjobs").with("cookie", "who=ann");
            ask.with("origin", origin)
                .with("host", "up.example")
                .json(file("one"))
        };
        let evil = post("https://evil.example").send().await;
        evil.problem(403, "cross-site");
        post("http://up.example").send().await.expect(201);
        let evil = site
            .ask("DELETE", "/uploadjobs/one")
            .with("cookie", "who=ann");
        let evil = evil.with("sec-fetch-site", "cross-site").send().await;
        evil.problem(403, "cross-site");
        assert_eq!(site.row("ann", "one").await["state"], "received");
        // Looking changes nothing.
        let look = site.ask("GET", "/uploadjobs").with("cookie", "who=ann");
        look.with("sec-fetch-site", "cross-site")
            .send()
            .await
            .expect(200);
    })
    .await;
}

#[tokio::test]
async fn rules_and_limits_of_callers() {
    everywhere(
        |plan| {
            plan.api(|api| {
                let limits = GrantLimits {
                    max_size: Some(10),
                    allowed_types: vec!["video/*".into()],
                    ..GrantLimits::default()
                };
                api.policies.push(Arc::new(limits));
            });
        },
        async |site| {
            let mut big = file("one");
            big["filesize"] = json!(11);
            let reply = site.post("ann", big).await.problem(422, "11 bytes exceed");
            assert_eq!(reply.wrong_fields(), ["filesize"]);
            // As Uppy's Webcam plugin passes it on.
            let mut recording = file("recording");
            recording["filetype"] = json!("video/webm;codecs=vp9,opus");
            site.post("ann", recording).await.expect(201);
            let row = site.row("ann", "recording").await;
            assert_eq!(row["filetype"], "video/webm;codecs=vp9,opus");
            let mut other = file("one");
            other["filetype"] = json!("text/plain");
            let reply = site.post("ann", other).await.problem(422, "not accepted");
            assert_eq!(reply.wrong_fields(), ["filetype"]);
            let ask = site
                .ask("POST", "/uploadjobs")
                .by("ann")
                .with("x-most", "4");
            ask.json(file("one"))
                .send()
                .await
                .problem(422, "maximum of 4");
            site.post("ann", file("one")).await.expect(201);
            // Of unknown length it may have as many as are allowed.
            let mut unknown = file("two");
            unknown["filesize"] = json!(null);
            let token = site.grant("ann", unknown).await;
            let ask = site.ask("POST", "/files/").with("upload-token", &token);
            ask.with("upload-length", "11").send().await.expect(413);
        },
    )
    .await;
}

#[tokio::test]
async fn so_many_and_so_much() {
    let limits = GrantLimits {
        max_active: Some(2),
        quota: Some(100),
        ..GrantLimits::default()
    };
    let rules = limits;
    everywhere(
        |plan| {
            let rules = Arc::new(rules.clone());
            plan.api(move |api| api.policies.push(rules));
        },
        async |site| {
            let ask = |id: &str, size: u64| json!({"id": id, "filename": "a", "filesize": size});
            let reply = site
                .post("ann", ask("big", 101))
                .await
                .problem(429, "0 of 100 bytes");
            assert!(reply.wait() > 0);
            site.grant("ann", ask("1", 60)).await;
            site.post("ann", ask("2", 41))
                .await
                .problem(429, "60 of 100 bytes");
            site.grant("ann", ask("2", 40)).await;
            let reply = site
                .post("ann", ask("3", 0))
                .await
                .problem(429, "maximum of 2 active uploads");
            assert!(reply.wait() > 0);
            // A repeated request does not count.
            site.post("ann", ask("2", 40)).await.expect(200);
            site.delete("ann", "1").await.expect(200);
            site.grant("ann", ask("3", 60)).await;
            site.grant("bob", ask("1", 60)).await;
        },
    )
    .await;
}

#[tokio::test]
async fn so_often() {
    let (clock, now) = clock();
    let rate = RateLimit {
        count: 2,
        per: Duration::from_secs(60),
    };
    let rules = GrantLimits {
        rate_limit: Some(rate),
        ..GrantLimits::default()
    };
    everywhere(
        |plan| {
            plan.queue.clock = clock.clone();
            let rules = Arc::new(rules.clone());
            plan.api(move |api| api.policies.push(rules));
        },
        async |site| {
            site.grant("ann", file("1")).await;
            *now.lock().unwrap() += Duration::from_secs(20);
            site.grant("ann", file("2")).await;
            let reply = site.post("ann", file("3")).await.problem(429, "rate limit");
            assert_eq!(reply.wait(), 40);
            *now.lock().unwrap() += Duration::from_secs(40);
            site.grant("ann", file("3")).await;
        },
    )
    .await;
}

/// The application has its say, and gives each request a number.
#[derive(Debug, Default)]
struct Application(AtomicU64);

#[async_trait]
impl Policy for Application {
    async fn decide(
        &self,
        _caller: &Principal,
        ask: &mut NewJob,
        request: &Parts,
    ) -> Result<(), PolicyDenial> {
        assert_eq!(request.uri.path(), "/uploadjobs");
        match &*ask.request_id {
            "no" => Err(PolicyDenial::forbidden("not today")),
            "teapot" => Err(PolicyDenial::new(
                StatusCode::IM_A_TEAPOT,
                "short and stout",
            )),
            "down" => Err(PolicyDenial::unavailable("ask later")),
            _ => {
                ask.limits.max_size = Some(4);
                let ticket = self.0.fetch_add(1, Ordering::Relaxed);
                ask.metadata.insert("ticket".into(), json!(ticket));
                Ok(())
            }
        }
    }
}

#[tokio::test]
async fn the_application_decides() {
    everywhere(
        |plan| plan.api(|api| api.policies.push(Arc::new(Application::default()))),
        async |site| {
            site.post("ann", file("no")).await.problem(403, "not today");
            site.post("ann", file("teapot"))
                .await
                .problem(418, "short and stout");
            assert_eq!(
                site.post("ann", file("down"))
                    .await
                    .problem(503, "later")
                    .wait(),
                5
            );
            site.post("ann", file("one"))
                .await
                .problem(422, "maximum of 4");
            let mut small = json!({"id": "one", "filename": "a", "filesize": 4, "x": "y"});
            site.grant("ann", small.clone()).await;
            // Metadata added by the policy is not part of the request.
            site.post("ann", small.clone()).await.expect(200);
            let metadata = json!({"x": "y", "ticket": 1});
            assert_eq!(site.row("ann", "one").await["metadata"], metadata);
            small["x"] = json!("z");
            site.post("ann", small)
                .await
                .problem(409, "another request");
        },
    )
    .await;
}

#[tokio::test]
async fn without_a_database_it_says_so() {
    with_defaults(async |site| {
        site.queue.close().await;
        let reply = site
            .post("ann", file("one"))
            .await
            .problem(503, "temporarily unavailable");
        assert!(reply.wait() > 0);
        site.get("ann", "/uploadjobs")
            .await
            .problem(503, "temporarily unavailable");
    })
    .await;
}
