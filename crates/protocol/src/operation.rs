//! Parsing of request heads.

use std::borrow::Cow;

use http::{HeaderMap, Method, header};

use crate::{
    Checksum, Concat, InvalidChecksum, Metadata, Problem, ProblemKind, Syntax, fields::Fields,
    headers,
};

/// The resource of a request's path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The base path, where uploads are created.
    Collection,
    /// An upload.
    Upload,
}

/// The extensions that a server offers; it rejects all others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of tus 1.0.0's extensions")]
pub struct Extensions {
    pub termination: bool,
    pub concatenation: bool,
    pub defer_length: bool,
    pub expiration: bool,
    /// Without it, `Upload-Checksum` is ignored.
    pub checksum: bool,
    /// GET on uploads, which tus leaves to the server.
    pub download: bool,
}

impl Extensions {
    /// Returns the value of `Tus-Extension` (`tus/options/extensions-are-a-list`).
    #[must_use]
    pub fn list(self) -> String {
        let mut list = String::from("creation,creation-with-upload");
        for (offered, name) in [
            (self.termination, ",termination"),
            (
                self.concatenation,
                ",concatenation,concatenation-unfinished",
            ),
            (self.defer_length, ",creation-defer-length"),
            (self.expiration, ",expiration"),
            (self.checksum, ",checksum,checksum-trailer"),
        ] {
            if offered {
                list.push_str(name);
            }
        }
        list
    }
}

/// An operation, determined by method and target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Operation {
    Options,
    Create,
    Inspect,
    Append,
    Terminate,
    Download,
}

impl Operation {
    /// Returns the operation of `method` on `target`.
    ///
    /// # Errors
    /// 405 if the method is not offered there.
    pub fn parse(method: &Method, target: Target, offered: Extensions) -> Result<Self, Problem> {
        match (target, method.as_str()) {
            (_, "OPTIONS") => Ok(Self::Options),
            (Target::Collection, "POST") => Ok(Self::Create),
            (Target::Upload, "HEAD") => Ok(Self::Inspect),
            (Target::Upload, "PATCH") => Ok(Self::Append),
            (Target::Upload, "DELETE") if offered.termination => Ok(Self::Terminate),
            (Target::Upload, "GET") if offered.download => Ok(Self::Download),
            _ => Err(ProblemKind::MethodNotAllowed.into()),
        }
    }

    /// Returns the methods offered on `target`, for `Allow` (RFC 9110, section 15.5.6).
    #[must_use]
    pub const fn allow(target: Target, offered: Extensions) -> &'static str {
        match (target, offered.download, offered.termination) {
            (Target::Collection, ..) => "OPTIONS, POST",
            (Target::Upload, true, true) => "OPTIONS, GET, HEAD, PATCH, DELETE",
            (Target::Upload, true, false) => "OPTIONS, GET, HEAD, PATCH",
            (Target::Upload, false, true) => "OPTIONS, HEAD, PATCH, DELETE",
            (Target::Upload, false, false) => "OPTIONS, HEAD, PATCH",
        }
    }
}

/// Returns the effective method: `X-HTTP-Method-Override` on a method that is not safe (`tus/method-override/`).
///
/// On safe methods the header is ignored. Proxies and browsers cache, repeat and prefetch them, so a
/// GET must not act as a DELETE or be answered as OPTIONS, and a preflight must stay one.
///
/// # Errors
/// 400 if the header is not a method of tus.
pub fn effective_method<'a>(
    method: &Method,
    fields: impl Into<Fields<'a>>,
) -> Result<Method, Problem> {
    let fields = fields.into();
    let is_unsafe = matches!(
        *method,
        Method::POST | Method::PUT | Method::PATCH | Method::DELETE
    );
    if !is_unsafe || !fields.contains(&headers::METHOD_OVERRIDE) {
        return Ok(method.clone());
    }
    let named = fields
        .single(&headers::METHOD_OVERRIDE)
        .map_err(|e| ProblemKind::InvalidMethod.with_detail(e))?
        .unwrap_or_default();
    const KNOWN: [&str; 6] = ["POST", "HEAD", "PATCH", "DELETE", "GET", "OPTIONS"];
    match named.parse() {
        Ok(method) if KNOWN.contains(&named) => Ok(method),
        _ => Err(ProblemKind::InvalidMethod.with_detail(format_args!(
            "{named:?} is not one of POST, HEAD, PATCH, DELETE, GET, OPTIONS"
        ))),
    }
}

