//! Releases the read buffer of a server from the head of a request whose body is still to be received.
//!
//! Not needed for servers that set [`FieldLines`]: their heads share no buffer.

use bytes::{Bytes, BytesMut};
use http::{
    HeaderValue, Uri,
    request::Parts,
    uri::{self, PathAndQuery},
};

use super::FieldLines;

/// Copies all that a head shares with the server's read buffer (8 KiB with hyper), so that the buffer
/// can be reused or freed during a long request.
pub(super) fn detach(parts: &mut Parts) {
    if parts.extensions.get::<FieldLines>().is_some() {
        return;
    }
    let len = parts.headers.values().map(HeaderValue::len).sum();
    let mut copy = BytesMut::with_capacity(len);
    for value in parts.headers.values() {
        copy.extend_from_slice(value.as_bytes());
    }
    let mut copy = copy.freeze();
    for value in parts.headers.values_mut() {
        // It was a value before, so this does not fail.
        if let Ok(mut detached) = HeaderValue::from_maybe_shared(copy.split_to(value.len())) {
            detached.set_sensitive(value.is_sensitive());
            *value = detached;
        }
    }
    if let Some(detached) = detach_uri(&parts.uri) {
        parts.uri = detached;
    }
}

fn detach_uri(uri: &Uri) -> Option<Uri> {
    let path = uri.path_and_query()?.as_str();
    let mut parts = uri::Parts::default();
    parts.scheme = uri.scheme().cloned();
    parts.authority = match uri.authority() {
        Some(authority) => Some(authority.as_str().parse().ok()?),
        None => None,
    };
    let path = Bytes::copy_from_slice(path.as_bytes());
    parts.path_and_query = Some(PathAndQuery::from_maybe_shared(path).ok()?);
    Uri::from_parts(parts).ok()
}

#[cfg(test)]
mod tests {
    use http::{Request, header};

    use super::*;

    /// Creates a head like hyper: slices of one buffer.
    fn head(uri: &'static str, values: &[(&'static str, &'static str)]) -> (Bytes, Parts) {
        let buffer = Bytes::copy_from_slice(uri.as_bytes());
        let mut request = Request::new(());
        *request.uri_mut() = Uri::from_maybe_shared(buffer.clone()).unwrap();
        for (name, value) in values {
            let value = HeaderValue::from_maybe_shared(Bytes::from(*value)).unwrap();
            request.headers_mut().append(*name, value);
        }
        (buffer, request.into_parts().0)
    }

    #[test]
    fn a_detached_head_is_equal_and_shares_nothing() {
        for uri in ["/files/a%20b?c=d", "http://user@host:81/files/a?b", "*"] {
            let fields = [
                ("host", "upload.example"),
                ("cookie", "a=b"),
                ("x-empty", ""),
                ("cookie", "c=d"),
                ("upload-metadata", "name \u{e9}"),
            ];
            let (buffer, mut parts) = head(uri, &fields);
            parts
                .headers
                .get_mut(header::HOST)
                .unwrap()
                .set_sensitive(true);
            let (old_uri, old_headers) = (parts.uri.to_string(), parts.headers.clone());
            detach(&mut parts);
            assert_eq!(parts.uri.to_string(), old_uri);
            assert_eq!(parts.headers, old_headers);
            assert!(parts.headers[header::HOST].is_sensitive());
            drop(old_headers);
            assert!(buffer.is_unique(), "{uri} shares the buffer");
        }
    }
}
