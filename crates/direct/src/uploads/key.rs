//! Names and keys: what a client may call its file, and what its object is called.

use std::{
    fmt::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use hmac::{Hmac, KeyInit as _, Mac as _};
use landfall::upload::{Metadata, Upload, UploadId};
use landfall_s3::{
    Layout, S3Options,
    client::{ObjectHead, ObjectRef},
};
use sha2::Sha256;

use crate::{DirectError, OWN, Way};

/// What ids of direct uploads begin with; a UUID follows.
pub(super) const ID_PREFIX: &str = "direct-";
/// The most bytes of a file's name in a key.
const LONGEST_NAME: usize = 200;
/// The longest ending that a name keeps when it is cut, with its dot.
const LONGEST_ENDING: usize = 20;
/// S3's limit for keys, in bytes.
const LONGEST_KEY: usize = 1024;
/// The length of a caller's part of the prefix of its own keys.
const PREFIX_BYTES: usize = 16;

/// A new UUID (version 4).
pub(super) fn uuid() -> String {
    let mut bytes: [u8; 16] = rand::random();
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let mut text = String::with_capacity(36);
    for (at, byte) in bytes.iter().enumerate() {
        if matches!(at, 4 | 6 | 8 | 10) {
            text.push('-');
        }
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The UUID of a direct upload's id; `None` for any other id.
pub(super) fn uuid_of(id: &UploadId) -> Option<&str> {
    let uuid = id.as_str().strip_prefix(ID_PREFIX)?;
    let is_uuid = uuid.len() == 36
        && uuid.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte),
        });
    is_uuid.then_some(uuid)
}

/// The name of a file without folders and control characters, short enough for a key.
///
/// # Errors
/// Nothing is left, or what would be taken for a path.
pub(super) fn file_name(stated: &str) -> Result<String, DirectError> {
    let last = stated.rsplit(['/', '\\']).next().unwrap_or_default();
    let name: String = last.chars().filter(|c| !c.is_control()).collect();
    let name = cut(name.trim());
    match name.as_str() {
        "" => Err(DirectError::bad("file_name", "the file has no name")),
        "." | ".." => {
            let why = "the file can't be called \".\" or \"..\"";
            Err(DirectError::bad("file_name", why))
        }
        _ => Ok(name),
    }
}

/// Cuts a name to [`LONGEST_NAME`] bytes; it keeps its ending.
fn cut(name: &str) -> String {
    if name.len() <= LONGEST_NAME {
        return name.to_owned();
    }
    let ending = name.rfind('.').map_or("", |dot| &name[dot..]);
    let ending = match ending.len() {
        0..=LONGEST_ENDING => ending,
        _ => "",
    };
    let mut stem = &name[..name.len() - ending.len()];
    while stem.len() + ending.len() > LONGEST_NAME {
        let Some((last, _)) = stem.char_indices().next_back() else {
            break;
        };
        stem = &stem[..last];
    }
    format!("{stem}{ending}")
}

/// The prefix of one caller's own keys: an HMAC of the subject, so that no subject can be chosen that
/// gets another one's prefix, and no key shows whose it is.
pub(super) fn own_prefix(objects: &S3Options, secret: &[u8; 32], subject: &str) -> String {
    let slash = match objects.object_prefix.as_str() {
        "" => "",
        prefix if prefix.ends_with('/') => "",
        _ => "/",
    };
    let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes keys of every length");
    mac.update(subject.as_bytes());
    let mut prefix = format!("{}{slash}{OWN}", objects.object_prefix);
    for byte in &mac.finalize().into_bytes()[..PREFIX_BYTES] {
        let _ = write!(prefix, "{byte:02x}");
    }
    prefix.push('/');
    prefix
}

/// A key that a caller's client chose, below the caller's prefix.
///
/// # Errors
/// It can't be one, or clients would take it for a path.
pub(super) fn own_key(prefix: &str, wanted: &str) -> Result<String, DirectError> {
    let below = wanted.strip_prefix(prefix).unwrap_or(wanted);
    let wrong = |why| Err(DirectError::bad("key", why));
    if below.is_empty() {
        return wrong("the key is missing");
    }
    if below.chars().any(char::is_control) {
        return wrong("the key holds control characters");
    }
    if below
        .split('/')
        .any(|segment| matches!(segment, "" | "." | ".."))
    {
        return wrong("the key has an empty segment, or one that is \".\" or \"..\"");
    }
    if below.contains("${filename}") {
        return wrong("the key holds ${filename}, for which S3 would put another name");
    }
    if prefix.len() + below.len() > LONGEST_KEY {
        return wrong("the key is too long: it may have 1,024 bytes with the caller's prefix");
    }
    Ok(format!("{prefix}{below}"))
}

/// Where the object of a new upload goes: where a hook wants it, or where its client may and does, or
/// by the template.
///
/// # Errors
/// That is no place, in words.
pub(super) fn place(
    layout: &Layout,
    objects: &S3Options,
    upload: &Upload,
    way: Way,
    own: Option<&str>,
    now: SystemTime,
) -> Result<ObjectRef, String> {
    let wish = |name: &str| upload.storage.get(name).filter(|wish| !wish.is_empty());
    // It was checked, and what the store keeps elsewhere in the bucket isn't below that prefix.
    if let (Some(own), Some(key)) = (own, wish("Key"))
        && own == key
    {
        let bucket = wish("Bucket").unwrap_or(&objects.bucket);
        return writable(ObjectRef::new(bucket, own));
    }
    let uuid = uuid_of(&upload.id).unwrap_or(upload.id.as_str());
    let mut named = upload.clone();
    named.id = UploadId::new(uuid).map_err(|error| error.to_string())?;
    let name = upload.metadata.get_text("filename").unwrap_or_default();
    let mut name = file_name(&name).unwrap_or_else(|_| "file".into());
    // The store would take it for one of its own.
    if name.ends_with(".info") || name.ends_with(".part") {
        name.push('_');
    }
    let pairs = upload.metadata.iter();
    let pairs = pairs.map(|(key, value)| (key, String::from_utf8_lossy(value).into_owned()));
    let pairs = pairs.chain([("filename", name)]);
    named.metadata = Metadata::from_pairs(pairs.map(|(key, text)| (key, harmless(way, &text))));
    let place = layout.object_ref(&named, now);
    place.map_err(|error| error.to_string()).and_then(writable)
}