/// Checks `Tus-Resumable` (`tus/version/`). Optional on GET and HEAD, ignored on OPTIONS
/// (`tus/options/ignores-the-clients-version`).
///
/// # Errors
/// 412, which the caller sends with `Tus-Version`.
pub fn require_version<'a>(
    operation: Operation,
    fields: impl Into<Fields<'a>>,
) -> Result<(), Problem> {
    if operation == Operation::Options {
        return Ok(());
    }
    let may_lack = matches!(operation, Operation::Inspect | Operation::Download);
    let fields = fields.into();
    match fields.has_known_version() || may_lack && !fields.has_version() {
        true => Ok(()),
        false => Err(ProblemKind::UnsupportedVersion.into()),
    }
}

/// Returns whether the `Content-Type` is that of upload data: case-insensitive, without parameters.
/// False if the header occurs twice.
#[must_use]
pub fn has_offset_octet_stream(headers: &HeaderMap) -> bool {
    has_media_type(Fields::new(headers), headers::OFFSET_OCTET_STREAM)
}

pub(crate) fn has_media_type(fields: Fields<'_>, media_type: &str) -> bool {
    let Ok(Some(value)) = fields.single(&header::CONTENT_TYPE) else {
        return false;
    };
    let essence = value.split(';').next().unwrap_or_default();
    let essence = essence.trim_matches([' ', '\t']);
    essence.eq_ignore_ascii_case(media_type)
}

/// The upload length that a creation declares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclaredLength {
    /// `Upload-Length`.
    Known(u64),
    /// `Upload-Defer-Length: 1`.
    Deferred,
    /// None: the length of a final upload is the sum of its parts.
    SumOfParts,
}

/// The request with whose content an upload is complete.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeclaredEnd {
    /// The one with the last bytes of the length.
    AtLength,
    /// This one.
    WithContent,
    /// A later one, even if all bytes of the length are stored before.
    Later,
}

/// The place of the body's checksum.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChecksumPlacement {
    /// None in the head.
    None,
    /// In the head.
    Header(Checksum),
    /// In the trailers, announced by `Trailer` (`tus/checksum-trailer/match`).
    Trailer,
    /// Anywhere: checksums are not offered.
    Ignored,
}

impl ChecksumPlacement {
    /// Returns whether the head declares a checksum to verify.
    #[must_use]
    pub fn is_present(&self) -> bool {
        matches!(self, Self::Header(_) | Self::Trailer)
    }

    fn parse(fields: Fields<'_>, offered: Extensions) -> Result<Self, Problem> {
        if !offered.checksum {
            return Ok(Self::Ignored);
        }
        if let Some(checksum) = checksum(fields)? {
            return Ok(Self::Header(checksum));
        }
        let named = fields
            .all(&header::TRAILER)
            .into_iter()
            .flatten()
            .any(|line| {
                line.to_str().is_ok_and(|line| {
                    line.split(',')
                        .any(|name| name.trim().eq_ignore_ascii_case("upload-checksum"))
                })
            });
        Ok(if named { Self::Trailer } else { Self::None })
    }

