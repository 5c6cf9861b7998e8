//! Uploads behind what tower and tower-http offer: a sign-in, a limit of bodies, a time limit.

use std::{path::PathBuf, time::Duration};

use axum::{
    Router,
    extract::Request,
    http::{Method, StatusCode},
    middleware::{self, Next},
    response::{IntoResponse as _, Response},
};
use landfall::{Config, Handler, service::LingeringCloseLayer, store::file::FileStore};
use tower_http::{limit::RequestBodyLimitLayer, timeout::RequestBodyTimeoutLayer};

use crate::Result;

async fn signed_in(request: Request, next: Next) -> Response {
    if request.method() != Method::OPTIONS && request.headers().get("authorization").is_none() {
        return (StatusCode::UNAUTHORIZED, "please sign in\n").into_response();
    }
    next.run(request).await
}

pub(crate) async fn run(port: u16, dir: PathBuf) -> Result {
    let mut config = Config::new(FileStore::new(dir.join("uploads"))?);
    config.limits.max_size = Some(10 << 20);
    let uploads = Handler::new(config)?;
    let app = Router::new()
        .merge(uploads.router())
        .layer(RequestBodyLimitLayer::new(1 << 20))
        .layer(RequestBodyTimeoutLayer::new(Duration::from_millis(500)))
        .layer(middleware::from_fn(signed_in))
        .layer(LingeringCloseLayer::default());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