/// A place that the books take on any database, since a hook may have chosen it.
fn writable(place: ObjectRef) -> Result<ObjectRef, String> {
    let is_bad = |text: &String| text.len() > LONGEST_KEY || text.contains('\0');
    if is_bad(&place.bucket) || is_bad(&place.key) {
        return Err("a bucket or key is longer than 1,024 bytes, or holds U+0000".into());
    }
    Ok(place)
}

/// A text that makes no trouble in a key: S3 puts the client's own file name for `${filename}` in forms,
/// and Garage takes no form with anything but ASCII in it.
fn harmless(way: Way, text: &str) -> String {
    let text = text.replace("${", "__");
    match way {
        Way::Post => text
            .chars()
            .map(|c| if c.is_ascii() { c } else { '_' })
            .collect(),
        _ => text,
    }
}

/// Tells one object at a key from another.
pub(super) fn fingerprint(head: &ObjectHead) -> String {
    let since = |at: SystemTime| at.duration_since(UNIX_EPOCH).unwrap_or_default();
    let modified = head.modified.map_or(Duration::ZERO, since).as_secs();
    format!("{} {} {modified}", head.etag, head.size)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: [u8; 32] = [7; 32];

    fn objects(prefix: &str) -> S3Options {
        let mut objects = S3Options::new("b");
        objects.object_prefix = prefix.into();
        objects.key_template = Some("uploads/{id}/{filename}".into());
        objects
    }

    fn key(filename: &str, storage: &[(&str, &str)], own: Option<&str>) -> Result<ObjectRef, String> {
        let id = UploadId::new("direct-0f8fad5b-d9cb-469f-a165-70867728950e").unwrap();
        let mut upload = Upload::new(id, None);
        upload.metadata = Metadata::from_pairs([("filename", filename)]);
        let storage = storage.iter().map(|(k, v)| (k.to_string(), v.to_string()));
        upload.storage = storage.collect();
        let objects = objects("in");
        let layout = Layout::new(&objects);
        place(&layout, &objects, &upload, Way::Post, own, UNIX_EPOCH)
    }

    #[test]
    fn names_of_files() {
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
            let is_name = matches!(error, DirectError::Bad { field, .. } if field == "file_name");
            assert!(is_name, "{stated:?}");
        }
        let long = format!("{}.tar.gz", "ü".repeat(150));
        let name = file_name(&long).unwrap();
        assert!(name.len() <= 200 && name.ends_with("ü.gz"), "{name}");
        let odd = format!("a.{}", "b".repeat(300));
        assert_eq!(file_name(&odd).unwrap().len(), 200);
    }

    #[test]
    fn keys_by_the_template() {
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
    fn keys_of_a_callers_own() {
        let prefix = own_prefix(&objects("in"), &SECRET, "alice");
        assert_eq!(prefix, "in/own/6a8851c590ddeb5a2ea0a50374798bce/");
        let without = own_prefix(&objects(""), &SECRET, "alice");
        assert_eq!(format!("in/{without}"), prefix);
        assert_ne!(prefix, own_prefix(&objects("in"), &SECRET, "bob"));
        assert_ne!(prefix, own_prefix(&objects("in"), &[8; 32], "alice"));
        let own = own_key(&prefix, "1-a.part").unwrap();
        assert_eq!(own, format!("{prefix}1-a.part"));
        assert_eq!(own_key(&prefix, &own).unwrap(), own);
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
            own_key(&prefix, bad).unwrap_err();
        }
    }

    #[test]
    fn ids() {
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
        fn no_name_leaves_its_folder(stated in "\\PC{0,300}|[./\\\\a]{0,12}") {
            if let Ok(name) = file_name(&stated) {
                prop_assert!(!name.is_empty() && name.len() <= LONGEST_NAME);
                prop_assert!(!name.contains(['/', '\\']) && !matches!(&*name, "." | ".."));
                let again = file_name(&name).unwrap();
                prop_assert_eq!(again.as_str(), name.trim());
                let place = key(&stated, &[], None).unwrap();
                prop_assert!(place.key.len() <= LONGEST_KEY);
                prop_assert_eq!(place.key.split('/').count(), 4);
            }
        }

        #[test]
        fn no_key_leaves_its_prefix(wanted in "\\PC{0,80}|[./a]{0,12}") {
            let prefix = own_prefix(&objects(""), &SECRET, "alice");
            if let Ok(key) = own_key(&prefix, &wanted) {
                prop_assert!(key.starts_with(&prefix) && key.len() > prefix.len());
                let below = &key[prefix.len()..];
                prop_assert!(below.split('/').all(|one| !matches!(one, "" | "." | "..")));
                prop_assert_eq!(own_key(&prefix, &key).unwrap(), key);
            }
        }
    }
}
