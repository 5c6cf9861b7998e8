//! Prints all events, and stops uploads whose name ends in `.exe` while they are being received.

use std::time::Duration;

use axum::Router;
use landfall::{
    Config, Handler,
    event::{self, EventKind, EventKinds},
    hook::ClientResponse,
    store::file::FileStore,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(8080), |port| port.parse())?;
    let dir = args.next().unwrap_or_else(|| "./data".into());

    let (sink, mut events) = event::channel(EventKinds::ALL, 1024);
    let mut config = Config::new(FileStore::new(dir)?).sink(sink);
    config.progress_interval = Duration::from_millis(100);
    let uploads = Handler::new(config)?;
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let (kind, upload) = (event.kind, &event.upload);
            println!("{} {} {} bytes", kind.as_str(), upload.id, event.offset);
            let name = upload.metadata.get_text("filename").unwrap_or_default();
            if kind == EventKind::Progress && name.ends_with(".exe") {
                event.stop(ClientResponse::text(415, "programs are not allowed\n"));
            }
            // A completion is emitted again after a start until it is acknowledged.
            if let Err(error) = event.acknowledge().await {
                eprintln!("{}: {error}", upload.id);
            }
        }
    });

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    axum::serve(listener, Router::new().merge(uploads.router())).await?;
    Ok(())
}
