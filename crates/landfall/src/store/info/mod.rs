//! `.info`, the description of an upload, for stores with the layout of tusd: one line of JSON as
//! tusd writes it, plus an object `Landfall` that tusd ignores.

mod encoder;
mod response;

use std::{
    borrow::Cow,
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Deserialize;

use self::{encoder::JsonObject, response::StoredResponse};
use crate::upload::{
    Checksum, Completion, Digest, Metadata, Repetition, Upload, UploadId, UploadKind,
};

/// The content of an `.info`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadInfo {
    /// The upload. Its id is the requested one, even if the JSON has another.
    pub upload: Arc<Upload>,
    /// The id in the JSON, if it is another one.
    pub stated_id: Option<String>,
    /// Bytes from this offset on are not verified and do not count.
    pub unverified_from: Option<u64>,
    /// A reason why the bytes are not reliable.
    pub damaged: Option<String>,
    /// True if it is unknown if the parts of this final upload were concatenated, because tusd does
    /// not record it. They were if all bytes are stored.
    pub concatenated_unknown: bool,
    /// Extensions of the store.
    pub extensions: BTreeMap<String, String>,
    /// The store marks uploads as finished in place: encoded as a mark at the end, if the completion is
    /// not tracked.
    pub can_mark_finished: bool,
}

/// The end of an `.info` whose digit can be overwritten with `1`: the upload is finished.
pub(super) const FINISH_MARK: &[u8; 14] = b"\"Finished\":0}}";
/// The place of the digit.
pub(super) const FINISH_MARK_OFFSET: u64 = 11;

/// An error in an `.info`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidInfo {
    /// It is empty or ends too early.
    #[error("the description is truncated")]
    Truncated,
    /// It is not valid.
    #[error("the description is malformed: {0}")]
    Malformed(String),
}

/// The decoded members. [`UploadInfo::encode`] writes the same members; tests compare it with serde.
#[derive(Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "PascalCase")]
struct InfoJson<'a> {
    #[serde(rename = "ID")]
    id: Cow<'a, str>,
    size: Option<i64>,
    #[serde(default)]
    size_is_deferred: bool,
    /// Always 0; tusd takes the offset from the data.
    #[cfg(test)]
    #[serde(skip_deserializing)]
    offset: u64,
    meta_data: Option<BTreeMap<Cow<'a, str>, Cow<'a, str>>>,
    #[serde(default)]
    is_partial: bool,
    #[serde(default)]
    is_final: bool,
    partial_uploads: Option<Vec<Cow<'a, str>>>,
    storage: Option<Cow<'a, BTreeMap<String, String>>>,
    /// Absent if tusd created the upload.
    landfall: Option<LandfallInfo<'a>>,
}

#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(default, rename_all = "PascalCase")]
struct LandfallInfo<'a> {
    /// `Upload-Metadata` as received, if `MetaData` does not lead to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    metadata: Option<Cow<'a, str>>,
    /// `Upload-Concat` as received.
    #[serde(skip_serializing_if = "Option::is_none")]
    concat: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concatenated: Option<bool>,
    /// Nanoseconds since 1970, as `expires`.
    #[serde(skip_serializing_if = "Option::is_none")]
    created: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_size: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    awaits_end: bool,
    #[serde(rename = "Draft", skip_serializing_if = "std::ops::Not::not")]
    created_by_draft: bool,
    /// An algorithm and the digest in Base64, as in `Upload-Checksum`.
    #[serde(skip_serializing_if = "Option::is_none")]
    repr_digest: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "is_empty")]
    labels: Cow<'a, BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "is_empty")]
    extensions: Cow<'a, BTreeMap<String, String>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    completion: Option<CompletionState>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response: Option<StoredResponse>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unacknowledged: bool,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    unannounced: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_to: Option<Cow<'a, str>>,
    #[serde(rename = "ETag", skip_serializing_if = "Option::is_none")]
    etag: Option<Cow<'a, str>>,
    /// In hexadecimal.
    #[serde(skip_serializing_if = "Option::is_none")]
    creation_digest: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    final_upload: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unverified_from: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    damaged: Option<Cow<'a, str>>,
    /// The last one: see [`FINISH_MARK`].
    #[serde(skip_serializing_if = "Option::is_none")]
    finished: Option<u8>,
}