    /// Returns the checksum after the trailers have arrived.
    ///
    /// # Errors
    /// 400 if it is malformed, differs from the head's, or an announced trailer is missing.
    pub fn with_trailers(self, trailers: Option<&HeaderMap>) -> Result<Option<Checksum>, Problem> {
        let trailer = match trailers {
            _ if self == Self::Ignored => return Ok(None),
            Some(trailers) => checksum(Fields::new(trailers))?,
            None => None,
        };
        match (self, trailer) {
            (Self::Header(head), Some(trailer)) if head != trailer => {
                Err(ProblemKind::InvalidChecksum
                    .with_detail("the header and the trailer have different checksums"))
            }
            (Self::Header(head), _) => Ok(Some(head)),
            (Self::Trailer, None) => {
                Err(ProblemKind::InvalidChecksum.with_detail("the announced trailer is missing"))
            }
            (_, trailer) => Ok(trailer),
        }
    }
}

fn checksum(fields: Fields<'_>) -> Result<Option<Checksum>, Problem> {
    let value = fields
        .single(&headers::UPLOAD_CHECKSUM)
        .map_err(|e| ProblemKind::InvalidChecksum.with_detail(e))?;
    let parse = |value| {
        Checksum::parse(value).map_err(|error| match error {
            InvalidChecksum::Algorithm(_) => ProblemKind::UnsupportedChecksum.with_detail(error),
            _ => ProblemKind::InvalidChecksum.with_detail(error),
        })
    };
    value.map(parse).transpose()
}

/// The head of a creation (tus 1.0.0, Creation).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// The declared length.
    pub declared: DeclaredLength,
    /// `Upload-Metadata`.
    pub metadata: Metadata,
    /// `Upload-Concat`.
    pub concat: Option<Concat>,
    /// Whether the body is upload data (Creation With Upload). A body of another type is ignored.
    pub with_upload: bool,
    /// The body's checksum.
    pub checksum: ChecksumPlacement,
    /// The digest of the whole upload: `Repr-Digest` of the IETF draft.
    pub repr_digest: Option<Box<Checksum>>,
    /// The end of the upload.
    pub end: DeclaredEnd,
    /// True if the request follows the IETF draft.
    pub is_draft: bool,
}

impl Create {
    /// Parses the head of a creation; `max_size` is the maximum length of an upload in bytes.
    ///
    /// # Errors
    /// 4xx according to `crates/landfall/tests/protocol.md`.
    pub fn parse<'a>(
        fields: impl Into<Fields<'a>>,
        offered: Extensions,
        max_size: Option<u64>,
        syntax: Syntax,
    ) -> Result<Self, Problem> {
        let fields = fields.into();
        let concat = fields
            .single(&headers::UPLOAD_CONCAT)
            .map_err(|e| ProblemKind::InvalidConcat.with_detail(e))?
            .map(|value| {
                if !offered.concatenation {
                    return Err(ProblemKind::ConcatenationUnsupported.into());
                }
                Concat::parse(value).map_err(|e| ProblemKind::InvalidConcat.with_detail(e))
            })
            .transpose()?;
        let length = fields
            .size(&headers::UPLOAD_LENGTH, syntax)
            .map_err(|e| ProblemKind::InvalidUploadLength.with_detail(e))?;
        let deferred = match fields.single(&headers::UPLOAD_DEFER_LENGTH) {
            Ok(None) => false,
            Ok(Some("1")) => true,
            _ => return Err(ProblemKind::InvalidDeferLength.with_detail("the value must be 1")),
        };
        let is_final = matches!(concat, Some(Concat::Final { .. }));
        let declared = match (length, deferred) {
            (Some(_), true) => return Err(ProblemKind::AmbiguousLength.into()),
            (Some(length), false) => DeclaredLength::Known(length),
            // Of a final upload, it says nothing.
            (None, true) if is_final => DeclaredLength::SumOfParts,
            (None, true) if !offered.defer_length => return Err(ProblemKind::NotImplemented.into()),
            (None, true) => DeclaredLength::Deferred,
            (None, false) if is_final => DeclaredLength::SumOfParts,
            (None, false) => {
                return Err(ProblemKind::InvalidUploadLength
                    .with_detail("send Upload-Length, or Upload-Defer-Length: 1"));
            }
        };
        if let (DeclaredLength::Known(length), Some(max)) = (declared, max_size)
            && length > max
        {
            return Err(ProblemKind::MaxSizeExceeded.into());
        }
        let metadata = parse_metadata(fields, syntax)?;
        let with_upload = has_media_type(fields, headers::OFFSET_OCTET_STREAM);
        if with_upload {
            reject_content_encoding(fields, syntax)?;
        }
        let checksum = if with_upload {
            ChecksumPlacement::parse(fields, offered)?
        } else {
            ChecksumPlacement::None
        };
        Ok(Self {
            declared,
            metadata,
            concat,
            with_upload,
            checksum,
            repr_digest: None,
            end: DeclaredEnd::AtLength,
            is_draft: false,
        })
    }
}

