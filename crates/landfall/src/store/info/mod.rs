//! `.info`, the description of an upload, for stores with the layout of tusd: one line of JSON as
//! tusd writes it, plus an object `Landfall` that tusd ignores.

mod response;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use serde::Deserialize;

use self::response::StoredResponse;
use crate::upload::{Completion, Metadata, Upload, UploadId, UploadKind};

/// Maximum length of an `.info`, in bytes; far above the limits of headers.
pub const MAX_LEN: u64 = 4 * 1024 * 1024;

/// The content of an `.info`.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct UploadInfo {
    /// The upload. Its id is the requested one, even if the JSON has another.
    pub upload: Upload,
    /// The id in the JSON.
    pub stated_id: String,
    /// Bytes from this offset on are not verified and do not count.
    pub unverified_from: Option<u64>,
    /// A reason why the bytes are not reliable.
    pub damaged: Option<String>,
    /// True if it is unknown if the parts of this final upload were concatenated, because tusd does
    /// not record it. They were if all bytes are stored.
    pub concatenated_unknown: bool,
    /// Extensions of the store.
    pub extensions: BTreeMap<String, String>,
}

/// An error in an `.info`.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidInfo {
    /// It is empty or ends too early.
    #[error("the description is truncated")]
    Truncated,
    /// It is not valid.
    #[error("the description is malformed: {0}")]
    Malformed(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct InfoJson {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    size: Option<i64>,
    #[serde(default)]
    size_is_deferred: bool,
    #[serde(default)]
    meta_data: Option<BTreeMap<String, String>>,
    #[serde(default)]
    is_partial: bool,
    #[serde(default)]
    is_final: bool,
    #[serde(default)]
    partial_uploads: Option<Vec<String>>,
    #[serde(default)]
    storage: Option<BTreeMap<String, String>>,
    /// Absent if tusd created the upload.
    #[serde(default)]
    landfall: Option<LandfallInfo>,
}

/// The fields that tusd does not have.
#[derive(Deserialize, Default)]
#[serde(default, rename_all = "PascalCase")]
struct LandfallInfo {
    /// `Upload-Metadata` as received.
    metadata: Option<String>,
    /// `Upload-Concat` as received.
    concat: Option<String>,
    concatenated: Option<bool>,
    /// Nanoseconds since 1970, as `expires`.
    created: Option<u64>,
    expires: Option<u64>,
    max_size: Option<u64>,
    labels: BTreeMap<String, String>,
    completion: Option<CompletionState>,
    response: Option<StoredResponse>,
    #[serde(rename = "ETag")]
    etag: Option<String>,
    unverified_from: Option<u64>,
    damaged: Option<String>,
    extensions: BTreeMap<String, String>,
}

/// A [`Completion`] in JSON, without the response.
#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum CompletionState {
    Pending,
    Done,
}

impl UploadInfo {
    /// Returns the description of an upload without extensions.
    #[must_use]
    pub fn new(upload: Upload) -> Self {
        Self {
            stated_id: upload.id.as_str().to_owned(),
            upload,
            unverified_from: None,
            damaged: None,
            concatenated_unknown: false,
            extensions: BTreeMap::new(),
        }
    }

    /// Decodes the `.info` of the upload `id`.
    ///
    /// # Errors
    /// [`InvalidInfo`].
    pub fn decode(id: &UploadId, json: &[u8]) -> Result<Self, InvalidInfo> {
        decode(id, json)
    }

    /// Encodes an `.info`: byte for byte as tusd would, with the object `Landfall` at the end,
    /// which also marks it as created here.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        encode(self)
    }
}

