//! Requests to the endpoint, and to the targets of its redirects.

use std::{sync::OnceLock, time::UNIX_EPOCH};

use crate::Message;
use base64::{Engine, prelude::BASE64_STANDARD};
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use percent_encoding::percent_decode_str;
use url::Url;

use super::{Http, settings::sign};
use crate::{SettingsError, format};

const HOOK_NAME: HeaderName = HeaderName::from_static("hook-name");
const SEQUENCE: HeaderName = HeaderName::from_static("landfall-sequence");
const WEBHOOK_ID: HeaderName = HeaderName::from_static("webhook-id");
const WEBHOOK_TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const WEBHOOK_SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("landfall/", env!("CARGO_PKG_VERSION")));

/// Headers that are not forwarded: those of the connection, of the body and Landfall's own.
static RESERVED: [HeaderName; 19] = [
    HOOK_NAME,
    SEQUENCE,
    WEBHOOK_ID,
    WEBHOOK_TIMESTAMP,
    WEBHOOK_SIGNATURE,
    // Encoded responses are not decoded.
    header::ACCEPT_ENCODING,
    header::CONNECTION,
    header::CONTENT_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::EXPECT,
    header::HOST,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
];

pub(super) fn is_reserved(name: &HeaderName) -> bool {
    RESERVED.contains(name)
}

#[derive(Debug)]
pub(super) struct HttpCall<'a> {
    pub(super) http: &'a Http,
    pub(super) message: &'a Message,
    pub(super) body: Bytes,
    /// The body for other origins; created when first needed.
    pub(super) cross_origin_body: OnceLock<Bytes>,
}

impl HttpCall<'_> {
    /// Returns the body for the endpoint's origin, or for another one, which gets no credentials.
    fn body(&self, is_same_origin: bool) -> Bytes {
        if is_same_origin {
            return self.body.clone();
        }
        let cross_origin = self.cross_origin_body.get_or_init(|| {
            let message = self.message.for_other_origin();
            format::body(self.http.settings.format, &message).into()
        });
        cross_origin.clone()
    }
}

#[derive(Debug, Clone)]
pub(super) struct Hop {
    pub(super) url: Url,
    pub(super) uri: Uri,
    /// True if the request is a POST with the body; otherwise it is a GET.
    has_body: bool,
    /// Whether no earlier hop left the endpoint's origin. Only then are credentials sent.
    is_same_origin: bool,
}

