//! Sessions: who once showed a key, and may come in with a cookie for a while.
//!
//! A cookie is signed with the admin key, so that any node that has the key takes it, and changing the
//! key ends all sessions. Nothing is kept of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, header};
use sha2::Sha256;

/// How long a session lasts.
pub(super) const LASTS: Duration = Duration::from_secs(12 * 3600);
const NAME: &str = "landfall_admin";
/// Parts signatures of sessions from all else that may be signed with the key.
const PURPOSE: &[u8] = b"landfall admin session 1\n";

/// Whose session.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Whose {
    /// Of somebody with the admin key.
    Admin,
    /// Of somebody with the API key of this number.
    Key(i64),
}

/// Makes and reads cookies.
pub(super) struct Sessions {
    mac: Hmac<Sha256>,
}

impl Sessions {
    pub(super) fn new(key: &str) -> Self {
        // HMAC takes keys of any length, so there is nothing to fail.
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(PURPOSE);
        Self { mac }
    }

    /// `Set-Cookie` of a new session. Without `Path`, the browser sends it to where the form was, and
    /// below, also if a proxy put a prefix before it.
    pub(super) fn begin(&self, whose: Whose, now: SystemTime, https: bool) -> HeaderValue {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default() + LASTS;
        let number = match whose {
            Whose::Admin => "admin".to_owned(),
            Whose::Key(id) => id.to_string(),
        };
        let claim = format!("{}.{number}.{:x}", seconds.as_secs(), rand::random::<u64>());
        let mut mac = self.mac.clone();
        mac.update(claim.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        cookie(&format!("{claim}.{signature}"), LASTS, https)
    }

    /// `Set-Cookie` that ends a session.
    pub(super) fn end(https: bool) -> HeaderValue {
        cookie("", Duration::ZERO, https)
    }

    /// The session that a request belongs to, if it is a good one.
    pub(super) fn of(&self, headers: &HeaderMap, now: SystemTime) -> Option<Whose> {
        let lines = headers.get_all(header::COOKIE).iter();
        let pairs = lines
            .filter_map(|line| line.to_str().ok())
            .flat_map(|line| line.split(';'));
        pairs
            .filter_map(|pair| pair.trim().strip_prefix(NAME)?.strip_prefix('='))
            .find_map(|value| self.read(value, now))
    }

    fn read(&self, value: &str, now: SystemTime) -> Option<Whose> {
        let (claim, signature) = value.rsplit_once('.')?;
        let mut mac = self.mac.clone();
        mac.update(claim.as_bytes());
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        mac.verify_slice(&signature).ok()?;
        let mut parts = claim.split('.');
        let until = UNIX_EPOCH.checked_add(Duration::from_secs(parts.next()?.parse().ok()?))?;
        let whose = match parts.next()? {
            "admin" => Whose::Admin,
            id => Whose::Key(id.parse().ok()?),
        };
        (now < until).then_some(whose)
    }
}

fn cookie(value: &str, lasts: Duration, https: bool) -> HeaderValue {
    let secure = if https { "; Secure" } else { "" };
    let age = lasts.as_secs();
    let text = format!("{NAME}={value}; Max-Age={age}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(text).unwrap_or_else(|_| unreachable!("it is made of plain characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sent_back(cookie: &HeaderValue) -> HeaderMap {
        let (pair, _) = cookie.to_str().unwrap().split_once(';').unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, format!("a=b; {pair}; c").parse().unwrap());
        headers
    }

    #[test]
    fn every_node_with_the_key_takes_a_session_until_it_is_over() {
        let (one, other) = (Sessions::new("key"), Sessions::new("key"));
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for whose in [Whose::Admin, Whose::Key(7)] {
            let headers = sent_back(&one.begin(whose, now, false));
            assert_eq!(other.of(&headers, now), Some(whose));
            assert_eq!(
                other.of(&headers, now + LASTS - Duration::from_secs(1)),
                Some(whose)
            );
            assert_eq!(other.of(&headers, now + LASTS), None);
            assert_eq!(Sessions::new("another key").of(&headers, now), None);
        }
    }

    #[test]
    fn nothing_of_a_cookie_can_be_changed() {
        let sessions = Sessions::new("key");
        let now = SystemTime::now();
        let made = sessions.begin(Whose::Key(7), now, true);
        let text = made.to_str().unwrap();
        assert!(
            text.ends_with("; HttpOnly; SameSite=Strict; Secure"),
            "{text}"
        );
        let value = text.split(['=', ';']).nth(1).unwrap();
        assert_eq!(sessions.read(value, now), Some(Whose::Key(7)));
        for at in 0..value.len() {
            let mut bytes = value.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last digit of base64 holds bits that say nothing; those must be zero.
            assert_eq!(sessions.read(&changed, now), None, "{changed}");
        }
        for short in ["", ".", "..", "9999999999.admin", "9999999999.admin."] {
            assert_eq!(sessions.read(short, now), None, "{short}");
        }
        let ended = Sessions::end(false);
        assert!(
            ended
                .to_str()
                .unwrap()
                .starts_with("landfall_admin=; Max-Age=0;")
        );
    }
}
