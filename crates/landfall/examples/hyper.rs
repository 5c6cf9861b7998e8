//! Serves uploads with hyper: an adapter turns the handler, a tower service, into a hyper service.

use hyper_util::{rt::TokioIo, service::TowerToHyperService};
use landfall::{Composer, Config, Handler, store::file::FileStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port = args
        .next()
        .and_then(|port| port.parse().ok())
        .unwrap_or(8080);
    let dir = args.next().unwrap_or_else(|| "./data".into());
    let uploads = Handler::new(Config::new(Composer::join(FileStore::new(dir)?)))?;

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let service = TowerToHyperService::new(uploads.clone());
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new()
                // A client may close its sending side and still wait for the response.
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("connection ended: {error}");
            }
        });
    }
}
