//! Photos are uploaded, examined, and moved to a library, which has a catalog.

use std::{io::Write as _, path::PathBuf, time::Duration};

use landfall::{
    Config, Handler,
    event::{self, Event, EventKinds},
    store::file::FileStore,
};

use crate::Result;

pub(crate) async fn run(port: u16, dir: PathBuf) -> Result {
    let store = FileStore::new(dir.join("uploads"))?;
    let kinds = EventKinds {
        completed: true,
        ..EventKinds::NONE
    };
    let (sink, mut events) = event::channel(kinds, 64);
    let uploads = Handler::new(Config::new(store.clone()).sink(sink))?;
    let sweeper = uploads.sweeper();
    tokio::spawn(async move { sweeper.run_forever(Duration::from_secs(60)).await });

    std::fs::create_dir_all(dir.join("library"))?;
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if let Err(error) = add(&store, &dir, &event).await {
                eprintln!("{}: {error}", event.upload.id);
            }
        }
    });

    let app = axum::Router::new().merge(uploads.router());
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn add(store: &FileStore, dir: &std::path::Path, event: &Event) -> Result {
    if !event.upload.is_partial() {
        let id = &event.upload.id;
        // Thumbnails, a virus scanner.
        tokio::time::sleep(Duration::from_millis(100)).await;
        store
            .take(id, dir.join("library").join(id.as_str()))
            .await?;
        let mut catalog = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(dir.join("catalog"))?;
        catalog.write_all(format!("{id}\n").as_bytes())?;
    }
    event.acknowledge().await?;
    Ok(())
}