fn decode(id: &UploadId, json: &[u8]) -> Result<UploadInfo, InvalidInfo> {
    let info: InfoJson = serde_json::from_slice(json).map_err(|error| {
        if error.is_eof() {
            InvalidInfo::Truncated
        } else {
            InvalidInfo::Malformed(error.to_string())
        }
    })?;
    let malformed = |what: String| Err(InvalidInfo::Malformed(what));
    let length = if info.size_is_deferred {
        None
    } else {
        let size = info.size.unwrap_or_default();
        let Ok(size) = u64::try_from(size) else {
            return malformed(format!("its Size is {size}"));
        };
        Some(size)
    };
    let created_by_tusd = info.landfall.is_none();
    let landfall = info.landfall.unwrap_or_default();
    let mut concatenated_unknown = false;
    let kind = if info.is_final {
        let mut parts = Vec::new();
        for part in info.partial_uploads.unwrap_or_default() {
            match UploadId::new(&part) {
                Ok(part) => parts.push(part),
                Err(error) => return malformed(format!("its part {part:?}: {error}")),
            }
        }
        concatenated_unknown = landfall.concatenated.is_none();
        UploadKind::Final {
            parts,
            header: landfall.concat.unwrap_or_default(),
            concatenated: landfall.concatenated.unwrap_or(false),
        }
    } else if info.is_partial {
        UploadKind::Partial
    } else {
        UploadKind::Regular
    };
    let mut metadata = Metadata::from_pairs(info.meta_data.unwrap_or_default());
    if let Some(header) = &landfall.metadata {
        metadata = metadata.with_header(header);
    }
    let mut upload = Upload::new(id.clone(), length);
    upload.metadata = metadata;
    upload.kind = kind;
    upload.storage = info.storage.unwrap_or_default();
    let time = |nanos| SystemTime::UNIX_EPOCH.checked_add(Duration::from_nanos(nanos));
    upload.created = landfall.created.and_then(time);
    upload.expires = landfall.expires.and_then(time);
    upload.max_size = landfall.max_size;
    upload.labels = landfall.labels;
    upload.completion = match landfall.completion {
        None => Completion::NotTracked,
        Some(CompletionState::Pending) => Completion::Pending,
        Some(CompletionState::Done) => {
            let response = landfall.response.map(StoredResponse::into_response);
            Completion::Done(response.map(Arc::new))
        }
    };
    upload.etag = landfall.etag;
    upload.created_by_tusd = created_by_tusd;
    Ok(UploadInfo {
        upload,
        stated_id: info.id,
        unverified_from: landfall.unverified_from,
        damaged: landfall.damaged,
        concatenated_unknown,
        extensions: landfall.extensions,
    })
}

fn encode(info: &UploadInfo) -> Vec<u8> {
    let upload = &info.upload;
    let mut out = Json(Vec::with_capacity(512));
    out.raw("{\"ID\":");
    out.text(upload.id.as_str().as_bytes());
    out.raw(",\"Size\":");
    out.number(upload.length.unwrap_or(0));
    out.raw(",\"SizeIsDeferred\":");
    out.flag(upload.length.is_none());
    out.raw(",\"Offset\":0,\"MetaData\":");
    let pairs: BTreeMap<&str, &[u8]> = upload.metadata.iter().collect();
    out.object(pairs.iter().map(|(key, value)| (*key, *value)));
    out.raw(",\"IsPartial\":");
    out.flag(upload.kind == UploadKind::Partial);
    out.raw(",\"IsFinal\":");
    out.flag(upload.is_final());
    out.raw(",\"PartialUploads\":");
    match &upload.kind {
        UploadKind::Final { parts, .. } => {
            out.raw("[");
            for (n, part) in parts.iter().enumerate() {
                out.raw(if n > 0 { "," } else { "" });
                out.text(part.as_str().as_bytes());
            }
            out.raw("]");
        }
        _ => out.raw("null"),
    }
    out.raw(",\"Storage\":");
    out.object(
        upload
            .storage
            .iter()
            .map(|(key, value)| (key.as_str(), value.as_bytes())),
    );
    encode_landfall(&mut out, info, &pairs);
    out.raw("}");
    out.0
}