#[derive(Deserialize, Clone, Copy)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(rename_all = "lowercase")]
enum CompletionState {
    Pending,
    Done,
    Denied,
}

#[cfg(test)]
fn is_empty(map: &BTreeMap<String, String>) -> bool {
    map.is_empty()
}

impl UploadInfo {
    /// Maximum length of an `.info`, in bytes; far above the limits of headers.
    pub const MAX_LEN: u64 = 4 * 1024 * 1024;

    /// Returns the description of an upload without extensions.
    #[must_use]
    pub fn new(upload: impl Into<Arc<Upload>>) -> Self {
        Self {
            upload: upload.into(),
            stated_id: None,
            unverified_from: None,
            damaged: None,
            concatenated_unknown: false,
            extensions: BTreeMap::new(),
            can_mark_finished: false,
        }
    }

    /// Decodes the `.info` of the upload `id`.
    ///
    /// # Errors
    /// [`InvalidInfo`].
    pub fn decode(id: &UploadId, json: &[u8]) -> Result<Self, InvalidInfo> {
        let info: InfoJson<'_> = serde_json::from_slice(json).map_err(|error| {
            if error.is_eof() {
                InvalidInfo::Truncated
            } else {
                InvalidInfo::Malformed(error.to_string())
            }
        })?;
        let length = if info.size_is_deferred {
            None
        } else {
            let size = info.size.unwrap_or_default();
            let Ok(size) = u64::try_from(size) else {
                return Err(InvalidInfo::Malformed(format!("its Size is {size}")));
            };
            Some(size)
        };
        let created_by_tusd = info.landfall.is_none();
        let landfall = info.landfall.unwrap_or_default();
        let mut concatenated_unknown = false;
        let kind = if info.is_final {
            let parse = |part: &Cow<'_, str>| {
                UploadId::new(part).map_err(|error| format!("its part {part:?}: {error}"))
            };
            let parts = info.partial_uploads.unwrap_or_default();
            let parts = parts.iter().map(parse).collect::<Result<_, _>>();
            let parts = parts.map_err(InvalidInfo::Malformed)?;
            concatenated_unknown = landfall.concatenated.is_none();
            UploadKind::Final {
                parts,
                header: landfall.concat.unwrap_or_default().into_owned(),
                concatenated: landfall.concatenated.unwrap_or(false),
            }
        } else if info.is_partial {
            UploadKind::Partial
        } else {
            UploadKind::Regular
        };
        let pairs = info.meta_data.unwrap_or_default().into_iter();
        let mut metadata =
            Metadata::from_pairs(pairs.map(|(key, value)| (key, value.into_owned())));
        if let Some(header) = &landfall.metadata {
            metadata = metadata.with_header(header);
        }
        let mut upload = Upload::new(id.clone(), length);
        upload.metadata = metadata;
        upload.kind = kind;
        upload.storage = info.storage.unwrap_or_default().into_owned().into();
        let time = |nanos| SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanos));
        upload.created = landfall.created.and_then(time);
        upload.expires = landfall.expires.and_then(time);
        upload.max_size = landfall.max_size;
        upload.awaits_end = landfall.awaits_end;
        upload.created_by_draft = landfall.created_by_draft;
        let digest = landfall
            .repr_digest
            .map(|text| Checksum::parse(&text).map(Box::new));
        upload.repr_digest = digest
            .transpose()
            .map_err(|error| InvalidInfo::Malformed(format!("its ReprDigest: {error}")))?;
        upload.labels = landfall.labels.into_owned();
        upload.completion = match landfall.completion {
            None if landfall.finished == Some(1) => Completion::Done(None),
            None => Completion::NotTracked,
            Some(CompletionState::Pending) => Completion::Pending,
            Some(CompletionState::Done) => {
                let response = landfall.response.map(StoredResponse::into_response);
                Completion::Done(response.map(Arc::new))
            }
            Some(CompletionState::Denied) => {
                let response = landfall.response.map(StoredResponse::into_response);
                Completion::Denied(Arc::new(response.unwrap_or_default()))
            }
        };
        upload.unacknowledged = landfall.unacknowledged;
        upload.unannounced = landfall.unannounced;
        upload.moved_to = landfall
            .moved_to
            .map(|path| Box::new(path.into_owned().into()));
        upload.etag = landfall.etag.map(Cow::into_owned);
        // Without them, a repeated creation is a new one.
        let repetition = Repetition {
            creation_digest: landfall.creation_digest.and_then(|text| {
                let mut digest = Digest::default();
                hex::decode_to_slice(&*text, &mut digest).ok()?;
                Some(digest)
            }),
            final_upload: landfall.final_upload.and_then(|id| UploadId::new(&id).ok()),
        };
        let is_used = repetition != Repetition::default();
        upload.repetition = is_used.then(|| Box::new(repetition));
        upload.created_by_tusd = created_by_tusd;
        Ok(Self {
            upload: Arc::new(upload),
            stated_id: (info.id != id.as_str()).then(|| info.id.into_owned()),
            unverified_from: landfall.unverified_from,
            damaged: landfall.damaged.map(Cow::into_owned),
            concatenated_unknown,
            extensions: landfall.extensions.into_owned(),
            can_mark_finished: landfall.finished.is_some(),
        })
    }

    /// Encodes an `.info`: byte for byte as tusd would, with the object `Landfall` at the end,
    /// which also marks it as created here.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let upload = &self.upload;
        let parts = upload.is_final().then(|| {
            let parts = upload.parts().iter();
            parts.map(UploadId::as_str).collect::<Vec<_>>()
        });
        let mut out = Vec::with_capacity(1024);
        let mut is_text = true;
        JsonObject::write(&mut out, |json| {
            json.member("ID", upload.id.as_str());
            json.member("Size", upload.length.map_or(0, u64::cast_signed));
            json.member("SizeIsDeferred", upload.length.is_none());
            json.member("Offset", 0_u64);
            json.object("MetaData", |json| {
                is_text = write_pairs(&upload.metadata, json)
            });
            json.member("IsPartial", upload.is_partial());
            json.member("IsFinal", upload.is_final());
            json.member("PartialUploads", parts.as_deref());
            json.member("Storage", &upload.storage);
            json.object("Landfall", |json| self.write_landfall(is_text, json));
        });
        out
    }

    fn write_landfall(&self, metadata_is_text: bool, json: &mut JsonObject<'_>) {
        let upload = &self.upload;
        let metadata = &upload.metadata;
        // Otherwise `MetaData` leads to it.
        let is_own = !metadata_is_text || !metadata.is_canonical();
        json.optional("Metadata", is_own.then(|| metadata.header()));
        if let UploadKind::Final { header, .. } = &upload.kind {
            json.optional("Concat", (!header.is_empty()).then_some(&**header));
            json.member("Concatenated", upload.is_concatenated());
        }
        json.optional("Created", upload.created.map(nanos));
        json.optional("Expires", upload.expires.map(nanos));
        json.optional("MaxSize", upload.max_size);
        json.optional("AwaitsEnd", upload.awaits_end.then_some(true));
        json.optional("Draft", upload.created_by_draft.then_some(true));
        let digest = upload.repr_digest.as_ref().map(ToString::to_string);
        json.optional("ReprDigest", digest.as_deref());
        let used = |map| Some(map).filter(|map: &&BTreeMap<_, _>| !map.is_empty());
        json.optional("Labels", used(&upload.labels));
        json.optional("Extensions", used(&self.extensions));
        let completion = match &upload.completion {
            Completion::NotTracked => None,
            Completion::Pending => Some("pending"),
            Completion::Done(_) => Some("done"),
            Completion::Denied(_) => Some("denied"),
        };
        json.optional("Completion", completion);
        if let Some(response) = upload.completion.response() {
            json.object("Response", |json| response::write(response, json));
        }
        json.optional("Unacknowledged", upload.unacknowledged.then_some(true));
        json.optional("Unannounced", upload.unannounced.then_some(true));
        let moved_to = upload.moved_to.as_ref().map(|path| path.to_string_lossy());
        json.optional("MovedTo", moved_to.as_deref());
        json.optional("ETag", upload.etag.as_deref());
        let digest = upload.creation_digest().map(hex::encode);
        json.optional("CreationDigest", digest.as_deref());
        let final_upload = upload.final_upload().map(UploadId::as_str);
        json.optional("FinalUpload", final_upload);
        json.optional("UnverifiedFrom", self.unverified_from);
        json.optional("Damaged", self.damaged.as_deref());
        let is_marked = self.can_mark_finished && upload.completion == Completion::NotTracked;
        json.optional("Finished", is_marked.then_some(0_u64));
    }
}

