//! The operations on single objects.

use http::Method;
use landfall_objects::{
    ErrorKind, ObjectHeaders, ObjectRef, Payload, Result, Service as _, if_exists,
};
use tokio_util::task::TaskTracker;

use crate::{
    checksum::Checksum,
    client::Inner,
    names::PartTag,
    request::{ApiRequest, GET},
    resource::{self, FIELDS, Listing, Resource, multipart_related},
};

pub(crate) const INSERT: &str = "objects.insert";
pub(crate) const LIST: &str = "objects.list";
pub(crate) const DELETE: &str = "objects.delete";

/// The fields of a page of a listing.
const LISTED_FIELDS: &str = "nextPageToken,items(name,generation,size,crc32c,timeCreated,updated)";

const PAGE: u32 = 1000;

impl Inner {
    /// Writes an object in one request, with its checksum; `over` is the generation that it must have, 0 for none.
    ///
    /// The retry of a conditional write whose response was lost finds the object of the first attempt. If size and
    /// checksum are those of `payload`, the write has succeeded.
    pub(crate) async fn insert(
        &self,
        object: &ObjectRef,
        payload: &Payload,
        headers: &ObjectHeaders,
        over: Option<u64>,
        tasks: Option<&TaskTracker>,
    ) -> Result<PartTag> {
        let checksum = Checksum::of(payload);
        let mut attributes = resource::attributes(headers);
        attributes.insert("name".to_owned(), object.key.as_str().into());
        attributes.insert("crc32c".to_owned(), checksum.encoded().into());
        let request = ApiRequest::new(
            INSERT,
            Method::POST,
            self.address.upload(&object.bucket),
            &object.bucket,
        )
        .about(object)
        .query("uploadType", "multipart")
        .query("fields", FIELDS)
        .query_if("ifGenerationMatch", over);
        let (content_type, related) =
            multipart_related(attributes, payload.clone(), rand::random());
        let request = request.header("content-type", &content_type)?;
        let request = request.payload(related).tasks(tasks);
        let stored: Resource = match self.fetch(&request).await {
            Err(error) if error.is_in_doubt() && *error.kind() == ErrorKind::PreconditionFailed => {
                let found = self.metadata(object).await;
                let ours = found
                    .ok()
                    .filter(|found| found.checksum() == Some(checksum));
                ours.ok_or(error)?
            }
            fetched => fetched?,
        };
        if stored.generation == 0 {
            return Err(request.unexpected("the response has no generation"));
        }
        // A service that ignores the checksum of the request, as some emulators do, may have stored other bytes.
        if stored.checksum().unwrap_or(checksum) != checksum {
            let why = "the service has stored other bytes than were sent";
            return Err(request.error(ErrorKind::Other).with_message(why));
        }
        Ok(PartTag::new(stored.generation, checksum))
    }

    /// Returns the metadata of an object.
    pub(crate) async fn metadata(&self, object: &ObjectRef) -> Result<Resource> {
        let request = self.object_request(GET, Method::GET, object);
        self.fetch(&request.query("fields", FIELDS)).await
    }

    pub(crate) async fn find(&self, object: &ObjectRef) -> Result<Option<Resource>> {
        if_exists(self.metadata(object).await)
    }

    /// Deletes an object, or only one generation of it. A missing one is no error.
    pub(crate) async fn delete(&self, object: &ObjectRef, generation: Option<u64>) -> Result<()> {
        let request = self.object_request(DELETE, Method::DELETE, object);
        let request = request.query_if("ifGenerationMatch", generation);
        if_exists(self.send(&request).await).map(drop)
    }

    pub(crate) fn object_request<'a>(
        &self,
        operation: &'static str,
        method: Method,
        object: &'a ObjectRef,
    ) -> ApiRequest<'a> {
        let url = self.address.object(object);
        ApiRequest::new(operation, method, url, &object.bucket).about(object)
    }

    pub(crate) fn error(
        &self,
        operation: &'static str,
        object: &ObjectRef,
        kind: ErrorKind,
    ) -> landfall_objects::Error {
        self.object_request(operation, Method::GET, object)
            .error(kind)
    }

    /// Lists all objects whose names begin with `prefix` and then a character between `from` and `to`, which the
    /// service may ignore.
    pub(crate) async fn list_all(
        &self,
        bucket: &str,
        prefix: &str,
        between: Option<(&str, &str)>,
    ) -> Result<Vec<Resource>> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let mut request = self.list_request(bucket, prefix, after.as_deref(), PAGE);
            if let Some((from, to)) = between {
                request = request
                    .query("startOffset", &format!("{prefix}{from}"))
                    .query("endOffset", &format!("{prefix}{to}"));
            }
            let page: Listing = self.fetch(&request).await?;
            all.extend(page.items);
            let next = page.next_page_token.filter(|token| !token.is_empty());
            if next.is_none() || next == after {
                return Ok(all);
            }
            after = next;
        }
    }

    pub(crate) fn list_request<'a>(
        &self,
        bucket: &'a str,
        prefix: &str,
        after: Option<&str>,
        max: u32,
    ) -> ApiRequest<'a> {
        let url = format!("{}/o", self.address.bucket(bucket));
        ApiRequest::new(LIST, Method::GET, url, bucket)
            .query("fields", LISTED_FIELDS)
            .query("maxResults", &max.min(PAGE).to_string())
            .page(prefix, "pageToken", after)
    }
}
