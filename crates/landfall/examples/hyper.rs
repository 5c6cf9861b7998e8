//! Serves uploads with hyper: an adapter turns the handler, a tower service, into a hyper service.

use hyper::{Request, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use landfall::{Config, Handler, service::Peer, store::file::FileStore};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut args = std::env::args().skip(1);
    let port: u16 = args.next().map_or(Ok(8080), |port| port.parse())?;
    let dir = args.next().unwrap_or_else(|| "./data".into());
    let uploads = Handler::new(Config::new(FileStore::new(dir)?))?;

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on http://{}/files/", listener.local_addr()?);
    loop {
        let (stream, address) = listener.accept().await?;
        let uploads = uploads.clone();
        let service = service_fn(move |mut request: Request<_>| {
            let uploads = uploads.clone();
            // Tells hooks the client's address.
            request.extensions_mut().insert(Peer {
                address: Some(address),
                tls: false,
            });
            async move { Ok::<_, std::convert::Infallible>(uploads.handle(request).await) }
        });
        tokio::spawn(async move {
            let connection = http1::Builder::new()
                // Clients that close their sending side after the body still get the response.
                .half_close(true)
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                eprintln!("connection ended: {error}");
            }
        });
    }
}
