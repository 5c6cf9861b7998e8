use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};

const TIMEOUT: Duration = Duration::from_secs(10);

const MAX_BODY: usize = 1 << 20;

pub(super) async fn send(request: Request<()>) -> Result<Response<Bytes>, String> {
    let connector = HttpsConnectorBuilder::new()
        .with_native_roots()
        .map_err(|error| format!("cannot read the certificates of this machine: {error}"))?
        .https_or_http()
        .enable_http1()
        .build();
    let client: Client<hyper_rustls::HttpsConnector<HttpConnector>, Empty<Bytes>> =
        Client::builder(TokioExecutor::new()).build(connector);
    let exchange = async {
        let response = client.request(request.map(|()| Empty::new())).await;
        let response = response.map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
        let (parts, body) = response.into_parts();
        let body = Limited::new(body, MAX_BODY).collect().await;
        let body = body.map_err(|error| error.to_string())?;
        Ok(Response::from_parts(parts, body.to_bytes()))
    };
    let response = tokio::time::timeout(TIMEOUT, exchange).await;
    response.unwrap_or_else(|_| Err(format!("no response within {} s", TIMEOUT.as_secs())))
}
