//! Caches the decisions of `pre-access` for as long as the application allows (`CacheFor`).
//!
//! A key has the operation, the upload, the peer's address without port, the query, and all headers but a few that
//! change between requests of one client. A missing part could give a client the decision for another. A creation
//! counts all headers. Bounded by `CACHE_CAPACITY` entries and `MAX_TTL`. The caller inserts no failures.

use std::{
    collections::HashMap,
    mem,
    time::{Duration, Instant},
};

use http::{HeaderName, header};
use landfall::hook::{Access, Decision, Intent, RequestInfo};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

const CACHE_CAPACITY: usize = 20_000;
const MAX_TTL: Duration = Duration::from_secs(24 * 3600);

/// They change between requests of one client and do not identify it.
const VOLATILE_HEADERS: [HeaderName; 11] = [
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

/// A hash of intent, upload, peer address, query and all headers, except for the volatile ones of requests
/// that create nothing. A header too many costs a hook call; a header too few could allow another client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct CacheKey([u8; 32]);

impl CacheKey {
    pub(super) fn new(request: &RequestInfo, access: &Access) -> Self {
        let mut hash = Sha256::new();
        let mut part = |bytes: &[u8]| {
            hash.update(bytes.len().to_be_bytes());
            hash.update(bytes);
        };
        part(access.intent.as_str().as_bytes());
        part(access.id.as_ref().map_or("", |id| id.as_str()).as_bytes());
        // The port differs between connections of one client.
        let host = request.remote.rsplit_once(':');
        part(host.map_or(&*request.remote, |(host, _)| host).as_bytes());
        part(request.uri.query().unwrap_or_default().as_bytes());
        let is_creation = access.intent == Intent::Create;
        let mut fields: Vec<_> = request
            .headers
            .iter()
            .filter(|(name, _)| is_creation || !VOLATILE_HEADERS.contains(name))
            .collect();
        // The sort is stable, so that several values of one name stay in order.
        fields.sort_by_key(|(name, _)| name.as_str());
        for (name, value) in fields {
            part(name.as_str().as_bytes());
            part(value.as_bytes());
        }
        Self(hash.finalize().into())
    }
}

/// When it is full, it drops the older generation.
#[derive(Debug, Default)]
pub(super) struct Cache(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    current: HashMap<CacheKey, CacheEntry>,
    previous: HashMap<CacheKey, CacheEntry>,
}

#[derive(Debug, Clone)]
struct CacheEntry {
    decision: Decision,
    expires_at: Instant,
}

impl Cache {
    pub(super) fn get(&self, key: &CacheKey, now: Instant) -> Option<Decision> {
        let generations = self.0.lock();
        let entry = generations.current.get(key);
        let entry = entry.or_else(|| generations.previous.get(key))?;
        (now < entry.expires_at).then(|| entry.decision.clone())
    }

    pub(super) fn insert(&self, key: CacheKey, decision: Decision, ttl: Duration, now: Instant) {
        let Some(expires_at) = now.checked_add(ttl.min(MAX_TTL)) else {
            return;
        };
        let mut generations = self.0.lock();
        if generations.current.len() >= CACHE_CAPACITY / 2 {
            generations.previous = mem::take(&mut generations.current);
        }
        generations.current.insert(
            key,
            CacheEntry {
                decision,
                expires_at,
            },
        );
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderValue, Method};
    use landfall::{hook::ClientResponse, upload::UploadId};

    use super::*;

    fn request(headers: &[(&'static str, &'static str)], remote: &str) -> RequestInfo {
        let mut request = RequestInfo::default();
        request.method = Method::PATCH;
        request.remote = remote.into();
        for (name, value) in headers {
            let name = HeaderName::from_static(name);
            request
                .headers
                .append(name, HeaderValue::from_static(value));
        }
        request
    }

    fn key(request: &RequestInfo, intent: Intent, id: &str) -> CacheKey {
        let id = UploadId::new(id).unwrap();
        CacheKey::new(request, &Access::new(intent, Some(id)))
    }

    #[test]
    fn key_depends_on_client_and_upload_but_not_on_progress() {
        let base = request(
            &[("authorization", "a"), ("upload-offset", "0")],
            "1.2.3.4:5",
        );
        let like = key(&base, Intent::Write, "x");
        let next = request(
            &[("upload-offset", "9"), ("authorization", "a")],
            "1.2.3.4:6",
        );
        assert_eq!(key(&next, Intent::Write, "x"), like);
        for other in [
            request(&[("authorization", "b")], "1.2.3.4:5"),
            request(&[], "1.2.3.4:5"),
            request(&[("authorization", "a"), ("cookie", "c")], "1.2.3.4:5"),
            request(&[("authorization", "a")], "1.2.3.5:5"),
            // Boundaries between values count.
            request(
                &[("authorization", "a"), ("authorization", "")],
                "1.2.3.4:5",
            ),
        ] {
            assert_ne!(key(&other, Intent::Write, "x"), like, "{other:?}");
        }
        assert_ne!(key(&base, Intent::Read, "x"), like);
        assert_ne!(key(&base, Intent::Write, "y"), like);
        let mut queried = base;
        queried.uri = "/files/x?token=1".parse().unwrap();
        assert_ne!(key(&queried, Intent::Write, "x"), like);
    }

    #[test]
    fn entries_expire_and_the_oldest_are_evicted() {
        let (cache, now) = (Cache::default(), Instant::now());
        let request = request(&[], "");
        let second = Duration::from_secs(1);
        let first = key(&request, Intent::Write, "first");
        let decision = Decision::Deny(ClientResponse::text(403, "no"));
        cache.insert(first, decision.clone(), second, now);
        assert_eq!(cache.get(&first, now), Some(decision));
        assert_eq!(cache.get(&first, now + second), None);
        cache.insert(first, Decision::allow(), Duration::MAX, now);
        assert_eq!(cache.get(&first, now + MAX_TTL), None);
        for n in 0..CACHE_CAPACITY {
            let key = key(&request, Intent::Write, &n.to_string());
            cache.insert(key, Decision::allow(), second, now);
        }
        assert_eq!(cache.get(&first, now), None);
        let generations = cache.0.lock();
        assert!(generations.current.len() + generations.previous.len() <= CACHE_CAPACITY);
    }
}
