//! Hook responses.

use std::time::Duration;

use landfall_hooks::HookResponse;
use landfall_hooks::format::parse_response;
use serde_json::{Map, Value, json};

/// A response in JSON: it survives a round trip but for what is ignored, zero and empty fields have no
/// effect, and an error is one line.
pub fn hook_response(data: &[u8]) {
    let reaction = match parse_response(data) {
        Ok(reaction) => reaction,
        Err(error) => {
            let text = error.to_string();
            assert!(
                !text.is_empty() && !text.chars().any(char::is_control),
                "{text:?}"
            );
            return;
        }
    };
    let (reply, changes) = (&reaction.client_response, &reaction.changes);
    assert!(reply.status.is_none_or(|status| status.as_u16() >= 200));
    assert!(reply.body.as_ref().is_none_or(|body| !body.is_empty()));
    assert!(changes.id.as_ref().is_none_or(|id| !id.is_empty()));
    assert!(changes.max_size.is_none_or(|size| size > 0));
    assert!(reaction.cache_for.is_none_or(|span| !span.is_zero()));
    assert!(!reaction.failed);
    let written = written(&reaction).to_string();
    let again = parse_response(written.as_bytes()).expect("a written response can be parsed");
    let ignored = reaction.ignored.as_deref().unwrap_or_default();
    assert!(!ignored.chars().any(char::is_control), "{ignored:?}");
    let read = HookResponse {
        ignored: None,
        ..reaction
    };
    assert_eq!(again, read, "{written}");
}

fn written(reaction: &HookResponse) -> Value {
    let (reply, changes) = (&reaction.client_response, &reaction.changes);
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).expect("came as text");
    let headers: Map<_, _> = reply
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), text(value.as_bytes()).into()))
        .collect();
    json!({
        "HTTPResponse": {
            "StatusCode": reply.status.map(|status| status.as_u16()),
            "Body": reply.body.as_deref().map(text),
            "Header": headers,
        },
        "RejectUpload": reaction.reject_upload,
        "RejectTermination": reaction.reject_termination,
        "RejectAccess": reaction.reject_access,
        "StopUpload": reaction.stop_upload,
        "CacheFor": reaction.cache_for.map(span),
        "ChangeFileInfo": {
            "ID": changes.id,
            "MetaData": changes.metadata,
            "Storage": changes.storage,
            "Labels": changes.labels,
            "Expires": changes.expires.map(|time| {
                jiff::Timestamp::try_from(time).expect("came as one").to_string()
            }),
            "MaxSize": changes.max_size,
            "ContentTypes": changes.content_types,
        },
    })
}

/// Durations: numbers are seconds, other values need units.
fn span(span: Duration) -> Value {
    match span.subsec_nanos() {
        0 => span.as_secs().into(),
        rest => format!("{}s {rest}ns", span.as_secs()).into(),
    }
}
