//! The parsers of responses, for the fuzz targets. Not part of the public API.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::{
    CorsRule, Credentials, Error, ErrorKind, MultipartUploadsPage, ObjectsPage, Part,
    operation::Operation, response::parse_error, xml,
};

/// Parses the response to `CreateMultipartUpload`.
pub fn upload_id(body: &[u8]) -> Option<String> {
    xml::upload_id(body).ok()
}

/// Parses the entity tag in the response to `UploadPartCopy` or `CompleteMultipartUpload`.
pub fn result_etag(body: &[u8]) -> Option<String> {
    xml::result_etag(body).ok()
}

/// Parses the response to `ListParts` after part `after`.
pub fn parts(body: &[u8], after: u32) -> Option<(Vec<Part>, Option<u32>)> {
    xml::parts(body, after).ok()
}

/// Parses the response to `ListMultipartUploads`.
pub fn multiparts(body: &[u8]) -> Option<MultipartUploadsPage> {
    Some(xml::multiparts(body).ok()?.0)
}

/// Parses the response to `ListObjectsV2`.
pub fn objects(body: &[u8]) -> Option<ObjectsPage> {
    xml::objects(body).ok()
}

/// Parses the response to `GetBucketCors`.
pub fn cors(body: &[u8]) -> Option<Vec<CorsRule>> {
    xml::cors(body).ok()
}

/// Parses the response to `GetFederationToken` or `AssumeRole`.
pub fn temporary_credentials(body: &[u8]) -> Option<Credentials> {
    xml::temporary_credentials(body).ok()
}

/// Returns the body of `PutBucketCors`.
pub fn cors_configuration(rules: &[CorsRule]) -> String {
    xml::cors_configuration(rules)
}

/// Classifies an error response.
///
/// # Panics
/// If `status` is not an HTTP status.
pub fn error_response(status: u16, body: &[u8]) -> (ErrorKind, String) {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    let (head, ()) = response.into_parts();
    let (operation, body) = (Operation::UploadPart.name(), Bytes::copy_from_slice(body));
    let error = |kind| Error::new(kind, operation, "bucket/key");
    let (error, _) = parse_error(operation, &head, &body, error);
    (error.kind().clone(), error.to_string())
}
