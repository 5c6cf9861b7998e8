//! Cross-origin requests, cookies, and paths.

use landfall::service::Cors;
use serde_json::json;

use super::harness::Harness;
use crate::uploads::harness::Service;

#[tokio::test(flavor = "multi_thread")]
async fn cors_allows_configured_origins() {
    let cors = Cors::default().allow_origin(|origin| origin == "https://app.example");
    let cors = cors.allow_credentials(true);
    let harness = Harness::with(Service::Garage, |_| {}, |api| api.cors = Some(cors)).await;
    let path = format!("/t/{}/s3/multipart", harness.ann.reveal());
    let preflight = |origin: &str| {
        let request = harness.request("OPTIONS", &path).with("origin", origin);
        let request = request.with("access-control-request-method", "POST");
        request.with(
            "access-control-request-headers",
            "content-type,uppy-auth-token",
        )
    };
    let reply = preflight("https://app.example").send().await.expect(204);
    let list = |name: &str| reply.header(name).unwrap_or_default().to_lowercase();
    assert_eq!(list("access-control-allow-origin"), "https://app.example");
    assert_eq!(list("access-control-allow-credentials"), "true");
    for method in ["get", "post", "delete"] {
        assert!(list("access-control-allow-methods").contains(method));
    }
    for name in [
        "uppy-auth-token",
        "uppy-credentials-params",
        "authorization",
        "content-type",
        "accept",
        "upload-token",
        "origin",
    ] {
        let headers = list("access-control-allow-headers");
        assert!(
            headers.split(", ").any(|header| header == name),
            "{name}: {headers}"
        );
    }
    preflight("https://evil.example")
        .send()
        .await
        .companion(403, "this origin");
    let request = harness
        .ann("GET", "/s3/params?filename=a")
        .with("origin", "https://app.example");
    let reply = request.send().await.expect(200);
    assert_eq!(
        reply.header("access-control-allow-origin").unwrap(),
        "https://app.example"
    );
    assert!(reply.header("vary").unwrap().contains("Origin"));
    // Error responses can be read, too.
    let request = harness
        .request("GET", "/s3/params?filename=a")
        .with("origin", "https://app.example");
    let reply = request.send().await.companion(401, "");
    assert_eq!(
        reply.header("access-control-allow-origin").unwrap(),
        "https://app.example"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn cross_site_requests_with_cookies_are_rejected() {
    let harness = Harness::start().await;
    let params = || {
        harness
            .request("GET", "/s3/params?filename=a")
            .with("cookie", "who=ann")
    };
    // The request opens an upload although it is a GET.
    params().send().await.companion(403, "cross-site request");
    let other = params().with("sec-fetch-site", "cross-site");
    other.send().await.companion(403, "cross-site request");
    let own = params().with("sec-fetch-site", "same-origin");
    own.send().await.expect(200);
    let friend = params().with("origin", "https://app.example");
    friend.send().await.expect(200);
    let body = json!({"filename": "a", "type": ""});
    let begin = || {
        harness
            .request("POST", "/s3/multipart")
            .with("cookie", "who=ann")
            .json(&body)
    };
    let other = begin().with("origin", "https://evil.example");
    other.send().await.companion(403, "cross-site request");
    let created = begin()
        .with("sec-fetch-site", "same-origin")
        .send()
        .await
        .expect(200);
    // Signing a part changes nothing.
    let path = format!(
        "/s3/multipart/{}/1?key={}",
        created.text_of("uploadId"),
        created.text_of("key")
    );
    harness
        .request("GET", &path)
        .with("cookie", "who=ann")
        .send()
        .await
        .expect(200);
    harness
        .request("GET", &path)
        .with("cookie", "who=bob")
        .send()
        .await
        .companion(404, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_exist_below_a_path_prefix() {
    let harness = Harness::with(Service::Garage, |_| {}, |api| api.path = "/direct/".into()).await;
    harness
        .get("/direct/s3/params?filename=a")
        .await
        .expect(200);
    let token = format!("/direct/t/{}/s3/params?filename=a", harness.ann.reveal());
    harness.request("GET", &token).send().await.expect(200);
    harness.get("/s3/params?filename=a").await.expect(404);
    harness.get("/direct/files").await.expect(404);
}
