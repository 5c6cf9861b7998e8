use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Empty;
use landfall_net::{Client, Proxies};
use landfall_s3::client::root_certificates;

const TIMEOUT: Duration = Duration::from_secs(10);

const MAX_BODY: usize = 1 << 20;

pub(super) async fn send(request: Request<()>) -> Result<Response<Bytes>, String> {
    let roots =
        root_certificates(true).map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
    let tls = landfall_net::client_config(roots).map_err(|error| error.to_string())?;
    let client = Client::new(&tls, Proxies::from_env());
    let request = request.map(|()| Empty::<Bytes>::new());
    client.send(request, MAX_BODY, TIMEOUT).await
}
