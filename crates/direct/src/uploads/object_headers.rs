//! Headers of objects: type, user metadata, and those of the configuration or a hook.

use std::{collections::BTreeMap, fmt::Write as _};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use landfall::{
    hook::MediaType,
    upload::{Metadata, Upload},
};
use landfall_objects::{Layout, ObjectHeaders};

use super::SentHeaders;
use crate::{DirectError, bucket::QUERY_HEADERS};

/// S3's limit for names and values together, in bytes.
const METADATA_LIMIT: usize = 2048;

/// Returns the declared type as it came, or guesses one by the name. Fails if the declared one cannot be a header.
pub(super) fn file_type(stated: Option<&str>, name: &str) -> Result<String, DirectError> {
    let stated = stated.map(str::trim).filter(|stated| !stated.is_empty());
    let Some(stated) = stated else {
        let guess = mime_guess::from_path(name).first_raw();
        return Ok(guess.unwrap_or("application/octet-stream").to_owned());
    };
    let stated = MediaType::header_value(stated).ok_or_else(|| {
        let limit = MediaType::MAX_LEN;
        let why = format!(
            "the type must be one media type of at most {limit} ASCII characters, such as image/png"
        );
        DirectError::invalid("file_type", why)
    })?;
    Ok(stated.to_owned())
}

pub(super) fn for_upload(layout: &Layout, upload: &Upload) -> ObjectHeaders {
    let mut headers = layout.headers(upload);
    headers.metadata = user_metadata(&upload.metadata);
    headers
}

/// Values that are not ASCII are encoded by RFC 2047, as in Companion: services agree on nothing
/// else. Values beyond S3's limit are omitted; the upload's description has all of them.
fn user_metadata(metadata: &Metadata) -> BTreeMap<String, String> {
    landfall_objects::user_metadata(metadata, METADATA_LIMIT, encoded)
}

fn encoded(text: &str) -> String {
    let text = text.trim();
    match text.chars().all(|c| matches!(c, ' '..='~')) {
        true => text.to_owned(),
        false => format!("=?UTF-8?B?{}?=", STANDARD.encode(text)),
    }
}

/// Fails if the object needs headers, for example for encryption, that the client of a PUT does not send.
pub(super) fn check_sent(object: &ObjectHeaders, sent: SentHeaders) -> Result<(), DirectError> {
    let mut names = object.pairs().map(|(name, _)| name);
    match names.find(|name| *name != "content-type" && !QUERY_HEADERS.contains(name)) {
        Some(unsent) if sent != SentHeaders::All => {
            let why = format!(
                "objects are configured with the header {unsent}, which this client does not send: \
                 request the signature with \"send_headers\": true (/api/sign_s3) or with the \
                 contentType (/s3/presign), and send the headers of the response"
            );
            Err(DirectError::invalid("send_headers", why))
        }
        _ => Ok(()),
    }
}

pub(super) fn post_fields(object: &ObjectHeaders) -> Vec<(String, String)> {
    let mut fields = vec![("success_action_status".to_owned(), "201".to_owned())];
    fields.extend(object.pairs().map(|(name, value)| match name {
        "x-amz-acl" => ("acl".to_owned(), value.to_owned()),
        "x-amz-tagging" => ("tagging".to_owned(), tagging_xml(value)),
        _ => (name.to_owned(), value.to_owned()),
    }));
    for (name, value) in &object.metadata {
        fields.push((format!("x-amz-meta-{name}"), value.clone()));
    }
    fields
}

fn tagging_xml(query: &str) -> String {
    let mut xml = "<Tagging><TagSet>".to_owned();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        let (key, value) = (escaped(&key), escaped(&value));
        let _ = write!(xml, "<Tag><Key>{key}</Key><Value>{value}</Value></Tag>");
    }
    xml.push_str("</TagSet></Tagging>");
    xml
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_declared_or_guessed() {
        let of = |stated, name| file_type(stated, name).unwrap();
        assert_eq!(of(Some("image/x-mine"), "a.png"), "image/x-mine");
        let recorded = "Video/WebM;codecs=vp9,opus";
        assert_eq!(of(Some(recorded), "a.webm"), recorded);
        assert_eq!(of(Some(""), "a.png"), "image/png");
        assert_eq!(of(None, "my_file.pdf"), "application/pdf");
        assert_eq!(of(None, "a.unknown-extension"), "application/octet-stream");
        for bad in ["a\nb", "ü/x", "image/png,text/html", &"x".repeat(256)] {
            file_type(Some(bad), "a").unwrap_err();
        }
    }

    #[test]
    fn metadata_is_encoded_and_bounded() {
        let long = "x".repeat(3000);
        let metadata = Metadata::from_pairs([
            ("Name", "Zürich.pdf"),
            ("long", &long),
            ("odd name", "1"),
            ("plain", " a b "),
        ]);
        let pairs: Vec<_> = user_metadata(&metadata).into_iter().collect();
        let pairs: Vec<_> = pairs
            .iter()
            .map(|(k, v)| (k.as_str(), v.as_str()))
            .collect();
        assert_eq!(
            pairs,
            [("name", "=?UTF-8?B?WsO8cmljaC5wZGY=?="), ("plain", "a b")]
        );
    }

    #[test]
    fn tags_are_xml_in_forms() {
        assert_eq!(
            tagging_xml("a=1&b%26=%3C"),
            "<Tagging><TagSet><Tag><Key>a</Key><Value>1</Value></Tag>\
             <Tag><Key>b&amp;</Key><Value>&lt;</Value></Tag></TagSet></Tagging>"
        );
    }
}
