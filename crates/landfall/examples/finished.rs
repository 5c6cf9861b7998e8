//! Moves finished files to the folder `finished`: none is lost if the program is killed, and a client that missed
//! the last response does not send its file again.

use std::{path::Path, time::Duration};

use axum::Router;
use landfall::{
    BoxError, Config, Handler,
    event::{self, Event, EventKinds},
    store::file::FileStore,
};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(8080), |port| port.parse())?;
    let dir = args.next().unwrap_or_else(|| "./data".into());
    // On the same file system.
    let folder = Path::new(&dir).join("finished");
    std::fs::create_dir_all(&folder)?;

    let store = FileStore::new(Path::new(&dir).join("uploads"))?;
    let kinds = EventKinds {
        completed: true,
        ..EventKinds::NONE
    };
    let (sink, mut events) = event::channel(kinds, 64);
    let uploads = Handler::new(Config::new(store.clone()).sink(sink))?;
    // Removes the descriptions of moved files after a week.
    let sweeper = uploads.sweeper();
    tokio::spawn(async move { sweeper.run_forever(Duration::from_secs(60)).await });
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Err(error) = process(&store, &folder, &event).await {
                // It is emitted again after the next start.
                eprintln!("{}: {error}", event.upload.id);
            }
        }
    });

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    axum::serve(listener, Router::new().merge(uploads.router())).await?;
    Ok(())
}

/// May be called twice for an upload, with the same result.
async fn process(store: &FileStore, folder: &Path, event: &Event) -> Result<(), BoxError> {
    let upload = &event.upload;
    // The parts of a parallel upload are removed with the whole.
    if !upload.is_partial() {
        store
            .take(&upload.id, folder.join(upload.id.as_str()))
            .await?;
        println!("finished {}", upload.id);
    }
    event.acknowledge().await?;
    Ok(())
}
