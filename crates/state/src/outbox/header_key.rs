//! The key that encrypts redacted request headers while they are stored.

use std::{
    fmt,
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
    sync::Arc,
};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use landfall_hooks::RedactedHeaders;
use ring::{
    aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey},
    digest,
    hkdf::{HKDF_SHA256, Salt},
};

const KEY_LEN: usize = 32;
const SALT_LEN: usize = 32;
const INFO: &[&[u8]] = &[b"landfall request headers of an event"];

/// Encrypts the request headers that transports [name](landfall_hooks::Transport::event_headers) while an
/// event is stored for them. Cheap to clone.
///
/// Nodes that share a database need the same key, since one may deliver what another has stored. A node
/// without the key delivers an event without these headers.
#[derive(Clone)]
pub struct HeaderKey(Arc<[u8; KEY_LEN]>);

/// The headers were encrypted with another key, or for another delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct CannotDecrypt;

impl HeaderKey {
    /// Creates a random key, which is lost with this process.
    #[must_use]
    pub fn random() -> Self {
        Self(Arc::new(rand::random()))
    }

    /// Reads the key from a file: 32 bytes in base64, as of `openssl rand -base64 32`.
    ///
    /// A missing file is created with a random key, for its owner alone. Processes may do so at once.
    ///
    /// # Errors
    /// The file cannot be read or created, or contains no key.
    pub fn open(file: &Path) -> io::Result<Self> {
        match read(file) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create(file)?;
                read(file)
            }
            found => found,
        }
    }

    /// `delivery` is bound to the result. Each text has its own key, so that nonces cannot repeat.
    pub(super) fn encrypt(&self, headers: &RedactedHeaders, delivery: [&str; 2]) -> Option<String> {
        let salt: [u8; SALT_LEN] = rand::random();
        let mut text = serde_json::to_vec(headers).ok()?;
        let key = self.derive(&salt)?;
        key.seal_in_place_append_tag(nonce(), aad(delivery), &mut text)
            .ok()?;
        let text = STANDARD.encode([&salt[..], &text].concat());
        Some(format!("{}:{text}", self.id()))
    }

    pub(super) fn decrypt(
        &self,
        text: &str,
        delivery: [&str; 2],
    ) -> Result<RedactedHeaders, CannotDecrypt> {
        let text = text.strip_prefix(&self.id()).ok_or(CannotDecrypt)?;
        let text = text.strip_prefix(':').ok_or(CannotDecrypt)?;
        let text = STANDARD.decode(text).map_err(|_| CannotDecrypt)?;
        let (salt, text) = text.split_first_chunk().ok_or(CannotDecrypt)?;
        let mut text = text.to_vec();
        let key = self.derive(salt).ok_or(CannotDecrypt)?;
        let text = key.open_in_place(nonce(), aad(delivery), &mut text);
        serde_json::from_slice(text.map_err(|_| CannotDecrypt)?).map_err(|_| CannotDecrypt)
    }

    /// Tells keys apart without revealing them.
    fn id(&self) -> String {
        let hash = digest::digest(&digest::SHA256, &*self.0);
        let id = hash.as_ref().iter().take(4);
        id.map(|byte| format!("{byte:02x}")).collect()
    }

    fn derive(&self, salt: &[u8; SALT_LEN]) -> Option<LessSafeKey> {
        let extracted = Salt::new(HKDF_SHA256, salt).extract(&*self.0);
        let key = extracted.expand(INFO, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(key)))
    }
}

impl fmt::Debug for HeaderKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("HeaderKey(..)")
    }
}

/// A derived key is used once.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

fn aad([event, route]: [&str; 2]) -> Aad<Vec<u8>> {
    // Names of routes have no NUL.
    Aad::from([route.as_bytes(), b"\0", event.as_bytes()].concat())
}

fn read(file: &Path) -> io::Result<HeaderKey> {
    let text = fs::read_to_string(file)?;
    let key = STANDARD.decode(text.trim()).ok();
    let key = key.and_then(|key| <[u8; KEY_LEN]>::try_from(key).ok());
    let key = key.ok_or_else(|| {
        let text = "it must contain 32 bytes in base64, as of openssl rand -base64 32";
        io::Error::new(io::ErrorKind::InvalidData, text)
    })?;
    Ok(HeaderKey(Arc::new(key)))
}

/// The file appears with its content. Another process may have created it meanwhile.
fn create(file: &Path) -> io::Result<()> {
    let HeaderKey(key) = HeaderKey::random();
    let mut new = file.as_os_str().to_owned();
    new.push(format!(".{:016x}", rand::random::<u64>()));
    let written = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&new)
        .and_then(|mut opened| {
            writeln!(opened, "{}", STANDARD.encode(*key))?;
            opened.sync_all()
        });
    let linked = written.and_then(|()| match fs::hard_link(&new, file) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        // Some file systems have no links.
        Err(_) if !file.exists() => fs::rename(&new, file),
        linked => linked,
    });
    // The name is random: one that stays is harmless.
    let _ = fs::remove_file(&new);
    linked?;
    let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty());
    File::open(dir.unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use landfall::hook::RequestInfo;
    use landfall_hooks::{EventHeaders, RequestData};

    use super::*;

    fn headers() -> RedactedHeaders {
        let mut request = RequestInfo::default();
        let value = http::HeaderValue::from_static("Bearer secret");
        request.headers.insert("authorization", value);
        RequestData::for_event(&request, &EventHeaders::all()).redacted
    }

    #[test]
    fn headers_are_bound_to_their_delivery_and_key() {
        let (key, headers) = (HeaderKey::random(), headers());
        let one = key.encrypt(&headers, ["e", "http"]).unwrap();
        assert_ne!(one, key.encrypt(&headers, ["e", "http"]).unwrap());
        assert_eq!(key.decrypt(&one, ["e", "http"]), Ok(headers));
        for other in [["f", "http"], ["e", "grpc"]] {
            assert_eq!(key.decrypt(&one, other), Err(CannotDecrypt));
        }
        let other = HeaderKey::random();
        assert_eq!(other.decrypt(&one, ["e", "http"]), Err(CannotDecrypt));
        for damaged in ["", ":", "00000000:", &one[..one.len() - 4], &one[..20]] {
            assert_eq!(key.decrypt(damaged, ["e", "http"]), Err(CannotDecrypt));
        }
        assert_eq!(format!("{key:?}"), "HeaderKey(..)");
    }

    #[test]
    fn the_file_is_created_once_for_its_owner() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("events.key");
        let texts: Vec<_> = std::thread::scope(|scope| {
            let open = || {
                HeaderKey::open(&file)
                    .unwrap()
                    .encrypt(&headers(), ["e", "http"])
            };
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(open)).collect();
            threads.into_iter().map(|one| one.join().unwrap()).collect()
        });
        let key = HeaderKey::open(&file).unwrap();
        for text in texts {
            assert_eq!(key.decrypt(&text.unwrap(), ["e", "http"]), Ok(headers()));
        }
        let mode = fs::metadata(&file).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn other_files_are_no_keys() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("events.key");
        for text in ["", "short", "c2hvcnQ=\n"] {
            fs::write(&file, text).unwrap();
            let error = HeaderKey::open(&file).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
            assert_eq!(fs::read_to_string(&file).unwrap(), text);
        }
        assert!(HeaderKey::open(&dir.path().join("no/events.key")).is_err());
    }
}
