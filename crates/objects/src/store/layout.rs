//! Object keys and headers, compatible with tusd.
//!
//! | object | key |
//! |---|---|
//! | the bytes of a completed upload | prefix + object id, or the key of a template or hook |
//! | the description | prefix + object id + `.info` |
//! | bytes too few for a part | prefix + object id + `.part` |
//! | the same, where the service may lose an object that is overwritten | prefix + `.landfall/parts/0/` or `1/` + object id |
//!
//! In S3, an upload id is `object id + multipart upload id` (as in tusd) or the object id alone; elsewhere it is the
//! object id, and the bytes too few for a part are below `.landfall/tails/`.

use std::{collections::BTreeMap, time::SystemTime};

use landfall::{
    hook::MediaType,
    store::{Result, StoreError, info::UploadInfo},
    upload::{Metadata, Upload, UploadId},
};

use crate::{
    cloud::{OWNER, Rules},
    object::{ObjectHeaders, ObjectRef},
    options::StoreOptions,
};

pub(super) const INFO: &str = ".info";
pub(super) const PART: &str = ".part";
pub(super) const RESERVED_PREFIX: &str = ".landfall/";

const BUCKET: &str = "Bucket";
const KEY: &str = "Key";
pub(super) const MULTIPART: &str = "MultipartUpload";

/// Below the reserved prefix.
const TAILS: &str = "tails/";
/// Below the reserved prefix.
const COPIES: &str = "parts/";

/// The multipart upload that nothing names.
pub(super) const IMPLICIT: &str = "-";

const MAX_METADATA_BYTES: usize = 2048;
const MAX_ID_LEN: usize = 1024;
const MAX_KEY_LEN: usize = 1024 - 8;

/// The keys below one prefix of a bucket, and the headers of objects.
#[derive(Debug)]
pub struct Layout {
    pub(super) bucket: String,
    pub(super) prefix: String,
    bucket_field: &'static str,
    implicit_multipart: bool,
    template: Option<String>,
    headers: ObjectHeaders,
}

impl Layout {
    /// Returns the layout of a store with these options.
    #[must_use]
    pub fn new(options: &StoreOptions) -> Self {
        let mut prefix = options.object_prefix.clone();
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        Self {
            bucket: options.bucket.clone(),
            prefix,
            bucket_field: BUCKET,
            implicit_multipart: false,
            template: options.key_template.clone(),
            headers: options.headers.clone(),
        }
    }

    /// Follows the rules of a cloud.
    pub(super) fn with_rules(mut self, rules: &Rules) -> Self {
        self.bucket_field = rules.bucket_field;
        self.implicit_multipart = rules.implicit_multipart;
        self
    }

    /// Records where the bytes of an upload are.
    pub(super) fn record(&self, object_ref: &ObjectRef, storage: &mut BTreeMap<String, String>) {
        storage.insert(self.bucket_field.into(), object_ref.bucket.clone());
        storage.insert(KEY.into(), object_ref.key.clone());
    }

    pub(super) fn info(&self, object_id: &str) -> ObjectRef {
        self.data(&format!("{object_id}{INFO}"))
    }

    /// Returns the object for the bytes that are too few for a part. Where tusd takes the objects whose keys
    /// begin with that of an upload for its parts, it has another prefix.
    pub(super) fn part(&self, object_id: &str) -> ObjectRef {
        self.data(&match self.implicit_multipart {
            true => format!("{RESERVED_PREFIX}{TAILS}{object_id}"),
            false => format!("{object_id}{PART}"),
        })
    }

    /// Returns the two objects that are copies of `.part` by turns.
    pub(super) fn copies(&self, object_id: &str) -> [ObjectRef; 2] {
        [0, 1].map(|turn| self.data(&format!("{RESERVED_PREFIX}{COPIES}{turn}/{object_id}")))
    }

