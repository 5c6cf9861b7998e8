//! The line that an operator gets of the end of an upload: the same fields, whatever ended it.

use std::time::Duration;

use super::{LoggedRequest, RequestContext, log_request};
use crate::{
    REQUEST_LOG,
    hook::ClientResponse,
    upload::{Upload, UploadKind},
};

/// Logs the end of an upload, which a denied request may not have. A denial has the hook and its response.
pub(crate) fn log_end(
    end: &str,
    upload: Option<&Upload>,
    denial: Option<(&str, &ClientResponse)>,
    context: &RequestContext,
) {
    let id = upload.map(|upload| tracing::field::display(&upload.id));
    let size = upload.and_then(|upload| upload.length);
    let request = context.log();
    // Pieces of parallel uploads are no files of a person.
    let is_piece = upload.is_some_and(|upload| upload.kind == UploadKind::Partial);
    if denial.is_none() && (is_piece || request.is_some_and(LoggedRequest::is_lenient)) {
        log_request!(request, "{end}", id, size);
        return;
    }
    let tenths = |age: Duration| (age.as_secs_f64() * 10.0).round() / 10.0;
    let age = upload.and_then(|upload| upload.created?.elapsed().ok());
    tracing::info!(
        target: REQUEST_LOG,
        method = request.map(LoggedRequest::method),
        path = request.map(LoggedRequest::path),
        requestId = request.map(LoggedRequest::id),
        id,
        size,
        name = upload.and_then(shown_name),
        seconds = age.map(tenths),
        client = context.client().map(tracing::field::display),
        // The label of the principal that was granted the upload.
        subject = upload.and_then(|upload| upload.labels.get("subject")),
        by = denial.map(|(by, _)| by),
        status = denial.and_then(|(_, response)| Some(response.status?.as_u16())),
        reason = denial.map(|(_, response)| reason(response)),
        "{end}"
    );
}

/// Logs that the application stopped an upload.
pub(super) fn log_stop(upload: &Upload, response: &ClientResponse, context: &RequestContext) {
    let denial = Some(("post-receive", response));
    log_end("UploadDenied", Some(upload), denial, context);
}

fn shown_name(upload: &Upload) -> Option<String> {
    let mut keys = ["filename", "name"].into_iter();
    let name = keys.find_map(|key| upload.metadata.get_text(key))?;
    Some(name.chars().take(255).collect())
}

/// Returns the text of a response, of a problem or another JSON object its explanation.
fn reason(response: &ClientResponse) -> String {
    let body = response.body.as_deref().unwrap_or_default();
    let explained = || {
        let json: serde_json::Value = serde_json::from_slice(body).ok()?;
        let texts = ["detail", "message", "error", "title"].map(|name| json.get(name)?.as_str());
        texts.into_iter().flatten().next().map(str::to_owned)
    };
    let text = explained().unwrap_or_else(|| String::from_utf8_lossy(body).into_owned());
    text.trim().chars().take(200).collect()
}
