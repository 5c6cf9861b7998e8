//! Pages of other origins, cookies, paths.

use landfall::service::Cors;
use serde_json::json;

use super::site::Site;
use crate::uploads::site::Service;

#[tokio::test(flavor = "multi_thread")]
async fn pages_elsewhere() {
    let cors = Cors::default().allow_origin(|origin| origin == "https://app.example");
    let cors = cors.allow_credentials(true);
    let site = Site::with(Service::Garage, |_| {}, |api| api.cors = Some(cors)).await;
    let path = format!("/t/{}/s3/multipart", site.ann.reveal());
    let preflight = |origin: &str| {
        let ask = site.ask("OPTIONS", &path).with("origin", origin);
        let ask = ask.with("access-control-request-method", "POST");
        ask.with(
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
    let ask = site
        .ann("GET", "/s3/params?filename=a")
        .with("origin", "https://app.example");
    let reply = ask.send().await.expect(200);
    assert_eq!(
        reply.header("access-control-allow-origin").unwrap(),
        "https://app.example"
    );
    assert!(reply.header("vary").unwrap().contains("Origin"));
    // Refusals can be read, too.
    let ask = site
        .ask("GET", "/s3/params?filename=a")
        .with("origin", "https://app.example");
    let reply = ask.send().await.companion(401, "");
    assert_eq!(
        reply.header("access-control-allow-origin").unwrap(),
        "https://app.example"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_pages_with_cookies() {
    let site = Site::start().await;
    let params = || {
        site.ask("GET", "/s3/params?filename=a")
            .with("cookie", "who=ann")
    };
    // Asking opens an upload, although it is a GET.
    params().send().await.companion(403, "application's pages");
    let foreign = params().with("sec-fetch-site", "cross-site");
    foreign.send().await.companion(403, "application's pages");
    let own = params().with("sec-fetch-site", "same-origin");
    own.send().await.expect(200);
    let friend = params().with("origin", "https://app.example");
    friend.send().await.expect(200);
    let body = json!({"filename": "a", "type": ""});
    let begin = || {
        site.ask("POST", "/s3/multipart")
            .with("cookie", "who=ann")
            .json(&body)
    };
    let foreign = begin().with("origin", "https://evil.example");
    foreign.send().await.companion(403, "application's pages");
    let begun = begin()
        .with("sec-fetch-site", "same-origin")
        .send()
        .await
        .expect(200);
    // Signing a part changes nothing.
    let path = format!(
        "/s3/multipart/{}/1?key={}",
        begun.text_of("uploadId"),
        begun.text_of("key")
    );
    site.ask("GET", &path)
        .with("cookie", "who=ann")
        .send()
        .await
        .expect(200);
    site.ask("GET", &path)
        .with("cookie", "who=bob")
        .send()
        .await
        .companion(404, "");
}

#[tokio::test(flavor = "multi_thread")]
async fn below_a_path() {
    let site = Site::with(Service::Garage, |_| {}, |api| api.path = "/direct/".into()).await;
    site.ann("GET", "/direct/s3/params?filename=a")
        .send()
        .await
        .expect(200);
    let token = format!("/direct/t/{}/s3/params?filename=a", site.ann.reveal());
    site.ask("GET", &token).send().await.expect(200);
    site.ann("GET", "/s3/params?filename=a")
        .send()
        .await
        .expect(404);
    site.ann("GET", "/direct/files").send().await.expect(404);
}
