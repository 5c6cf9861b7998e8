//! File names, object keys and upload ids.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hmac::{Hmac, KeyInit as _, Mac as _};
use landfall::upload::{Metadata, Upload, UploadId, truncate_file_name};
use landfall_objects::{Layout, ObjectHead, ObjectRef, StoreOptions};
use sha2::Sha256;
use uuid::{Builder, Uuid};

use crate::{CLIENT_KEY_PREFIX, DirectError, Record, TransferMode};

/// A UUID follows.
pub(super) const ID_PREFIX: &str = "direct-";
const MAX_NAME_LEN: usize = 200;
/// S3's limit, in bytes.
const MAX_KEY_LEN: usize = 1024;
const PREFIX_BYTES: usize = 16;

pub(super) fn uuid() -> String {
    let builder = Builder::from_random_bytes(rand::random());
    builder.into_uuid().to_string()
}

pub(super) fn uuid_of(id: &UploadId) -> Option<&str> {
    let uuid = id.as_str().strip_prefix(ID_PREFIX)?;
    let is_uuid = Uuid::try_parse(uuid).is_ok_and(|parsed| parsed.to_string() == uuid);
    is_uuid.then_some(uuid)
}

/// Contains the upload's random id.
pub(super) fn has_unique_key(record: &Record) -> bool {
    uuid_of(record.id()).is_some_and(|uuid| record.object.key.contains(uuid))
}

/// Returns a name without directories and control characters, short enough for a key.
pub(super) fn file_name(stated: &str) -> Result<String, DirectError> {
    let last = stated.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|c| !c.is_control()).collect();
    let name = truncate_file_name(name.trim(), MAX_NAME_LEN).into_owned();
    match name.as_str() {
        "" => Err(DirectError::invalid("file_name", "the file has no name")),
        "." | ".." => {
            let why = "the file name cannot be \".\" or \"..\"";
            Err(DirectError::invalid("file_name", why))
        }
        _ => Ok(name),
    }
}

