//! An upload server with HTTP hooks and at-least-once delivery of events.
//!
//! `cargo run -p landfall-state --example embedded [ENDPOINT [PORT [DIR]]]`

use std::{path::Path, sync::Arc};

use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use landfall::{Composer, Config, Handler, store::file::FileStore};
use landfall_hooks::http::{Http, HttpSettings};
use landfall_hooks::{BlockingHooks, FailureMode, HookName, HookNames, Route, Transport};
use landfall_state::outbox::{Outbox, OutboxSettings};
use landfall_state::sql::Database;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let mut args = std::env::args().skip(1);
    let endpoint = args.next();
    let endpoint = endpoint.unwrap_or_else(|| "http://127.0.0.1:9000/hooks".into());
    let port = args
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(8080);
    let dir = args.next().unwrap_or_else(|| "./data".into());

    let transport: Arc<dyn Transport> = Arc::new(Http::new(HttpSettings::new(endpoint))?);
    let names = HookNames::from_names(&[HookName::PreCreate, HookName::PostFinish]);
    let store = FileStore::new(&dir)?;
    let database = Database::Sqlite(Path::new(&dir).join(".landfall/landfall.db"));
    let route = Route {
        transport: transport.clone(),
        names,
    };
    let outbox = Outbox::open(OutboxSettings::new(database), vec![route]).await?;
    let config = Config::new(Composer::join(store))
        .hook(BlockingHooks::new(transport, names, FailureMode::Deny))
        .sink(outbox.clone());
    let uploads = Handler::new(config)?;
    tokio::spawn(outbox.clone().run(uploads.clone()));

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = tokio::signal::ctrl_c() => break,
        };
        let service = TowerToHyperService::new(uploads.clone());
        tokio::spawn(async move {
            let _ = hyper::server::conn::http1::Builder::new()
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service)
                .await;
        });
    }
    outbox.close().await;
    Ok(())
}
