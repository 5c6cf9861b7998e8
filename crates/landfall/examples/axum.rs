//! Mounts uploads at `/files` in an axum application.
//!
//! ```sh
//! cargo run -p landfall --example axum
//! curl -i http://127.0.0.1:8080/files/ -H 'Tus-Resumable: 1.0.0' -H 'Upload-Length: 5' \
//!      -H 'Content-Type: application/offset+octet-stream' --data-binary hello
//! ```

use std::net::SocketAddr;

use axum::{
    Router,
    extract::{ConnectInfo, Request},
    middleware::{Next, from_fn},
    response::Response,
    routing::get,
};
use landfall::{Composer, Config, Handler, service::Peer, store::file::FileStore};

/// Passes the client's address to the handler; only hooks and trusted proxies need it.
async fn set_peer(
    ConnectInfo(address): ConnectInfo<SocketAddr>,
    mut request: Request,
    next: Next,
) -> Response {
    request.extensions_mut().insert(Peer {
        address: Some(address),
        tls: false,
    });
    next.run(request).await
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (port, dir) = arguments();
    let mut config = Config::new(Composer::join(FileStore::new(dir)?));
    // axum strips "/files" from the path.
    config.nested = true;
    let uploads = Handler::new(config)?;

    let app = Router::new()
        .route("/", get(|| async { "uploads are below /files/\n" }))
        .nest_service("/files", uploads)
        .layer(from_fn(set_peer))
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

/// Returns the port and upload directory, by default `8080` and `./data`.
fn arguments() -> (u16, String) {
    let mut args = std::env::args().skip(1);
    let port = args
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(8080);
    (port, args.next().unwrap_or_else(|| "./data".into()))
}
