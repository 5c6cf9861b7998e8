//! From a request's head to what it asks for.

use std::borrow::Cow;

use http::{HeaderMap, Method, header};

use crate::{
    Checksum, Concat, Fault, InvalidChecksum, Metadata, MetadataSyntax, Problem, TUS_VERSION,
    fields::{only_value, size},
    headers,
};

/// What the request's path points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// The base path: where uploads are created.
    Collection,
    /// An upload.
    Upload,
}

/// The extensions a server offers; what isn't offered is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names of tus 1.0.0's extensions")]
pub struct Extensions {
    pub termination: bool,
    pub concatenation: bool,
    pub defer_length: bool,
    pub expiration: bool,
    /// GET on uploads, which tus leaves to the server.
    pub download: bool,
}

impl Extensions {
    /// The value of `Tus-Extension` (T-CORE-8).
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
            (true, ",checksum,checksum-trailer"),
        ] {
            if offered {
                list.push_str(name);
            }
        }
        list
    }
}

/// What a request asks for, by method and target alone.
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
    /// What `method` on `target` asks for.
    ///
    /// # Errors
    /// 405 if the method isn't offered there.
    pub fn of(method: &Method, target: Target, offered: Extensions) -> Result<Self, Problem> {
        match (target, method.as_str()) {
            (_, "OPTIONS") => Ok(Self::Options),
            (Target::Collection, "POST") => Ok(Self::Create),
            (Target::Upload, "HEAD") => Ok(Self::Inspect),
            (Target::Upload, "PATCH") => Ok(Self::Append),
            (Target::Upload, "DELETE") if offered.termination => Ok(Self::Terminate),
            (Target::Upload, "GET") if offered.download => Ok(Self::Download),
            _ => Err(Fault::MethodNotAllowed.into()),
        }
    }

    /// The methods offered on `target`, for `Allow` (RFC 9110, section 15.5.6).
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

/// The method that counts: `X-HTTP-Method-Override` on POST (T-CORE-11), as in tusd.
///
/// On other methods the header is ignored (E-39): proxies cache and filter by the method on the
/// wire, so a GET must not become a DELETE, nor be answered as an OPTIONS.
///
/// # Errors
/// 400 if the header isn't one of the methods that tus knows.
pub fn effective_method(method: &Method, headers: &HeaderMap) -> Result<Method, Problem> {
    if *method != Method::POST || !headers.contains_key(headers::METHOD_OVERRIDE) {
        return Ok(method.clone());
    }
    let named = only_value(headers, &headers::METHOD_OVERRIDE)
        .map_err(|e| Fault::InvalidMethod.because(e))?
        .unwrap_or_default();
    match named {
        "POST" => Ok(Method::POST),
        "HEAD" => Ok(Method::HEAD),
        "PATCH" => Ok(Method::PATCH),
        "DELETE" => Ok(Method::DELETE),
        "GET" => Ok(Method::GET),
        "OPTIONS" => Ok(Method::OPTIONS),
        "PUT" => Ok(Method::PUT),
        other => Err(Fault::InvalidMethod.because(format_args!(
            "{other:?} is not one of POST, HEAD, PATCH, DELETE, GET, OPTIONS"
        ))),
    }
}

/// Checks `Tus-Resumable` (T-CORE-5, T-CORE-6). GET and HEAD may do without it (E-1); OPTIONS is
/// never checked (T-CORE-34).
///
/// # Errors
/// 412, which the caller sends with `Tus-Version`.
pub fn require_version(operation: Operation, headers: &HeaderMap) -> Result<(), Problem> {
    if operation == Operation::Options {
        return Ok(());
    }
    let may_lack = matches!(operation, Operation::Inspect | Operation::Download);
    match only_value(headers, &headers::TUS_RESUMABLE) {
        Ok(Some(TUS_VERSION)) => Ok(()),
        Ok(None) if may_lack => Ok(()),
        _ => Err(Fault::UnsupportedVersion.into()),
    }
}

/// Whether the body is upload data, by its `Content-Type`: type and subtype in any case, parameters
/// ignored (E-5). Two types are none.
#[must_use]
pub fn content_is_upload_data(headers: &HeaderMap) -> bool {
    let Ok(Some(value)) = only_value(headers, &header::CONTENT_TYPE) else {
        return false;
    };
    let essence = value
        .split(';')
        .next()
        .unwrap_or_default()
        .trim_matches([' ', '\t']);
    essence.eq_ignore_ascii_case(headers::OFFSET_OCTET_STREAM)
}

