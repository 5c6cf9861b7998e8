//! Mounting in axum: the paths that clients use are right however the application routes.

use std::{
    convert::Infallible,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request},
    response::Response,
};
use landfall::{
    Config, Handler,
    hook::{CreateDecision, Decision},
    store::MemoryStore,
};
use tower_service::Service;

type Seen = Arc<Mutex<Vec<String>>>;

/// Creates a handler that records the URIs and addresses that its hooks see.
fn uploads(change: impl FnOnce(&mut Config)) -> (Handler, Seen) {
    let seen = Seen::default();
    let (creations, accesses) = (seen.clone(), seen.clone());
    let mut config = Config::new(MemoryStore::new())
        .before_create(move |request, _| {
            let line = format!("{} {}", request.uri, request.remote);
            creations.lock().unwrap().push(line);
            async { Ok(CreateDecision::allow()) }
        })
        .on_access(move |request, access| {
            let line = format!("{} {}", access.intent.as_str(), request.uri);
            accesses.lock().unwrap().push(line);
            async { Ok(Decision::allow()) }
        });
    change(&mut config);
    (Handler::new(config).unwrap(), seen)
}

async fn send(app: &Router, method: &str, uri: &str, headers: &[(&str, &str)]) -> Response {
    let mut request = Request::builder().method(method).uri(uri);
    for (name, value) in [("tus-resumable", "1.0.0"), ("host", "h")]
        .iter()
        .chain(headers)
    {
        request = request.header(*name, *value);
    }
    let mut request = request.body(Body::empty()).unwrap();
    let address: SocketAddr = "192.0.2.1:9".parse().unwrap();
    request.extensions_mut().insert(ConnectInfo(address));
    let sent: Result<_, Infallible> = app.clone().call(request).await;
    sent.unwrap()
}

/// Creates two partial uploads at `path`, concatenates them by their `Location`s, and inspects the result.
async fn carries_uploads(app: &Router, path: &str) {
    let mut parts = Vec::new();
    for _ in 0..2 {
        let headers = [("upload-length", "0"), ("upload-concat", "partial")];
        let created = send(app, "POST", path, &headers).await;
        assert_eq!(created.status(), 201, "{path}");
        parts.push(created.headers()["location"].to_str().unwrap().to_owned());
    }
    let concat = format!("final;{} {}", parts[0], parts[1]);
    let created = send(app, "POST", path, &[("upload-concat", &concat)]).await;
    assert_eq!(created.status(), 201, "{concat}");
    let location = created.headers()["location"].to_str().unwrap();
    let below = format!("http://h{}/", path.trim_end_matches('/'));
    assert!(
        location.starts_with(&below),
        "{location} is not below {below}"
    );
    let target = location.strip_prefix("http://h").unwrap();
    assert_eq!(
        send(app, "HEAD", target, &[]).await.status(),
        200,
        "{target}"
    );
    assert_eq!(send(app, "OPTIONS", target, &[]).await.status(), 200);
    assert_eq!(send(app, "DELETE", target, &[]).await.status(), 204);
}

#[tokio::test]
async fn every_mount_leads_to_the_upload() {
    let base = |path: &str| {
        let path = path.to_owned();
        uploads(move |config| config.base_path = path)
    };
    let (default, _) = uploads(|_| {});
    let (at_root, _) = base("/");
    let (odd, _) = base("/up/x+y/a:b/");
    for (app, path) in [
        (Router::new().merge(default.router()), "/files/"),
        (Router::new().merge(default.router()), "/files"),
        (Router::new().nest("/a/b", default.router()), "/a/b/files/"),
        (
            Router::new().nest_service("/files", default.clone()),
            "/files/",
        ),
        (Router::new().fallback_service(default), "/files/"),
        (Router::new().merge(at_root.router()), "/"),
        (Router::new().nest_service("/up", at_root.clone()), "/up/"),
        (Router::new().nest("/up", at_root.router()), "/up"),
        (Router::new().merge(odd.router()), "/up/x+y/a:b/"),
    ] {
        carries_uploads(&app, path).await;
    }
}

#[tokio::test]
async fn hooks_see_the_target_and_the_address_of_the_client() {
    let (handler, seen) = uploads(|_| {});
    let app = Router::new().nest("/api", handler.router());
    let created = send(&app, "POST", "/api/files?x=1", &[("upload-length", "9")]).await;
    assert_eq!(created.status(), 201);
    assert_eq!(
        *seen.lock().unwrap(),
        ["create /api/files?x=1", "/api/files?x=1 192.0.2.1:9"]
    );
    assert_eq!(send(&app, "GET", "/api/elsewhere", &[]).await.status(), 404);
}