fn encode_landfall(out: &mut Json, info: &UploadInfo, pairs: &BTreeMap<&str, &[u8]>) {
    let upload = &info.upload;
    let mut lead = "";
    out.raw(",\"Landfall\":{");
    let mut member = |out: &mut Json, name: &str| {
        out.raw(std::mem::replace(&mut lead, ","));
        out.text(name.as_bytes());
        out.raw(":");
    };
    let header = upload.metadata.header();
    if !header.is_empty() && !is_equivalent(header, pairs) {
        member(out, "Metadata");
        out.text(header.as_bytes());
    }
    if let UploadKind::Final {
        header,
        concatenated,
        ..
    } = &upload.kind
    {
        if !header.is_empty() {
            member(out, "Concat");
            out.text(header.as_bytes());
        }
        member(out, "Concatenated");
        out.flag(*concatenated);
    }
    for (name, time) in [("Created", upload.created), ("Expires", upload.expires)] {
        if let Some(time) = time {
            member(out, name);
            out.number(nanos(time));
        }
    }
    if let Some(max) = upload.max_size {
        member(out, "MaxSize");
        out.number(max);
    }
    for (name, map) in [("Labels", &upload.labels), ("Extensions", &info.extensions)] {
        if !map.is_empty() {
            member(out, name);
            let pairs = map.iter();
            out.object(pairs.map(|(key, value)| (key.as_str(), value.as_bytes())));
        }
    }
    let completion = match upload.completion {
        Completion::NotTracked => None,
        Completion::Pending => Some("pending"),
        Completion::Done(_) => Some("done"),
    };
    if let Some(completion) = completion {
        member(out, "Completion");
        out.text(completion.as_bytes());
    }
    if let Some(response) = upload.completion.response()
        && let Ok(json) = serde_json::to_string(&StoredResponse::new(response))
    {
        member(out, "Response");
        out.raw(&json);
    }
    if let Some(etag) = &upload.etag {
        member(out, "ETag");
        out.text(etag.as_bytes());
    }
    if let Some(from) = info.unverified_from {
        member(out, "UnverifiedFrom");
        out.number(from);
    }
    if let Some(damaged) = &info.damaged {
        member(out, "Damaged");
        out.text(damaged.as_bytes());
    }
    out.raw("}");
}

fn nanos(time: SystemTime) -> u64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH);
    u64::try_from(since.unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}

/// Returns whether the pairs alone reproduce the header.
fn is_equivalent(header: &str, pairs: &BTreeMap<&str, &[u8]>) -> bool {
    pairs
        .values()
        .all(|value| std::str::from_utf8(value).is_ok())
        && Metadata::from_pairs(pairs.iter().map(|(key, value)| (*key, *value))).header() == header
}

/// JSON as Go's encoder writes it.
struct Json(Vec<u8>);

impl Json {
    fn raw(&mut self, text: &str) {
        self.0.extend_from_slice(text.as_bytes());
    }

    fn flag(&mut self, flag: bool) {
        self.raw(if flag { "true" } else { "false" });
    }

    fn number(&mut self, number: u64) {
        self.raw(&number.to_string());
    }

