//! The readers of answers, for the fuzz targets. No part of the interface.

use bytes::Bytes;
use http::{Response, StatusCode};

use super::{
    CorsRule, ErrorKind, MultipartsPage, ObjectsPage, PartsPage, TemporaryCredentials,
    answer::Refusal, error::Error, stats::Operation, xml,
};

/// The id in the answer to `CreateMultipartUpload`.
pub fn upload_id(body: &[u8]) -> Option<String> {
    xml::upload_id(body).ok()
}

/// The entity tag in the answer to `UploadPartCopy`.
pub fn copied_etag(body: &[u8]) -> Option<String> {
    xml::copied_etag(body).ok()
}

/// The answer to `ListParts` after part `after`.
pub fn parts(body: &[u8], after: u32) -> Option<PartsPage> {
    xml::parts(body, after).ok()
}

/// The answer to `ListMultipartUploads`.
pub fn multiparts(body: &[u8]) -> Option<MultipartsPage> {
    xml::multiparts(body).ok()
}

/// The answer to `ListObjectsV2`.
pub fn objects(body: &[u8]) -> Option<ObjectsPage> {
    xml::objects(body).ok()
}

/// The answer to `GetBucketCors`.
pub fn cors(body: &[u8]) -> Option<Vec<CorsRule>> {
    xml::cors(body).ok()
}

/// The answer to `GetFederationToken` or `AssumeRole`.
pub fn temporary_credentials(body: &[u8]) -> Option<TemporaryCredentials> {
    xml::temporary_credentials(body).ok()
}

/// The body of `PutBucketCors`.
pub fn cors_configuration(rules: &[CorsRule]) -> String {
    xml::cors_configuration(rules)
}

/// What is made of an answer that is no success.
///
/// # Panics
/// If `status` is no status.
pub fn refusal(status: u16, body: &[u8]) -> (ErrorKind, String) {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    let (head, ()) = response.into_parts();
    let Refusal {
        kind,
        status,
        code,
        message,
        request_id,
        ..
    } = Refusal::of(Operation::UploadPart, &head, &Bytes::copy_from_slice(body));
    let error = Error::new(kind.clone(), Operation::UploadPart.name(), "bucket/key")
        .with_answer(status, code, message, request_id);
    (kind, error.to_string())
}
