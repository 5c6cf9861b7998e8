//! Answers about accesses that hold for others like them.

use std::{
    collections::HashMap,
    mem,
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use http::{HeaderName, header};
use landfall::hook::{Access, Decision, Intent, RequestInfo};
use sha2::{Digest as _, Sha256};

/// The most answers that are remembered.
const MOST: usize = 20_000;
/// No answer holds longer.
const LONGEST: Duration = Duration::from_secs(24 * 3600);

/// Headers that differ from request to request of one client and say nothing of who it is.
const PASSING: [HeaderName; 11] = [
    HeaderName::from_static("upload-offset"),
    HeaderName::from_static("upload-checksum"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    header::CONTENT_LENGTH,
    header::DATE,
    header::EXPECT,
    header::IF_MODIFIED_SINCE,
    header::IF_NONE_MATCH,
    header::RANGE,
];

/// What makes two accesses alike: intent, upload, the peer's address, and all headers but the
/// [`PASSING`] ones. Too much of a difference costs a question; too little would let somebody in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Likeness([u8; 32]);

impl Likeness {
    pub(super) fn new(request: &RequestInfo, access: &Access<'_>) -> Self {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update(bytes.len().to_be_bytes());
            hash.update(bytes);
        };
        part(access.intent.as_str().as_bytes());
        part(access.id.map_or("", |id| id.as_str()).as_bytes());
        // Of one client, each connection has another port.
        let host = request.remote.rsplit_once(':');
        part(host.map_or(&*request.remote, |(host, _)| host).as_bytes());
        part(request.uri.query().unwrap_or_default().as_bytes());
        let is_creation = access.intent == Intent::Create;
        let mut fields: Vec<_> = request
            .headers
            .iter()
            .filter(|(name, _)| is_creation || !PASSING.contains(name))
            .collect();
        // Stable: several values of one name keep their order.
        fields.sort_by_key(|(name, _)| name.as_str());
        for (name, value) in fields {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
        Self(hash.finalize().into())
    }
}

/// Answers that still hold. When it is full, the older half is forgotten.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Halves>);

#[derive(Debug, Default)]
struct Halves {
    young: HashMap<Likeness, Held>,
    old: HashMap<Likeness, Held>,
}

#[derive(Debug, Clone)]
struct Held {
    answer: Decision,
    until: Instant,
}

impl Cache {
    pub(super) fn get(&self, likeness: &Likeness, now: Instant) -> Option<Decision> {
        let halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let held = halves.young.get(likeness);
        let held = held.or_else(|| halves.old.get(likeness))?;
        (now < held.until).then(|| held.answer.clone())
    }

    pub(super) fn put(&self, likeness: Likeness, answer: Decision, time: Duration, now: Instant) {
        let Some(until) = now.checked_add(time.min(LONGEST)) else {
            return;
        };
        let mut halves = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if halves.young.len() >= MOST / 2 {
            halves.old = mem::take(&mut halves.young);
        }
        halves.young.insert(likeness, Held { answer, until });
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};
    use landfall::{hook::ClientResponse, upload::UploadId};

    use super::*;

    fn request(headers: &[(&'static str, &'static str)], remote: &str) -> RequestInfo {
        let mut request = RequestInfo {
            method: Method::PATCH,
            remote: remote.into(),
            ..RequestInfo::default()
        };
        for (name, value) in headers {
            let name = HeaderName::from_static(name);
            request
                .headers
                .append(name, HeaderValue::from_static(value));
        }
        request
    }

    fn likeness(request: &RequestInfo, intent: Intent, id: &str) -> Likeness {
        let id = UploadId::new(id).unwrap();
        let id = Some(&id);
        Likeness::new(request, &Access { intent, id })
    }

    #[test]
    fn who_asks_for_what_makes_the_difference_and_how_far_it_is_does_not() {
        let base = request(
            &[("authorization", "a"), ("upload-offset", "0")],
            "1.2.3.4:5",
        );
        let like = likeness(&base, Intent::Write, "x");
        let next = request(
            &[("upload-offset", "9"), ("authorization", "a")],
            "1.2.3.4:6",
        );
        assert_eq!(likeness(&next, Intent::Write, "x"), like);
        for other in [
            request(&[("authorization", "b")], "1.2.3.4:5"),
            request(&[], "1.2.3.4:5"),
            request(&[("authorization", "a"), ("cookie", "c")], "1.2.3.4:5"),
            request(&[("authorization", "a")], "1.2.3.5:5"),
            // One value's end is not another's beginning.
            request(
                &[("authorization", "a"), ("authorization", "")],
                "1.2.3.4:5",
            ),
        ] {
            assert_ne!(likeness(&other, Intent::Write, "x"), like, "{other:?}");
        }
        assert_ne!(likeness(&base, Intent::Read, "x"), like);
        assert_ne!(likeness(&base, Intent::Write, "y"), like);
        let mut queried = base;
        queried.uri = "/files/x?token=1".parse().unwrap();
        assert_ne!(likeness(&queried, Intent::Write, "x"), like);
    }

    #[test]
    fn an_answer_holds_as_long_as_it_said_and_the_oldest_go() {
        let (cache, now) = (Cache::default(), Instant::now());
        let request = request(&[], "");
        let second = Duration::from_secs(1);
        let first = likeness(&request, Intent::Write, "first");
        let answer = Decision::Deny(ClientResponse::text(403, "no"));
        cache.put(first, answer.clone(), second, now);
        assert_eq!(cache.get(&first, now), Some(answer));
        assert_eq!(cache.get(&first, now + second), None);
        cache.put(first, Decision::allow(), Duration::MAX, now);
        assert_eq!(cache.get(&first, now + LONGEST), None);
        for n in 0..MOST {
            let likeness = likeness(&request, Intent::Write, &n.to_string());
            cache.put(likeness, Decision::allow(), second, now);
        }
        assert_eq!(cache.get(&first, now), None);
        let halves = cache.0.lock().unwrap();
        assert!(halves.young.len() + halves.old.len() <= MOST);
    }
}
