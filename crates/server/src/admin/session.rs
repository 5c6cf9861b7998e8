//! Session cookies of the dashboard.
//!
//! A cookie is signed with the admin key, so every node with the key accepts it, and changing the key
//! ends all sessions. The only state is the set of sessions ended by a logout, kept by the process that
//! handled it.

use std::{
    collections::HashMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use sha2::Sha256;

pub(super) const SESSION_LIFETIME: Duration = Duration::from_secs(12 * 3600);
const COOKIE_NAME: &str = "landfall_admin";
const MAX_ENDED: usize = 4096;
/// Domain separation of the signatures from other uses of the key.
const PURPOSE: &[u8] = b"landfall admin session 1\n";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SessionKind {
    Admin,
    Key(i64),
}

#[derive(Debug)]
struct Session {
    kind: SessionKind,
    until: SystemTime,
    signature: Vec<u8>,
}

#[derive(Debug, Default)]
struct EndedSessions {
    until: HashMap<Vec<u8>, SystemTime>,
    all_before: Option<SystemTime>,
}

impl EndedSessions {
    fn contains(&self, session: &Session) -> bool {
        Some(session.until) <= self.all_before || self.until.contains_key(&session.signature)
    }

    fn insert(&mut self, session: Session, now: SystemTime) {
        if self.until.len() >= MAX_ENDED {
            self.until.retain(|_, until| now < *until);
        }
        if self.until.len() >= MAX_ENDED {
            // Too many entries: end all current sessions rather than revive one.
            self.until.clear();
            self.all_before = Some(now + SESSION_LIFETIME);
            return;
        }
        self.until.insert(session.signature, session.until);
    }
}

pub(super) struct Sessions {
    mac: Hmac<Sha256>,
    ended: Mutex<EndedSessions>,
}

impl Sessions {
    pub(super) fn new(key: &str) -> Self {
        // HMAC accepts keys of any length, so this cannot fail.
        let mut mac = Hmac::<Sha256>::new_from_slice(key.as_bytes())
            .unwrap_or_else(|_| unreachable!("HMAC takes keys of any length"));
        mac.update(PURPOSE);
        let ended = Mutex::default();
        Self { mac, ended }
    }

    /// Without `Path`, the browser sends the cookie to the directory of the form and below, which also works
    /// behind a proxy that adds a prefix.
    pub(super) fn create(&self, kind: SessionKind, now: SystemTime, https: bool) -> HeaderValue {
        let seconds = now.duration_since(UNIX_EPOCH).unwrap_or_default() + SESSION_LIFETIME;
        let number = match kind {
            SessionKind::Admin => "admin".to_owned(),
            SessionKind::Key(id) => id.to_string(),
        };
        let claim = format!("{}.{number}.{:x}", seconds.as_secs(), rand::random::<u64>());
        let mut mac = self.mac.clone();
        mac.update(claim.as_bytes());
        let signature = URL_SAFE_NO_PAD.encode(mac.finalize().into_bytes());
        cookie(&format!("{claim}.{signature}"), SESSION_LIFETIME, https)
    }

    pub(super) fn end(&self, headers: &HeaderMap, now: SystemTime, https: bool) -> HeaderValue {
        for session in session_cookies(headers).filter_map(|value| self.read(value, now)) {
            self.ended.lock().insert(session, now);
        }
        cookie("", Duration::ZERO, https)
    }

    pub(super) fn find(&self, headers: &HeaderMap, now: SystemTime) -> Option<SessionKind> {
        let session = session_cookies(headers).find_map(|value| self.read(value, now));
        session.map(|session| session.kind)
    }

    fn read(&self, value: &str, now: SystemTime) -> Option<Session> {
        let (claim, signature) = value.rsplit_once('.')?;
        let mut mac = self.mac.clone();
        mac.update(claim.as_bytes());
        let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
        mac.verify_slice(&signature).ok()?;
        let mut parts = claim.split('.');
        let until = UNIX_EPOCH.checked_add(Duration::from_secs(parts.next()?.parse().ok()?))?;
        let kind = match parts.next()? {
            "admin" => SessionKind::Admin,
            id => SessionKind::Key(id.parse().ok()?),
        };
        let session = Session {
            kind,
            until,
            signature,
        };
        (now < until && !self.ended.lock().contains(&session)).then_some(session)
    }
}

fn session_cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(';'))
        .filter_map(|pair| pair.trim().strip_prefix(COOKIE_NAME)?.strip_prefix('='))
}

