//! Serves uploads with a locker written from nothing. `landfall_testkit::locker::conformance` proves it.

mod locker;

use axum::Router;
use landfall::{Composer, Config, Handler, store::file::FileStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(8080), |port| port.parse())?;
    let dir = args.next().unwrap_or_else(|| "./data".into());
    let store = Composer::join(FileStore::new(dir)?).with_locker(locker::OwnLocker::default());
    let uploads = Handler::new(Config::new(store))?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    axum::serve(listener, Router::new().merge(uploads.router())).await?;
    Ok(())
}
