//! The operations of the reference server.

use std::time::SystemTime;

use super::checksum::{Verdict, verify};
use super::http::{Head, Http, Reply};
use super::{MAX_SIZE, Mutant, State, Upload, concat};

const UPLOAD_DATA: &str = "application/offset+octet-stream";

/// The value of a field that is a non-negative integer: `Err` if it is malformed.
fn number(head: &Head, name: &str) -> Result<Option<u64>, u16> {
    let values: Vec<_> = head.all(name).collect();
    let [value] = values.as_slice() else {
        return if values.is_empty() {
            Ok(None)
        } else {
            Err(400)
        };
    };
    let is_number = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    let number = value.parse().ok().filter(|_| is_number);
    number.map(Some).ok_or(400)
}

fn has_upload_data(head: &Head) -> bool {
    let media_type = head
        .field("Content-Type")
        .unwrap_or_default()
        .split(';')
        .next();
    media_type.is_some_and(|name| name.trim().eq_ignore_ascii_case(UPLOAD_DATA))
}

fn is_metadata(value: &str) -> bool {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let mut keys: Vec<_> = Vec::new();
    let are_valid = value.split(',').all(|pair| {
        let (key, value) = pair.split_once(' ').unwrap_or((pair, ""));
        keys.push(key);
        !key.is_empty() && STANDARD.decode(value).is_ok()
    });
    let count = keys.len();
    keys.sort_unstable();
    keys.dedup();
    are_valid && keys.len() == count
}

/// Describes the upload that a creation makes, or returns the status of a rejection.
fn describe(state: &State, head: &Head) -> Result<Upload, u16> {
    let mut length = match number(head, "Upload-Length") {
        Err(_) if state.is(Mutant::NegativeLengthIsZero) => Some(0),
        other => other?,
    };
    let deferred = head.field("Upload-Defer-Length");
    let takes_any = state.is(Mutant::DeferLengthOfAnyValue);
    if deferred.is_some_and(|value| value != "1" && !takes_any) {
        return Err(400);
    }
    if length.is_some_and(|length| length > MAX_SIZE) && !state.is(Mutant::MaxSizeIsIgnored) {
        return Err(413);
    }
    let mut metadata = head.field("Upload-Metadata").map(str::to_owned);
    if metadata.as_ref().is_some_and(|value| !is_metadata(value)) {
        return Err(400);
    }
    if state.is(Mutant::EmptyMetadataIsDropped) {
        metadata = metadata.map(|value| {
            let pairs = value.split(',').filter(|pair| pair.contains(' '));
            pairs.collect::<Vec<_>>().join(",")
        });
    }
    let concat = head.field("Upload-Concat").map(str::to_owned);
    let mut parts = None;
    match concat
        .as_deref()
        .map(|value| value.split_once(';').unwrap_or((value, "")))
    {
        Some(("final", list)) => {
            length = None;
            parts = Some(state.with(|uploads| {
                let found =
                    concat::parts(state, uploads, list, head.field("Host").unwrap_or_default())?;
                if state.is(Mutant::PartMetadataIsCopied) {
                    metadata = uploads[&found[0]].metadata.clone();
                }
                Ok::<_, u16>(found)
            })?);
        }
        None | Some(("partial", "")) if length.is_some() == deferred.is_some() => return Err(400),
        None | Some(("partial", "")) => {}
        _ => return Err(400),
    }
    Ok(Upload {
        length,
        metadata,
        concat,
        parts,
        ..Upload::default()
    })
}