/// Writes pairs in the order of their keys, as Go does. Returns whether all values are text.
fn write_pairs(metadata: &Metadata, json: &mut JsonObject<'_>) -> bool {
    let mut is_text = true;
    let write = |(key, value)| {
        let value = text(value);
        json.pair(key, &value);
        is_text &= matches!(value, Cow::Borrowed(_));
    };
    if metadata.is_canonical() {
        metadata.iter().for_each(write);
    } else {
        let mut pairs: Vec<_> = metadata.iter().collect();
        pairs.sort_unstable();
        pairs.into_iter().for_each(write);
    }
    is_text
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// Each byte that is not UTF-8 becomes U+FFFD, as in Go.
fn text(value: &[u8]) -> Cow<'_, str> {
    if let Ok(text) = std::str::from_utf8(value) {
        return text.into();
    }
    let mut text = String::new();
    for chunk in value.utf8_chunks() {
        text.push_str(chunk.valid());
        text.extend(chunk.invalid().iter().map(|_| char::REPLACEMENT_CHARACTER));
    }
    text.into()
}

#[cfg(test)]
mod tests {
    use std::io;

    use proptest::prelude::*;
    use serde::Serialize;
    use serde_json::ser::Formatter;

    use super::{encoder::JsonValue as _, *};
    use crate::hook::ClientResponse;

