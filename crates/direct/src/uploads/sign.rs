//! What clients are given to send their bytes with.

use std::time::Duration;

use http::{HeaderMap, HeaderValue, Method, header};
use landfall_s3::client::ObjectRef;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

use super::{Act, Direct, Form, REPLACES, SignedPut, given, observe::has_own_key};
use crate::{DirectError, Record, Standing, Way, record::MOST_AT_ONCE, stats::count};

/// S3's limits for parts.
pub(super) const MOST_PARTS: u32 = 10_000;
const LEAST_PART: u64 = 5 << 20;

/// What stays as it is in the path of a URL.
const PATH: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~')
    .remove(b'/');

impl Direct {
    /// The presigned PUT of an upload: type, size (if known) and what else must not differ are signed.
    /// `pin_type` is off for clients that send a type nobody was told of (Uppy's signer mode).
    ///
    /// # Errors
    /// It isn't made so, or not open; there are no keys to sign with.
    pub async fn put(
        &self,
        record: &Record,
        lifetime: Duration,
        pin_type: bool,
    ) -> Result<SignedPut, DirectError> {
        must_be(record, &[Way::Put])?;
        let object = given::headers(&self.0.layout, &record.upload);
        // Clients that are not told a type do not know of headers either.
        let only_once = pin_type && self.is_written_once(record);
        let (query, headers) = given::of_put(&object, pin_type, only_once)?;
        let query: Vec<_> = query
            .iter()
            .map(|(name, value)| (&**name, *value))
            .collect();
        let mut signed = headers.clone();
        if let Some(size) = record.upload.length {
            signed.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
        }
        let signer = &self.settings().signer;
        let url = signer
            .presign(Method::PUT, &record.place, &query, &signed, lifetime)
            .await?;
        Ok(SignedPut {
            url,
            headers,
            lifetime,
        })
    }

    /// Whether `If-None-Match` can keep a PUT from replacing the object: where the service honors it,
    /// and nothing was at the key before.
    fn is_written_once(&self, record: &Record) -> bool {
        self.settings().objects.conditional_writes && !record.upload.storage.contains_key(REPLACES)
    }

    /// Whether the client may still replace an object that was found: by a form, for which there are no
    /// conditions, or by a PUT without one.
    pub(super) fn can_be_replaced(&self, record: &Record) -> bool {
        match record.way {
            Way::Post => true,
            // At a key of the client's own choice it may have been signed without.
            Way::Put => !self.is_written_once(record) || !has_own_key(record),
            Way::Multipart | Way::SignedMultipart => false,
        }
    }

    /// The signed form of an upload, which bounds its size.
    ///
    /// # Errors
    /// It isn't made so, or not open; there are no keys to sign with.
    pub async fn form(&self, record: &Record) -> Result<Form, DirectError> {
        must_be(record, &[Way::Post])?;
        let object = given::headers(&self.0.layout, &record.upload);
        let most = record.upload.max_size.unwrap_or(MOST_AT_ONCE);
        let size = match record.upload.length {
            Some(size) => size..=size,
            None => 0..=most.min(MOST_AT_ONCE),
        };
        let (signer, lifetime) = (&self.settings().signer, self.settings().lifetime);
        let fields = given::of_form(&object);
        let form = signer.sign_post_policy(&record.place, &fields, Some(size), lifetime);
        let form = form.await?;
        Ok(Form {
            url: form.url,
            fields: form.fields,
            lifetime,
        })
    }

    /// The URL to PUT a part to. Nothing is asked of S3 or the books.
    ///
    /// # Errors
    /// It has no such part, or isn't open; there are no keys to sign with.
    pub async fn part(&self, record: &Record, number: u32) -> Result<String, DirectError> {
        let id = multipart(record)?;
        let most = record.upload.length.map_or(MOST_PARTS, |size| {
            let parts = size.div_ceil(LEAST_PART).max(1);
            u32::try_from(parts).unwrap_or(MOST_PARTS).min(MOST_PARTS)
        });
        if !(1..=most).contains(&number) {
            let why = format!("the number of a part of this file must be from 1 to {most}");
            return Err(DirectError::bad("partNumber", why));
        }
        let number = number.to_string();
        let query = [("partNumber", number.as_str()), ("uploadId", id)];
        let url = self.presigned(record, Method::PUT, &query).await?;
        count(&self.settings().stats.parts);
        Ok(url)
    }

