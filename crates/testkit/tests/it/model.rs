//! A reference model of an upload server, to compare implementations with.

use std::collections::{BTreeMap, BTreeSet};

/// A server without network, disk or failures.
#[derive(Debug, Clone, Default)]
pub(crate) struct Model {
    uploads: BTreeMap<u32, ModelUpload>,
    made: u32,
}

/// An upload as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ModelUpload {
    /// Its length; `None` while deferred.
    pub(crate) length: Option<u64>,
    /// Its bytes so far.
    pub(crate) bytes: Vec<u8>,
    /// Its part in a concatenation.
    pub(crate) role: Role,
}

/// The part an upload plays in a concatenation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Role {
    /// None.
    Whole,
    /// To be joined with others.
    Partial,
    /// Joined from these, or to be joined as soon as they are complete.
    Final {
        /// The partial uploads in order.
        parts: Vec<u32>,
        /// Whether it is concatenated.
        joined: bool,
    },
}

/// A request's body.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Body<'a> {
    /// The bytes that arrive.
    pub(crate) bytes: &'a [u8],
    /// Its `Content-Length`, if stated.
    pub(crate) stated: Option<u64>,
    /// Whether the connection breaks after these bytes.
    pub(crate) cut: bool,
    /// Whether the body has a checksum, and whether that is correct.
    pub(crate) checksum: Option<bool>,
    /// Whether the checksum is in a trailer that was not declared.
    pub(crate) late: bool,
}

/// Why a request is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// There is no such upload.
    Missing,
    /// A part of it was removed, so it can never be joined.
    Gone,
    /// It is a final upload, which takes no bytes.
    Final,
    /// A part of a final upload isn't a partial upload.
    NotPartial,
    /// A final upload is more than four times as large as its parts, each counted once.
    Repeated,
    /// The offset isn't the upload's.
    Offset,
    /// The length was known already, or is too small.
    Length,
    /// More bytes than the upload takes.
    Size,
    /// The checksum is not that of the bytes.
    Checksum,
    /// The checksum of an undeclared trailer, after bytes whose offset may have been published.
    LateChecksum,
    /// The connection broke.
    Cut,
}

impl ModelUpload {
    /// Returns whether all bytes are stored.
    pub(crate) fn is_complete(&self) -> bool {
        let joined = !matches!(self.role, Role::Final { joined: false, .. });
        joined && self.length == Some(self.bytes.len() as u64)
    }

    fn append(&mut self, body: Body<'_>) -> Result<u64, Refusal> {
        let stored = self.bytes.len() as u64;
        let room = self.length.map_or(u64::MAX, |length| length - stored);
        if body.stated.is_some_and(|stated| stated > room) {
            return Err(Refusal::Size);
        }
        // Such a request changes nothing, whenever it is known.
        if body.bytes.len() as u64 > room {
            return Err(Refusal::Size);
        }
        let is_whole = !body.cut;
        // Bytes with a declared checksum count only if it is correct. Without a declaration, the bytes before
        // a broken connection count.
        let is_told = body.late && body.stated.is_some();
        let is_known = body.checksum.is_some() && !is_told && (is_whole || !body.late);
        if !is_known || is_whole && body.checksum == Some(true) {
            self.bytes.extend_from_slice(body.bytes);
        }
        match (body.cut, body.checksum) {
            (true, _) => Err(Refusal::Cut),
            (_, Some(_)) if is_told => Err(Refusal::LateChecksum),
            (_, Some(false)) => Err(Refusal::Checksum),
            _ => Ok(self.bytes.len() as u64),
        }
    }
}

impl Model {
    /// An upload that was created and not removed.
    pub(crate) fn get(&self, name: u32) -> Option<&ModelUpload> {
        self.uploads.get(&name)
    }

    /// POST: creates an upload; returns its name and what became of its body. An upload whose body
    /// is refused isn't kept, one whose body is cut is.
    ///
    /// # Errors
    /// Nothing was created.
    pub(crate) fn create(
        &mut self,
        length: Option<u64>,
        role: Role,
        body: Option<Body<'_>>,
    ) -> Result<(u32, Result<u64, Refusal>), Refusal> {
        let bytes = Vec::new();
        let mut upload = ModelUpload {
            length,
            bytes,
            role,
        };
        let appended = body.map_or(Ok(0), |body| upload.append(body));
        match appended {
            Err(refusal) if refusal != Refusal::Cut => Err(refusal),
            _ => Ok((self.keep(upload), appended)),
        }
    }

