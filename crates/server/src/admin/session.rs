//! Sessions: who once showed a key, and may come in with a cookie for a while.
//!
//! A cookie is signed with the admin key, so that any node that has the key takes it, and changing the
//! key ends all sessions. Only sessions that were ended before their time are kept, by the process where
//! somebody logged out.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, header};
use sha2::Sha256;

/// How long a session lasts.
pub(super) const LASTS: Duration = Duration::from_secs(12 * 3600);
const NAME: &str = "landfall_admin";
/// The most ended sessions that are kept one by one.
const MAX_ENDED: usize = 4096;
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

/// What a good cookie says.
#[derive(Debug)]
struct Session {
    whose: Whose,
    until: SystemTime,
    /// The signature, which no other session has.
    signature: Vec<u8>,
}

/// Sessions that were ended before their time.
#[derive(Debug, Default)]
struct Ended {
    /// By their signatures, with the time at which they would have ended anyway.
    until: HashMap<Vec<u8>, SystemTime>,
    /// All that end before this count as ended, too.
    all_before: Option<SystemTime>,
}

impl Ended {
    fn has(&self, session: &Session) -> bool {
        self.all_before
            .is_some_and(|before| session.until <= before)
            || self.until.contains_key(&session.signature)
    }

    fn insert(&mut self, session: Session, now: SystemTime) {
        if self.until.len() >= MAX_ENDED {
            self.until.retain(|_, until| now < *until);
        }
        if self.until.len() >= MAX_ENDED {
            // Too many to remember: all that began by now are over, rather than one of them going on.
            self.until.clear();
            self.all_before = Some(now + LASTS);
            return;
        }
        self.until.insert(session.signature, session.until);
    }
}

/// Makes, reads and ends cookies.
pub(super) struct Sessions {
    mac: Hmac<Sha256>,
    ended: Mutex<Ended>,
}

impl Sessions {
    pub(super) fn new(key: &str) -> Self {
        // HMAC takes keys of any length, so there is nothing to fail.
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(PURPOSE);
        Self {
            mac,
            ended: Mutex::default(),
        }
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

    /// Ends the sessions that a request belongs to, on this node until their time is over. Returns the
    /// `Set-Cookie` that takes the cookie from the browser.
    pub(super) fn end(&self, headers: &HeaderMap, now: SystemTime, https: bool) -> HeaderValue {
        for session in values(headers).filter_map(|value| self.read(value, now)) {
            let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
            ended.insert(session, now);
        }
        cookie("", Duration::ZERO, https)
    }

    /// The session that a request belongs to, if it is a good one.
    pub(super) fn of(&self, headers: &HeaderMap, now: SystemTime) -> Option<Whose> {
        values(headers)
            .find_map(|value| self.read(value, now))
            .map(|session| session.whose)
    }

    /// Reads a cookie; nothing if it was ended.
    fn read(&self, value: &str, now: SystemTime) -> Option<Session> {
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
        let session = Session {
            whose,
            until,
            signature,
        };
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        (now < until && !ended.has(&session)).then_some(session)
    }
}

/// The values of our cookies in a request.
fn values(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(NAME)?.strip_prefix('='))
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
        let read = |value: &str| sessions.read(value, now).map(|session| session.whose);
        assert_eq!(read(value), Some(Whose::Key(7)));
        for at in 0..value.len() {
            let mut bytes = value.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last digit of base64 holds bits that say nothing; those must be zero.
            assert_eq!(read(&changed), None, "{changed}");
        }
        for short in ["", ".", "..", "9999999999.admin", "9999999999.admin."] {
            assert_eq!(read(short), None, "{short}");
        }
        let ended = sessions.end(&HeaderMap::new(), now, false);
        assert!(
            ended
                .to_str()
                .unwrap()
                .starts_with("landfall_admin=; Max-Age=0;")
        );
    }

    #[test]
    fn a_session_that_was_ended_is_over_and_no_other() {
        let sessions = Sessions::new("key");
        let now = SystemTime::now();
        let ended = sent_back(&sessions.begin(Whose::Admin, now, false));
        let other = sent_back(&sessions.begin(Whose::Admin, now, false));
        sessions.end(&ended, now, false);
        assert_eq!(sessions.of(&ended, now), None);
        assert_eq!(sessions.of(&other, now), Some(Whose::Admin));
    }

    #[test]
    fn what_is_kept_of_ended_sessions_has_an_end_and_revives_none() {
        let sessions = Sessions::new("key");
        let now = SystemTime::now();
        let end_one = |now| {
            let headers = sent_back(&sessions.begin(Whose::Admin, now, false));
            sessions.end(&headers, now, false);
            headers
        };
        let first = end_one(now);
        let bystander = sent_back(&sessions.begin(Whose::Admin, now, false));
        for _ in 0..MAX_ENDED {
            end_one(now);
        }
        assert!(sessions.ended.lock().unwrap().until.len() <= MAX_ENDED);
        assert_eq!(sessions.of(&first, now), None);
        assert_eq!(sessions.of(&bystander, now), None);
        let later = now + Duration::from_secs(2);
        let new = sent_back(&sessions.begin(Whose::Admin, later, false));
        assert_eq!(sessions.of(&new, later), Some(Whose::Admin));

        // Those whose time is over anyway are forgotten first.
        let sessions = Sessions::new("key");
        for seconds in [0, 1] {
            let now = now + LASTS * 2 * seconds;
            for _ in 0..MAX_ENDED {
                let headers = sent_back(&sessions.begin(Whose::Admin, now, false));
                sessions.end(&headers, now, false);
            }
        }
        assert_eq!(sessions.ended.lock().unwrap().all_before, None);
    }
}