pub(super) async fn create(state: &State, http: &mut Http, head: &Head) -> Option<Reply> {
    let mut upload = match describe(state, head) {
        Ok(upload) => upload,
        Err(status) => return Some(Reply::new(status)),
    };
    let id: String = (0..4)
        .map(|_| format!("{:08x}", rand::random::<u32>()))
        .collect();
    upload.expires = Some(SystemTime::now() + state.lifetime);
    let expires = upload
        .expires
        .map(httpdate::fmt_http_date)
        .unwrap_or_default();
    state.with(|uploads| {
        uploads.insert(id.clone(), upload);
        concat::advance(uploads, &id);
    });
    let created = match state.is(Mutant::CreationIs200) {
        true => Reply::new(200),
        false => Reply::new(201),
    };
    let created = match state.is(Mutant::CreationWithoutLocation) {
        true => created,
        false => {
            let host = head.field("Host").unwrap_or_default();
            created.with("Location", format!("http://{host}/files/{id}"))
        }
    };
    let created = created.with("Upload-Expires", expires);
    if !has_upload_data(head) {
        return Some(created);
    }
    let Some(reply) = write(state, http, head, &id, 0).await else {
        // The client does not know its URL.
        state.with(|uploads| uploads.remove(&id));
        return None;
    };
    match reply.status {
        204 => {
            let offset = reply
                .fields
                .iter()
                .find(|(name, _)| *name == "Upload-Offset");
            if state.is(Mutant::CreationCountsUnstoredData) {
                state.with(|uploads| uploads.get_mut(&id).map(|upload| upload.data.clear()));
            }
            Some(created.with("Upload-Offset", offset.map_or("0", |(_, value)| value)))
        }
        status => {
            state.with(|uploads| uploads.remove(&id));
            Some(Reply::new(status))
        }
    }
}

pub(super) fn inspect(state: &State, id: &str) -> Reply {
    state.with(|uploads| {
        concat::advance(uploads, id);
        let Some(upload) = uploads.get(id) else {
            let reply = Reply::new(404);
            return match state.is(Mutant::UnknownUploadHasOffset) {
                true => reply.with("Upload-Offset", 0),
                false => reply,
            };
        };
        let mut reply = Reply::new(200);
        if !state.is(Mutant::HeadIsCacheable) {
            reply = reply.with("Cache-Control", "no-store");
        }
        let is_waiting = upload.parts.is_some()
            && !upload.is_complete()
            && !state.is(Mutant::UnfinishedFinalHasOffset);
        let is_hidden = state.is(Mutant::HeadWithoutOffsetZero) && upload.data.is_empty();
        if !is_waiting && !is_hidden {
            reply = reply.with("Upload-Offset", upload.data.len());
        }
        match upload.length {
            Some(_) if state.is(Mutant::HeadWithoutLengthAtTheEnd) && upload.is_complete() => {}
            Some(length) => reply = reply.with("Upload-Length", length),
            None if upload.parts.is_some() => {}
            None => reply = reply.with("Upload-Defer-Length", 1),
        }
        if upload.length.is_some() && state.is(Mutant::DeferLengthStays) {
            reply = reply.with("Upload-Defer-Length", 1);
        }
        if let Some(metadata) = &upload.metadata {
            reply = reply.with("Upload-Metadata", metadata);
        }
        let hides = upload.parts.is_some() && state.is(Mutant::FinalUploadWithoutConcat);
        if let Some(concat) = upload.concat.as_ref().filter(|_| !hides) {
            reply = reply.with("Upload-Concat", concat);
        }
        with_expires(state, reply, upload)
    })
}

fn with_expires(state: &State, reply: Reply, upload: &Upload) -> Reply {
    let Some(expires) = upload.expires else {
        return reply;
    };
    match state.is(Mutant::ExpiresIsANumber) {
        true => {
            let since = expires.duration_since(SystemTime::UNIX_EPOCH);
            reply.with("Upload-Expires", since.unwrap_or_default().as_secs())
        }
        false => reply.with("Upload-Expires", httpdate::fmt_http_date(expires)),
    }
}

/// Verifies the head of a PATCH, and applies a late length; returns the offset.
fn accept(state: &State, head: &Head, upload: &mut Upload) -> Result<u64, u16> {
    if upload.parts.is_some() {
        return Err(if state.is(Mutant::FinalUploadConflicts) {
            409
        } else {
            403
        });
    }
    if !has_upload_data(head) && !state.is(Mutant::AnyContentType) {
        if state.is(Mutant::RejectionForgetsData) {
            upload.data.clear();
        }
        return Err(415);
    }
    let offset = number(head, "Upload-Offset")?.ok_or(400_u16)?;
    let current = upload.data.len() as u64;
    match offset {
        _ if offset == current => {}
        _ if offset < current && state.is(Mutant::LowerOffsetTruncates) => {
            upload
                .data
                .truncate(usize::try_from(offset).unwrap_or_default());
        }
        _ if offset > current && state.is(Mutant::HigherOffsetAppends) => {}
        _ => return Err(409),
    }
    if let Some(length) = number(head, "Upload-Length")? {
        match upload.length {
            Some(known) if known == length || state.is(Mutant::LengthChanges) => {}
            Some(_) => return Err(400),
            None if length > MAX_SIZE => return Err(413),
            None if length < current => return Err(400),
            None => {}
        }
        upload.length = Some(length);
    }
    Ok(upload.data.len() as u64)
}

