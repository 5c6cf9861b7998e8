//! Users own their uploads: a middleware finds out who sends a request, hooks decide.
//!
//! The middleware rejects nothing. So preflight requests, which carry no credentials, pass, and the
//! responses of the hooks get CORS headers, without which scripts could not read them.

use std::net::SocketAddr;

use axum::{
    Router,
    extract::Request,
    middleware::{Next, from_fn},
    response::Response,
};
use landfall::{
    Config, Handler,
    hook::{ClientResponse, CreateDecision, Decision},
    store::file::FileStore,
};

#[derive(Debug, Clone)]
struct User(String);

/// Takes the token for the user's name. A real application would check a session or a JWT.
async fn identify(mut request: Request, next: Next) -> Response {
    let authorization = request.headers().get("authorization");
    let token = authorization.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    if let Some(name) = token.map(str::to_owned) {
        request.extensions_mut().insert(User(name));
    }
    next.run(request).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(8080), |port| port.parse())?;
    let dir = args.next().unwrap_or_else(|| "./data".into());

    let config = Config::new(FileStore::new(dir)?)
        .on_access(|request, access| async move {
            let Some(User(name)) = request.extensions.get() else {
                return Ok(Decision::Deny(ClientResponse::text(
                    401,
                    "please sign in\n",
                )));
            };
            let found = access.upload().await?;
            Ok(
                match found.and_then(|found| found.upload.labels.get("owner")) {
                    Some(owner) if owner != name => {
                        Decision::Deny(ClientResponse::text(403, "this upload is not yours\n"))
                    }
                    _ => Decision::allow(),
                },
            )
        })
        .before_create(|request, _| async move {
            let Some(User(name)) = request.extensions.get() else {
                return Err("on_access has denied this".into());
            };
            println!("{name} creates at {} from {}", request.uri, request.remote);
            Ok(CreateDecision::allow().label("owner", name))
        });
    let app = Router::new()
        .nest("/api", Handler::new(config)?.router())
        .layer(from_fn(identify))
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/api/files/", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
