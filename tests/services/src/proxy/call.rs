//! An S3 call, parsed from its head.

use std::fmt;

use http::{HeaderMap, Method, Uri};

use super::Fault;

/// The operations of S3 that a store uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(missing_docs, reason = "they are S3's own names")]
pub enum Operation {
    CreateMultipartUpload,
    UploadPart,
    UploadPartCopy,
    ListParts,
    CompleteMultipartUpload,
    AbortMultipartUpload,
    ListMultipartUploads,
    PutObject,
    CopyObject,
    GetObject,
    HeadObject,
    DeleteObject,
    ListObjects,
    HeadBucket,
    GetBucketCors,
    PutBucketCors,
    Other,
}

impl Operation {
    /// The operation that a request with its bucket in the path asks for.
    #[must_use]
    pub fn of(method: &Method, uri: &Uri, headers: &HeaderMap) -> Self {
        let copies = headers.contains_key("x-amz-copy-source");
        let query = uri.query().unwrap_or_default();
        let has = |name: &str| {
            query
                .split('&')
                .any(|pair| pair.split('=').next() == Some(name))
        };
        let in_bucket = !split_path(uri.path()).1.is_empty();
        match (method.as_str(), in_bucket) {
            ("POST", true) if has("uploads") => Self::CreateMultipartUpload,
            ("POST", true) if has("uploadId") => Self::CompleteMultipartUpload,
            ("PUT", true) if has("uploadId") && copies => Self::UploadPartCopy,
            ("PUT", true) if has("uploadId") => Self::UploadPart,
            ("PUT", true) if copies => Self::CopyObject,
            ("PUT", true) => Self::PutObject,
            ("GET", true) if has("uploadId") => Self::ListParts,
            ("GET", true) => Self::GetObject,
            ("HEAD", true) => Self::HeadObject,
            ("DELETE", true) if has("uploadId") => Self::AbortMultipartUpload,
            ("DELETE", true) => Self::DeleteObject,
            ("GET", false) if has("uploads") => Self::ListMultipartUploads,
            ("GET", false) if has("cors") => Self::GetBucketCors,
            ("GET", false) if has("list-type") => Self::ListObjects,
            ("PUT", false) if has("cors") => Self::PutBucketCors,
            ("HEAD", false) => Self::HeadBucket,
            _ => Self::Other,
        }
    }

    /// Returns whether it changes the bucket.
    #[must_use]
    pub fn writes(self) -> bool {
        matches!(
            self,
            Self::CreateMultipartUpload
                | Self::UploadPart
                | Self::UploadPartCopy
                | Self::CompleteMultipartUpload
                | Self::AbortMultipartUpload
                | Self::PutObject
                | Self::CopyObject
                | Self::DeleteObject
                | Self::PutBucketCors
        )
    }
}

/// One request that came to the proxy.
#[derive(Clone, Debug)]
pub struct Call {
    /// Counts from 1, in the order in which requests came.
    pub number: usize,
    /// The S3 operation.
    pub operation: Operation,
    /// Its method.
    pub method: Method,
    /// Its path as sent, without the query.
    pub path: String,
    /// Its query as sent, without the question mark; empty when there was none.
    pub query: String,
    /// The bucket.
    pub bucket: String,
    /// The key, decoded; empty for calls on the bucket.
    pub key: String,
    /// Bytes in its body.
    pub bytes: usize,
    /// The injected fault.
    pub fault: Fault,
    /// The status that the service gave, if the call reached it and was answered.
    pub status: Option<u16>,
    /// Whether the sender got a complete response.
    pub answered: bool,
}

impl Call {
    /// The value of a parameter of the query, as sent.
    #[must_use]
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .find_map(|(key, value)| (key == name).then_some(value))
    }
}

/// `7 UploadPart 2026/x.bin partNumber=1&uploadId=… 5242880 B -> 200`, for messages.
impl fmt::Display for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:?} {}", self.number, self.operation, self.key)?;
        if !self.query.is_empty() {
            write!(f, " {}", self.query)?;
        }
        write!(f, " {} B ->", self.bytes)?;
        match self.status {
            Some(status) => write!(f, " {status}")?,
            None => f.write_str(" -")?,
        }
        if self.fault != Fault::Pass {
            write!(f, " ({:?})", self.fault)?;
        }
        if !self.answered {
            f.write_str(" not told")?;
        }
        Ok(())
    }
}

/// Bucket and key of a path, decoded.
pub(super) fn split_path(path: &str) -> (String, String) {
    let path = path.strip_prefix('/').unwrap_or(path);
    let (bucket, key) = path.split_once('/').unwrap_or((path, ""));
    (decode(bucket), decode(key))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let digits = after
            .get(..2)
            .filter(|_| *first == b'%')
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        match digits {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
