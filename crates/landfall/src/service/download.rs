//! Downloads with GET, which tus leaves to the server.
//!
//! Headers derived from the client's metadata are restricted: a browser must never run an uploaded file
//! as a script in the server's origin.

use std::{sync::Arc, time::UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, StatusCode, header};
use landfall_protocol::{Metadata, ProblemKind, date_value};

use super::{
    body::ResponseBody,
    range::{Precondition, RangeRequest},
    response::{ResponseBuilder, ResponseContent, value},
    rufh::set_repr_digest,
};
use crate::{
    engine::{Engine, Error, RequestContext},
    hook::MediaType,
    store::Read,
    upload::{Snapshot, UploadId, truncate_file_name},
};

/// In bytes; systems allow 255 units of UTF-16. A proxy refuses a response whose fields are too long.
const MAX_NAME_LEN: usize = 3 * 255;
const OCTET_STREAM: HeaderValue = HeaderValue::from_static("application/octet-stream");

/// Defense in depth: if a browser displays it nonetheless, no scripts, no plugins, an opaque origin. The document
/// that a browser makes for a video, sound or image loads the file itself and has its own styles.
const POLICY: HeaderValue = HeaderValue::from_static(
    "sandbox; default-src 'none'; img-src 'self'; media-src 'self'; style-src 'unsafe-inline'",
);

/// None of these can contain a script. Everything else is offered as an attachment.
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

/// An unfinished upload is served up to its offset, unless that is disabled or a hook decides about
/// completion.
pub(super) async fn handle(
    engine: &Arc<Engine>,
    context: &RequestContext,
    id: &UploadId,
    headers: &HeaderMap,
) -> Result<ResponseBuilder, Error> {
    let (inspected, _) = engine.inspect(context, id).await?;
    let mut response = serve(engine, &inspected, headers).await?;
    response.created_by_draft = inspected.upload.created_by_draft;
    Ok(response)
}

async fn serve(
    engine: &Arc<Engine>,
    inspected: &Snapshot,
    headers: &HeaderMap,
) -> Result<ResponseBuilder, Error> {
    if inspected.upload.moved_to.is_some() {
        let reason = "the application has moved the file";
        return Err(ProblemKind::Gone.with_detail(reason).into());
    }
    let Some(reader) = engine.composer.reader() else {
        return Err(ProblemKind::MethodNotAllowed.into());
    };
    if inspected.shown_offset().is_none() {
        return Err(ProblemKind::IncompleteUpload.into());
    }
    let length = inspected.offset;
    if !(inspected.is_complete() || engine.serves_unfinished && reader.reads_unfinished()) {
        return Err(ProblemKind::IncompleteUpload.into());
    }
    if inspected.is_complete()
        && let Some(url) = redirect(reader, inspected).await?
    {
        let mut response = ResponseBuilder::new(StatusCode::TEMPORARY_REDIRECT);
        response.set(header::LOCATION, value(url)?);
        return Ok(response);
    }
    let etag = etag(inspected);
    let with_headers = |status| cached_headers(engine, status, inspected);
    let wanted = match Precondition::evaluate(headers, &etag, inspected.modified) {
        Precondition::Failed => return Ok(with_headers(StatusCode::PRECONDITION_FAILED)),
        Precondition::NotModified => return Ok(with_headers(StatusCode::NOT_MODIFIED)),
        Precondition::Proceed { range: true } => {
            let range = headers.get(header::RANGE);
            RangeRequest::parse(range.and_then(|value| value.to_str().ok()), length)
        }
        Precondition::Proceed { range: false } => RangeRequest::Full,
    };
    let (mut response, range) = match wanted {
        RangeRequest::Full => (with_headers(StatusCode::OK), 0..length),
        RangeRequest::Partial(range) => {
            let mut response = with_headers(StatusCode::PARTIAL_CONTENT);
            let content_range = format!("bytes {}-{}/{length}", range.start, range.end - 1);
            response.set(header::CONTENT_RANGE, value(content_range)?);
            (response, range)
        }
        RangeRequest::Unsatisfiable => {
            let mut response = ResponseBuilder::new(StatusCode::RANGE_NOT_SATISFIABLE);
            response.set(header::CONTENT_RANGE, value(format!("bytes */{length}"))?);
            return Ok(response);
        }
    };
    set_repr_digest(&mut response, headers, &inspected.upload, length);
    let size = range.end - range.start;
    let bytes = reader.read(&inspected.upload, range).await?;
    response.outcome = ResponseContent::Body(ResponseBody::stream(bytes, size, engine.clone()));
    Ok(response)
}

async fn redirect(reader: &dyn Read, inspected: &Snapshot) -> Result<Option<String>, Error> {
    let (content_type, disposition) = content(&inspected.upload.metadata);
    let (Ok(content_type), Ok(disposition)) = (content_type.to_str(), disposition.to_str()) else {
        return Ok(None);
    };
    let link = reader.link(&inspected.upload, content_type, disposition);
    Ok(link.await?)
}

fn cached_headers(engine: &Engine, status: StatusCode, inspected: &Snapshot) -> ResponseBuilder {
    let mut response = ResponseBuilder::new(status);
    response.is_cacheable = inspected.is_complete();
    if engine.checks_access() {
        // A shared cache would serve it to clients that the hooks deny.
        response.set(header::CACHE_CONTROL, HeaderValue::from_static("private"));
    }
    object_headers(inspected, &mut response.headers);
    response
}

pub(super) fn object_headers(inspected: &Snapshot, headers: &mut HeaderMap) {
    let (content_type, disposition) = content(&inspected.upload.metadata);
    headers.insert(header::CONTENT_TYPE, content_type);
    headers.insert(header::CONTENT_DISPOSITION, disposition);
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::LAST_MODIFIED, date_value(inspected.modified));
    if let Ok(etag) = HeaderValue::from_str(&etag(inspected)) {
        headers.insert(header::ETAG, etag);
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, POLICY);
}

/// Id, creation time and length, because stored bytes never change. A hook may reuse an id, hence the
/// creation time. Ids contain no quotes.
fn etag(inspected: &Snapshot) -> String {
    let created = inspected
        .upload
        .created
        .and_then(|created| created.duration_since(UNIX_EPOCH).ok())
        .unwrap_or_default();
    format!(
        "\"{}-{:x}-{:x}\"",
        inspected.upload.id,
        created.as_micros(),
        inspected.offset
    )
}

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
    // A script loaded by another page runs whatever the disposition, so its type is hidden.
    let content_type = content_type.unwrap_or(OCTET_STREAM);
    let mut disposition = String::from(disposition);
    if let Some(name) = metadata
        .get_text("filename")
        .filter(|name| !name.is_empty())
    {
        push_file_name(&mut disposition, &truncate_file_name(&name, MAX_NAME_LEN));
    }
    let disposition =
        HeaderValue::from_str(&disposition).unwrap_or(HeaderValue::from_static("attachment"));
    (content_type, disposition)
}

/// Writes a quoted string, and the form of RFC 8187 if that cannot represent the name.
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
    fn long_names_are_cut() {
        let (_, disposition) = headers("", &format!("{}.jpeg", "a".repeat(4000)));
        let name = format!("{}.jpeg", "a".repeat(MAX_NAME_LEN - 5));
        assert_eq!(disposition, format!("attachment;filename=\"{name}\""));
    }

    #[test]
    fn only_safe_types_are_inline() {
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
