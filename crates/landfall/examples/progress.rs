//! Shows all uploads as server-sent events: `curl -N http://127.0.0.1:8080/progress`.

use std::convert::Infallible;

use axum::{
    Router,
    extract::State,
    response::sse::{self, KeepAlive, Sse},
    routing::get,
};
use futures_util::{Stream, stream};
use landfall::{
    Config, Handler,
    event::{self, Event, EventKinds},
    store::file::FileStore,
};
use tokio::sync::broadcast::{Sender, error::RecvError};

async fn progress(
    State(sender): State<Sender<Event>>,
) -> Sse<impl Stream<Item = Result<sse::Event, Infallible>>> {
    let events = stream::unfold(sender.subscribe(), |mut receiver| async move {
        let event = loop {
            match receiver.recv().await {
                Ok(event) => break event,
                // A slow listener misses events.
                Err(RecvError::Lagged(_)) => {}
                Err(RecvError::Closed) => return None,
            }
        };
        let (id, length) = (event.upload.id.as_str(), event.upload.length);
        let data = serde_json::json!({ "id": id, "offset": event.offset, "length": length });
        let message = sse::Event::default().event(event.kind.as_str());
        Some((Ok(message.data(data.to_string())), receiver))
    });
    Sse::new(events).keep_alive(KeepAlive::default())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(8080), |port| port.parse())?;
    let dir = args.next().unwrap_or_else(|| "./data".into());

    let (sink, mut events) = event::channel(EventKinds::ALL, 1024);
    // A display may miss events.
    let sink = sink.without_acknowledgement();
    let uploads = Handler::new(Config::new(FileStore::new(dir)?).sink(sink))?;
    let sender = Sender::new(256);
    let listeners = sender.clone();
    // Polls the stream at any time: while it is full, requests wait.
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            let _ = listeners.send(event);
        }
    });
    let app = Router::new()
        .route("/progress", get(progress))
        .merge(uploads.router())
        .with_state(sender);
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    axum::serve(listener, app).await?;
    Ok(())
}
