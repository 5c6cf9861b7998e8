//! A plain HTTP client without knowledge of S3.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::{client::legacy::Client as Plain, rt::TokioExecutor};
use landfall_s3::client::PostPolicy;

pub(super) type RawResponse = (StatusCode, HeaderMap, Bytes);

pub(super) async fn send(
    method: Method,
    url: &str,
    headers: &HeaderMap,
    body: impl Into<Bytes>,
) -> RawResponse {
    let mut request = Request::new(Full::new(body.into()));
    *request.method_mut() = method;
    *request.uri_mut() = url.parse().unwrap();
    request.headers_mut().extend(headers.clone());
    let client = Plain::builder(TokioExecutor::new()).build_http();
    let (head, body) = client.request(request).await.unwrap().into_parts();
    (
        head.status,
        head.headers,
        body.collect().await.unwrap().to_bytes(),
    )
}

/// Sends a form as browsers do, with `file` as the last field.
pub(super) async fn post(form: &PostPolicy, file: &[u8]) -> RawResponse {
    const BOUNDARY: &str = "----landfall-test-2d1c8f";
    let mut body = String::new();
    for (name, value) in &form.fields {
        body.push_str(&format!(
            "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"{name}\"\r\n\r\n{value}\r\n"
        ));
    }
    body.push_str(&format!(
        "--{BOUNDARY}\r\nContent-Disposition: form-data; name=\"file\"; filename=\"x.bin\"\r\n\
         Content-Type: application/x-not-this\r\n\r\n"
    ));
    let mut body = body.into_bytes();
    body.extend_from_slice(file);
    body.extend_from_slice(format!("\r\n--{BOUNDARY}--\r\n").as_bytes());
    let mut headers = HeaderMap::new();
    let content_type = format!("multipart/form-data; boundary={BOUNDARY}");
    headers.insert("content-type", HeaderValue::try_from(content_type).unwrap());
    send(Method::POST, &form.url, &headers, body).await
}
