//! The additions of S3 to the calls of all clouds: regions, signatures, digests, the answer to each error. It knows no
//! operation.

use std::sync::atomic::Ordering;

use async_trait::async_trait;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use bytes::Bytes;
use http::{HeaderName, HeaderValue, Method, header::HOST, response::Parts};
use landfall::BoxError;
use landfall_objects::{CallRequest, Caller, CredentialCache, Endpoint, Failure, Retry, Service};
use md5::Md5;
use sha2::{Digest, Sha256};

use super::{
    ErrorKind, Inner, ObjectRef, Payload,
    credentials::{Credentials, Source},
    encode::Query,
    operation::Operation,
    response::{RetryAction, parse_error},
    sign::{S3, Signer, UNSIGNED_PAYLOAD},
    xml,
};

const CONTENT_MD5: HeaderName = HeaderName::from_static("content-md5");

/// In front of the names of user metadata.
pub(super) const METADATA: &str = "x-amz-meta-";

const PUT: &str = Operation::PutObject.name();
const PART: &str = Operation::UploadPart.name();
const GET: &str = Operation::GetObject.name();
const HEAD: &str = Operation::HeadObject.name();

/// A request, perhaps to another service than S3, at its address.
///
/// If the service works before it responds, the response may have status 200 and an error in its body.
pub(super) type S3Request<'a> = CallRequest<'a, Option<(&'static str, Endpoint)>>;

pub(super) fn to_bucket(operation: Operation, method: Method, bucket: &str) -> S3Request<'_> {
    S3Request::new(operation.name(), method, None, bucket)
}

pub(super) fn to_object(operation: Operation, method: Method, object: &ObjectRef) -> S3Request<'_> {
    to_bucket(operation, method, &object.bucket).about(object)
}

/// Returns a body of text, whose digest is signed.
pub(super) fn signed(text: String) -> Payload {
    let sha256 = Sha256::digest(text.as_bytes()).into();
    Payload::new(vec![text.into()], Some(sha256))
}

#[async_trait]
impl Service for Inner {
    type Extra = Option<(&'static str, Endpoint)>;
    type Source = Source;

    const GET: &'static str = GET;

    fn caller(&self) -> &Caller {
        &self.caller
    }

    fn credentials(&self) -> &CredentialCache<Source> {
        &self.credentials
    }

    async fn sign(
        &self,
        request: &S3Request<'_>,
        credentials: Option<&Credentials>,
        head: &mut http::request::Parts,
    ) -> Result<(), BoxError> {
        let region = self.regions.get(request.bucket);
        let (service, target) = request.extra.clone().unwrap_or_else(|| {
            let target = self.address.target(&region, request.bucket, request.key);
            (S3, target)
        });
        let query = Query::from(&*request.query).canonical();
        if takes_digest(request) && self.sends_digests.load(Ordering::Relaxed) {
            let mut md5 = Md5::new();
            request.payload.chunks().for_each(|chunk| md5.update(chunk));
            let digest = STANDARD.encode(md5.finalize());
            let digest = HeaderValue::try_from(digest)?;
            head.headers.insert(CONTENT_MD5, digest);
        }
        head.headers
            .insert(HOST, HeaderValue::from_str(&target.host)?);
        if let Some(credentials) = credentials {
            let now = (self.settings.clock)();
            let signer = Signer::new(credentials, &region, service, now);
            let (method, hash) = (&request.method, payload_hash(&request.payload));
            signer.sign_headers(method, &target.path, &query, &mut head.headers, &hash)?;
        }
        head.uri = target.url(&query).parse()?;
        Ok(())
    }

    fn is_success(&self, request: &S3Request<'_>, head: &Parts, body: &Bytes) -> bool {
        head.status.is_success() && (request.worked == 0 || xml::problem(body).is_none())
    }

    /// Mends the cause of a failure, if that is possible.
    fn refusal(&self, request: &S3Request<'_>, head: &Parts, body: &Bytes) -> Failure {
        let reads = [GET, HEAD].contains(&request.operation);
        let can_be_missing = reads && self.settings.denied_is_missing;
        let error = |kind| match kind {
            ErrorKind::AccessDenied if can_be_missing => request.error(ErrorKind::NoSuchKey),
            kind => request.error(kind),
        };
        let (error, action) = parse_error(request.operation, head, body, error);
        let bucket = request.bucket;
        let retry = match action {
            RetryAction::Retry(retry) => retry,
            RetryAction::AddDigest if takes_digest(request) => {
                if !self.sends_digests.swap(true, Ordering::Relaxed) {
                    tracing::warn!(
                        bucket,
                        "the bucket retains objects (Object Lock) and takes only writes with a \
                         digest; sending Content-MD5"
                    );
                }
                Retry::Mended("digest")
            }
            RetryAction::AddDigest => Retry::No,
            RetryAction::ChangeRegion(region) => {
                if self.regions.learn(bucket, &region) {
                    tracing::warn!(
                        bucket,
                        region,
                        "the bucket is in another region than configured; using that region"
                    );
                }
                // Another request may have learned it meanwhile.
                match *self.regions.get(bucket) == *region {
                    true => Retry::Mended("region"),
                    false => Retry::No,
                }
            }
        };
        Failure { error, retry }
    }

    fn metadata_name(header: &str) -> Option<String> {
        header.strip_prefix(METADATA).map(str::to_owned)
    }
}

fn payload_hash(payload: &Payload) -> String {
    match payload.sha256() {
        Some(hash) => hex::encode(hash),
        None if payload.is_empty() => hex::encode(Sha256::digest([])),
        None => UNSIGNED_PAYLOAD.to_owned(),
    }
}

fn takes_digest(request: &S3Request<'_>) -> bool {
    [PUT, PART].contains(&request.operation)
}
