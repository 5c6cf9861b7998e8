//! Completions are written to a journal by a sink of the application.

use std::{io::Write as _, path::PathBuf, time::Duration};

use landfall::{
    Config, Handler, async_trait,
    event::{Event, EventKinds, EventSink},
    store::file::FileStore,
};

use crate::Result;

#[derive(Debug)]
struct Journal(PathBuf);

#[async_trait]
impl EventSink for Journal {
    fn event_kinds(&self) -> EventKinds {
        EventKinds {
            completed: true,
            ..EventKinds::NONE
        }
    }

    async fn emit(&self, event: Event) {
        println!("emitting {}", event.upload.id);
        // The journal is far away.
        tokio::time::sleep(Duration::from_millis(200)).await;
        let journal = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.0);
        let line = format!("{}\n", event.upload.id);
        if let Err(error) = journal.and_then(|mut journal| journal.write_all(line.as_bytes())) {
            eprintln!("{error}");
        }
    }

    fn emit_progress(&self, _event: Event) {}
}

pub(crate) async fn run(port: u16, dir: PathBuf) -> Result {
    let store = FileStore::new(dir.join("uploads"))?;
    let uploads = Handler::new(Config::new(store).sink(Journal(dir.join("journal"))))?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    axum::serve(listener, axum::Router::new().merge(uploads.router())).await?;
    Ok(())
}
