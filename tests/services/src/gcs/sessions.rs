//! Resumable sessions: chunks of whole granules, one after the other. An object appears with the last byte, and only then are
//! its preconditions and checksums checked.

use bytes::Bytes;

use super::{
    content::Content,
    objects::{
        Attributes, Buckets, Object, Preconditions, Result, check_attributes, check_name, invalid,
        missing, reject,
    },
};

/// All chunks of a session but the last have a multiple of these bytes.
const GRANULE: u64 = 256 << 10;

#[derive(Debug)]
pub(super) struct Session {
    bucket: String,
    name: String,
    attributes: Attributes,
    preconditions: Preconditions,
    content: Content,
    state: SessionState,
}

#[derive(Debug, Clone)]
enum SessionState {
    Open,
    Finished(Object),
    Cancelled,
}

/// A chunk of a resumable session.
#[derive(Debug)]
pub(super) struct Chunk {
    /// The offset of its first byte; `None` for a query, which has no bytes.
    pub(super) start: Option<u64>,
    /// The length of the object, if it is stated.
    pub(super) total: Option<u64>,
    pub(super) bytes: Bytes,
    /// Checksums of the whole object, from the request's headers.
    pub(super) checksums: Attributes,
}

/// The state of a resumable session after a request.
#[derive(Debug)]
pub(super) enum Progress {
    /// The number of bytes stored.
    Incomplete(u64),
    Finished(Box<Object>, String),
}

impl Buckets {
    /// Returns the id of a resumable session. Its preconditions are checked when it ends.
    pub(super) fn create_session(
        &mut self,
        bucket: &str,
        name: &str,
        attributes: Attributes,
        preconditions: Preconditions,
    ) -> Result<String> {
        self.find_bucket(bucket)?;
        check_name(name)?;
        check_attributes(&attributes)?;
        let id = format!("{:032x}", rand::random::<u128>());
        let session = Session {
            bucket: bucket.to_owned(),
            name: name.to_owned(),
            attributes,
            preconditions,
            content: Content::default(),
            state: SessionState::Open,
        };
        self.sessions.insert(id.clone(), session);
        Ok(id)
    }

    fn session(&mut self, bucket: &str, id: &str) -> Result<&mut Session> {
        let session = self.sessions.get_mut(id);
        let session = session.filter(|session| session.bucket == bucket);
        session.ok_or_else(|| missing("Upload session not found"))
    }

    /// Takes a chunk, or answers a query. The object appears with the last byte.
    pub(super) fn write_session(
        &mut self,
        bucket: &str,
        id: &str,
        chunk: Chunk,
    ) -> Result<Progress> {
        let session = self.session(bucket, id)?;
        match &session.state {
            SessionState::Open => {}
            SessionState::Finished(object) => {
                return Ok(Progress::Finished(
                    object.clone().into(),
                    session.name.clone(),
                ));
            }
            SessionState::Cancelled => {
                return Err(reject(
                    499,
                    "clientClosedRequest",
                    "The upload was cancelled",
                ));
            }
        }
        let stored = session.content.size();
        if let Some(start) = chunk.start {
            let length = chunk.bytes.len() as u64;
            if start > stored {
                let message = format!(
                    "Invalid request.  According to the Content-Range header, the upload offset is {start} byte(s), which \
                     exceeds already uploaded size of {stored} byte(s)."
                );
                return Err(reject(503, "backendError", message));
            }
            if chunk.total != Some(start + length)
                && (length == 0 || !length.is_multiple_of(GRANULE))
            {
                let message = format!(
                    "Invalid request. The number of bytes uploaded is required to be equal or greater than {GRANULE}, except \
                     for the final request (it's recommended to be the exact multiple of {GRANULE}). The received request \
                     contained {length} bytes, which does not meet this requirement."
                );
                return Err(invalid(message));
            }
            // Bytes that are stored are not replaced.
            let known = usize::try_from(stored - start)
                .unwrap_or(usize::MAX)
                .min(chunk.bytes.len());
            session.content.push(chunk.bytes.slice(known..));
        }
        let stored = session.content.size();
        if chunk.total.is_some_and(|total| total < stored) {
            return Err(invalid(format!(
                "Invalid request. {stored} bytes are stored, which is more than the total"
            )));
        }
        // A query that states the length ends an upload of which all bytes are stored.
        if chunk.total != Some(stored) {
            return Ok(Progress::Incomplete(stored));
        }
        let (name, wanted) = (session.name.clone(), session.preconditions);
        let (mut attributes, content) = (session.attributes.clone(), session.content.clone());
        attributes.extend(chunk.checksums);
        let object = self.insert(bucket, &name, content, &attributes, wanted)?;
        self.session(bucket, id)?.state = SessionState::Finished(object.clone());
        Ok(Progress::Finished(object.into(), name))
    }

    pub(super) fn cancel_session(&mut self, bucket: &str, id: &str) -> Result<()> {
        let session = self.session(bucket, id)?;
        session.content = Content::default();
        session.state = SessionState::Cancelled;
        Ok(())
    }
}