    /// Returns the names of the description and of the multipart upload in an id.
    pub(super) fn split<'a>(&self, id: &'a UploadId) -> Option<(&'a str, &'a str)> {
        (!self.implicit_multipart).then(|| split(id)).flatten()
    }

    /// Returns the multipart upload of a described object.
    pub(super) fn multipart(&self, info: &UploadInfo, object_id: &str) -> Option<String> {
        if self.implicit_multipart {
            return Some(IMPLICIT.to_owned());
        }
        let stored = info.upload.storage.get(MULTIPART).cloned();
        stored.or_else(|| {
            let (named, multipart) = split(&info.upload.id)?;
            (named == object_id).then(|| multipart.to_owned())
        })
    }

    /// Returns whether a key is that of the bytes that are too few for a part.
    pub(super) fn part_of<'a>(&self, key: &'a str) -> Option<&'a str> {
        let part = || self.object_of(key, PART);
        (!self.implicit_multipart).then(part).flatten()
    }

    pub(super) fn data(&self, object_id: &str) -> ObjectRef {
        ObjectRef::new(&self.bucket, format!("{}{object_id}", self.prefix))
    }

    pub(super) fn object_of<'a>(&self, key: &'a str, suffix: &str) -> Option<&'a str> {
        let object = key.strip_prefix(&self.prefix)?.strip_suffix(suffix)?;
        (!object.is_empty() && !object.starts_with(RESERVED_PREFIX)).then_some(object)
    }

    /// Returns the object for the bytes of a new upload: a hook's choice, or else the template's.
    pub fn object_ref(&self, upload: &Upload, now: SystemTime) -> Result<ObjectRef> {
        let requested = |name| {
            let requested = upload.storage.get(name).map(String::as_str);
            requested.filter(|requested| !requested.is_empty())
        };
        let bucket = requested(self.bucket_field).unwrap_or(&self.bucket);
        let key = match (requested(KEY), &self.template) {
            (Some(key), _) => key.to_owned(),
            (None, Some(template)) => {
                let max = MAX_KEY_LEN.saturating_sub(self.prefix.len());
                let key = upload.fill(template, now, max, max);
                format!("{}{}", self.prefix, key.map_err(StoreError::InvalidPath)?)
            }
            (None, None) => self.data(upload.id.as_str()).key,
        };
        let is_of_client = requested(KEY).is_none() && self.template.is_some();
        let wrong = |what: &str| {
            let reason = format!("the key {key:?} {what}");
            Err(if is_of_client {
                StoreError::InvalidMetadata(reason)
            } else {
                StoreError::InvalidPath(reason)
            })
        };
        if key.len() > MAX_KEY_LEN {
            return wrong("is too long for an object");
        }
        let is_part = !self.implicit_multipart && key.ends_with(PART);
        if key.ends_with(INFO) || is_part {
            return wrong("ends with .info or .part, which are reserved");
        }
        let below = key.strip_prefix(&self.prefix);
        if below.is_some_and(|below| below.starts_with(RESERVED_PREFIX)) {
            return wrong("begins with .landfall/, which is reserved");
        }
        // The operator may have chosen a prefix that begins with a slash, as in tusd.
        let chosen = key.strip_prefix(&self.prefix).unwrap_or(&key);
        if chosen.starts_with('/') || key.ends_with('/') || key.chars().any(char::is_control) {
            return wrong("begins or ends with a slash, or contains control characters");
        }
        if has_dot_segment(&key) {
            return wrong("contains the segment . or .., which HTTP clients resolve");
        }
        Ok(ObjectRef::new(bucket, key))
    }

    pub(super) fn uploaded_object(&self, upload: &Upload) -> ObjectRef {
        let split = self.split(&upload.id);
        let object_id = split.map_or(upload.id.as_str(), |(object_id, _)| object_id);
        self.stored_object(object_id, &upload.storage)
    }

    pub(super) fn stored_object(
        &self,
        object_id: &str,
        storage: &BTreeMap<String, String>,
    ) -> ObjectRef {
        let stored = |key| storage.get(key).filter(|text| !text.is_empty());
        match stored(KEY) {
            Some(key) => ObjectRef::new(stored(self.bucket_field).unwrap_or(&self.bucket), key),
            None => self.data(object_id),
        }
    }

    /// Returns the headers of an upload's object.
    #[must_use]
    pub fn headers(&self, upload: &Upload) -> ObjectHeaders {
        let mut headers = self.headers.clone();
        let filetype = upload.metadata.get_text("filetype");
        let filetype = filetype.as_deref().and_then(MediaType::header_value);
        let filetype = filetype.map(str::to_owned);
        headers.content_type = headers.content_type.or(filetype);
        let overrides = [
            ("ContentType", &mut headers.content_type),
            ("ContentDisposition", &mut headers.content_disposition),
            ("ContentEncoding", &mut headers.content_encoding),
            ("CacheControl", &mut headers.cache_control),
            ("StorageClass", &mut headers.storage_class),
            ("Tagging", &mut headers.tagging),
            ("ServerSideEncryption", &mut headers.sse),
            ("SSEKMSKeyId", &mut headers.sse_kms_key_id),
            ("ACL", &mut headers.acl),
        ];
        for (name, header) in overrides {
            if let Some(requested) = upload.storage.get(name)
                && is_header_value(requested)
            {
                *header = Some(requested.clone());
            }
        }
        headers.metadata = user_metadata(&upload.metadata, MAX_METADATA_BYTES, ascii);
        headers
    }

    pub(super) fn headers_with_owner(&self, upload: &Upload) -> ObjectHeaders {
        let mut headers = self.headers(upload);
        let remaining = MAX_METADATA_BYTES - OWNER.len() - upload.id.as_str().len().min(MAX_ID_LEN);
        let metadata = &mut headers.metadata;
        *metadata = user_metadata(&upload.metadata, remaining, ascii);
        metadata.retain(|name, _| name.replace('_', "-") != OWNER);
        headers.metadata.insert(OWNER.into(), upload.id.to_string());
        headers
    }

    pub(super) fn internal_headers(&self, content_type: &str) -> ObjectHeaders {
        ObjectHeaders {
            content_type: Some(content_type.to_owned()),
            sse: self.headers.sse.clone(),
            sse_kms_key_id: self.headers.sse_kms_key_id.clone(),
            ..ObjectHeaders::default()
        }
    }
}

