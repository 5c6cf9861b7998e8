//! Serves uploads at `/files` in an axum application, and shuts down gracefully.
//!
//! ```sh
//! cargo run -p landfall --features axum --example axum
//! curl -i http://127.0.0.1:8080/files/ -H 'Tus-Resumable: 1.0.0' -H 'Upload-Length: 5' \
//!      -H 'Content-Type: application/offset+octet-stream' --data-binary hello
//! ```

use std::{net::SocketAddr, time::Duration};

use axum::{Router, routing::get};
use landfall::{Config, Handler, store::file::FileStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(8080), |port| port.parse())?;
    let dir = args.next().unwrap_or_else(|| "./data".into());
    let uploads = Handler::new(Config::new(FileStore::new(dir)?))?;
    let app = Router::new()
        .route("/", get(|| async { "uploads are below /files/\n" }))
        .merge(uploads.router())
        // Tells hooks the addresses of clients.
        .into_make_service_with_connect_info::<SocketAddr>();
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    let server = axum::serve(listener, app).with_graceful_shutdown(async move {
        let _ = tokio::signal::ctrl_c().await;
        // Ends transfers, for which axum would wait.
        let _ = tokio::time::timeout(Duration::from_secs(10), uploads.shutdown()).await;
    });
    server.await?;
    println!("stopped");
    Ok(())
}
