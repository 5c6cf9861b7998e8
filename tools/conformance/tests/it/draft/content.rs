//! The content of creations and appends: what the reference server stores, and its responses.

use std::io;
use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};

use super::http::{Connection, Request, Response};
use super::mutant::Mutant;
use super::reference::{Content, Server, State, Upload, VERSION, flag, problem, registered};

/// A 104 reports progress after as many bytes.
const PROGRESS: u64 = 1 << 20;

impl Server {
    /// Checks an append against the state of the upload.
    fn check_state(&self, request: &Request, content: &Content) -> Result<(), Response> {
        let mut state = content.upload.state.lock().unwrap();
        let size = request.content_length();
        let current = state.data.len() as u64;
        if state.is_gone {
            return Err(problem(404, "about:blank", ""));
        }
        if content.offset != current && !self.has(Mutant::OtherOffsetIsAccepted) {
            let (mut expected, mut provided) = (current, content.offset);
            if self.has(Mutant::ConflictMembersAreSwapped) {
                (expected, provided) = (provided, expected);
            }
            let members =
                format!(", \"expected-offset\": {expected}, \"provided-offset\": {provided}");
            let mut response = problem(409, &registered("mismatching-upload-offset"), &members);
            if self.has(Mutant::ConflictIsComplete) {
                response = response
                    .without("Upload-Complete")
                    .with("Upload-Complete", "?1");
            }
            if self.has(Mutant::ProblemHasAnotherStatus) {
                response.body = br#"{"type": "about:blank", "status": 400}"#.to_vec();
            }
            return Err(match self.has(Mutant::ConflictWithoutOffset) {
                true => response,
                false => response.with("Upload-Offset", current),
            });
        }
        if state.is_complete && !state.is_open {
            return Err(match (size, content.is_last) {
                (Some(0), true) => self.completed(request, &state),
                _ => problem(400, "about:blank", ""),
            });
        }
        let declared = self.length(request);
        let end = size.map(|size| current + size);
        let last = end.filter(|_| content.is_last);
        if declared.is_some_and(|length| state.length.is_some_and(|known| known != length)) {
            return Err(inconsistent());
        }
        let length = state.length.or(declared);
        let is_ignored = self.has(Mutant::ExceedsTheLength)
            || state.is_open
            || state.is_of_tus && self.has(Mutant::LengthOfTusIsIgnored);
        if let (Some(length), false) = (length, is_ignored) {
            if end.is_some_and(|end| end > length) {
                state.is_gone = !self.has(Mutant::ValidAfterExceedingTheLength);
                return Err(inconsistent());
            }
            if last.is_some_and(|last| last != length) {
                return Err(inconsistent());
            }
        }
        if !self.has(Mutant::LengthOfAppendIsIgnored) {
            state.length = length;
        }
        Ok(())
    }

    pub(super) async fn receive(
        &self,
        request: &Request,
        connection: &mut Connection,
        content: Content,
    ) -> io::Result<Response> {
        let upload = &content.upload;
        upload.newest.send_modify(|newest| *newest += 1);
        let mut newest = upload.newest.subscribe();
        let writer = match self.has(Mutant::WritesAtTheSameTime) {
            true => None,
            false => Some(upload.writer.lock().await),
        };
        if !content.is_creation
            && let Err(response) = self.check_state(request, &content)
        {
            return Ok(response);
        }
        if writer.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if request.expects_continue() {
            connection.interim(&Response::new(100)).await?;
        }
        if self.has(Mutant::SucceedsEarly) {
            return Ok(Response::new(204).with("Upload-Complete", flag(content.is_last)));
        }
        let start = upload.state.lock().unwrap().data.len();
        let mut reported = 0;
        loop {
            let piece = tokio::select! {
                biased;
                _ = newest.changed(), if writer.is_some() => return Ok(self.conflict(upload)),
                piece = connection.content() => piece,
            };
            let piece = match piece {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => {
                    self.cut(upload, start);
                    return Err(error);
                }
            };
            if let Err(response) = self.store(upload, &piece, request.content_length().is_none()) {
                return Ok(response);
            }
            let stored = upload.state.lock().unwrap().data.len() as u64;
            let is_reported = request.integer(VERSION).is_some() && !request.is_http_1_0;
            if is_reported && stored - reported >= PROGRESS {
                reported = stored;
                let is_ahead = self.has(Mutant::InterimOffsetIsAhead);
                let offset = stored + if is_ahead { 2 * PROGRESS } else { 0 };
                let mut interim = self.interim(request).with("Upload-Offset", offset);
                if content.is_creation || self.has(Mutant::InterimOnAppendHasLocation) {
                    interim = interim.with("Location", &upload.path);
                }
                connection.interim(&interim).await?;
            }
        }
        Ok(self.finish(request, &content, start))
    }

    fn conflict(&self, upload: &Upload) -> Response {
        let offset = upload.state.lock().unwrap().data.len();
        problem(409, "about:blank", "").with("Upload-Offset", offset)
    }