    fn go_json(text: &str) -> Vec<u8> {
        let mut out = Vec::new();
        text.write(&mut out);
        out
    }

    fn serde_json(value: &impl Serialize) -> Vec<u8> {
        let mut out = Vec::new();
        let mut serializer = serde_json::Serializer::with_formatter(&mut out, GoFormatter);
        value.serialize(&mut serializer).unwrap();
        out
    }

    struct GoFormatter;

    impl Formatter for GoFormatter {
        fn write_string_fragment<W: io::Write + ?Sized>(
            &mut self,
            out: &mut W,
            fragment: &str,
        ) -> io::Result<()> {
            for character in fragment.chars() {
                match character {
                    '<' | '>' | '&' | '\u{2028}' | '\u{2029}' | '\u{fffd}' => {
                        write!(out, "\\u{:04x}", u32::from(character))?;
                    }
                    plain => write!(out, "{plain}")?,
                }
            }
            Ok(())
        }
    }

    fn id(id: &str) -> UploadId {
        UploadId::new(id).unwrap()
    }

    fn sample() -> Upload {
        let mut upload = Upload::new(id("14b1c4c77771671a8479bc0444bbc5ce"), Some(46205));
        upload.metadata = Metadata::from_pairs([("filename", "a.png")]);
        let place = "/abs/data/14b1c4c77771671a8479bc0444bbc5ce";
        upload.storage = [
            ("Type".into(), "filestore".into()),
            ("Path".into(), place.into()),
            ("InfoPath".into(), format!("{place}.info")),
        ]
        .into();
        upload
    }

    /// Written by tusd 2.
    const TUSD: &str = concat!(
        r#"{"ID":"14b1c4c77771671a8479bc0444bbc5ce","Size":46205,"SizeIsDeferred":false,"Offset":0,"#,
        r#""MetaData":{"filename":"a.png"},"IsPartial":false,"IsFinal":false,"PartialUploads":null,"#,
        r#""Storage":{"InfoPath":"/abs/data/14b1c4c77771671a8479bc0444bbc5ce.info","#,
        r#""Path":"/abs/data/14b1c4c77771671a8479bc0444bbc5ce","Type":"filestore"}}"#,
    );

    #[test]
    fn tusds_description_is_encoded_byte_for_byte_plus_the_landfall_object() {
        let decoded = UploadInfo::decode(&sample().id, TUSD.as_bytes()).unwrap();
        let mut expected = sample();
        expected.created_by_tusd = true;
        assert_eq!(*decoded.upload, expected);
        let again = String::from_utf8(UploadInfo::new(decoded.upload).encode()).unwrap();
        let tusds = TUSD.strip_suffix('}').unwrap();
        assert_eq!(again, format!("{tusds},\"Landfall\":{{}}}}"));
        assert!(
            !UploadInfo::decode(&sample().id, again.as_bytes())
                .unwrap()
                .upload
                .created_by_tusd
        );
    }

