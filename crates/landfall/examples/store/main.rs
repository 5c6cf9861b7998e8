//! Serves uploads from a store written from nothing: core, reading and removal in 150 lines.
//! `landfall_testkit::store::conformance` proves it.

mod store;

use axum::Router;
use landfall::{Config, Handler};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let port: u16 = std::env::args()
        .nth(1)
        .map_or(Ok(8080), |port| port.parse())?;
    let uploads = Handler::new(Config::new(store::OwnStore::default()))?;
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    axum::serve(listener, Router::new().merge(uploads.router())).await?;
    Ok(())
}