pub(crate) fn has_dot_segment(key: &str) -> bool {
    key.split('/').any(|segment| matches!(segment, "." | ".."))
}

fn split(id: &UploadId) -> Option<(&str, &str)> {
    let (object, multipart) = id.as_str().rsplit_once('+')?;
    (!object.is_empty() && !multipart.is_empty()).then_some((object, multipart))
}

pub(super) fn is_random(object_id: &str) -> bool {
    let is_hex = |b| matches!(b, b'0'..=b'9' | b'a'..=b'f');
    object_id.len() == 32 && object_id.bytes().all(is_hex)
}

/// Returns the user metadata of an object, in order, as far as it fits into `remaining` bytes.
///
/// Names that are no valid header names are left out, and so is the second of two names that differ only in
/// case or by `-` and `_`. `encode` makes a header value of a text.
pub fn user_metadata(
    metadata: &Metadata,
    mut remaining: usize,
    encode: impl Fn(&str) -> String,
) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    for (name, value) in metadata.iter() {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            continue;
        }
        let value = encode(&String::from_utf8_lossy(value));
        let name = name.to_ascii_lowercase();
        let size = name.len() + value.len();
        // Ceph takes `-` and `_` for the same, and the signature is then wrong.
        let same = |other: &String| other.replace('_', "-") == name.replace('_', "-");
        if size <= remaining && !pairs.keys().any(same) {
            remaining -= size;
            pairs.insert(name, value);
        }
    }
    pairs
}