pub(super) async fn append(state: &State, http: &mut Http, head: &Head, id: &str) -> Option<Reply> {
    let accepted = state.with(|uploads| {
        let upload = uploads.get_mut(id).ok_or(404_u16)?;
        accept(state, head, upload)
    });
    match accepted {
        Ok(offset) => {
            let reply = write(state, http, head, id, offset).await?;
            Some(match reply.status {
                204 if state.is(Mutant::PatchIs200) => Reply {
                    status: 200,
                    ..reply
                },
                _ => reply,
            })
        }
        Err(status) => Some(Reply::new(status)),
    }
}

/// Stores the body. `None`: the client is gone.
async fn write(
    state: &State,
    http: &mut Http,
    head: &Head,
    id: &str,
    offset: u64,
) -> Option<Reply> {
    let limit = state.with(|uploads| uploads.get(id).and_then(|upload| upload.length));
    let limit = match state.is(Mutant::LengthIsNoLimit) {
        true => u64::MAX,
        false => limit.unwrap_or(MAX_SIZE),
    };
    if http
        .declared()
        .is_some_and(|length| offset.saturating_add(length) > limit)
    {
        return Some(Reply::new(413));
    }
    if head.all("Upload-Checksum").count() > 1 {
        return Some(Reply::new(400));
    }
    let declared = offset + http.declared().unwrap_or_default();
    // A body without a length may have a checksum at its end.
    let is_verified = head.field("Upload-Checksum").is_some() || head.field("Trailer").is_some();
    let is_staged = is_verified || head.field("Transfer-Encoding").is_some();
    let (mut staged, mut writer) = (Vec::new(), Writer::new(offset));
    loop {
        let piece = match http.piece().await {
            Ok(piece) if piece.is_empty() => break,
            Ok(piece) => piece,
            Err(_) => {
                if is_staged && !is_verified {
                    store(state, id, &mut writer, &staged, limit)?;
                }
                interrupted(state, id, offset, declared, is_staged);
                return None;
            }
        };
        if is_staged {
            staged.extend_from_slice(&piece);
        } else if let Some(status) = store(state, id, &mut writer, &piece, limit)? {
            return Some(Reply::new(status));
        }
    }
    if is_staged {
        if let Some(status) = rejection(state, http, head, &staged) {
            if state.is(Mutant::MismatchKeepsData) {
                store(state, id, &mut writer, &staged, limit)?;
            }
            return Some(Reply::new(status));
        }
        if let Some(status) = store(state, id, &mut writer, &staged, limit)? {
            return Some(Reply::new(status));
        }
    }
    if state.is(Mutant::GzipIsDecoded) && head.field("Content-Encoding") == Some("gzip") {
        state.with(|uploads| {
            let upload = uploads.get_mut(id)?;
            // The last four bytes of gzip are the decoded size.
            let size = upload.data.last_chunk().copied().map(u32::from_le_bytes)?;
            upload.data = vec![b'a'; usize::try_from(size).ok()?];
            Some(())
        })?;
    }
    state.with(|uploads| {
        let upload = uploads.get(id)?;
        let new = match state.is(Mutant::PatchReturnsBytesOfRequest) {
            true => upload.data.len() as u64 - offset,
            false => upload.data.len() as u64,
        };
        let reply = Reply::new(204).with("Upload-Offset", new);
        Some(match state.is(Mutant::PatchWithoutExpires) {
            true => reply,
            false => with_expires(state, reply, upload),
        })
    })
}

/// The status of a checksum that is not right.
fn rejection(state: &State, http: &Http, head: &Head, data: &[u8]) -> Option<u16> {
    let is_trailer = |(name, _): &&(String, String)| name.eq_ignore_ascii_case("Upload-Checksum");
    let trailer = http
        .trailers
        .iter()
        .find(is_trailer)
        .map(|(_, value)| value.as_str());
    let trailer = trailer.filter(|_| !state.is(Mutant::TrailerIsIgnored));
    if trailer.is_none() && head.field("Trailer").is_some() && !state.is(Mutant::TrailerIsIgnored) {
        return Some(400);
    }
    let values = head.field("Upload-Checksum").into_iter().chain(trailer);
    let mut verdicts = values.map(|value| verify(value, data));
    verdicts.find_map(|verdict| match verdict {
        Verdict::Match => None,
        Verdict::Mismatch if state.is(Mutant::ChecksumIsNotVerified) => None,
        Verdict::Mismatch => Some(460),
        Verdict::Unknown if state.is(Mutant::UnknownAlgorithmIsIgnored) => None,
        Verdict::Unknown | Verdict::Invalid => Some(400),
    })
}