/// An HMAC of the subject: no subject can be chosen to get another one's prefix, and keys do not reveal
/// it.
pub(super) fn client_key_prefix(
    objects: &StoreOptions,
    secret: &[u8; 32],
    subject: &str,
) -> String {
    let slash = match objects.object_prefix.as_str() {
        "" => "",
        prefix if prefix.ends_with('/') => "",
        _ => "/",
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of every length");
    mac.update(subject.as_bytes());
    let mut prefix = format!("{}{slash}{CLIENT_KEY_PREFIX}", objects.object_prefix);
    prefix += &hex::encode(&mac.finalize().into_bytes()[..PREFIX_BYTES]);
    prefix + "/"
}

/// Fails if the key is too long, or would be mistaken for a path.
pub(super) fn client_key(prefix: &str, wanted: &str) -> Result<String, DirectError> {
    let below = wanted.strip_prefix(prefix).unwrap_or(wanted);
    let wrong = |why| Err(DirectError::invalid("key", why));
    if below.is_empty() {
        return wrong("the key is missing");
    }
    if below.chars().any(char::is_control) {
        return wrong("the key contains control characters");
    }
    let is_special = |segment| matches!(segment, "" | "." | "..");
    if below.split('/').any(is_special) {
        return wrong("the key has an empty segment, or one that is \".\" or \"..\"");
    }
    if below.contains("${filename}") {
        return wrong("the key contains ${filename}, which S3 would replace");
    }
    if prefix.len() + below.len() > MAX_KEY_LEN {
        return wrong("the key is too long: at most 1,024 bytes with the principal's prefix");
    }
    Ok(format!("{prefix}{below}"))
}

/// Chosen by a hook, by the client, or by the template.
pub(super) fn object_ref(
    layout: &Layout,
    objects: &StoreOptions,
    upload: &Upload,
    mode: TransferMode,
    own: Option<&str>,
    now: SystemTime,
) -> Result<ObjectRef, String> {
    let chosen = |name: &str| upload.storage.get(name).filter(|value| !value.is_empty());
    // It was checked, and the store keeps no other files below that prefix.
    if let (Some(own), Some(key)) = (own, chosen("Key"))
        && own == key
    {
        let bucket = chosen("Bucket").unwrap_or(&objects.bucket);
        return check_storable(ObjectRef::new(bucket, own));
    }
    let uuid = uuid_of(&upload.id).unwrap_or(upload.id.as_str());
    let mut named = upload.clone();
    named.id = UploadId::new(uuid).map_err(|error| error.to_string())?;
    let name = upload.metadata.get_text("filename").unwrap_or_default();
    let mut name = file_name(&name).unwrap_or_else(|_| "file".into());
    // The store would take it for its own object.
    if name.ends_with(".info") || name.ends_with(".part") {
        name.push('_');
    }
    let pairs = upload.metadata.iter();
    let pairs = pairs.map(|(key, value)| (key, String::from_utf8_lossy(value).into_owned()));
    let pairs = pairs.chain([("filename", name)]);
    named.metadata = Metadata::from_pairs(pairs.map(|(key, text)| (key, sanitize(mode, &text))));
    let object = layout.object_ref(&named, now);
    check_storable(object.map_err(|error| error.to_string())?)
}

/// A hook may have chosen it.
fn check_storable(object: ObjectRef) -> Result<ObjectRef, String> {
    let is_bad = |text: &String| text.len() > MAX_KEY_LEN || text.contains('\0');
    if is_bad(&object.bucket) || is_bad(&object.key) {
        return Err("a bucket or key is longer than 1,024 bytes, or contains U+0000".into());
    }
    Ok(object)
}

/// In forms S3 replaces `${filename}`, and Garage accepts only ASCII.
fn sanitize(mode: TransferMode, text: &str) -> String {
    let text = text.replace("${", "__");
    match mode {
        TransferMode::Post => text.replace(|c: char| !c.is_ascii(), "_"),
        _ => text,
    }
}

/// Distinguishes objects at the same key.
pub(super) fn object_fingerprint(head: &ObjectHead) -> String {
    let since = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let modified = head.modified.map_or(Duration::ZERO, since).as_secs();
    format!("{} {} {modified}", head.etag, head.size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn objects(prefix: &str) -> StoreOptions {
        let mut objects = StoreOptions::new("b");
        objects.object_prefix = prefix.into();
        objects.key_template = Some("uploads/{id}/{filename}".into());
        objects
    }

    fn key(
        filename: &str,
        storage: &[(&str, &str)],
        own: Option<&str>,
    ) -> Result<ObjectRef, String> {
        let id = UploadId::new("direct-0f8fad5b-d9cb-469f-a165-70867728950e").unwrap();
        let mut upload = Upload::new(id, None);
        upload.metadata = Metadata::from_pairs([("filename", filename)]);
        let storage = storage.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        upload.storage = storage.into();
        let objects = objects("in");
        let layout = Layout::new(&objects);
        object_ref(
            &layout,
            &objects,
            &upload,
            TransferMode::Post,
            own,
            UNIX_EPOCH,
        )
    }

    #[test]
    fn file_names_are_sanitized() {
        for (stated, name) in [
            ("a.txt", "a.txt"),
            ("C:\\folder\\a.txt", "a.txt"),
            ("../../etc/passwd", "passwd"),
            (" a b ", "a b"),
            ("a\u{0}\r\nb", "ab"),
            ("…", "…"),
            (".bashrc", ".bashrc"),
        ] {
            assert_eq!(file_name(stated).unwrap(), name, "{stated:?}");
        }
        for stated in ["", " ", "a/", "..", "a/.", "\u{7}", "\\", "x\\.."] {
            let error = file_name(stated).unwrap_err();
            let is_name =
                matches!(error, DirectError::Invalid { field, .. } if field == "file_name");
            assert!(is_name, "{stated:?}");
        }
        let long = format!("{}.tar.gz", "ü".repeat(150));
        let name = file_name(&long).unwrap();
        assert!(name.len() <= 200 && name.ends_with("ü.gz"), "{name}");
        let odd = format!("a.{}", "b".repeat(300));
        assert_eq!(file_name(&odd).unwrap().len(), 200);
    }

    #[test]
    fn keys_follow_the_template() {
        let of = |name| key(name, &[], None).unwrap().key;
        let folder = "in/uploads/0f8fad5b-d9cb-469f-a165-70867728950e";
        assert_eq!(of("a.txt"), format!("{folder}/a.txt"));
        assert_eq!(of("x.info"), format!("{folder}/x.info_"));
        assert_eq!(of(".."), format!("{folder}/file"));
        assert_eq!(of("ü${filename}"), format!("{folder}/___filename}}"));
        let wished = key("a", &[("Bucket", "other"), ("Key", "x/y")], None);
        assert_eq!(wished.unwrap(), ObjectRef::new("other", "x/y"));
        key("a", &[("Key", "x/../y")], None).unwrap_err();
    }

    #[test]
    fn client_keys_stay_below_the_prefix_of_their_principal() {
        let prefix = client_key_prefix(&objects("in"), &SECRET, "alice");
        assert_eq!(prefix, "in/own/6a8851c590ddeb5a2ea0a50374798bce/");
        let without = client_key_prefix(&objects(""), &SECRET, "alice");
        assert_eq!(format!("in/{without}"), prefix);
        assert_ne!(prefix, client_key_prefix(&objects("in"), &SECRET, "bob"));
        assert_ne!(prefix, client_key_prefix(&objects("in"), &[8; 32], "alice"));
        let own = client_key(&prefix, "1-a.part").unwrap();
        assert_eq!(own, format!("{prefix}1-a.part"));
        assert_eq!(client_key(&prefix, &own).unwrap(), own);
        assert_eq!(
            key("a", &[("Key", &own)], Some(&own)).unwrap(),
            ObjectRef::new("b", &own)
        );
        for bad in [
            "",
            "/a",
            "a/",
            "a//b",
            "../a",
            "a/./b",
            "a\nb",
            &"x".repeat(1024),
        ] {
            client_key(&prefix, bad).unwrap_err();
        }
    }

    #[test]
    fn ids_are_uuids() {
        let uuid = uuid();
        let id = UploadId::new(&format!("direct-{uuid}")).unwrap();
        assert_eq!(uuid_of(&id), Some(&*uuid));
        assert_eq!(&uuid[14..15], "4");
        for other in [
            "direct-",
            "direct-x",
            "0f8fad5b-d9cb-469f-a165-70867728950e",
        ] {
            assert_eq!(uuid_of(&UploadId::new(other).unwrap()), None);
        }
    }

    proptest! {
        #[test]
        fn no_name_escapes_its_directory(stated in "\\PC{0,300}|[./\\\\a]{0,12}") {
            if let Ok(name) = file_name(&stated) {
                prop_assert!(!name.is_empty() && name.len() <= MAX_NAME_LEN);
                prop_assert!(!name.contains(['/', '\\']) && !matches!(&*name, "." | ".."));
                let again = file_name(&name).unwrap();
                prop_assert_eq!(again.as_str(), name.trim());
                let object = key(&stated, &[], None).unwrap();
                prop_assert!(object.key.len() <= MAX_KEY_LEN);
                prop_assert_eq!(object.key.split('/').count(), 4);
            }
        }

        #[test]
        fn no_key_escapes_its_prefix(wanted in "\\PC{0,80}|[./a]{0,12}") {
            let prefix = client_key_prefix(&objects(""), &SECRET, "alice");
            if let Ok(key) = client_key(&prefix, &wanted) {
                prop_assert!(key.starts_with(&prefix) && key.len() > prefix.len());
                let below = &key[prefix.len()..];
                prop_assert!(below.split('/').all(|one| !matches!(one, "" | "." | "..")));
                prop_assert_eq!(client_key(&prefix, &key).unwrap(), key);
            }
        }
    }
}
