//! Which object is called what: as tusd calls them.
//!
//! | object | key |
//! |---|---|
//! | the bytes, once they are all there | prefix + object id, or what a template or a hook says |
//! | the description | prefix + object id + `.info` |
//! | bytes too few for a part | prefix + object id + `.part` |
//!
//! An upload is called `object id + multipart upload id` (tusd's way) or by its object id alone.

use std::{
    collections::BTreeMap,
    time::{SystemTime, UNIX_EPOCH},
};

use landfall::{
    hook::MediaType,
    store::{Result, StoreError},
    upload::{Metadata, Upload, UploadId},
};

use crate::{
    S3Options,
    client::{ObjectHeaders, Place},
};

/// The suffix of descriptions.
pub(super) const INFO: &str = ".info";
/// The suffix of bytes too few for a part.
pub(super) const PART: &str = ".part";
/// Below the prefix: what is no upload. Upload ids have no segment that begins with a dot.
pub(super) const OWN: &str = ".landfall/";

/// Where tusd, and hooks, say where an upload is.
pub(super) const BUCKET: &str = "Bucket";
pub(super) const KEY: &str = "Key";
/// What S3 calls the multipart upload.
pub(super) const MULTIPART: &str = "MultipartUpload";

/// S3's limit for the names and values of user metadata together, in bytes.
const METADATA_LIMIT: usize = 2048;
/// User metadata of an object: the id of its upload.
pub(super) const OWNER: &str = "landfall-upload";
/// The longest upload id, in bytes.
const MAX_ID: usize = 1024;
/// S3's limit for keys, in bytes, less room for `.info`.
const KEY_LIMIT: usize = 1024 - 8;

/// The names of everything in one bucket below one prefix, and what objects are given.
#[derive(Debug)]
pub struct Layout {
    pub(super) bucket: String,
    pub(super) prefix: String,
    template: Option<String>,
    headers: ObjectHeaders,
}

impl Layout {
    /// That of a store with these options.
    #[must_use]
    pub fn new(options: &S3Options) -> Self {
        let mut prefix = options.object_prefix.clone();
        if !prefix.is_empty() && !prefix.ends_with('/') {
            prefix.push('/');
        }
        Self {
            bucket: options.bucket.clone(),
            prefix,
            template: options.key_template.clone(),
            headers: options.headers.clone(),
        }
    }

    pub(super) fn info(&self, object: &str) -> Place {
        Place::new(&self.bucket, format!("{}{object}{INFO}", self.prefix))
    }

    pub(super) fn part(&self, object: &str) -> Place {
        Place::new(&self.bucket, format!("{}{object}{PART}", self.prefix))
    }

    /// Where the bytes of an upload are that says nothing else.
    pub(super) fn data(&self, object: &str) -> Place {
        Place::new(&self.bucket, format!("{}{object}", self.prefix))
    }

    /// The object id whose `.info` or `.part` this key is.
    pub(super) fn object_of<'a>(&self, key: &'a str, suffix: &str) -> Option<&'a str> {
        let object = key.strip_prefix(&self.prefix)?.strip_suffix(suffix)?;
        (!object.is_empty() && !object.starts_with(OWN)).then_some(object)
    }

    /// Where the bytes of a new upload go: where a hook wants them, or else by the template.
    ///
    /// # Errors
    /// [`StoreError::InvalidPath`] if a hook gives an invalid place, [`StoreError::InvalidMetadata`] if
    /// the client's metadata leads to one.
    pub fn place(&self, upload: &Upload, now: SystemTime) -> Result<Place> {
        let wish = |name| {
            let wish = upload.storage.get(name).map(String::as_str);
            wish.filter(|wish| !wish.is_empty())
        };
        let bucket = wish(BUCKET).unwrap_or(&self.bucket);
        let key = match (wish(KEY), &self.template) {
            (Some(key), _) => key.to_owned(),
            (None, Some(template)) => {
                let key = fill(template, upload, now).map_err(StoreError::InvalidPath)?;
                format!("{}{key}", self.prefix)
            }
            (None, None) => self.data(upload.id.as_str()).key,
        };
        let is_of_client = wish(KEY).is_none() && self.template.is_some();
        let wrong = |what: &str| {
            let reason = format!("the key {key:?} {what}");
            Err(if is_of_client {
                StoreError::InvalidMetadata(reason)
            } else {
                StoreError::InvalidPath(reason)
            })
        };
        if key.len() > KEY_LIMIT {
            return wrong("is too long for S3");
        }
        if [INFO, PART].iter().any(|suffix| key.ends_with(suffix)) {
            return wrong("would be taken for a description: it ends with .info or .part");
        }
        let below = key.strip_prefix(&self.prefix);
        if below.is_some_and(|below| below.starts_with(OWN)) {
            return wrong("begins with .landfall/, which is reserved for leases");
        }
        if key.starts_with('/') || key.ends_with('/') || key.chars().any(char::is_control) {
            return wrong("begins or ends with a slash, or holds control characters");
        }
        if key.split('/').any(|segment| matches!(segment, "." | "..")) {
            return wrong("has a segment . or .., which clients take for a path");
        }
        Ok(Place::new(bucket, key))
    }

    /// What the object of an upload is given.
    #[must_use]
    pub fn headers(&self, upload: &Upload) -> ObjectHeaders {
        let mut headers = self.headers.clone();
        let filetype = upload.metadata.get_text("filetype");
        let filetype = filetype.and_then(|text| MediaType::parse(&text));
        let filetype = filetype.map(|kind| kind.to_string());
        headers.content_type = headers.content_type.or(filetype);
        let wishes = [
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
        for (name, header) in wishes {
            if let Some(wish) = upload.storage.get(name)
                && is_header_value(wish)
            {
                *header = Some(wish.clone());
            }
        }
        headers.metadata = user_metadata(&upload.metadata, METADATA_LIMIT);
        headers
    }

    /// What the object of an upload is given, and the upload's id.
    pub(super) fn owned_headers(&self, upload: &Upload) -> ObjectHeaders {
        let mut headers = self.headers(upload);
        let room = METADATA_LIMIT - OWNER.len() - upload.id.as_str().len().min(MAX_ID);
        headers.metadata = user_metadata(&upload.metadata, room);
        headers.metadata.insert(OWNER.into(), upload.id.to_string());
        headers
    }

    /// What descriptions and rests are given: encrypted like everything else.
    pub(super) fn own_headers(&self, content_type: &str) -> ObjectHeaders {
        ObjectHeaders {
            content_type: Some(content_type.to_owned()),
            sse: self.headers.sse.clone(),
            sse_kms_key_id: self.headers.sse_kms_key_id.clone(),
            ..ObjectHeaders::default()
        }
    }
}

