//! Removes unfinished uploads a day after their last byte (third argument: the lifetime in seconds).

use std::time::Duration;

use axum::Router;
use landfall::{Config, Handler, store::file::FileStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(8080), |port| port.parse())?;
    let dir = args.next().unwrap_or_else(|| "./data".into());
    let lifetime = args.next().map_or(Ok(24 * 3600), |time| time.parse())?;
    let lifetime = Duration::from_secs(lifetime);

    let mut config = Config::new(FileStore::new(dir)?);
    config.lifetimes.unfinished = Some(lifetime);
    let uploads = Handler::new(config)?;
    // Without a sweeper, expired uploads return 410 but keep their bytes.
    let sweeper = uploads.sweeper();
    let interval = lifetime.min(Duration::from_secs(60));
    tokio::spawn(async move { sweeper.run_forever(interval).await });

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    axum::serve(listener, Router::new().merge(uploads.router())).await?;
    Ok(())
}