    fn object<'a>(&mut self, pairs: impl Iterator<Item = (&'a str, &'a [u8])>) {
        self.raw("{");
        for (n, (key, value)) in pairs.enumerate() {
            self.raw(if n > 0 { "," } else { "" });
            self.text(key.as_bytes());
            self.raw(":");
            self.text(value);
        }
        self.raw("}");
    }

    /// Writes a string; invalid UTF-8 becomes U+FFFD.
    fn text(&mut self, text: &[u8]) {
        self.raw("\"");
        for chunk in text.utf8_chunks() {
            self.valid(chunk.valid());
            // Go writes one U+FFFD for each byte.
            for _ in chunk.invalid() {
                self.raw("\\ufffd");
            }
        }
        self.raw("\"");
    }

    fn valid(&mut self, text: &str) {
        let mut plain = 0;
        for (at, c) in text.char_indices() {
            let escape = match c {
                '"' => "\\\"",
                '\\' => "\\\\",
                '\n' => "\\n",
                '\r' => "\\r",
                '\t' => "\\t",
                '\u{8}' => "\\b",
                '\u{c}' => "\\f",
                '\0'..='\u{1f}' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => "",
                _ => continue,
            };
            self.raw(&text[plain..at]);
            if escape.is_empty() {
                self.raw(&format!("\\u{:04x}", u32::from(c)));
            } else {
                self.raw(escape);
            }
            plain = at + c.len_utf8();
        }
        self.raw(&text[plain..]);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::hook::ClientResponse;

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
        let decoded = decode(&sample().id, TUSD.as_bytes()).unwrap();
        let mut expected = sample();
        expected.created_by_tusd = true;
        assert_eq!(decoded.upload, expected);
        let again = String::from_utf8(UploadInfo::new(decoded.upload).encode()).unwrap();
        let tusds = TUSD.strip_suffix('}').unwrap();
        assert_eq!(again, format!("{tusds},\"Landfall\":{{}}}}"));
        assert!(
            !decode(&sample().id, again.as_bytes())
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
        let decoded = decode(&upload.id, json.as_bytes()).unwrap();
        assert_eq!(decoded, info);
    }

    #[test]
    fn go_escapes() {
        let mut out = Json(Vec::new());
        out.text("a<b>&\"\\\n\r\t\u{8}\u{c}\u{1}\u{2028}\u{2029}/é😀\u{7f}".as_bytes());
        assert_eq!(
            String::from_utf8(out.0).unwrap(),
            "\"a\\u003cb\\u003e\\u0026\\\"\\\\\\n\\r\\t\\b\\f\\u0001\\u2028\\u2029/é😀\u{7f}\""
        );
        let mut out = Json(Vec::new());
        out.text(b"a\xff\xfeb\xe2\x82");
        assert_eq!(
            String::from_utf8(out.0).unwrap(),
            r#""a\ufffd\ufffdb\ufffd\ufffd""#
        );
    }

    #[test]
    fn decodes_tusd_1_and_minimal_descriptions() {
        let v1 = r#"{"ID":"x","Size":5,"SizeIsDeferred":false,"Offset":0,"MetaData":null,
            "IsPartial":true,"IsFinal":false,"PartialUploads":null,
            "Storage":{"Path":"./data/x","Type":"filestore"}}"#;
        let decoded = decode(&id("x"), v1.as_bytes()).unwrap();
        assert_eq!(decoded.upload.kind, UploadKind::Partial);
        assert!(decoded.upload.metadata.is_empty());

        let deferred = r#"{"ID":"x","Size":0,"SizeIsDeferred":true}"#;
        assert_eq!(
            decode(&id("x"), deferred.as_bytes()).unwrap().upload.length,
            None
        );

        let concatenated = r#"{"ID":"x","Size":5,"IsFinal":true,"PartialUploads":["a"]}"#;
        assert!(
            decode(&id("x"), concatenated.as_bytes())
                .unwrap()
                .concatenated_unknown
        );
    }

    #[test]
    fn truncated_and_malformed_descriptions_are_rejected() {
        for end in 0..TUSD.len() {
            assert_eq!(
                decode(&id("x"), &TUSD.as_bytes()[..end]),
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
                    decode(&id("x"), bad.as_bytes()),
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
            completion in 0..3,
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
                _ => Completion::Done(None),
            };
            upload.labels = labels;
            let mut info = UploadInfo::new(upload);
            info.unverified_from = unverified_from;
            info.extensions = extensions;
            let decoded = decode(&info.upload.id, &info.encode()).unwrap();
            prop_assert_eq!(decoded, info);
        }

        #[test]
        fn decoding_never_panics(json in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode(&id("x"), &json);
        }
    }
}