    #[test]
    fn landfall_object_is_encoded_last() {
        let mut upload = sample();
        upload.metadata = Metadata::from_header("filename YS5wbmc=,empty ").unwrap();
        upload.kind = UploadKind::Final {
            parts: vec![id("a"), id("b/c")],
            header: "final;/files/a /files/b/c".into(),
            concatenated: true,
        };
        upload.expires =
            Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_763_625_141_000_000_007));
        upload.created =
            Some(SystemTime::UNIX_EPOCH + Duration::from_nanos(1_763_000_000_000_000_001));
        upload.max_size = Some(5 << 20);
        upload.labels = [("tenant".into(), "a<b".into())].into();
        upload.completion = Completion::Done(Some(Arc::new(ClientResponse::text(201, "there"))));
        upload.etag = Some("\"5d41\"".into());
        let mut info = UploadInfo::new(upload.clone());
        info.unverified_from = Some(9);
        info.damaged = Some("so".into());
        info.extensions = [("Parts".into(), "1:0".into())].into();
        let json = String::from_utf8(info.encode()).unwrap();
        let ours = json.split_once(r#","Landfall":"#).unwrap().1;
        assert_eq!(
            ours,
            concat!(
                r#"{"Metadata":"filename YS5wbmc=,empty ","Concat":"final;/files/a /files/b/c","#,
                r#""Concatenated":true,"Created":1763000000000000001,"Expires":1763625141000000007,"#,
                r#""MaxSize":5242880,"Labels":{"tenant":"a\u003cb"},"Extensions":{"Parts":"1:0"},"#,
                r#""Completion":"done","Response":{"Status":201,"#,
                r#""Headers":[["content-type","text/plain; charset=utf-8"]],"Body":"dGhlcmU="},"#,
                r#""ETag":"\"5d41\"","UnverifiedFrom":9,"Damaged":"so"}}"#
            )
        );
        assert!(json.contains(r#""PartialUploads":["a","b/c"]"#));
        let decoded = UploadInfo::decode(&upload.id, json.as_bytes()).unwrap();
        assert_eq!(decoded, info);
    }

    #[test]
    fn go_escapes() {
        let out = go_json("a<b>&\"\\\n\r\t\u{8}\u{c}\u{1}\u{2028}\u{2029}/é😀\u{7f}");
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "\"a\\u003cb\\u003e\\u0026\\\"\\\\\\n\\r\\t\\b\\f\\u0001\\u2028\\u2029/é😀\u{7f}\""
        );
        let out = go_json(&text(b"a\xff\xfeb\xe2\x82"));
        assert_eq!(
            String::from_utf8(out).unwrap(),
            r#""a\ufffd\ufffdb\ufffd\ufffd""#
        );
    }

    #[test]
    fn decodes_tusd_1_and_minimal_descriptions() {
        let v1 = r#"{"ID":"x","Size":5,"SizeIsDeferred":false,"Offset":0,"MetaData":null,
            "IsPartial":true,"IsFinal":false,"PartialUploads":null,
            "Storage":{"Path":"./data/x","Type":"filestore"}}"#;
        let decoded = UploadInfo::decode(&id("x"), v1.as_bytes()).unwrap();
        assert_eq!(decoded.upload.kind, UploadKind::Partial);
        assert!(decoded.upload.metadata.is_empty());

        let deferred = r#"{"ID":"x","Size":0,"SizeIsDeferred":true}"#;
        assert_eq!(
            UploadInfo::decode(&id("x"), deferred.as_bytes())
                .unwrap()
                .upload
                .length,
            None
        );

        let concatenated = r#"{"ID":"x","Size":5,"IsFinal":true,"PartialUploads":["a"]}"#;
        assert!(
            UploadInfo::decode(&id("x"), concatenated.as_bytes())
                .unwrap()
                .concatenated_unknown
        );
    }

    #[test]
    fn truncated_and_malformed_descriptions_are_rejected() {
        for end in 0..TUSD.len() {
            assert_eq!(
                UploadInfo::decode(&id("x"), &TUSD.as_bytes()[..end]),
                Err(InvalidInfo::Truncated),
                "{end}"
            );
        }
        for bad in [
            "null",
            "[]",
            "{}",
            "nonsense",
            r#"{"ID":"x","Size":-1}"#,
            r#"{"ID":"x","Size":"5"}"#,
            r#"{"ID":"x","IsFinal":true,"PartialUploads":["../y"]}"#,
            "\0\0\0\0",
        ] {
            assert!(
                matches!(
                    UploadInfo::decode(&id("x"), bad.as_bytes()),
                    Err(InvalidInfo::Malformed(_))
                ),
                "{bad}"
            );
        }
    }

    proptest! {
        #[test]
        fn decoding_is_the_inverse_of_encoding(
            pairs in proptest::collection::vec(("[!-+\\--~]{1,20}", any::<String>()), 0..5),
            length in proptest::option::of(0..=i64::MAX as u64),
            expires in proptest::option::of(any::<u64>()),
            created in proptest::option::of(any::<u64>()),
            max_size in proptest::option::of(any::<u64>()),
            completion in 0..4,
            repr_digest in proptest::option::of(any::<[u8; 20]>()),
            labels in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..3),
            unverified_from in proptest::option::of(any::<u64>()),
            kind in 0..3,
            header: String,
            extensions in proptest::collection::btree_map(any::<String>(), any::<String>(), 0..3),
        ) {
            let mut upload = Upload::new(id("a/b"), length);
            upload.metadata = Metadata::from_pairs(pairs);
            // A header whose keys are not sorted must survive, too.
            let again = Metadata::from_header(upload.metadata.header()).unwrap();
            prop_assert_eq!(&again, &upload.metadata);
            upload.storage = [("Path".to_owned(), header.clone())].into();
            upload.kind = match kind {
                0 => UploadKind::Regular,
                1 => UploadKind::Partial,
                _ => UploadKind::Final { parts: vec![id("p")], header, concatenated: completion == 2 },
            };
            upload.expires = expires.map(|n| SystemTime::UNIX_EPOCH + Duration::from_nanos(n));
            upload.created = created.map(|n| SystemTime::UNIX_EPOCH + Duration::from_nanos(n));
            upload.max_size = max_size;
            upload.completion = match completion {
                0 => Completion::NotTracked,
                1 => Completion::Pending,
                2 => Completion::Done(None),
                _ => Completion::Denied(Arc::new(ClientResponse::text(422, "no"))),
            };
            upload.unacknowledged = completion == 2;
            upload.unannounced = completion == 1;
            upload.moved_to = (kind == 0).then(|| Box::new("/srv/\u{e9}".into()));
            let repetition = Repetition {
                creation_digest: (kind > 0).then_some([7; 16]),
                final_upload: (kind == 1).then(|| id("a/f")),
            };
            upload.repetition = (kind > 0).then(|| Box::new(repetition));
            upload.labels = labels;
            upload.etag = (kind == 0).then(|| "\"<etag>\"".to_owned());
            (upload.awaits_end, upload.created_by_draft) = (kind == 1, kind < 2);
            upload.repr_digest = repr_digest.map(|digest| Box::new(Checksum {
                algorithm: landfall_protocol::Algorithm::SHA1,
                digest: digest.to_vec(),
            }));
            let mut info = UploadInfo::new(upload);
            info.unverified_from = unverified_from;
            info.extensions = extensions;
            info.damaged = (kind == 1).then(|| "a & b".to_owned());
            info.can_mark_finished = completion == 0 && kind == 0;
            let encoded = info.encode();
            let decoded = UploadInfo::decode(&info.upload.id, &encoded).unwrap();
            prop_assert_eq!(decoded, info);
            // Its members are in their order, and serde leaves out the same ones.
            let json: InfoJson<'_> = serde_json::from_slice(&encoded).unwrap();
            let again = serde_json(&json);
            prop_assert_eq!(text(&encoded), text(&again));
        }

        #[test]
        fn text_is_encoded_as_by_serde(
            text in proptest::collection::vec(
                prop_oneof![
                    any::<char>(),
                    (0_u8..0x80).prop_map(char::from),
                    (0x2000_u32..0x2040).prop_map(|c| char::from_u32(c).unwrap()),
                    (0xffc0_u32..=0xffff).prop_map(|c| char::from_u32(c).unwrap()),
                    proptest::sample::select(vec!['<', '>', '&', '"', '\\', '\u{2028}', '\u{2029}', '\u{fffd}']),
                ],
                0..40,
            ),
        ) {
            let text: String = text.into_iter().collect();
            prop_assert_eq!(go_json(&text), serde_json(&text));
        }

        #[test]
        fn decoding_never_panics(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = UploadInfo::decode(&id("x"), &json);
        }
    }
}
