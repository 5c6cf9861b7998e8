//! Custom routes: uploads are created at `/videos`, are at `/videos/by-id/ID`, and are watched at
//! `/watch/ID`.

use axum::{
    Router,
    extract::{Path, Request, State},
    routing::{any, get},
};
use http::Response;
use landfall::{Config, Handler, LocationStyle, service::ResponseBody, store::file::FileStore};

/// Requests on the creation URL: POST and OPTIONS.
async fn collection(State(uploads): State<Handler>, request: Request) -> Response<ResponseBody> {
    uploads.handle_at(None, request).await
}

/// Requests on an upload: HEAD, PATCH, GET, DELETE and OPTIONS, also as a POST with `X-HTTP-Method-Override`.
async fn upload(
    State(uploads): State<Handler>,
    Path(id): Path<String>,
    request: Request,
) -> Response<ResponseBody> {
    uploads.handle_at(Some(&id), request).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(8080), |port| port.parse())?;
    let dir = args.next().unwrap_or_else(|| "./data".into());

    let mut config = Config::new(FileStore::new(dir)?);
    // What `Location` starts with.
    config.base_path = "/videos/by-id/".into();
    config.location = LocationStyle::Relative;
    let app = Router::new()
        .route("/videos", any(collection))
        .route("/videos/by-id/{*id}", any(upload))
        .route("/watch/{*id}", get(upload))
        .with_state(Handler::new(config)?);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/videos", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
