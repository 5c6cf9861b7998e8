//! Removes unfinished uploads a day after their last byte (third argument: the lifetime in seconds).
//!
//! The handler is mounted at `/files` in an axum application. Layers in front of it set the peer and the
//! user, which a hook reads.

use std::{net::SocketAddr, time::Duration};

use async_trait::async_trait;
use axum::{
    Router,
    extract::{ConnectInfo, Request},
    middleware::{Next, from_fn},
    response::Response,
};
use landfall::{
    BoxError, Composer, Config, Handler,
    hook::{ClientResponse, CreateDecision, Hook, HookPoints, RequestInfo},
    service::Peer,
    store::file::FileStore,
    upload::Upload,
};

#[derive(Debug, Clone)]
struct User(String);

/// Reads the user's name from a header. A real application would check a session here, except for
/// OPTIONS, because browsers send no credentials with it.
async fn identify(
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    let name = request.headers().get("x-user").cloned();
    let extensions = request.extensions_mut();
    if let Some(name) = name.as_ref().and_then(|name| name.to_str().ok()) {
        extensions.insert(User(name.to_owned()));
    }
    extensions.insert(Peer {
        address: Some(address),
        tls: false,
    });
    next.run(request).await
}

/// Allows uploads only for users, and stores the user's name as a label.
#[derive(Debug)]
struct UsersOnly;

#[async_trait]
impl Hook for UsersOnly {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_create: true,
            ..HookPoints::default()
        }
    }

    async fn before_create(
        &self,
        request: &RequestInfo,
        _: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        Ok(match request.extensions.get::<User>() {
            None => CreateDecision::deny(ClientResponse::text(401, "authentication required\n")),
            Some(User(name)) => {
                println!("{name} creates at {} from {}", request.uri, request.remote);
                CreateDecision::allow().label("user", name)
            }
        })
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(8080), |port| port.parse())?;
    let dir = args.next().unwrap_or_else(|| "./data".into());
    let lifetime = args.next().map_or(Ok(24 * 3600), |time| time.parse())?;
    let lifetime = Duration::from_secs(lifetime);

    let mut config = Config::new(Composer::join(FileStore::new(dir)?)).hook(UsersOnly);
    config.nested = true;
    config.lifetimes.unfinished = Some(lifetime);
    let uploads = Handler::new(config)?;
    // Without a sweeper, expired uploads return 410 but keep their bytes.
    let sweeper = uploads.sweeper();
    let interval = lifetime.min(Duration::from_secs(60));
    tokio::spawn(async move { sweeper.run_forever(interval).await });

    let app = Router::new()
        .nest_service("/files", uploads)
        .layer(from_fn(identify))
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