/// tusd replaces other characters, too, except for tabs. Ceph signs these as spaces.
fn ascii(text: &str) -> String {
    let text = text.replace('\t', " ");
    let text = text.replace(|c| !matches!(c, ' '..='~'), "?");
    text.trim().to_owned()
}

fn is_header_value(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| matches!(c, ' '..='~'))
}

#[cfg(test)]
mod tests {
    use std::time::UNIX_EPOCH;

    use super::*;

    fn upload(pairs: &[(&str, &str)]) -> Upload {
        let mut upload = Upload::new(UploadId::new("abc").unwrap(), Some(1));
        upload.metadata = Metadata::from_pairs(pairs.iter().copied());
        upload
    }

    fn layout(template: Option<&str>) -> Layout {
        let mut options = StoreOptions::new("b");
        options.object_prefix = "in".into();
        options.key_template = template.map(Into::into);
        Layout::new(&options)
    }

    #[test]
    fn templates() {
        let key = |template, pairs: &[_]| {
            let object_ref = layout(Some(template)).object_ref(&upload(pairs), UNIX_EPOCH);
            object_ref
                .map(|object_ref| object_ref.key)
                .map_err(|error| error.to_string())
        };
        let pairs = [("filename", "a/b.png"), ("user", "7")];
        assert_eq!(
            key("{date}/{id}-{filename}", &pairs).unwrap(),
            "in/1970/01/01/abc-a_b.png"
        );
        assert_eq!(key("u{meta:user}/{meta:none}", &pairs).unwrap(), "in/u7/_");
        assert_eq!(key("{filename}", &[("filename", "..")]).unwrap(), "in/_");
        for wrong in ["{what}", "{id", "{id}.info", "{id}/../x", "{id}/"] {
            key(wrong, &pairs).unwrap_err();
        }
        // A client cannot change the template: no metadata makes the key too long.
        let long = format!("{}.jpeg", "é".repeat(600));
        let pairs = [("filename", &*long), ("user", &long)];
        let values = "{meta:user}/".repeat(20);
        let cut = key(&format!("{values}{{id}}-{{filename}}"), &pairs).unwrap();
        assert!((800..=MAX_KEY_LEN).contains(&cut.len()), "{cut}");
        assert!(cut.contains("/abc-é") && cut.ends_with("é.jpeg"), "{cut}");
    }

    #[test]
    fn hook_overrides_template() {
        let mut requested = upload(&[("filetype", "text/plain")]);
        requested.storage = [
            ("Bucket".into(), "other".into()),
            ("Key".into(), "x/y".into()),
            ("CacheControl".into(), "no-cache".into()),
            ("Tagging".into(), "a\nb".into()),
        ]
        .into();
        let layout = layout(Some("{id}"));
        let object_ref = layout.object_ref(&requested, UNIX_EPOCH).unwrap();
        assert_eq!(object_ref, ObjectRef::new("other", "x/y"));
        let headers = layout.headers(&requested);
        assert_eq!(headers.content_type.as_deref(), Some("text/plain"));
        assert_eq!(headers.cache_control.as_deref(), Some("no-cache"));
        assert_eq!(headers.tagging, None);
    }

    #[test]
    fn metadata_fits_into_headers() {
        let long = "x".repeat(3000);
        let metadata = Metadata::from_pairs([
            ("filename", "Zürich\n.pdf"),
            ("long", long.as_str()),
            ("odd name", "1"),
        ]);
        let pairs = user_metadata(&metadata, 2048, ascii);
        assert_eq!(pairs.len(), 1);
        assert_eq!(pairs["filename"], "Z?rich?.pdf");
    }

