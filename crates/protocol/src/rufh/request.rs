//! The heads of requests.

use http::{HeaderMap, HeaderName, HeaderValue, Method, header};

use super::{
    INTEROP_VERSION, InteropVersion, InteropVersions, PARTIAL_UPLOAD, UPLOAD_COMPLETE,
    UPLOAD_INCOMPLETE, UploadLimits,
    digest::{content_digest, repr_digest},
    disposition::file_name,
    field::{Field, boolean, integer},
};
use crate::{
    Append, ChecksumPlacement, Create, DeclaredEnd, DeclaredLength, Extensions, Metadata,
    Operation, Problem, ProblemKind, Syntax, Target,
    fields::Fields,
    headers as names,
    operation::{has_media_type, parse_metadata},
};

/// A request of the draft, and the version of the draft that it follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DraftRequest {
    version: InteropVersion,
    named: Option<InteropVersion>,
    /// It names a version that the server does not accept.
    is_unknown: bool,
}

impl DraftRequest {
    /// A request that names no version.
    pub const UNVERSIONED: Self = Self {
        version: InteropVersion::NEWEST,
        named: None,
        is_unknown: false,
    };

    /// Returns `None` for a request of tus: `Tus-Resumable` prevails, because systems add the fields of the
    /// draft to requests of tus clients. A creation without a valid `Upload-Complete` is none of the
    /// draft's (`draft/syntax/complete-as-token-is-ignored`).
    #[must_use]
    pub fn detect<'a>(
        method: &Method,
        target: Target,
        fields: impl Into<Fields<'a>>,
        accepted: &InteropVersions,
    ) -> Option<Self> {
        let fields = fields.into();
        if accepted.is_off() || fields.contains(&names::TUS_RESUMABLE) {
            return None;
        }
        let signs = [INTEROP_VERSION, UPLOAD_COMPLETE, UPLOAD_INCOMPLETE];
        if !signs.iter().any(|name| fields.contains(name))
            && !has_media_type(fields, PARTIAL_UPLOAD)
        {
            return None;
        }
        let headers = fields.map();
        let number = integer(headers, &INTEROP_VERSION);
        let named = number.valid().and_then(|number| u8::try_from(number).ok());
        let named = named.and_then(InteropVersion::new);
        let named = named.filter(|version| accepted.contains(*version));
        let lacks_complete = !headers.contains_key(UPLOAD_COMPLETE);
        let version = match named {
            Some(version) => version,
            None if lacks_complete && headers.contains_key(UPLOAD_INCOMPLETE) => {
                InteropVersion::OLDEST
            }
            None => InteropVersion::NEWEST,
        };
        let is_unknown = number != Field::Absent && named.is_none();
        let request = Self {
            version,
            named,
            is_unknown,
        };
        let is_creation =
            target == Target::Collection && matches!(*method, Method::POST | Method::PUT);
        let complete = request.complete(headers);
        if is_creation && matches!(complete, Ok(Field::Absent | Field::Invalid)) {
            return None;
        }
        Some(request)
    }

    /// Returns whether the request names a version that the server does not accept. A creation is then an
    /// ordinary request, whose response has no fields of the draft.
    #[must_use]
    pub const fn is_unknown(self) -> bool {
        self.is_unknown
    }

    /// Returns the version whose rules apply to the request.
    #[must_use]
    pub const fn version(self) -> InteropVersion {
        self.version
    }

    /// Returns the version that the request names and the server accepts, for the response.
    #[must_use]
    pub const fn named(self) -> Option<InteropVersion> {
        self.named
    }

    /// Returns the operation of `method` on `target`. GET is HEAD (`draft/retrieval/get`).
    ///
    /// # Errors
    /// 405 if the method is not offered there.
    pub fn operation(
        self,
        method: &Method,
        target: Target,
        offered: Extensions,
    ) -> Result<Operation, Problem> {
        match (target, method.as_str()) {
            (Target::Collection, "PUT") => Ok(Operation::Create),
            (Target::Upload, "GET") => Ok(Operation::Inspect),
            _ => Operation::parse(method, target, offered),
        }
    }

    /// Checks that HEAD and DELETE have no fields of an upload, which versions up to 6 forbid and later ones
    /// ignore (`draft/retrieval/fields-of-appends-are-rejected`).
    ///
    /// # Errors
    /// 400 with the field.
    pub fn check_fields(self, operation: Operation, headers: &HeaderMap) -> Result<(), Problem> {
        if !self.version.forbids_upload_fields()
            || !matches!(operation, Operation::Inspect | Operation::Terminate)
        {
            return Ok(());
        }
        let forbidden = [names::UPLOAD_OFFSET, UPLOAD_COMPLETE, UPLOAD_INCOMPLETE];
        match forbidden.iter().find(|name| headers.contains_key(*name)) {
            Some(name) => Err(ProblemKind::InvalidOffset.with_detail(format_args!(
                "a request to {operation:?} must not have {name}"
            ))),
            None => Ok(()),
        }
    }

    /// Parses the head of a creation (section 4.2).
    ///
    /// # Errors
    /// 400 for lengths that contradict each other, a part of an upload by a version that is not accepted,
    /// metadata that is too long and invalid digests; 413 and 400 for sizes outside `limits`.
    pub fn create(
        self,
        headers: &HeaderMap,
        content_length: Option<u64>,
        limits: &UploadLimits,
        syntax: Syntax,
    ) -> Result<Create, Problem> {
        let is_last = self.complete(headers)?.valid().unwrap_or(true);
        if self.is_unknown && !is_last {
            // A fragment must not become the whole upload.
            return Err(ProblemKind::InvalidInteropVersion
                .with_detail("this server does not accept the version"));
        }
        if Self::offset(headers).is_some_and(|offset| offset != 0) {
            return Err(ProblemKind::InvalidOffset.with_detail("a creation begins at 0"));
        }
        // Ignored, a part would be a file, and a final upload an empty one.
        if headers.contains_key(names::UPLOAD_CONCAT) {
            return Err(ProblemKind::InvalidConcat
                .with_detail("partial and final uploads are created with tus 1.0.0 only"));
        }
        let stated = integer(headers, &names::UPLOAD_LENGTH).valid();
        // tus-js-client sends it where the length is not known.
        if stated.is_some() && headers.contains_key(names::UPLOAD_DEFER_LENGTH) {
            return Err(ProblemKind::AmbiguousLength.into());
        }
        let whole = content_length.filter(|_| is_last);
        // Longer content is rejected like content whose length is not known before.
        let length = match (stated, whole) {
            (Some(stated), Some(whole)) if whole < stated => {
                return Err(
                    ProblemKind::InconsistentUploadLength.with_detail(format_args!(
                        "Upload-Length is {stated}, and the content has {whole} bytes"
                    )),
                );
            }
            (stated, whole) => stated.or(whole),
        };
        if let (Some(length), Some(max)) = (length.max(content_length), limits.max_size)
            && length > max
        {
            return Err(ProblemKind::MaxSizeExceeded.into());
        }
        if let Some(size) = content_length {
            limits.check_append(size, is_last || size == 0)?;
        }
        Ok(Create {
            declared: length.map_or(DeclaredLength::Deferred, DeclaredLength::Known),
            metadata: representation(headers, syntax)?,
            concat: None,
            with_upload: true,
            checksum: checksum(headers)?,
            repr_digest: repr_digest(headers)?,
            end: self.end(is_last),
            is_draft: true,
        })
    }

    /// Parses the head of an append (section 4.4).
    ///
    /// # Errors
    /// 415 for the wrong `Content-Type`, 400 for fields that are missing or malformed, 413 and 400 for content
    /// outside `limits`.
    pub fn append(
        self,
        headers: &HeaderMap,
        content_length: Option<u64>,
        limits: &UploadLimits,
    ) -> Result<Append, Problem> {
        if has_media_type(Fields::new(headers), names::OFFSET_OCTET_STREAM)
            || self.version.requires_partial_upload()
                && !has_media_type(Fields::new(headers), PARTIAL_UPLOAD)
        {
            return Err(
                ProblemKind::InvalidContentType.with_detail(format_args!("send {PARTIAL_UPLOAD}"))
            );
        }
        let offset = Self::offset(headers).ok_or_else(|| {
            ProblemKind::InvalidOffset.with_detail("send the offset of the first byte")
        })?;
        let is_last = match self.complete(headers)? {
            Field::Valid(is_last) => is_last,
            Field::Absent if !self.version.requires_complete() => true,
            Field::Absent | Field::Invalid => {
                return Err(ProblemKind::InvalidUploadComplete
                    .with_detail("send ?1 with the last bytes, otherwise ?0"));
            }
        };
        if let Some(size) = content_length {
            limits.check_append(size, is_last)?;
        }
        Ok(Append {
            offset,
            length: integer(headers, &names::UPLOAD_LENGTH).valid(),
            checksum: checksum(headers)?,
            repr_digest: repr_digest(headers)?,
            end: self.end(is_last),
            ends_beyond_length: self.version.ends_beyond_length(),
        })
    }

    /// Returns `Upload-Offset`, if it is valid.
    #[must_use]
    pub fn offset(headers: &HeaderMap) -> Option<u64> {
        integer(headers, &names::UPLOAD_OFFSET).valid()
    }

    /// Returns `Upload-Complete`, or `Upload-Incomplete` in version 3.
    #[must_use]
    pub fn complete_field(self, is_complete: bool) -> (HeaderName, HeaderValue) {
        let is_inverted = self.version.uses_incomplete();
        let value = if is_complete == is_inverted {
            "?0"
        } else {
            "?1"
        };
        let name = if is_inverted {
            UPLOAD_INCOMPLETE
        } else {
            UPLOAD_COMPLETE
        };
        (name, HeaderValue::from_static(value))
    }

    fn end(self, is_last: bool) -> DeclaredEnd {
        match is_last {
            true => DeclaredEnd::WithContent,
            false if self.version.completes_at_length() => DeclaredEnd::AtLength,
            false => DeclaredEnd::Later,
        }
    }

    /// Whether the content is the last of the upload.
    fn complete(self, headers: &HeaderMap) -> Result<Field<bool>, Problem> {
        let complete = boolean(headers, &UPLOAD_COMPLETE);
        let incomplete = match boolean(headers, &UPLOAD_INCOMPLETE) {
            Field::Valid(is_incomplete) => Field::Valid(!is_incomplete),
            other => other,
        };
        if let (Field::Valid(one), Field::Valid(other)) = (complete, incomplete)
            && one != other
        {
            return Err(ProblemKind::InvalidUploadComplete
                .with_detail("Upload-Complete and Upload-Incomplete contradict each other"));
        }
        Ok(match self.version.uses_incomplete() {
            true if incomplete != Field::Absent => incomplete,
            _ => complete,
        })
    }
}