    fn store(&self, upload: &Upload, piece: &[u8], is_chunked: bool) -> Result<(), Response> {
        let mut state = upload.state.lock().unwrap();
        let end = (state.data.len() + piece.len()) as u64;
        let is_too_long = state.length.is_some_and(|length| end > length);
        if is_too_long && !self.has(Mutant::ExceedsTheLength) && !state.is_open {
            state.is_gone = !self.has(Mutant::ValidAfterExceedingTheLength);
            return Err(inconsistent());
        }
        let is_limited = self.sizes.max_size > 0 && !self.has(Mutant::MaxSizeIsThatOfDeclared);
        if is_limited && end > self.sizes.max_size {
            state.is_gone = true;
            let response = problem(413, "about:blank", "");
            return Err(response.with("Upload-Limit", self.limits(Duration::ZERO)));
        }
        state.data.extend_from_slice(piece);
        if self.has(Mutant::DamagesBytes) {
            state.data.iter_mut().for_each(|byte| *byte = 0);
            state.digest = None;
        }
        if is_chunked && self.has(Mutant::ChunksCount) {
            state.data.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn cut(&self, upload: &Upload, start: usize) {
        let mut state = upload.state.lock().unwrap();
        if self.has(Mutant::LosesBytesWhenCut) || self.has(Mutant::ReportedBytesAreLost) {
            state.data.truncate(start);
        }
        if self.has(Mutant::DamagesBytesWhenCut) {
            state
                .data
                .iter_mut()
                .skip(start)
                .for_each(|byte| *byte ^= 1);
        }
        if self.has(Mutant::CutStartsAgain) {
            state.data.clear();
        }
        state.is_complete |= self.has(Mutant::CompletesWhenCut);
    }

    /// Responds to content that has arrived in full.
    fn finish(&self, request: &Request, content: &Content, start: usize) -> Response {
        let mut state = content.upload.state.lock().unwrap();
        let digest = request.field("content-digest");
        if digest.is_some_and(|digest| contradicts(&digest, &state.data[start..])) {
            if !self.has(Mutant::DigestMismatchKeepsBytes) {
                state.data.truncate(start);
            }
            let response = problem(400, "about:blank", "");
            return response.with("Upload-Offset", start);
        }
        if self.has(Mutant::PartIsNotStored) && content.is_creation && !content.is_last {
            state.data.clear();
        }
        if self.has(Mutant::GzipIsDecoded) && request.field("content-encoding").is_some() {
            // The last four bytes of gzip are the decoded size.
            if let Some(size) = state.data.last_chunk().copied().map(u32::from_le_bytes) {
                state.data = vec![b'a'; usize::try_from(size).unwrap()];
            }
        }
        let stored = state.data.len() as u64;
        if content.is_last {
            if state.length.is_some_and(|length| length != stored)
                && !self.has(Mutant::ExceedsTheLength)
                && !self.has(Mutant::LengthOfTusIsIgnored)
            {
                return inconsistent();
            }
            state.length = Some(stored);
            let digest = state
                .digest
                .clone()
                .or_else(|| request.field("repr-digest"));
            if digest.is_some_and(|digest| contradicts(&digest, &state.data)) {
                state.is_gone = true;
                let response = problem(400, "about:blank", "").without("Upload-Complete");
                return response.with("Upload-Complete", "?1");
            }
            state.is_complete = true;
            return self.completed(request, &state);
        }
        if self.has(Mutant::CompletesAtTheLength) && state.length == Some(stored) {
            state.is_complete = true;
        }
        let response = Response::new(if content.is_creation { 201 } else { 204 })
            .with("Upload-Complete", "?0")
            .with("Upload-Offset", stored);
        if !content.is_creation {
            return response;
        }
        let is_other = self.has(Mutant::FinalLocationDiffers) && stored > 0;
        let location = format!("{}{}", content.upload.path, if is_other { "/" } else { "" });
        let limits = self.limits_of_upload(Duration::ZERO, Mutant::PartHidesLimits);
        let response = response.with("Upload-Limit", limits);
        let response = response.with("Location", location);
        match request.integer(VERSION) {
            Some(version) => response.with(VERSION, version),
            None => response,
        }
    }

    /// Returns the response of the target resource.
    fn completed(&self, request: &Request, state: &State) -> Response {
        let mut response = Response::new(201);
        if !self.has(Mutant::LastWithoutFlag) {
            response = response.with("Upload-Complete", "?1");
        }
        if request.field("want-repr-digest").is_some() && !self.has(Mutant::DamagesBytes) {
            let data = match self.has(Mutant::DigestIsThatOfNothing) {
                true => &[],
                false => state.data.as_slice(),
            };
            response = response.with("Repr-Digest", digest(data));
        }
        response
    }
}

pub(super) fn inconsistent() -> Response {
    problem(400, &registered("inconsistent-upload-length"), "")
}

fn digest(data: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(data)))
}

/// Returns whether a digest of a known algorithm is not that of the data.
fn contradicts(value: &str, data: &[u8]) -> bool {
    value.starts_with("sha-256=") && value != digest(data)
}
