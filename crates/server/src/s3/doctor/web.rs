//! Sends requests as pages do: by presigned URLs, without the client's retries.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, request::Builder};
use http_body_util::Empty;
use landfall_net::{Client, Proxies};
use landfall_s3::client::{ObjectRef, root_certificates};

use super::Doctor;
use crate::diagnosis::error_line;

const TIMEOUT: Duration = Duration::from_secs(10);

const MAX_BODY: usize = 1 << 20;

impl Doctor<'_> {
    /// Sends a request to an object, by a URL that is signed for this method and these headers.
    pub(super) async fn send(
        &self,
        object: &ObjectRef,
        query: &[(&str, &str)],
        (method, headers): (Method, HeaderMap),
        request: Builder,
    ) -> Result<Response<Bytes>, String> {
        let signed = self.presign(method, object, query, &headers).await;
        let url = signed.map_err(|error| error_line(&error))?;
        let request = request.uri(url).body(Empty::<Bytes>::new());
        let request = request.map_err(|error| error.to_string())?;
        let roots =
            root_certificates(true).map_err(|error| format!("{:#}", anyhow::Error::new(error)))?;
        let tls = landfall_net::client_config(roots).map_err(|error| error.to_string())?;
        let client = Client::new(&tls, Proxies::from_env());
        client.send(request, MAX_BODY, TIMEOUT).await
    }
}
