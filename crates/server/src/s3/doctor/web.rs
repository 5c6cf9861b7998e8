use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::{
    client::legacy::{Client, connect::HttpConnector},
    rt::TokioExecutor,
};
use landfall_net::{Connector, Proxies};
use landfall_s3::client::root_certificates;

const TIMEOUT: Duration = Duration::from_secs(10);

const MAX_BODY: usize = 1 << 20;

pub(super) async fn send(mut request: Request<()>) -> Result<Response<Bytes>, String> {
    let roots =
        root_certificates(true).map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
    let tls = landfall_net::client_config(roots).map_err(|error| error.to_string())?;
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    let proxies = Proxies::from_env();
    proxies.authorize(&mut request);
    let connector = landfall_net::connector(&tls, proxies, tcp);
    let client: Client<Connector, Empty<Bytes>> =
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