/// The object id and the multipart upload id of an upload called the way tusd does.
pub(super) fn split(id: &UploadId) -> Option<(&str, &str)> {
    let (object, multipart) = id.as_str().rsplit_once('+')?;
    (!object.is_empty() && !multipart.is_empty()).then_some((object, multipart))
}

/// Whether an object id is one that [`UploadId::random`] makes.
pub(super) fn is_random(object: &str) -> bool {
    object.len() == 32
        && object
            .bytes()
            .all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// User metadata as tusd has it: what isn't plain ASCII becomes `?`. In the client's order, a pair that
/// doesn't fit into `room` bytes is left out; all of them are in the description anyway.
fn user_metadata(metadata: &Metadata, mut room: usize) -> BTreeMap<String, String> {
    let mut pairs = BTreeMap::new();
    for (name, value) in metadata.iter() {
        let is_token = |b: u8| b.is_ascii_alphanumeric() || b"-_.".contains(&b);
        if name.is_empty() || !name.bytes().all(is_token) {
            continue;
        }
        let value: String = String::from_utf8_lossy(value)
            .chars()
            .map(|c| {
                if matches!(c, '\t' | ' '..='~') {
                    c
                } else {
                    '?'
                }
            })
            .collect();
        let value = value.trim();
        let size = name.len() + value.len();
        if size <= room && !pairs.contains_key(&name.to_ascii_lowercase()) {
            room -= size;
            pairs.insert(name.to_ascii_lowercase(), value.to_owned());
        }
    }
    pairs
}

fn is_header_value(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| matches!(c, ' '..='~'))
}

/// Checks a template, as far as that can be done without an upload.
pub(crate) fn check_template(template: &str) -> Result<(), String> {
    fill(template, &Upload::new(UploadId::random(), None), UNIX_EPOCH).map(drop)
}

/// Fills in a template.
fn fill(template: &str, upload: &Upload, now: SystemTime) -> Result<String, String> {
    let mut key = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        let Some((name, after)) = after.split_once('}') else {
            return Err(format!(
                "the key template {template:?} has a {{ without a }}"
            ));
        };
        key.push_str(before);
        rest = after;
        match name {
            "id" => key.push_str(upload.id.as_str()),
            "date" => key.push_str(&date(now)),
            "filename" => key.push_str(&plain(&text(upload, "filename"))),
            name => match name.strip_prefix("meta:") {
                Some(name) => key.push_str(&plain(&text(upload, name))),
                None => {
                    return Err(format!(
                        "the key template {template:?} has {{{name}}}; there are {{id}}, {{date}}, \
                         {{filename}} and {{meta:NAME}}"
                    ));
                }
            },
        }
    }
    key.push_str(rest);
    Ok(key)
}

fn text(upload: &Upload, name: &str) -> String {
    upload.metadata.get_text(name).unwrap_or_default().into()
}