fn checksum(headers: &HeaderMap) -> Result<ChecksumPlacement, Problem> {
    let digest = content_digest(headers)?;
    Ok(digest.map_or(ChecksumPlacement::None, ChecksumPlacement::Header))
}

/// Returns `Upload-Metadata`, which tus-js-client sends, completed by the fields of the representation
/// (`draft/creation/content-disposition`).
fn representation(headers: &HeaderMap, syntax: Syntax) -> Result<Metadata, Problem> {
    let text = |name| {
        let value: &HeaderValue = headers.get(name)?;
        Some(String::from_utf8_lossy(value.as_bytes()).trim().to_owned())
    };
    let media_type = text(header::CONTENT_TYPE).map(|value| {
        let essence = value.split(';').next().unwrap_or_default();
        essence.trim().to_ascii_lowercase()
    });
    let is_of_file = |essence: &String| {
        !essence.is_empty() && essence != PARTIAL_UPLOAD && essence != names::OFFSET_OCTET_STREAM
    };
    let fields = [
        (
            "filename",
            text(header::CONTENT_DISPOSITION).and_then(|value| file_name(&value)),
        ),
        ("filetype", media_type.filter(is_of_file)),
        ("content-encoding", text(header::CONTENT_ENCODING)),
        ("content-language", text(header::CONTENT_LANGUAGE)),
    ];
    let fields: Vec<_> = fields
        .into_iter()
        .filter_map(|(key, value)| Some((key, value?)))
        .collect();
    let metadata = parse_metadata(Fields::new(headers), syntax)?;
    if fields.is_empty() {
        return Ok(metadata);
    }
    let kept = metadata
        .iter()
        .filter(|(key, _)| !fields.iter().any(|(name, _)| name == key))
        .map(|(key, value)| (key.to_owned(), value.to_vec()));
    let fields = fields
        .iter()
        .map(|(key, value)| ((*key).to_owned(), value.clone().into_bytes()));
    let metadata = Metadata::from_pairs(kept.chain(fields));
    let length = metadata.header().len();
    if length > Metadata::MAX_BYTES {
        let reason = crate::InvalidMetadata::TooLong(length);
        return Err(ProblemKind::InvalidMetadata.with_detail(reason));
    }
    Ok(metadata)
}
