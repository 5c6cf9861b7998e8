//! A server of its own routes, with uploads below `/files/`: a composer of a store, a locker and a terminater. The
//! same handler has another store below `/scratch/`.

use std::{convert::Infallible, path::PathBuf};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use landfall::{
    BoxError, Composer, Config, Handler,
    event::{self, EventKind, EventKinds},
    lease::{FileLocker, MemoryLocker},
    store::{MemoryStore, file::FileStore},
};

use crate::Result;

fn composer(dir: &std::path::Path) -> Result<Composer> {
    let store = FileStore::new(dir)?;
    let locker = FileLocker::new(store.dir());
    Ok(Composer::join(store.clone())
        .with_locker(locker)
        .with_terminator(store))
}

pub(crate) async fn run(port: u16, dir: PathBuf) -> Result {
    let (sink, mut events) = event::channel(EventKinds::ALL, 64);
    let files = Handler::new(Config::new(composer(&dir.join("uploads"))?).sink(sink))?;
    tokio::spawn(async move {
        while let Some(event) = events.next().await {
            if event.kind == EventKind::Completed {
                println!("upload {} finished", event.upload.id);
            }
            let _ = event.acknowledge().await;
        }
    });
    let memory = Composer::join(MemoryStore::new()).with_locker(MemoryLocker::new());
    let mut config = Config::new(memory);
    config.base_path = "/scratch/".into();
    let scratch = Handler::new(config)?;

    let listener = tokio::net::TcpListener::bind(("127.0.0.1", port)).await?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        let (files, scratch) = (files.clone(), scratch.clone());
        let service = service_fn(move |request| route(request, files.clone(), scratch.clone()));
        tokio::spawn(async move {
            let server = http1::Builder::new();
            let _ = server.serve_connection(TokioIo::new(stream), service).await;
        });
    }
}

async fn route(
    request: Request<Incoming>,
    files: Handler,
    scratch: Handler,
) -> std::result::Result<Response<UnsyncBoxBody<Bytes, BoxError>>, Infallible> {
    let path = request.uri().path();
    let response = if path.starts_with("/files/") {
        files
            .handle(request)
            .await
            .map(|body| body.map_err(Into::into).boxed_unsync())
    } else if path.starts_with("/scratch/") {
        scratch
            .handle(request)
            .await
            .map(|body| body.map_err(Into::into).boxed_unsync())
    } else {
        let page = Full::new(Bytes::from("a page of this server\n"));
        Response::new(page.map_err(|never| match never {}).boxed_unsync())
    };
    Ok(response)
}