    #[test]
    fn metadata_can_be_signed_on_every_service() {
        let metadata = Metadata::from_pairs([
            ("a-b", "1\t2"),
            ("a_b", "second"),
            ("landfall_upload", "of a client"),
        ]);
        let pairs = user_metadata(&metadata, 2048, ascii);
        assert_eq!(pairs["a-b"], "1 2");
        assert!(!pairs.contains_key("a_b"), "{pairs:?}");
        let mut of_client = upload(&[("Landfall_Upload", "x")]);
        of_client.metadata = metadata;
        let owned = layout(None).headers_with_owner(&of_client).metadata;
        assert_eq!(owned[OWNER], "abc");
        assert!(!owned.contains_key("landfall_upload"), "{owned:?}");
    }

    #[test]
    fn a_prefix_may_begin_with_a_slash() {
        for prefix in ["/uploads", "/", "a//b"] {
            let mut options = StoreOptions::new("b");
            options.object_prefix = prefix.into();
            let key = Layout::new(&options).object_ref(&upload(&[]), UNIX_EPOCH);
            let slash = if prefix.ends_with('/') { "" } else { "/" };
            assert_eq!(key.unwrap().key, format!("{prefix}{slash}abc"));
        }
        let of_client = layout(Some("{filename}")).object_ref(&upload(&[]), UNIX_EPOCH);
        assert_eq!(of_client.unwrap().key, "in/_");
        layout(Some("/{id}"))
            .object_ref(&upload(&[]), UNIX_EPOCH)
            .unwrap_err();
    }

    /// S3 rejects objects with more than 2,048 bytes of user metadata, the owner included.
    #[test]
    fn metadata_leaves_room_for_the_owner() {
        let long: Vec<_> = (0..60)
            .map(|n| (format!("name{n}"), "y".repeat(100)))
            .collect();
        let mut full = upload(&[]);
        full.id = UploadId::new(&"i".repeat(250)).unwrap();
        full.metadata = Metadata::from_pairs(long.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        let metadata = layout(None).headers_with_owner(&full).metadata;
        let bytes: usize = metadata.iter().map(|(k, v)| k.len() + v.len()).sum();
        assert!((1700..=2048).contains(&bytes), "{bytes}");
        assert_eq!(metadata[OWNER], full.id.as_str());
        assert!(metadata.contains_key("name0"), "the first ones stay");
    }

    #[test]
    fn reserved_keys_are_invalid() {
        let client =
            |template, pairs: &[_]| layout(Some(template)).object_ref(&upload(pairs), UNIX_EPOCH);
        for (template, pairs) in [
            (
                "{meta:a}/leases/{filename}",
                [("a", ".landfall"), ("filename", "x")],
            ),
            (".landfall/{filename}", [("a", ""), ("filename", "x")]),
            ("{filename}", [("a", ""), ("filename", "x.info")]),
            ("{filename}", [("a", ""), ("filename", "x.part")]),
        ] {
            let object_ref = client(template, &pairs);
            assert!(
                matches!(object_ref, Err(StoreError::InvalidMetadata(_))),
                "{object_ref:?}"
            );
        }
        client("{meta:a}/x", &[("a", ".landfall2")]).unwrap();
        let mut of_hook = upload(&[]);
        of_hook.storage = [("Key".into(), "in/.landfall/leases/abc".into())].into();
        let object_ref = layout(None).object_ref(&of_hook, UNIX_EPOCH);
        assert!(
            matches!(object_ref, Err(StoreError::InvalidPath(_))),
            "{object_ref:?}"
        );
    }

    #[test]
    fn names() {
        let layout = layout(None);
        assert_eq!(layout.info("a/b").key, "in/a/b.info");
        assert_eq!(layout.object_of("in/a/b.info", INFO), Some("a/b"));
        assert_eq!(layout.object_of("in/.landfall/leases/x.info", INFO), None);
        assert_eq!(layout.object_of("out/a.info", INFO), None);
        assert!(is_random(UploadId::random().as_str()));
        let id = UploadId::new("a+b+c").unwrap();
        assert_eq!(split(&id), Some(("a+b", "c")));
    }
}
