//! A sink of the application writes completions to a file, and uploads come from the pages of one origin only.

use std::{io::Write as _, path::PathBuf};

use axum::Router;
use landfall::{
    BoxError, Config, Handler, async_trait,
    event::{Acknowledgement, Event, EventKinds, EventSink},
    service::Cors,
    store::file::FileStore,
};

/// The file `completed`, one id per line.
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

    /// A completion that could not be written must come again after the next start.
    fn acknowledgement(&self) -> Acknowledgement {
        Acknowledgement::Explicit
    }

    async fn emit(&self, event: Event) {
        let file = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.0);
        let line = format!("{}\n", event.upload.id);
        let written = match file.and_then(|mut file| file.write_all(line.as_bytes())) {
            Ok(()) => event.acknowledge().await.map_err(BoxError::from),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = written {
            eprintln!("{}: {error}", event.upload.id);
        }
    }

    fn emit_progress(&self, _event: Event) {}
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(8080), |port| port.parse())?;
    let dir = PathBuf::from(args.next().unwrap_or_else(|| "./data".into()));

    let mut config = Config::new(FileStore::new(&dir)?).sink(Journal(dir.join("completed")));
    config.cors = Some(
        Cors::default()
            .allow_origin(|origin| origin == "https://app.example.org")
            .allow_credentials(true),
    );
    let uploads = Handler::new(config)?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    axum::serve(listener, Router::new().merge(uploads.router())).await?;
    Ok(())
}
