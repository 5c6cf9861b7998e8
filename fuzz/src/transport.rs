//! Hook responses over all transports.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use landfall_hooks::{HookName, HookResponse};
use landfall_hooks::{command, format::Format, grpc, http as over_http};

/// The first bytes select the transport, the hook and the status; the rest is the response.
///
/// For a blocking hook, an error never allows the request. A delivered event stays delivered, whatever the
/// response. Parsed values are valid in HTTP.
pub fn hook_transport(data: &[u8]) {
    let [way, hook, status, kind, body @ ..] = data else {
        return;
    };
    let hook = HookName::ALL[usize::from(*hook) % HookName::ALL.len()];
    match way % 5 {
        0 => in_proto(body),
        1 => printed(hook, *status, *kind, body),
        format => {
            let format = [Format::V1, Format::V2, Format::Auto][usize::from(format - 2)];
            over_the_web(format, hook, (*status, *kind), body);
        }
    }
}

fn over_the_web(format: Format, hook: HookName, (status, kind): (u8, u8), body: &[u8]) {
    let Ok(status) = StatusCode::from_u16(200 + u16::from(status) * 2) else {
        return;
    };
    let mut headers = HeaderMap::new();
    let types = [
        "application/json",
        "text/plain",
        "Application/JSON; charset=utf-8",
        "image/png",
    ];
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(types[usize::from(kind) % types.len()]),
    );
    if kind & 0x80 != 0 {
        headers.insert(header::RETRY_AFTER, HeaderValue::from_static("7"));
    }
    let is_whole = kind & 0x40 == 0;
    let answered = (Bytes::copy_from_slice(body), is_whole);
    let reaction = over_http::fuzzing::response(format, hook, (status, headers), answered);
    let may_stop = hook.is_blocking() || hook == HookName::PostReceive;
    if status.is_success() && !may_stop {
        assert!(reaction.is_ok(), "{hook} was taken: {reaction:?}");
    }
    match reaction {
        Ok(reaction) => {
            sensible(&reaction);
            // tusd 1 allows the request for every status below 400.
            let is_refusal = match format {
                Format::V1 => status.as_u16() >= 400,
                _ => !status.is_success(),
            };
            if hook.is_blocking() && is_refusal {
                assert!(denies(&reaction), "{status} allows {hook}: {reaction:?}");
            }
        }
        Err(failure) => brief(&failure.message, body.len()),
    }
}

fn printed(hook: HookName, status: u8, kind: u8, body: &[u8]) {
    // A wait status: an exit code, or a signal.
    let wait = if kind & 1 == 0 {
        i32::from(status) << 8
    } else {
        i32::from(status & 0x7f)
    };
    let is_cut = kind & 2 != 0;
    match command::fuzzing::response(hook, wait, body, is_cut) {
        Ok(reaction) => {
            assert_eq!(wait, 0, "a program that failed has answered");
            sensible(&reaction);
            if is_cut && !body.is_empty() {
                assert!(!hook.is_blocking(), "half an answer allows {hook}");
                // It is logged that it was ignored.
                let read = HookResponse {
                    ignored: None,
                    ..reaction
                };
                assert_eq!(read, HookResponse::default(), "half an answer was read");
            }
        }
        Err(failure) => brief(&failure.message, body.len()),
    }
}

fn in_proto(body: &[u8]) {
    match grpc::fuzzing::response(body) {
        Ok(reaction) => sensible(&reaction),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

fn denies(reaction: &HookResponse) -> bool {
    reaction.failed
        || reaction.reject_upload
        || reaction.reject_termination
        || reaction.reject_access
}

fn sensible(reaction: &HookResponse) {
    let (reply, changes) = (&reaction.client_response, &reaction.changes);
    assert!(reply.status.is_none_or(|status| status.as_u16() >= 200));
    assert!(changes.id.as_ref().is_none_or(|id| !id.is_empty()));
    assert!(changes.max_size.is_none_or(|size| size > 0));
    assert!(reaction.cache_for.is_none_or(|span| !span.is_zero()));
}

/// An error quotes a limited part of a response.
fn brief(text: &str, length: usize) {
    assert!(!text.is_empty());
    let most = 3000;
    assert!(
        text.len() <= most,
        "{} bytes about an answer of {length}",
        text.len()
    );
}
