//! Prints all events, and stops uploads whose name ends in `.exe` while they are being received.

use std::time::Duration;

use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use landfall::{
    Composer, Config, Handler,
    event::{self, EventKind, EventKinds},
    hook::ClientResponse,
    store::file::FileStore,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port = args
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(8080);
    let dir = args.next().unwrap_or_else(|| "./data".into());

    let (sink, mut events) = event::channel(EventKinds::ALL, 1024);
    let mut config = Config::new(Composer::join(FileStore::new(dir)?)).sink(sink);
    config.progress_interval = Duration::from_millis(100);
    let uploads = Handler::new(config)?;
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let name = event
                .upload
                .metadata
                .get_text("filename")
                .unwrap_or_default()
                .into_owned();
            println!(
                "{:?} {} {} bytes",
                event.kind, event.upload.id, event.offset
            );
            if event.kind == EventKind::Progress && name.ends_with(".exe") {
                event.stop(ClientResponse::text(415, "programs are not allowed\n"));
            }
        }
    });

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(uploads.clone());
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
}
