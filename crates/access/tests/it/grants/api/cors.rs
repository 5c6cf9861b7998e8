//! Paths, methods, origins.

use landfall::service::Cors;
use serde_json::json;

use super::harness::{everywhere, with_defaults};

#[tokio::test]
async fn paths_and_methods() {
    with_defaults(async |site| {
        let body = json!({"id": "1", "filename": "a"});
        let ask = site.ask("POST", "/uploadjobs/").by("ann");
        ask.json(body.clone()).send().await.expect(201);
        assert_eq!(
            site.get("ann", "/uploadjobs/").await.expect(200).json[0]["request_id"],
            "1"
        );
        for path in ["/", "/uploadjob", "/uploadjobs/1/2", "/uploadjobsx"] {
            site.get("ann", path).await.problem(404, "not found");
        }
        for (method, path, allowed) in [
            ("DELETE", "/uploadjobs", ["GET", "POST"]),
            ("PUT", "/uploadjobs/", ["GET", "POST"]),
            ("POST", "/uploadjobs/1", ["GET", "DELETE"]),
            ("PATCH", "/uploadjobs/1", ["GET", "DELETE"]),
            ("POST", "/uploadjobs/events", ["GET", "HEAD"]),
        ] {
            let reply = site
                .ask(method, path)
                .by("ann")
                .send()
                .await
                .problem(405, "method");
            let allow = reply.header("allow").unwrap();
            for method in allowed {
                assert!(
                    allow.split(',').any(|one| one.trim() == method),
                    "{path}: {allow}"
                );
            }
        }
        let head = site
            .ask("HEAD", "/uploadjobs/1")
            .by("ann")
            .send()
            .await
            .expect(200);
        assert_eq!(head.text, "");
        let reply = site.get("ann", "/uploadjobs/1").await;
        assert_eq!(reply.header("x-content-type-options").unwrap(), "nosniff");
        assert_eq!(reply.header("content-type").unwrap(), "application/json");
    })
    .await;
}

#[tokio::test]
async fn another_path() {
    for path in ["/api/v1/uploads/", "/"] {
        everywhere(
            |plan| plan.api(move |api| api.path = path.into()),
            async |site| {
                let body = json!({"id": "1", "filename": "a"});
                let ask = site.ask("POST", path).by("ann");
                ask.json(body).send().await.expect(201);
                site.get("ann", &format!("{path}1")).await.expect(200);
                let bare = path.trim_end_matches('/');
                if !bare.is_empty() {
                    site.get("ann", bare).await.expect(200);
                    site.get("ann", "/uploadjobs")
                        .await
                        .problem(404, "not found");
                }
            },
        )
        .await;
    }
}

#[tokio::test]
async fn pages_of_other_origins() {
    let cors = Cors::default()
        .allow_origin(|origin| origin == "https://app.example")
        .allow_credentials(true);
    everywhere(
        |plan| {
            let cors = cors.clone();
            plan.api(|api| api.cors = Some(cors));
        },
        async |site| {
            let preflight = |origin: &str| {
                let ask = site.ask("OPTIONS", "/uploadjobs/1").with("origin", origin);
                ask.with("access-control-request-method", "DELETE")
            };
            let reply = preflight("https://app.example").send().await.expect(204);
            let header = |name: &str| reply.header(name).unwrap();
            assert_eq!(header("access-control-allow-origin"), "https://app.example");
            assert_eq!(header("access-control-allow-credentials"), "true");
            assert!(header("access-control-allow-methods").contains("DELETE"));
            let headers = header("access-control-allow-headers");
            for name in [
                "Authorization",
                "Content-Type",
                "Last-Event-ID",
                "Upload-Token",
                "X-CSRF-TOKEN",
                "X-Requested-With",
                "X-XSRF-TOKEN",
            ] {
                let names: Vec<_> = headers.split(',').map(str::trim).collect();
                assert!(names.contains(&name), "{headers}");
            }
            preflight("https://evil.example")
                .send()
                .await
                .problem(403, "origin");

            let ask = site
                .ask("GET", "/uploadjobs")
                .by("ann")
                .with("origin", "https://app.example");
            let reply = ask.send().await.expect(200);
            let exposed = reply.header("access-control-expose-headers").unwrap();
            for name in ["Link", "Retry-After"] {
                assert!(exposed.contains(name), "{exposed}");
            }
            // Allowed origins can read errors.
            let ask = site
                .ask("GET", "/uploadjobs")
                .with("origin", "https://app.example");
            let reply = ask.send().await.problem(401, "");
            let origin = reply.header("access-control-allow-origin");
            assert_eq!(origin.unwrap(), "https://app.example");
            let ask = site
                .ask("GET", "/uploadjobs")
                .by("ann")
                .with("origin", "https://evil.example");
            let reply = ask.send().await.problem(403, "origin");
            assert_eq!(reply.header("access-control-allow-origin"), None);
        },
    )
    .await;
    with_defaults(async |site| {
        let ask = site
            .ask("GET", "/uploadjobs")
            .by("ann")
            .with("origin", "https://x.example");
        let reply = ask.send().await.expect(200);
        assert_eq!(reply.header("access-control-allow-origin"), None);
        let reply = site.ask("OPTIONS", "/uploadjobs").send().await.expect(204);
        assert!(reply.header("allow").unwrap().contains("POST"));
    })
    .await;
}