fn cookie(value: &str, max_age: Duration, https: bool) -> HeaderValue {
    let secure = if https { "; Secure" } else { "" };
    let seconds = max_age.as_secs();
    let text =
        format!("{COOKIE_NAME}={value}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}");
    HeaderValue::try_from(text).unwrap_or_else(|_| unreachable!("it is made of plain characters"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request_headers(cookie: &HeaderValue) -> HeaderMap {
        let (pair, _) = cookie.to_str().unwrap().split_once(';').unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::COOKIE, format!("a=b; {pair}; c").parse().unwrap());
        headers
    }

    #[test]
    fn every_node_with_the_key_accepts_a_session_until_it_expires() {
        let (one, other) = (Sessions::new("key"), Sessions::new("key"));
        let now = UNIX_EPOCH + Duration::from_secs(1_000_000);
        for kind in [SessionKind::Admin, SessionKind::Key(7)] {
            let headers = request_headers(&one.create(kind, now, false));
            assert_eq!(other.find(&headers, now), Some(kind));
            assert_eq!(
                other.find(&headers, now + SESSION_LIFETIME - Duration::from_secs(1)),
                Some(kind)
            );
            assert_eq!(other.find(&headers, now + SESSION_LIFETIME), None);
            assert_eq!(Sessions::new("another key").find(&headers, now), None);
        }
    }

    #[test]
    fn a_modified_cookie_is_rejected() {
        let sessions = Sessions::new("key");
        let now = SystemTime::now();
        let cookie = sessions.create(SessionKind::Key(7), now, true);
        let text = cookie.to_str().unwrap();
        assert!(
            text.ends_with("; HttpOnly; SameSite=Strict; Secure"),
            "{text}"
        );
        let value = text.split(['=', ';']).nth(1).unwrap();
        let read = |value: &str| sessions.read(value, now).map(|session| session.kind);
        assert_eq!(read(value), Some(SessionKind::Key(7)));
        for at in 0..value.len() {
            let mut bytes = value.as_bytes().to_vec();
            bytes[at] = if bytes[at] == b'1' { b'2' } else { b'1' };
            let changed = String::from_utf8(bytes).unwrap();
            // The last base64 digit has unused bits, which must be zero.
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
    fn only_the_ended_session_is_rejected() {
        let sessions = Sessions::new("key");
        let now = SystemTime::now();
        let ended = request_headers(&sessions.create(SessionKind::Admin, now, false));
        let other = request_headers(&sessions.create(SessionKind::Admin, now, false));
        sessions.end(&ended, now, false);
        assert_eq!(sessions.find(&ended, now), None);
        assert_eq!(sessions.find(&other, now), Some(SessionKind::Admin));
    }

    #[test]
    fn ended_sessions_are_bounded_and_stay_ended() {
        let sessions = Sessions::new("key");
        let now = SystemTime::now();
        let end_one = |now| {
            let headers = request_headers(&sessions.create(SessionKind::Admin, now, false));
            sessions.end(&headers, now, false);
            headers
        };
        let first = end_one(now);
        let other = request_headers(&sessions.create(SessionKind::Admin, now, false));
        for _ in 0..MAX_ENDED {
            end_one(now);
        }
        assert!(sessions.ended.lock().until.len() <= MAX_ENDED);
        assert_eq!(sessions.find(&first, now), None);
        assert_eq!(sessions.find(&other, now), None);
        let later = now + Duration::from_secs(2);
        let new = request_headers(&sessions.create(SessionKind::Admin, later, false));
        assert_eq!(sessions.find(&new, later), Some(SessionKind::Admin));

        // Expired sessions are removed first.
        let sessions = Sessions::new("key");
        for seconds in [0, 1] {
            let now = now + SESSION_LIFETIME * 2 * seconds;
            for _ in 0..MAX_ENDED {
                let headers = request_headers(&sessions.create(SessionKind::Admin, now, false));
                sessions.end(&headers, now, false);
            }
        }
        assert_eq!(sessions.ended.lock().all_before, None);
    }
}