/// A request that stores bytes.
#[derive(Clone, Copy, Debug)]
struct Writer {
    /// 0 before its first byte.
    number: u64,
    offset: u64,
}

impl Writer {
    const fn new(offset: u64) -> Self {
        Self { number: 0, offset }
    }
}

/// Adds bytes if no newer request writes; returns the status of a rejection. `None`: the upload is gone.
fn store(
    state: &State,
    id: &str,
    writer: &mut Writer,
    data: &[u8],
    limit: u64,
) -> Option<Option<u16>> {
    state.with(|uploads| {
        let upload = uploads.get_mut(id)?;
        let is_exclusive = !state.is(Mutant::WritersAreNotExclusive);
        if writer.number == 0 {
            if is_exclusive && upload.data.len() as u64 != writer.offset {
                return Some(Some(409));
            }
            upload.writer += 1;
            writer.number = upload.writer;
        }
        if is_exclusive && upload.writer != writer.number {
            return Some(Some(423));
        }
        let room = limit.saturating_sub(writer.offset);
        let fits = data.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        let start = usize::try_from(writer.offset).unwrap_or_default();
        let end = start + fits;
        if upload.data.len() < end {
            upload.data.resize(end, 0);
        }
        upload.data[start..end].copy_from_slice(&data[..fits]);
        writer.offset += fits as u64;
        upload.expires = Some(SystemTime::now() + state.lifetime);
        Some((fits < data.len()).then_some(413))
    })
}

fn interrupted(state: &State, id: &str, start: u64, declared: u64, is_chunked: bool) {
    state.with(|uploads| {
        let Some(upload) = uploads.get_mut(id) else {
            return;
        };
        if state.is(Mutant::InterruptedRequestIsForgotten) {
            let start = usize::try_from(start).unwrap_or_default();
            upload.data.truncate(start);
        }
        if state.is(Mutant::InterruptedDataIsDropped) {
            upload.data.clear();
        }
        if state.is(Mutant::InterruptedDataIsDamaged) && !upload.data.is_empty() {
            upload.data[0] ^= 1;
        }
        if state.is(Mutant::InterruptedOffsetIsDeclared) && !is_chunked {
            upload
                .data
                .resize(usize::try_from(declared).unwrap_or_default(), 0);
        }
        if state.is(Mutant::CutChunksComplete) && is_chunked {
            upload.length = Some(upload.data.len() as u64);
        }
    });
}

pub(super) fn terminate(state: &State, id: &str) -> Reply {
    state.with(|uploads| {
        if !uploads.contains_key(id) {
            return Reply::new(404);
        }
        if !state.is(Mutant::DeletedUploadsStay) {
            uploads.remove(id);
        }
        Reply::new(if state.is(Mutant::DeleteIs200) {
            200
        } else {
            204
        })
    })
}

pub(super) fn download(state: &State, head: &Head, id: &str) -> Reply {
    state.with(|uploads| {
        concat::advance(uploads, id);
        let Some(upload) = uploads.get(id).filter(|upload| upload.is_complete()) else {
            return Reply::new(404);
        };
        let reply = Reply::new(200)
            .with("Content-Disposition", "attachment")
            .with("X-Content-Type-Options", "nosniff");
        let range = head
            .field("Range")
            .and_then(|range| range.strip_prefix("bytes="));
        let range = range.and_then(|range| range.split_once('-'));
        let range = range.and_then(|(first, last)| Some((first.parse().ok()?, last.parse().ok()?)));
        let slice = range.and_then(|(first, last): (usize, usize)| upload.data.get(first..=last));
        match slice {
            Some(slice) => Reply {
                status: 206,
                body: slice.to_vec(),
                ..reply
            },
            None => Reply {
                body: upload.data.clone(),
                ..reply
            },
        }
    })
}