    /// POST: joins partial uploads, now or as soon as they are complete.
    ///
    /// # Errors
    /// [`Refusal::Missing`], [`Refusal::NotPartial`], [`Refusal::Repeated`].
    pub(crate) fn concatenate(&mut self, parts: Vec<u32>) -> Result<u32, Refusal> {
        let mut length = Some(0);
        for name in &parts {
            let part = self.uploads.get(name).ok_or(Refusal::Missing)?;
            if part.role != Role::Partial {
                return Err(Refusal::NotPartial);
            }
            length = length.zip(part.length).map(|(sum, length)| sum + length);
        }
        if self.repeats_parts(&parts) {
            return Err(Refusal::Repeated);
        }
        let (joined, bytes) = (false, Vec::new());
        let role = Role::Final { parts, joined };
        let name = self.keep(ModelUpload {
            length,
            bytes,
            role,
        });
        self.inspect(name).map(|_| name)
    }

    /// Returns false while the length of a part is not known.
    fn repeats_parts(&self, parts: &[u32]) -> bool {
        let length = |name: &u32| self.uploads.get(name)?.length;
        let lengths: Option<Vec<u64>> = parts.iter().map(length).collect();
        let distinct: BTreeSet<u32> = parts.iter().copied().collect();
        let distinct: u64 = distinct.iter().filter_map(length).sum();
        lengths.is_some_and(|lengths| lengths.iter().sum::<u64>() > 4 * distinct)
    }

    fn keep(&mut self, upload: ModelUpload) -> u32 {
        self.made += 1;
        self.uploads.insert(self.made, upload);
        self.made
    }

    /// PATCH: returns the new offset.
    ///
    /// # Errors
    /// Any [`Refusal`]; bytes may have been kept even so.
    pub(crate) fn append(
        &mut self,
        name: u32,
        offset: u64,
        declared: Option<u64>,
        body: Body<'_>,
    ) -> Result<u64, Refusal> {
        let upload = self.uploads.get_mut(&name).ok_or(Refusal::Missing)?;
        if matches!(upload.role, Role::Final { .. }) {
            return Err(Refusal::Final);
        }
        if offset != upload.bytes.len() as u64 {
            return Err(Refusal::Offset);
        }
        let length = upload.length;
        match (declared, length) {
            (Some(new), Some(known)) if new != known => return Err(Refusal::Length),
            (Some(new), None) if new < offset + body.stated.unwrap_or(0) => {
                return Err(Refusal::Length);
            }
            (Some(new), None) => upload.length = Some(new),
            _ => {}
        }
        let appended = upload.append(body);
        // A request that is refused for its checksum or size is as if it had not been, its length included.
        let is_verified = body.checksum.is_some() && !body.late;
        if matches!(appended, Err(Refusal::Checksum | Refusal::Size))
            || (is_verified && appended.is_err())
        {
            upload.length = length;
        }
        appended
    }

    /// HEAD: the offset, which a final upload that waits for its parts doesn't have.
    ///
    /// # Errors
    /// [`Refusal::Missing`], [`Refusal::Gone`], [`Refusal::Repeated`].
    pub(crate) fn inspect(&mut self, name: u32) -> Result<Option<u64>, Refusal> {
        let upload = self.uploads.get(&name).ok_or(Refusal::Missing)?;
        let Role::Final {
            parts,
            joined: false,
        } = &upload.role
        else {
            return Ok(Some(upload.bytes.len() as u64));
        };
        if self.repeats_parts(parts) {
            return Err(Refusal::Repeated);
        }
        let mut bytes = Vec::new();
        for part in parts {
            let part = self.uploads.get(part).ok_or(Refusal::Gone)?;
            if !part.is_complete() {
                return Ok(None);
            }
            bytes.extend_from_slice(&part.bytes);
        }
        let (parts, joined) = (parts.clone(), true);
        let role = Role::Final { parts, joined };
        let length = Some(bytes.len() as u64);
        let upload = ModelUpload {
            length,
            bytes,
            role,
        };
        self.uploads.insert(name, upload);
        Ok(length)
    }

    /// Returns whether a part of a final upload was removed before it was concatenated.
    pub(crate) fn lacks_part(&self, name: u32) -> bool {
        let role = self.uploads.get(&name).map(|upload| &upload.role);
        let Some(Role::Final { parts, joined }) = role else {
            return false;
        };
        !joined && parts.iter().any(|part| !self.uploads.contains_key(part))
    }