/// What a creation says about the length.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Declared {
    /// `Upload-Length`.
    Length(u64),
    /// `Upload-Defer-Length: 1`.
    Deferred,
    /// Nothing: a final upload, whose length is the sum of its parts.
    BySum,
}

/// How the checksum of the body is stated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Announced {
    /// Not at all, as far as the head tells.
    Nothing,
    /// In the head.
    Header(Checksum),
    /// In the trailer section, as `Trailer` says (T-TRL-2).
    Trailer,
}

impl Announced {
    /// Whether the head says anything about a checksum.
    #[must_use]
    pub fn is_stated(&self) -> bool {
        *self != Self::Nothing
    }

    fn parse(headers: &HeaderMap) -> Result<Self, Problem> {
        if let Some(value) = only_value(headers, &headers::UPLOAD_CHECKSUM)
            .map_err(|e| Fault::InvalidChecksum.because(e))?
        {
            return checksum(value).map(Self::Header);
        }
        let named = headers.get_all(header::TRAILER).iter().any(|line| {
            line.to_str().is_ok_and(|line| {
                line.split(',')
                    .any(|name| name.trim().eq_ignore_ascii_case("upload-checksum"))
            })
        });
        Ok(if named { Self::Trailer } else { Self::Nothing })
    }

    /// The checksum that the trailer section adds to what the head announced (E-24, E-27).
    ///
    /// # Errors
    /// 400 if it is malformed, differs from the head's, or was announced and didn't come.
    pub fn with_trailers(self, trailers: Option<&HeaderMap>) -> Result<Option<Checksum>, Problem> {
        let trailer = match trailers {
            Some(trailers) => only_value(trailers, &headers::UPLOAD_CHECKSUM)
                .map_err(|e| Fault::InvalidChecksum.because(e))?
                .map(checksum)
                .transpose()?,
            None => None,
        };
        match (self, trailer) {
            (Self::Header(head), Some(trailer)) if head != trailer => Err(Fault::InvalidChecksum
                .because("the header and the trailer state different checksums")),
            (Self::Header(head), _) => Ok(Some(head)),
            (Self::Trailer, None) => Err(Fault::InvalidChecksum
                .because("the trailer announced by the Trailer header did not come")),
            (_, trailer) => Ok(trailer),
        }
    }
}

fn checksum(value: &str) -> Result<Checksum, Problem> {
    Checksum::parse(value).map_err(|error| match error {
        InvalidChecksum::Algorithm(_) => Fault::UnsupportedChecksum.because(error),
        _ => Fault::InvalidChecksum.because(error),
    })
}

/// The head of a creation (tus 1.0.0, Creation).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Create {
    /// The length, as far as it is known.
    pub declared: Declared,
    /// `Upload-Metadata`.
    pub metadata: Metadata,
    /// `Upload-Concat`.
    pub concat: Option<Concat>,
    /// Whether the body is upload data (Creation With Upload). A body of another type is ignored
    /// (E-19).
    pub with_upload: bool,
    /// The body's checksum.
    pub checksum: Announced,
}

impl Create {
    /// Reads a creation's head; `max_size` is the largest upload in bytes.
    ///
    /// # Errors
    /// 4xx by the table in `docs/protocol.md`.
    pub fn parse(
        headers: &HeaderMap,
        offered: Extensions,
        max_size: Option<u64>,
    ) -> Result<Self, Problem> {
        Self::parse_with(headers, offered, max_size, MetadataSyntax::Strict)
    }