/// The head of an append: PATCH (tus 1.0.0, Core).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// `Upload-Offset`.
    pub offset: u64,
    /// `Upload-Length`, for an upload with a deferred length.
    pub length: Option<u64>,
    /// The body's checksum.
    pub checksum: ChecksumPlacement,
    /// The digest of the whole upload: `Repr-Digest` of the IETF draft.
    pub repr_digest: Option<Box<Checksum>>,
    /// The end of the upload.
    pub end: DeclaredEnd,
    /// True if content beyond the length ends the upload (IETF draft, section 4.1.3). Otherwise the request
    /// is rejected, and changes nothing.
    pub ends_beyond_length: bool,
}

impl Append {
    /// Parses the head of an append.
    ///
    /// # Errors
    /// 415 for the wrong `Content-Type` (`tus/patch/other-content-type-is-415`), 400 for malformed values.
    pub fn parse<'a>(
        fields: impl Into<Fields<'a>>,
        offered: Extensions,
        syntax: Syntax,
    ) -> Result<Self, Problem> {
        let fields = fields.into();
        if !has_media_type(fields, headers::OFFSET_OCTET_STREAM) {
            return Err(ProblemKind::InvalidContentType
                .with_detail(format_args!("send {}", headers::OFFSET_OCTET_STREAM)));
        }
        reject_content_encoding(fields, syntax)?;
        let offset = fields
            .size(&headers::UPLOAD_OFFSET, syntax)
            .map_err(|e| ProblemKind::InvalidOffset.with_detail(e))?
            .ok_or(ProblemKind::InvalidOffset)?;
        let length = fields
            .size(&headers::UPLOAD_LENGTH, syntax)
            .map_err(|e| ProblemKind::InvalidUploadLength.with_detail(e))?;
        Ok(Self {
            offset,
            length,
            checksum: ChecksumPlacement::parse(fields, offered)?,
            repr_digest: None,
            end: DeclaredEnd::AtLength,
            ends_beyond_length: false,
        })
    }
}

/// The lenient syntax uses the first of several fields, and skips only the pairs that are not ASCII, as
/// tusd does.
pub(crate) fn parse_metadata(fields: Fields<'_>, syntax: Syntax) -> Result<Metadata, Problem> {
    let invalid = |error: &dyn std::fmt::Display| ProblemKind::InvalidMetadata.with_detail(error);
    let text = match syntax {
        Syntax::Strict => fields
            .single(&headers::UPLOAD_METADATA)
            .map_err(|error| invalid(&error))?
            .map(Cow::Borrowed),
        Syntax::Lenient => fields
            .all(&headers::UPLOAD_METADATA)
            .and_then(|values| values.iter().next())
            .map(|value| String::from_utf8_lossy(value.as_bytes())),
    };
    match text {
        Some(text) => Metadata::from_client(&text, syntax).map_err(|error| invalid(&error)),
        None => Ok(Metadata::default()),
    }
}

/// Encoded data would be stored without decoding.
fn reject_content_encoding(fields: Fields<'_>, syntax: Syntax) -> Result<(), Problem> {
    if syntax == Syntax::Lenient {
        return Ok(());
    }
    let encodings = fields.all(&header::CONTENT_ENCODING);
    let mut encodings = encodings.into_iter().flatten();
    if encodings.all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    Err(ProblemKind::ContentEncoding.with_detail("send the bytes of the file as they are"))
}
