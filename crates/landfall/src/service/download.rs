//! GET: an upload's bytes, which tus leaves to the server.
//!
//! What the client said about the file becomes headers only as far as that is safe: a browser must
//! never run as a script, on the server's own origin, what somebody uploaded.

use std::{sync::Arc, time::UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use landfall_protocol::{Metadata, ProblemKind};

use super::{
    answer::{ResponseContent, ResponseDraft, date, value},
    body::ResponseBody,
    range::{self, Precondition, RangeRequest},
};
use crate::{
    engine::{Engine, Error, Inspected, RequestContext},
    hook::MediaType,
    store::Read,
    upload::UploadId,
};

/// The type of everything that is not in [`INLINE`].
const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Types that a browser may show in place; everything else is offered for saving as bytes of no
/// type. Nothing in this list can carry a script.
const INLINE: &[&str] = &[
    "text/plain",
    "image/png",
    "image/jpeg",
    "image/gif",
    "image/bmp",
    "image/webp",
    "audio/wave",
    "audio/wav",
    "audio/x-wav",
    "audio/x-pn-wav",
    "audio/webm",
    "audio/ogg",
    "video/mp4",
    "video/webm",
    "video/ogg",
    "application/ogg",
];

/// Answers GET. An unfinished upload is served as far as it is stored, unless that is switched off or
/// a hook decides about uploads when they are complete.
pub(super) async fn answer(
    engine: &Arc<Engine>,
    caller: &RequestContext,
    id: &UploadId,
    headers: &HeaderMap,
) -> Result<ResponseDraft, Error> {
    let inspected = engine.inspect(caller, id).await?;
    let Some(reader) = engine.parts.get_reader() else {
        return Err(ProblemKind::MethodNotAllowed.into());
    };
    let Some(length) = inspected.offset else {
        return Err(ProblemKind::IncompleteUpload.into());
    };
    if !(inspected.is_complete() || engine.serves_unfinished && reader.reads_unfinished()) {
        return Err(ProblemKind::IncompleteUpload.into());
    }
    if inspected.is_complete()
        && let Some(url) = redirect(reader, &inspected).await?
    {
        let mut answer = ResponseDraft::new(StatusCode::TEMPORARY_REDIRECT);
        answer.set(header::LOCATION, value(&url)?);
        return Ok(answer);
    }
    let etag = etag(&inspected);
    let text = |name| {
        headers
            .get(name)
            .and_then(|value: &HeaderValue| value.to_str().ok())
    };
    let wanted = match range::condition(headers, &etag, inspected.modified) {
        Precondition::Failed => {
            return Ok(cached_headers(
                engine,
                StatusCode::PRECONDITION_FAILED,
                &inspected,
            ));
        }
        Precondition::NotModified => {
            return Ok(cached_headers(engine, StatusCode::NOT_MODIFIED, &inspected));
        }
        Precondition::Proceed { range: true } => range::parse(text(header::RANGE), length),
        Precondition::Proceed { range: false } => RangeRequest::Full,
    };
    let (mut answer, range) = match wanted {
        RangeRequest::Full => (
            cached_headers(engine, StatusCode::OK, &inspected),
            0..length,
        ),
        RangeRequest::Partial(range) => {
            let mut answer = cached_headers(engine, StatusCode::PARTIAL_CONTENT, &inspected);
            let content_range = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            answer.set(header::CONTENT_RANGE, value(&content_range)?);
            (answer, range)
        }
        RangeRequest::Unsatisfiable => {
            let mut answer = ResponseDraft::new(StatusCode::RANGE_NOT_SATISFIABLE);
            answer.set(header::CONTENT_RANGE, value(&format!("bytes */{length}"))?);
            return Ok(answer);
        }
    };
    let size = range.end - range.start;
    let bytes = reader.read(&inspected.upload, range).await?;
    answer.outcome = ResponseContent::Body(ResponseBody::stream(bytes, size, engine.clone()));
    Ok(answer)
}

/// A URL from which the bytes can be had without this server.
async fn redirect(reader: &dyn Read, inspected: &Inspected) -> Result<Option<String>, Error> {
    let (content_type, disposition) = content(&inspected.upload.metadata);
    let (Ok(content_type), Ok(disposition)) = (content_type.to_str(), disposition.to_str()) else {
        return Ok(None);
    };
    let link = reader.link(&inspected.upload, content_type, disposition);
    Ok(link.await?)
}

fn cached_headers(engine: &Engine, status: StatusCode, inspected: &Inspected) -> ResponseDraft {
    let mut answer = ResponseDraft::new(status);
    answer.is_cacheable = inspected.is_complete();
    if engine.checks_access() {
        // A shared cache would serve it to those whom the hooks turn away.
        answer.set(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    object_headers(inspected, answer.headers_mut());
    answer
}

/// The headers that describe the bytes, on GET and on HEAD.
pub(super) fn object_headers(inspected: &Inspected, headers: &mut HeaderMap) {
    let (content_type, disposition) = content(&inspected.upload.metadata);
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::LAST_MODIFIED, date(inspected.modified));
    if let Ok(etag) = HeaderValue::from_str(&etag(inspected)) {
        headers.insert(header::ETAG, etag);
    }
    // Should a browser show it in spite of all: no scripts, no plugins, an origin of its own.
    headers.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("sandbox; default-src 'none'"),
    );
}

/// Bytes once stored never change, so the id, the time of creation (an id that a hook chose may be used
/// again) and the number of bytes identify them. Ids hold no quotes.
fn etag(inspected: &Inspected) -> String {
    let created = inspected
        .upload
        .created
        .and_then(|created| created.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    format!(
        "\"{}-{:x}-{:x}\"",
        inspected.upload.id,
        created.as_micros(),
        inspected.offset.unwrap_or_default()
    )
}

/// `Content-Type` and `Content-Disposition` by what the client said about the file.
fn content(metadata: &Metadata) -> (HeaderValue, HeaderValue) {
    let stated = metadata.get_text("filetype").unwrap_or_default();
    let inline = MediaType::parse(&stated).filter(|it| INLINE.contains(&it.essence()));
    let (content_type, disposition) = match &inline {
        Some(media_type) => (
            HeaderValue::from_str(&media_type.to_string()).ok(),
            "inline",
        ),
        None => (None, "attachment"),
    };
    // A script that another page loads runs whatever the disposition, so its type is not told.
    let content_type = content_type.unwrap_or(OCTET_STREAM);
    let mut disposition = String::from(disposition);
    if let Some(name) = metadata
        .get_text("filename")
        .filter(|name| !name.is_empty())
    {
        push_file_name(&mut disposition, &name);
    }
    let disposition =
        HeaderValue::from_str(&disposition).unwrap_or(HeaderValue::from_static("attachment"));
    (content_type, disposition)
}

/// Adds the file's name: as a quoted string for everybody, and in full by RFC 8187 if that lost
/// something.
fn push_file_name(disposition: &mut String, name: &str) {
    use std::fmt::Write as _;
    disposition.push_str(";filename=\"");
    for c in name.chars() {
        match c {
            '"' | '\\' => {
                disposition.push('\\');
                disposition.push(c);
            }
            ' '..='~' => disposition.push(c),
            _ => disposition.push('_'),
        }
    }
    disposition.push('"');
    if name.chars().all(|c| (' '..='~').contains(&c)) {
        return;
    }
    disposition.push_str(";filename*=UTF-8''");
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"!#$&+-.^_`|~".contains(&byte) {
            disposition.push(char::from(byte));
        } else {
            let _ = write!(disposition, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(filetype: &str, filename: &str) -> (String, String) {
        let metadata = Metadata::from_pairs([("filetype", filetype), ("filename", filename)]);
        let (content_type, disposition) = content(&metadata);
        (
            content_type.to_str().unwrap().into(),
            disposition.to_str().unwrap().into(),
        )
    }

    #[test]
    fn only_what_cannot_run_is_shown_in_place() {
        assert_eq!(
            headers("image/png", "a.png"),
            ("image/png".into(), "inline;filename=\"a.png\"".into())
        );
        assert_eq!(
            headers("Text/Plain; charset=utf-8; x=y", ""),
            ("text/plain;charset=utf-8".into(), "inline".into())
        );
        for filetype in [
            "text/html",
            "text/javascript",
            "image/svg+xml",
            "application/xhtml+xml",
            "text/xml",
            "text/plain;,text/html",
            "image/png,text/html",
            "text/html\r\nX: y",
            "nonsense",
            "",
        ] {
            let expected = ("application/octet-stream".into(), "attachment".into());
            assert_eq!(headers(filetype, ""), expected, "{filetype}");
        }
    }

    #[test]
    fn names_can_break_out_of_nothing() {
        assert_eq!(
            headers("", "a\"b\\c").1,
            "attachment;filename=\"a\\\"b\\\\c\""
        );
        assert_eq!(
            headers("", "é\r\n.txt").1,
            "attachment;filename=\"___.txt\";filename*=UTF-8''%C3%A9%0D%0A.txt"
        );
    }
}
