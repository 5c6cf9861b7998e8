//! The same on hyper.

use std::{convert::Infallible, io, sync::Arc};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::{
    Method, Request, Response, StatusCode, body::Incoming, header::HeaderValue,
    server::conn::http1, service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::store::{Append, Store};

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Responds to the requests of one connection.
pub(crate) async fn connection(stream: TcpStream, store: Arc<Store>) -> io::Result<()> {
    let service = service_fn(|request| {
        let store = Arc::clone(&store);
        async move {
            Ok::<_, Infallible>(respond(request, &store).await.unwrap_or_else(|error| {
                let text = error.to_string();
                let mut response = Response::new(Full::from(text));
                *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
                response
            }))
        }
    });
    let connection = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    connection.await.map_err(io::Error::other)
}

async fn respond(request: Request<Incoming>, store: &Store) -> Result<Response<Full<Bytes>>> {
    let id = request.uri().path().rsplit('/').next().unwrap_or_default();
    let mut response = Response::new(Full::default());
    let mut offset = None;
    match *request.method() {
        Method::OPTIONS => {
            *response.status_mut() = StatusCode::NO_CONTENT;
            let extensions = HeaderValue::from_static("creation,creation-with-upload");
            response.headers_mut().insert("tus-extension", extensions);
        }
        Method::HEAD => {
            offset = Some(store.offset(id)?);
            let no_store = HeaderValue::from_static("no-store");
            response.headers_mut().insert("cache-control", no_store);
        }
        Method::GET => *response.body_mut() = store.read(id)?.into(),
        Method::POST => {
            let (id, end) = receive(request.into_body(), store.create()?, store).await?;
            *response.status_mut() = StatusCode::CREATED;
            let location = HeaderValue::from_str(&format!("/files/{id}"))?;
            response.headers_mut().insert("location", location);
            offset = Some(end);
        }
        Method::PATCH => {
            let start = request.headers().get("upload-offset");
            let start = start.ok_or("no Upload-Offset")?.to_str()?.parse()?;
            let append = store.append(id, start)?;
            *response.status_mut() = StatusCode::NO_CONTENT;
            offset = Some(receive(request.into_body(), append, store).await?.1);
        }
        _ => *response.status_mut() = StatusCode::METHOD_NOT_ALLOWED,
    }
    if let Some(offset) = offset {
        let offset = HeaderValue::from(offset);
        response.headers_mut().insert("upload-offset", offset);
    }
    Ok(response)
}

async fn receive(mut body: Incoming, mut append: Append, store: &Store) -> Result<(String, u64)> {
    while let Some(frame) = body.frame().await {
        if let Some(bytes) = frame?.data_ref() {
            append.write(bytes)?;
        }
    }
    Ok(store.end(append))
}
