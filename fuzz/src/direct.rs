//! Requests of direct-upload clients, and bucket notifications.

use http::Method;
use landfall_direct::api::fuzzing;

/// The path and query of a request. Logs and errors contain no token, metadata is limited, and repeated
/// names are ignored.
pub fn direct_request(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else {
        return;
    };
    let (path, query) = text.split_once('?').unwrap_or((text, ""));
    for method in [Method::GET, Method::POST, Method::DELETE] {
        let (token, shown, leads_somewhere) = fuzzing::path("", path, &method);
        assert!(!shown.starts_with("/t/") || shown == "/t/-", "{shown:?}");
        if let Some(token) = token {
            let stated = format!("/t/{token}/");
            assert!(path.starts_with(&stated), "{path:?}");
            assert!(!token.is_empty() && !token.contains('/'), "{token:?}");
            let (no_token, again, leads_there) = fuzzing::path("", &shown, &method);
            assert_eq!(
                (no_token, again, leads_there),
                (None, shown, leads_somewhere)
            );
        }
    }
    for name in ["key", "filename", "partNumbers"] {
        let twice = format!("{query}&{name}=a&{name}=b");
        assert_eq!(fuzzing::value(&twice, name), None);
    }
    if let Some(metadata) = fuzzing::metadata(query) {
        assert!(metadata.len() <= 64);
        assert!(metadata.keys().all(|name| !name.contains(['[', ']'])));
        let bytes = metadata
            .iter()
            .map(|(name, value)| name.len() + value.len());
        assert!(bytes.sum::<usize>() <= 16 * 1024);
    }
    if let Some(left) = fuzzing::without_secrets(query) {
        assert_eq!(fuzzing::without_secrets(&left), None, "{left:?}");
    }
}

/// A bucket notification: it has names, but not too many, and an error is one line.
pub fn s3_event(data: &[u8]) {
    match fuzzing::notification(data) {
        Ok(objects) => {
            assert!(objects.len() <= 1000);
            let is_named = |(bucket, key): &(String, String)| !bucket.is_empty() && !key.is_empty();
            assert!(objects.iter().all(is_named));
        }
        Err(why) => assert!(
            !why.is_empty() && !why.chars().any(char::is_control),
            "{why:?}"
        ),
    }
}
