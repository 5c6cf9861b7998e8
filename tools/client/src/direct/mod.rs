//! Direct uploads to S3: requests that Landfall signs, for bytes that do not pass it.
//!
//! Credentials, headers and the upload token are sent to the endpoint alone, never to S3.

mod multipart;
mod single;

use http::{Method, header};
use serde::de::DeserializeOwned;
use url::Url;

use crate::{
    Completed, DirectMode, Error,
    http::{Request, Session},
    upload::OpenedUpload,
};

/// Up to this size a file is sent by one request.
const MAX_SINGLE_BYTES: u64 = 64 * 1024 * 1024;

pub(crate) async fn run(mut run: OpenedUpload, mode: DirectMode) -> Result<Completed, Error> {
    let Some(length) = run
        .content
        .length()
        .filter(|_| run.content.try_clone().is_some())
    else {
        let reason = "direct uploads of streams; save the stream to a file first";
        return Err(Error::Unsupported(reason.into()));
    };
    // Routes are below the endpoint.
    if !run.endpoint.path().ends_with('/') {
        let path = format!("{}/", run.endpoint.path());
        run.endpoint.set_path(&path);
    }
    let is_single = match mode {
        DirectMode::Auto => length <= MAX_SINGLE_BYTES,
        DirectMode::Single => true,
        // S3 has no multipart uploads without bytes.
        DirectMode::Multipart => length == 0,
    };
    match is_single {
        true => single::run(run, length).await,
        false => multipart::run(run, length).await,
    }
}

/// Returns the URL of a route.
fn route(endpoint: &Url, path: &str) -> Result<Url, Error> {
    let url = endpoint.join(path);
    url.map_err(|error| Error::Configuration(format!("the endpoint is invalid: {error}")))
}

/// Sends JSON, and returns the JSON of the response.
async fn post<T: DeserializeOwned>(
    session: &Session,
    url: &Url,
    value: &serde_json::Value,
) -> Result<T, Error> {
    let mut response = session.send_json(Method::POST, url.clone(), value).await?;
    parse(&response.read().await?)
}

/// Returns the JSON of a response.
async fn get<T: DeserializeOwned>(session: &Session, url: &Url) -> Result<T, Error> {
    let response = session.send(Request::new(Method::GET, url.clone())).await?;
    let mut response = response.successful().await?;
    parse(&response.read_all().await?)
}

fn parse<T: DeserializeOwned>(text: &[u8]) -> Result<T, Error> {
    serde_json::from_slice(text)
        .map_err(|error| Error::Protocol(format!("the response cannot be read: {error}")))
}

/// Sends prepared content by a signed PUT, and returns the entity tag.
async fn send_content(
    run: &OpenedUpload,
    request: Request,
    offset: u64,
    length: u64,
) -> Result<Option<String>, Error> {
    let mut content = run
        .content
        .try_clone()
        .ok_or_else(|| Error::Unsupported("direct uploads of streams".into()))?;
    content.prepare(offset, None, length).await?;
    let (response, _) = run
        .sender
        .send(request, &mut content, offset, length, 0)
        .await;
    let mut response = response?.successful().await.map_err(|error| match error {
        // The signature has expired, or S3 is about to learn of the key: sign again.
        Error::Unauthorized(rejection) => Error::Unavailable(rejection),
        other => other,
    })?;
    response.read().await?;
    let tag = response.headers.get(header::ETAG);
    Ok(tag.and_then(|tag| tag.to_str().ok()).map(str::to_owned))
}