    /// The URL of a request that a client makes itself on its own upload. Completing is signed only
    /// after a look at what S3 has.
    ///
    /// # Errors
    /// It isn't made so, or not open; S3 fails; it has too many bytes.
    pub async fn sign(&self, record: &Record, act: Act) -> Result<String, DirectError> {
        must_be(record, &[Way::SignedMultipart])?;
        match act {
            // It is given its type, metadata and the rest here: they are signed with it.
            Act::Begin => {
                let object = given::headers(&self.0.layout, &record.upload);
                let (query, _) = given::of_put(&object, false, false)?;
                let mut pairs: Vec<_> = query
                    .iter()
                    .map(|(name, value)| (&**name, *value))
                    .collect();
                pairs.push(("uploads", ""));
                self.presigned(record, Method::POST, &pairs).await
            }
            Act::Part(number) => self.part(record, number).await,
            Act::List => {
                let query = [("uploadId", multipart(record)?)];
                self.presigned(record, Method::GET, &query).await
            }
            Act::Complete => {
                self.within_bounds(record).await?;
                self.expect_completion(record).await?;
                let query = [("uploadId", multipart(record)?)];
                self.presigned(record, Method::POST, &query).await
            }
            Act::Abort => {
                let query = [("uploadId", multipart(record)?)];
                self.presigned(record, Method::DELETE, &query).await
            }
        }
    }

    async fn presigned(
        &self,
        record: &Record,
        method: Method,
        query: &[(&str, &str)],
    ) -> Result<String, DirectError> {
        let settings = self.settings();
        let (place, lifetime) = (&record.place, settings.lifetime);
        let headers = HeaderMap::new();
        let url = settings
            .signer
            .presign(method, place, query, &headers, lifetime);
        Ok(url.await?)
    }

    /// The public address of an object.
    #[must_use]
    pub fn location(&self, record: &Record) -> String {
        let settings = self.settings();
        match &settings.public_url {
            Some(base) if record.place.bucket == settings.objects.bucket => {
                let path = utf8_percent_encode(&record.place.key, PATH);
                format!("{}/{path}", base.trim_end_matches('/'))
            }
            _ => settings.signer.object_url(&record.place),
        }
    }

    /// The key in a [public address](Self::location), or in a signed one; `None` if it leads elsewhere.
    #[must_use]
    pub fn key_of(&self, url: &str) -> Option<String> {
        let settings = self.settings();
        let bucket = ObjectRef::new(&settings.objects.bucket, "");
        let public = settings.public_url.as_ref();
        let public = public.map(|base| format!("{}/", base.trim_end_matches('/')));
        let bases = [
            public,
            Some(settings.signer.object_url(&bucket)),
            Some(settings.client.object_url(&bucket)),
        ];
        let url = url.split(['?', '#']).next().unwrap_or_default();
        let path = bases
            .iter()
            .flatten()
            .find_map(|base| url.strip_prefix(base.as_str()))?;
        let key = percent_decode_str(path).decode_utf8().ok()?;
        (!key.is_empty()).then(|| key.into_owned())
    }
}

/// What S3 calls the multipart upload of an open record.
pub(super) fn multipart(record: &Record) -> Result<&str, DirectError> {
    must_be(record, &[Way::Multipart, Way::SignedMultipart])?;
    record.multipart.as_deref().ok_or(DirectError::NotFound)
}

/// That an upload is open, and made in one of these ways.
fn must_be(record: &Record, ways: &[Way]) -> Result<(), DirectError> {
    must_be_open(record)?;
    if ways.contains(&record.way) {
        return Ok(());
    }
    let message = match record.way {
        Way::Put => "this file is sent by one presigned PUT",
        Way::Post => "this file is sent by a form",
        Way::Multipart => "this file is sent in parts",
        Way::SignedMultipart => "this file is sent in parts by signed requests",
    };
    Err(DirectError::Conflict {
        gone: false,
        message: message.into(),
    })
}

/// That an upload takes bytes.
pub(super) fn must_be_open(record: &Record) -> Result<(), DirectError> {
    match record.standing {
        Standing::Open => Ok(()),
        Standing::Opening => Err(DirectError::Busy),
        Standing::Finishing | Standing::Finished => Err(DirectError::Conflict {
            gone: false,
            message: "the file is complete".into(),
        }),
        Standing::Gone => Err(DirectError::gone()),
    }
}