    /// DELETE, or expiry.
    ///
    /// # Errors
    /// [`Refusal::Missing`].
    pub(crate) fn remove(&mut self, name: u32) -> Result<(), Refusal> {
        self.uploads.remove(&name).map(drop).ok_or(Refusal::Missing)
    }

    /// Takes over how far an upload really got, where a failure leaves that open.
    pub(crate) fn adopt_actual(&mut self, name: u32, bytes: Vec<u8>, length: Option<u64>) {
        if let Some(upload) = self.uploads.get_mut(&name) {
            (upload.bytes, upload.length) = (bytes, length);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn body(bytes: &[u8]) -> Body<'_> {
        Body {
            bytes,
            stated: Some(bytes.len() as u64),
            cut: false,
            checksum: None,
            late: false,
        }
    }

    #[test]
    fn an_upload_grows_at_its_offset_only() {
        let mut model = Model::default();
        let (name, _) = model.create(Some(5), Role::Whole, None).unwrap();
        assert_eq!(model.append(name, 0, None, body(b"hel")), Ok(3));
        assert_eq!(
            model.append(name, 0, None, body(b"hel")),
            Err(Refusal::Offset)
        );
        assert_eq!(
            model.append(name, 3, None, body(b"lo!")),
            Err(Refusal::Size)
        );
        let unsized_body = Body {
            stated: None,
            ..body(b"lo!")
        };
        assert_eq!(
            model.append(name, 3, None, unsized_body),
            Err(Refusal::Size)
        );
        assert_eq!(model.append(name, 3, None, body(b"lo")), Ok(5));
        assert!(model.get(name).unwrap().is_complete());
        assert_eq!(model.remove(name), Ok(()));
        assert_eq!(model.inspect(name), Err(Refusal::Missing));
    }

    #[test]
    fn interrupted_bytes_count_unless_a_checksum_was_declared() {
        let mut model = Model::default();
        let cut = |checksum| Body {
            stated: Some(9),
            cut: true,
            checksum,
            ..body(b"abc")
        };
        let (name, appended) = model.create(Some(9), Role::Whole, Some(cut(None))).unwrap();
        assert_eq!(appended, Err(Refusal::Cut));
        assert_eq!(model.inspect(name), Ok(Some(3)));
        let again = Body {
            stated: Some(6),
            ..cut(Some(true))
        };
        assert_eq!(model.append(name, 3, None, again), Err(Refusal::Cut));
        assert_eq!(model.inspect(name), Ok(Some(3)));
        let wrong = Body {
            checksum: Some(false),
            ..body(b"abc")
        };
        assert_eq!(model.append(name, 3, None, wrong), Err(Refusal::Checksum));
        assert_eq!(model.inspect(name), Ok(Some(3)));
    }

    #[test]
    fn a_final_upload_waits_for_its_parts() {
        let mut model = Model::default();
        let (a, _) = model
            .create(Some(2), Role::Partial, Some(body(b"ab")))
            .unwrap();
        let (b, _) = model.create(None, Role::Partial, None).unwrap();
        let joined = model.concatenate(vec![a, b, a]).unwrap();
        assert_eq!(model.inspect(joined), Ok(None));
        assert_eq!(
            model.append(joined, 0, None, body(b"x")),
            Err(Refusal::Final)
        );
        assert_eq!(model.append(b, 0, Some(1), body(b"c")), Ok(1));
        assert_eq!(model.inspect(joined), Ok(Some(5)));
        model.remove(a).unwrap();
        assert_eq!(model.get(joined).unwrap().bytes, b"abcab");
        assert_eq!(model.concatenate(vec![b; 5]), Err(Refusal::Repeated));
        let (c, _) = model.create(None, Role::Partial, None).unwrap();
        let joined = model.concatenate(vec![c; 5]).unwrap();
        assert_eq!(model.inspect(joined), Ok(None));
        assert_eq!(model.append(c, 0, Some(1), body(b"c")), Ok(1));
        assert_eq!(model.inspect(joined), Err(Refusal::Repeated));
        let (whole, _) = model.create(Some(0), Role::Whole, None).unwrap();
        assert_eq!(model.concatenate(vec![whole]), Err(Refusal::NotPartial));
    }
}