/// What a client says, as one segment of a key.
fn plain(text: &str) -> String {
    let mut plain: String = text
        .chars()
        .map(|c| {
            if c == '/' || c == '\\' || c.is_control() {
                '_'
            } else {
                c
            }
        })
        .collect();
    while plain.len() > 200 {
        plain.pop();
    }
    if matches!(plain.as_str(), "" | "." | "..") {
        plain = "_".into();
    }
    plain
}

/// `yyyy/mm/dd` in UTC.
fn date(now: SystemTime) -> String {
    let days = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / 86_400;
    // Days since 0000-03-01, so that a leap day is the last day of its year.
    let days = days + 719_468;
    let (era, day) = (days / 146_097, days % 146_097);
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = era * 400 + year + u64::from(month <= 2);
    format!("{year:04}/{month:02}/{day:02}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn upload(pairs: &[(&str, &str)]) -> Upload {
        let mut upload = Upload::new(UploadId::new("abc").unwrap(), Some(1));
        upload.metadata = Metadata::from_pairs(pairs.iter().copied());
        upload
    }

    fn layout(template: Option<&str>) -> Layout {
        let mut options = S3Options::new("b");
        options.object_prefix = "in".into();
        options.key_template = template.map(Into::into);
        Layout::new(&options)
    }

    const DAY: u64 = 86_400;

    #[test]
    fn dates() {
        for (days, text) in [
            (0, "1970/01/01"),
            (59, "1970/03/01"),
            (11_016, "2000/02/29"),
            (11_017, "2000/03/01"),
            (20_777, "2026/11/20"),
        ] {
            assert_eq!(date(UNIX_EPOCH + Duration::from_secs(days * DAY + 5)), text);
        }
    }

    #[test]
    fn templates() {
        let key = |template, pairs: &[_]| {
            let place = layout(Some(template)).place(&upload(pairs), UNIX_EPOCH);
            place
                .map(|place| place.key)
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
        check_template("{date}/{id}").unwrap();
        check_template("{i}").unwrap_err();
    }

    #[test]
    fn a_hook_has_the_last_word() {
        let mut wished = upload(&[("filetype", "text/plain")]);
        wished.storage = [
            ("Bucket".into(), "other".into()),
            ("Key".into(), "x/y".into()),
            ("CacheControl".into(), "no-cache".into()),
            ("Tagging".into(), "a\nb".into()),
        ]
        .into();
        let layout = layout(Some("{id}"));
        let place = layout.place(&wished, UNIX_EPOCH).unwrap();
        assert_eq!(place, Place::new("other", "x/y"));
        let headers = layout.headers(&wished);
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
        let pairs = user_metadata(&metadata, 2048);
        assert_eq!(pairs.len(), 1);
        assert_eq!(pairs["filename"], "Z?rich?.pdf");
    }

    /// S3 refuses objects whose user metadata has more than 2,048 bytes, the owner included.
    #[test]
    fn metadata_leaves_room_for_the_owner() {
        let long: Vec<_> = (0..60)
            .map(|n| (format!("name{n}"), "y".repeat(100)))
            .collect();
        let mut full = upload(&[]);
        full.id = UploadId::new(&"i".repeat(250)).unwrap();
        full.metadata = Metadata::from_pairs(long.iter().map(|(k, v)| (k.as_str(), v.as_str())));
        let metadata = layout(None).owned_headers(&full).metadata;
        let bytes: usize = metadata.iter().map(|(k, v)| k.len() + v.len()).sum();
        assert!((1700..=2048).contains(&bytes), "{bytes}");
        assert_eq!(metadata[OWNER], full.id.as_str());
        assert!(metadata.contains_key("name0"), "the first ones stay");
    }

    #[test]
    fn reserved_keys_are_invalid() {
        let client =
            |template, pairs: &[_]| layout(Some(template)).place(&upload(pairs), UNIX_EPOCH);
        for (template, pairs) in [
            (
                "{meta:a}/leases/{filename}",
                [("a", ".landfall"), ("filename", "x")],
            ),
            (".landfall/{filename}", [("a", ""), ("filename", "x")]),
            ("{filename}", [("a", ""), ("filename", "x.info")]),
            ("{filename}", [("a", ""), ("filename", "x.part")]),
        ] {
            let place = client(template, &pairs);
            assert!(
                matches!(place, Err(StoreError::InvalidMetadata(_))),
                "{place:?}"
            );
        }
        client("{meta:a}/x", &[("a", ".landfall2")]).unwrap();
        let mut of_hook = upload(&[]);
        of_hook.storage = [("Key".into(), "in/.landfall/leases/abc".into())].into();
        let place = layout(None).place(&of_hook, UNIX_EPOCH);
        assert!(
            matches!(place, Err(StoreError::InvalidPath(_))),
            "{place:?}"
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