#[derive(Debug, thiserror::Error)]
#[error("invalid redirect of the hook endpoint: {0}")]
pub(super) struct InvalidRedirect(&'static str);

impl Hop {
    pub(super) fn first(endpoint: &Endpoint) -> Self {
        Self {
            url: endpoint.url.clone(),
            uri: endpoint.uri.clone(),
            has_body: true,
            is_same_origin: true,
        }
    }

    pub(super) fn next(
        &self,
        endpoint: &Endpoint,
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Result<Option<Self>, InvalidRedirect> {
        let Some(location) = redirect_location(status, headers) else {
            return Ok(None);
        };
        let location = location.to_str();
        let location = location.map_err(|_| InvalidRedirect("its Location is not text"))?;
        let url = self.url.join(location);
        let mut url = url.map_err(|_| InvalidRedirect("its Location is not a URL"))?;
        match (self.url.scheme(), url.scheme()) {
            ("https", "http") => return Err(InvalidRedirect("it leads from https to http")),
            (_, "http" | "https") => {}
            _ => return Err(InvalidRedirect("it leads to neither http nor https")),
        }
        url.set_fragment(None);
        // Credentials come from the settings only.
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        let uri = cleared.ok().and_then(|()| uri_of(&url));
        let uri = uri.ok_or(InvalidRedirect("its Location is not a URL"))?;
        let repeats = matches!(status.as_u16(), 307 | 308);
        Ok(Some(Self {
            has_body: self.has_body && repeats,
            is_same_origin: self.is_same_origin && endpoint.url.origin() == url.origin(),
            url,
            uri,
        }))
    }

    pub(super) fn is_at(&self, endpoint: &Endpoint) -> bool {
        let (url, other) = (&self.url, &endpoint.url);
        url.host() == other.host() && url.port_or_known_default() == other.port_or_known_default()
    }

    pub(super) fn request(&self, call: &HttpCall<'_>) -> Request<Full<Bytes>> {
        let (message, http) = (call.message, call.http);
        let secrets = &http.settings.secrets;
        let (method, body) = if self.has_body {
            (Method::POST, call.body(self.is_same_origin))
        } else {
            (Method::GET, Bytes::new())
        };
        let mut headers = HeaderMap::with_capacity(12);
        headers.insert(header::USER_AGENT, AGENT);
        if self.is_same_origin {
            if let Some(authorization) = &http.endpoint.authorization {
                headers.insert(header::AUTHORIZATION, authorization.clone());
            }
            forward(&mut headers, call);
        }
        if self.has_body {
            let json = HeaderValue::from_static("application/json");
            headers.insert(header::CONTENT_TYPE, json);
        }
        let name = HeaderValue::from_static(message.hook.as_str());
        headers.insert(HOOK_NAME, name);
        headers.insert(SEQUENCE, message.sequence.into());
        for (name, value) in message.trace_headers() {
            if let Ok(value) = HeaderValue::from_str(value) {
                headers.insert(name, value);
            }
        }
        let timestamp = UNIX_EPOCH.elapsed().unwrap_or_default().as_secs();
        headers.insert(WEBHOOK_TIMESTAMP, timestamp.into());
        if let Ok(id) = HeaderValue::from_str(&message.id) {
            headers.insert(WEBHOOK_ID, id);
        }
        if self.is_same_origin && !secrets.is_empty() {
            let signature = sign(secrets, &message.id, timestamp, &body);
            if let Ok(signature) = HeaderValue::from_str(&signature) {
                headers.insert(WEBHOOK_SIGNATURE, signature);
            }
        }
        if let Some(authorization) = http.settings.proxies.authorization(&self.uri) {
            headers.insert(header::PROXY_AUTHORIZATION, authorization);
        }
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = method;
        *request.uri_mut() = self.uri.clone();
        *request.headers_mut() = headers;
        request
    }
}

pub(super) fn redirect_location(status: StatusCode, headers: &HeaderMap) -> Option<&HeaderValue> {
    let is_redirect = matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308);
    let location = headers.get(header::LOCATION).filter(|_| is_redirect)?;
    (!location.is_empty()).then_some(location)
}

fn forward(headers: &mut HeaderMap, call: &HttpCall<'_>) {
    for name in &call.http.forward {
        let values = call.message.request.values(name.as_str());
        if !values.is_empty() {
            headers.remove(name);
        }
        for value in values {
            // A value that is not valid in a header did not come from one.
            if let Ok(value) = HeaderValue::from_bytes(value.as_bytes()) {
                headers.append(name, value);
            }
        }
    }
}

#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) url: Url,
    pub(super) uri: Uri,
    pub(super) authorization: Option<HeaderValue>,
}

impl Endpoint {
    /// An error does not repeat the URL, which may contain a password.
    pub(super) fn new(text: &str) -> Result<Self, SettingsError> {
        let invalid = |reason: &str| SettingsError(format!("invalid URL of HTTP hooks: {reason}"));
        let mut url = Url::parse(text.trim()).map_err(|error| invalid(&error.to_string()))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(invalid("it must begin with http:// or https://"));
        }
        let authorization = basic(&url);
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        url.set_fragment(None);
        let uri = cleared.ok().and_then(|()| uri_of(&url));
        Ok(Self {
            uri: uri.ok_or_else(|| invalid("it is not an HTTP URL"))?,
            url,
            authorization,
        })
    }
}

pub(super) fn uri_of(url: &Url) -> Option<Uri> {
    url.as_str().parse().ok()
}

fn basic(url: &Url) -> Option<HeaderValue> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let mut pair: Vec<u8> = percent_decode_str(url.username()).collect();
    pair.push(b':');
    pair.extend(percent_decode_str(url.password().unwrap_or_default()));
    let encoded = BASE64_STANDARD.encode(pair);
    let mut value = HeaderValue::from_str(&format!("Basic {encoded}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[cfg(test)]
mod endpoint_tests {
    use super::*;

    #[test]
    fn credentials_move_from_the_url_to_a_header() {
        let endpoint = Endpoint::new(" http://us%40er:p%3Aw@host:1/hook?a=b#c ").unwrap();
        assert_eq!(endpoint.uri, "http://host:1/hook?a=b");
        assert_eq!(
            endpoint.authorization.as_ref().unwrap(),
            "Basic dXNAZXI6cDp3"
        );
        let shown = format!("{endpoint:?}");
        assert!(
            !shown.contains("er:p") && !shown.contains("dXNA"),
            "{shown}"
        );
        let plain = Endpoint::new("https://host").unwrap();
        assert_eq!(
            (plain.uri.to_string().as_str(), plain.authorization),
            ("https://host/", None)
        );
    }

    #[test]
    fn rejects_invalid_urls() {
        for url in [
            "",
            "localhost:8000/hook",
            "ftp://host/",
            "http://",
            "/hook",
            "http://a b/",
        ] {
            let error = Endpoint::new(url).unwrap_err().to_string();
            assert!(error.starts_with("invalid URL of HTTP hooks: "), "{error}");
        }
    }
}