    /// [`Self::parse`] with a choice of how metadata is parsed.
    ///
    /// # Errors
    /// Those of [`Self::parse`].
    pub fn parse_with(
        headers: &HeaderMap,
        offered: Extensions,
        max_size: Option<u64>,
        syntax: MetadataSyntax,
    ) -> Result<Self, Problem> {
        let concat = only_value(headers, &headers::UPLOAD_CONCAT)
            .map_err(|e| Fault::InvalidConcat.because(e))?
            .map(|value| {
                if !offered.concatenation {
                    return Err(Fault::ConcatenationUnsupported.into());
                }
                Concat::parse(value).map_err(|e| Fault::InvalidConcat.because(e))
            })
            .transpose()?;
        let length = size(headers, &headers::UPLOAD_LENGTH)
            .map_err(|e| Fault::InvalidUploadLength.because(e))?;
        let deferred = match only_value(headers, &headers::UPLOAD_DEFER_LENGTH) {
            Ok(None) => false,
            Ok(Some("1")) => true,
            _ => return Err(Fault::InvalidDeferLength.because("the value must be 1")),
        };
        let is_final = matches!(concat, Some(Concat::Final { .. }));
        let declared = match (length, deferred) {
            (Some(_), true) => return Err(Fault::AmbiguousLength.into()),
            (Some(length), false) => Declared::Length(length),
            (None, true) if is_final => {
                return Err(Fault::InvalidDeferLength
                    .because("the length of a final upload is the sum of its parts"));
            }
            (None, true) if !offered.defer_length => return Err(Fault::NotImplemented.into()),
            (None, true) => Declared::Deferred,
            (None, false) if is_final => Declared::BySum,
            (None, false) => {
                return Err(Fault::InvalidUploadLength
                    .because("send Upload-Length, or Upload-Defer-Length: 1"));
            }
        };
        if let (Declared::Length(length), Some(max)) = (declared, max_size)
            && length > max
        {
            return Err(Fault::MaxSizeExceeded.into());
        }
        let metadata = parse_metadata(headers, syntax)?;
        let with_upload = content_is_upload_data(headers);
        if with_upload {
            refuse_encoding(headers)?;
        }
        let checksum = if with_upload {
            Announced::parse(headers)?
        } else {
            Announced::Nothing
        };
        Ok(Self {
            declared,
            metadata,
            concat,
            with_upload,
            checksum,
        })
    }
}

/// The head of an append: PATCH (tus 1.0.0, Core).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    /// `Upload-Offset`.
    pub offset: u64,
    /// `Upload-Length`, for an upload whose length was deferred.
    pub length: Option<u64>,
    /// The body's checksum.
    pub checksum: Announced,
}

impl Append {
    /// Reads an append's head.
    ///
    /// # Errors
    /// 415 for the wrong `Content-Type` (T-CORE-21), 400 for malformed values.
    pub fn parse(headers: &HeaderMap) -> Result<Self, Problem> {
        if !content_is_upload_data(headers) {
            return Err(Fault::InvalidContentType
                .because(format_args!("send {}", headers::OFFSET_OCTET_STREAM)));
        }
        refuse_encoding(headers)?;
        let offset = size(headers, &headers::UPLOAD_OFFSET)
            .map_err(|e| Fault::InvalidOffset.because(e))?
            .ok_or(Fault::InvalidOffset)?;
        let length = size(headers, &headers::UPLOAD_LENGTH)
            .map_err(|e| Fault::InvalidUploadLength.because(e))?;
        Ok(Self {
            offset,
            length,
            checksum: Announced::parse(headers)?,
        })
    }
}

/// Parses `Upload-Metadata`. Leniently, as in tusd, of several fields the first one counts, and text
/// that is not ASCII spoils only the pair it stands in.
fn parse_metadata(headers: &HeaderMap, syntax: MetadataSyntax) -> Result<Metadata, Problem> {
    let invalid = |error: &dyn std::fmt::Display| Fault::InvalidMetadata.because(error);
    let text = match syntax {
        MetadataSyntax::Strict => only_value(headers, &headers::UPLOAD_METADATA)
            .map_err(|error| invalid(&error))?
            .map(Cow::Borrowed),
        MetadataSyntax::Lenient => headers
            .get(headers::UPLOAD_METADATA)
            .map(|value| String::from_utf8_lossy(value.as_bytes())),
    };
    match text {
        Some(text) => Metadata::from_client(&text, syntax).map_err(|error| invalid(&error)),
        None => Ok(Metadata::default()),
    }
}

/// Upload data is bytes as they are: an encoded body would be stored encoded, which nobody expects
/// (E-54).
fn refuse_encoding(headers: &HeaderMap) -> Result<(), Problem> {
    let mut encodings = headers.get_all(header::CONTENT_ENCODING).iter();
    if encodings.all(|value| value.as_bytes().eq_ignore_ascii_case(b"identity")) {
        return Ok(());
    }
    Err(Fault::ContentEncoding.because("send the bytes of the file as they are"))
}
