//! The response of completion hooks, as stored in the `.info`.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Deserialize;

use super::encoder::JsonObject;
use crate::hook::ClientResponse;

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, rename_all = "PascalCase")]
pub(super) struct StoredResponse {
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Names and values; each byte of a value is one character.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    headers: Vec<(String, String)>,
    /// In Base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    body: Option<String>,
}

/// Writes the members of a [`StoredResponse`].
pub(super) fn write(response: &ClientResponse, json: &mut JsonObject<'_>) {
    let status = response.status.map(|status| u64::from(status.as_u16()));
    json.optional("Status", status);
    let headers = response.headers.iter().map(|(name, value)| {
        let value = value.as_bytes().iter().map(|byte| char::from(*byte));
        [name.as_str().to_owned(), value.collect()]
    });
    let headers: Vec<_> = headers.collect();
    json.optional("Headers", (!headers.is_empty()).then_some(&*headers));
    let body = response.body.as_ref();
    let body = body.map(|body| BASE64_STANDARD.encode(body));
    json.optional("Body", body.as_deref());
}

impl StoredResponse {
    pub(super) fn into_response(self) -> ClientResponse {
        let mut headers = HeaderMap::new();
        for (name, value) in &self.headers {
            let bytes: Option<Vec<u8>> = value.chars().map(|c| u8::try_from(c).ok()).collect();
            let value = bytes.and_then(|bytes| HeaderValue::from_bytes(&bytes).ok());
            if let (Ok(name), Some(value)) = (name.parse::<HeaderName>(), value) {
                headers.append(name, value);
            }
        }
        ClientResponse {
            status: self.status.and_then(|code| StatusCode::from_u16(code).ok()),
            headers,
            body: self
                .body
                .and_then(|body| BASE64_STANDARD.decode(body).ok())
                .map(Into::into),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn response_survives_a_round_trip() {
        let mut response = ClientResponse::text(202, b"\0\xff<>".as_slice());
        let odd = HeaderValue::from_bytes(b"caf\xe9").unwrap();
        response.headers.append("x-odd", odd);
        response
            .headers
            .append("x-odd", HeaderValue::from_static("2"));
        for response in [response, ClientResponse::default()] {
            let mut json = Vec::new();
            JsonObject::write(&mut json, |json| write(&response, json));
            let back: StoredResponse = serde_json::from_slice(&json).unwrap();
            assert_eq!(back.into_response(), response);
        }
    }

    #[test]
    fn invalid_values_are_dropped() {
        let json = r#"{"Status":1,"Headers":[["a b","c"],["d","\u0100"]],"Body":"*"}"#;
        let stored: StoredResponse = serde_json::from_str(json).unwrap();
        assert_eq!(stored.into_response(), ClientResponse::default());
    }
}
