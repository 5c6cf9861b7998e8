//! URLs of uploads: from a request's path to an id, and from an id to `Location`.

#![allow(missing_docs, unreachable_pub, reason = "for the fuzz targets")]

use std::{borrow::Cow, net::IpAddr};

use http::{Extensions, Request, Uri, Version, header, request::Parts, uri::Scheme};
use landfall_protocol::{Problem, ProblemKind};
use percent_encoding::percent_decode_str;

use super::forwarded::{Forwarded, Origin, Peer, has_forwarded_headers, is_authority, is_path};
use crate::{
    config::{Config, ConfigError, LocationStyle},
    upload::UploadId,
};

/// Of a router around the one that serves the base path.
#[derive(Clone)]
struct MountPath(String);

#[derive(Debug)]
pub struct UploadUrls {
    /// With a slash at both ends.
    pub(super) base: String,
    style: LocationStyle,
    forwarded: Forwarded,
    prefers_standard: bool,
    warned: std::sync::Once,
}

impl UploadUrls {
    pub fn new(config: &Config) -> Result<Self, ConfigError> {
        let invalid = |reason| ConfigError::BasePath {
            path: config.base_path.clone(),
            reason,
        };
        let (mut base, mut style) = (config.base_path.as_str(), config.location.clone());
        if base.contains("://") {
            style = LocationStyle::Prefix(base.to_owned());
            base = path_of(base).ok_or_else(|| invalid("is not an http or https URL"))?;
        }
        let trimmed = base.trim_matches('/');
        let base = if trimmed.is_empty() {
            "/".into()
        } else {
            format!("/{trimmed}/")
        };
        if !is_path(&base) || unescape(&base).is_none() {
            return Err(invalid(
                "holds characters that are not sent in URLs as they are",
            ));
        }
        if base[1..].contains("//") || base.split('/').any(|part| matches!(part, "." | "..")) {
            return Err(invalid(
                "has empty segments, or segments that clients resolve",
            ));
        }
        if let LocationStyle::Prefix(prefix) = &mut style {
            if !prefix.ends_with('/') {
                prefix.push('/');
            }
            let path = if prefix.starts_with('/') {
                Some(prefix.as_str())
            } else {
                path_of(prefix)
            };
            if !path.is_some_and(is_path) {
                return Err(ConfigError::LocationPrefix(prefix.clone()));
            }
        }
        Ok(Self {
            base,
            style,
            forwarded: config.forwarded.clone(),
            prefers_standard: config.lenient,
            warned: std::sync::Once::new(),
        })
    }

    /// Includes the paths of routers around the base path.
    pub fn base(&self, extensions: &Extensions) -> Cow<'_, str> {
        match extensions.get() {
            Some(MountPath(mount)) => format!("{mount}{}", self.base).into(),
            None => self.base.as_str().into(),
        }
    }

    /// Empty (the creation URL), or an id in its escaped form. `None` if it is not below the base path.
    pub(super) fn below<'a, B>(&self, request: &'a Request<B>) -> Option<&'a str> {
        below(&self.base(request.extensions()), request.uri().path())
    }

    /// Restores the request target that the client sent, if routers have stripped a part of its path: the
    /// base path, or one in front of it.
    pub(super) fn restore<B>(&self, request: &mut Request<B>, original: Option<Uri>) {
        let Some(original) = original else { return };
        let path = request.uri().path();
        // What is left of the mount path itself is "/".
        let stripped = original.path().strip_suffix(path);
        let mount = stripped.or((path == "/").then_some(original.path()));
        if let Some(mount) = mount.filter(|mount| !mount.is_empty())
            && below(&self.base, path).is_some()
        {
            let mount = MountPath(mount.trim_end_matches('/').to_owned());
            request.extensions_mut().insert(mount);
        }
        *request.uri_mut() = original;
    }

    pub fn id(escaped: &str) -> Result<UploadId, Problem> {
        if let Some(id) = UploadId::plain(escaped) {
            return Ok(id);
        }
        let id = unescape(escaped).ok_or_else(|| {
            ProblemKind::NotFound.with_detail("the path holds a broken percent-encoding")
        })?;
        Self::unescaped(&id)
    }

    pub(super) fn unescaped(id: &str) -> Result<UploadId, Problem> {
        UploadId::new(id).map_err(|error| ProblemKind::NotFound.with_detail(error))
    }

    pub fn location(&self, request: &Parts, id: &UploadId) -> String {
        self.with_location(request, id, |parts| parts.concat())
    }

    /// Calls `join` with the parts of the URL of an upload.
    pub(super) fn with_location<T>(
        &self,
        request: &Parts,
        id: &UploadId,
        join: impl FnOnce(&[&str]) -> T,
    ) -> T {
        let id = id.as_str();
        let escaped = match id.contains('%') {
            true => Cow::Owned(id.replace('%', "%25")),
            false => id.into(),
        };
        self.with_url(request, &escaped, join)
    }

    pub(super) fn creation_url(&self, request: &Parts) -> String {
        self.with_url(request, "", |parts| parts.concat())
    }

    pub(super) fn external_origin(&self, request: &Parts) -> (bool, Option<String>) {
        let origin = self.origin(request);
        let authority = origin.authority.map(Cow::into_owned);
        (origin.scheme == "https", authority)
    }

    fn with_url<T>(&self, request: &Parts, id: &str, join: impl FnOnce(&[&str]) -> T) -> T {
        let base = self.base(&request.extensions);
        match &self.style {
            LocationStyle::Prefix(prefix) => join(&[prefix, id]),
            LocationStyle::Relative => join(&[&base, id]),
            LocationStyle::Absolute => {
                let origin = self.origin(request);
                let (scheme, prefix) = (origin.scheme, origin.prefix);
                match origin.authority {
                    Some(host) => join(&[scheme, "://", &host, prefix, &base, id]),
                    None => join(&[prefix, &base, id]),
                }
            }
        }
    }

    /// The host of an absolute or scheme-relative URL (`//host/path`) must be this server's, unless a proxy
    /// in front may have changed it.
    pub fn resolve(&self, request: &Parts, url: &str) -> Result<UploadId, Problem> {
        let reject =
            |why: &str| ProblemKind::InvalidConcat.with_detail(format_args!("{url:?} {why}"));
        let mut path = url;
        if let Some((scheme, rest)) = split_scheme(url) {
            if !matches!(&*scheme.to_ascii_lowercase(), "http" | "https" | "") {
                return Err(reject("is not an http or https URL"));
            }
            if let LocationStyle::Prefix(prefix) = &self.style
                && let Some((own_scheme, own)) = split_scheme(prefix)
                && (scheme.is_empty() || scheme.eq_ignore_ascii_case(own_scheme))
                && let Some(escaped) = rest.strip_prefix(own)
            {
                return Self::id(escaped.trim_matches('/'));
            }
            let slash = rest.find('/').ok_or_else(|| reject("has no path"))?;
            path = &rest[slash..];
            let origin = self.origin(request);
            let scheme = if scheme.is_empty() {
                origin.scheme
            } else {
                scheme
            };
            let is_own = origin
                .authority
                .is_none_or(|own| same_host(&own, &rest[..slash], scheme));
            if !is_own && !could_be_forwarded(request) {
                return Err(reject(
                    "is on another host; if a proxy is in front, set --behind-proxy or --public-url",
                ));
            }
        }
        path = path.split(['?', '#']).next().unwrap_or_default();
        let base = &*self.base(&request.extensions);
        // URLs contain the prefix that a trusted proxy adds, which may look like the base path.
        if self.style == LocationStyle::Absolute
            && let Some(own) = path.strip_prefix(self.origin(request).prefix)
            && own.starts_with(base)
        {
            path = own;
        }
        let escaped = match path.strip_prefix(base) {
            Some(rest) => rest,
            // Relative to the creation URL.
            None if !path.starts_with('/') => path,
            // A proxy in front may add a prefix; like tusd, take the part after the base path.
            None => match path.find(base) {
                Some(at) if base.len() > 1 => &path[at + base.len()..],
                _ => return Err(reject("is not below the base path of uploads")),
            },
        };
        Self::id(escaped.trim_matches('/'))
    }

    /// `None` if the peer is unknown or has no address.
    pub(super) fn client(&self, request: &Parts) -> Option<IpAddr> {
        let peer = request.extensions.get::<Peer>()?;
        let address = peer.address.map(|address| address.ip());
        self.forwarded.client(&request.headers, address)
    }

    fn origin<'a>(&self, request: &'a Parts) -> Origin<'a> {
        let peer = request.extensions.get::<Peer>().copied();
        let is_tls =
            peer.is_some_and(|peer| peer.tls) || request.uri.scheme() == Some(&Scheme::HTTPS);
        let mut origin = Origin {
            scheme: if is_tls { "https" } else { "http" },
            authority: request
                .headers
                .get(header::HOST)
                .and_then(|host| host.to_str().ok())
                .or_else(|| request.uri.authority().map(http::uri::Authority::as_str))
                .filter(|host| is_authority(host))
                .map(Cow::Borrowed),
            prefix: "",
        };
        if self.forwarded.trusts(peer) {
            origin.apply_forwarded(&request.headers, self.prefers_standard);
        } else if matches!(self.forwarded, Forwarded::Ignore)
            && self.style == LocationStyle::Absolute
            && has_forwarded_headers(&request.headers)
        {
            self.warned.call_once(|| {
                tracing::warn!(
                    peer = ?peer.and_then(|peer| peer.address),
                    "received a request from an unknown proxy, so upload URLs may \
                     be wrong. Set --behind-proxy (with --trusted-proxies unless it is on this \
                     machine), --public-url, or --public-url relative"
                );
            });
        }
        origin
    }
}

pub fn below<'a>(base: &str, path: &'a str) -> Option<&'a str> {
    match path.strip_prefix(base) {
        Some(rest) => Some(rest.trim_matches('/')),
        None if path.len() + 1 == base.len() && base.starts_with(path) => Some(""),
        None => None,
    }
}

fn could_be_forwarded(request: &Parts) -> bool {
    has_forwarded_headers(&request.headers)
        || request.headers.contains_key(header::VIA)
        || request.version == Version::HTTP_10
}

/// Returns `None` for URLs that are not absolute HTTP ones.
fn path_of(url: &str) -> Option<&str> {
    let (scheme, rest) = split_scheme(url)?;
    if !matches!(&*scheme.to_ascii_lowercase(), "http" | "https") {
        return None;
    }
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let path = if path.is_empty() { "/" } else { path };
    is_authority(authority).then_some(path)
}

/// The scheme is empty in `//host/path`.
fn split_scheme(url: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = url.split_once("//")?;
    match scheme.strip_suffix(':') {
        Some(scheme) if !scheme.contains('/') => Some((scheme, rest)),
        None if scheme.is_empty() => Some(("", rest)),
        _ => None,
    }
}

fn same_host(own: &str, other: &str, scheme: &str) -> bool {
    let default_port = if scheme.eq_ignore_ascii_case("https") {
        ":443"
    } else {
        ":80"
    };
    let bare = |host: &str| {
        let host = host.to_ascii_lowercase();
        host.strip_suffix(default_port)
            .map(Into::into)
            .unwrap_or(host)
    };
    bare(own) == bare(other)
}

/// `None` if the encoding is invalid or not UTF-8.
fn unescape(escaped: &str) -> Option<Cow<'_, str>> {
    if !escaped.contains('%') {
        return Some(escaped.into());
    }
    let is_escape = |after: &str| {
        let digits = after.as_bytes().first_chunk::<2>();
        digits.is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    let is_valid = escaped.split('%').skip(1).all(is_escape);
    let decoded = percent_decode_str(escaped).decode_utf8().ok();
    decoded.filter(|_| is_valid)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{Composer, store::MemoryStore};

    fn urls(change: impl FnOnce(&mut Config)) -> UploadUrls {
        let mut config = Config::new(Composer::join(MemoryStore::new()));
        change(&mut config);
        UploadUrls::new(&config).unwrap()
    }

    fn request(headers: &[(&'static str, &'static str)], peer: Option<Peer>) -> Parts {
        let mut request = http::Request::builder().uri("/files/");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        if let Some(peer) = peer {
            parts.extensions.insert(peer);
        }
        parts
    }

    fn located(urls: &UploadUrls, headers: &[(&'static str, &'static str)]) -> String {
        let request = request(headers, None);
        urls.location(&request, &UploadId::new("a").unwrap())
    }

    #[test]
    fn paths_below_the_base() {
        assert_eq!(below("/files/", "/files"), Some(""));
        assert_eq!(below("/files/", "/files/"), Some(""));
        assert_eq!(below("/files/", "/files/a/b"), Some("a/b"));
        assert_eq!(below("/files/", "/filesx"), None);
        assert_eq!(below("/files/", "/"), None);
        assert_eq!(UploadUrls::id("a%2Bb").unwrap().as_str(), "a+b");
        assert!(UploadUrls::id("%2e%2e/x").is_err());
        assert!(UploadUrls::id("%zz").is_err());
    }

    #[test]
    fn the_base_path_may_be_the_mount_path_or_follow_it() {
        for (base, original, stripped, url) in [
            ("/files/", "/files/a", "/files/a", "/files/x"),
            ("/files/", "/files/a", "/a", "/files/x"),
            ("/files/", "/files", "/", "/files/x"),
            ("/files/", "/api/files/a", "/files/a", "/api/files/x"),
            ("/", "/up/a", "/a", "/up/x"),
            ("/", "/up", "/", "/up/x"),
        ] {
            let urls = urls(|c| c.base_path = base.into());
            let mut request = Request::builder().uri(stripped).body(()).unwrap();
            urls.restore(&mut request, Some(original.parse().unwrap()));
            let id = if original.ends_with("/a") { "a" } else { "" };
            assert_eq!(urls.below(&request), Some(id), "{base} {original}");
            let (parts, ()) = request.into_parts();
            assert_eq!(parts.uri, original);
            assert_eq!(urls.location(&parts, &UploadId::new("x").unwrap()), url);
            let part = urls.resolve(&parts, url).unwrap();
            assert_eq!(part.as_str(), "x", "{base} {original}");
        }
    }

    #[test]
    fn an_unknown_peer_is_no_unix_socket() {
        let local = urls(|c| c.forwarded = Forwarded::TrustIf(Arc::new(|ip| ip.is_none())));
        for (peer, location) in [
            (None, "/files/a"),
            (Some(Peer::default()), "http://out/files/a"),
        ] {
            let request = request(&[("x-forwarded-host", "out")], peer);
            let id = UploadId::new("a").unwrap();
            assert_eq!(local.location(&request, &id), location, "{peer:?}");
        }
    }

    #[test]
    fn unmatchable_base_paths_are_rejected() {
        let check = |base: &str, location: LocationStyle| {
            let mut config = Config::new(Composer::join(MemoryStore::new()));
            (config.base_path, config.location) = (base.into(), location);
            UploadUrls::new(&config).err()
        };
        for good in [
            "",
            "/",
            "files",
            "/a/b/",
            "/pr%C3%A4mien",
            "/~u/@x",
            "http://h:1",
        ] {
            assert_eq!(check(good, LocationStyle::Absolute), None, "{good}");
        }
        for bad in [
            "/my files/",
            "/prämien/",
            "/a\nb/",
            "/a?b",
            "/a#b",
            "/a//b",
            "/a/../b",
            "/%zz/",
            "ftp://h/files/",
            "https://h h/files/",
            "https:///files/",
        ] {
            let error = check(bad, LocationStyle::Absolute).unwrap();
            assert!(matches!(error, ConfigError::BasePath { .. }), "{bad}");
            assert!(error.to_string().contains("the base path"), "{error}");
        }
        for bad in [
            "files/",
            "https://h/a b/",
            "ftp://h/",
            "//h/x",
            "https://h/?x=",
        ] {
            let error = check("/", LocationStyle::Prefix(bad.into())).unwrap();
            assert!(matches!(error, ConfigError::LocationPrefix(_)), "{bad}");
        }
    }

    #[test]
    fn locations() {
        let plain = urls(|_| {});
        let forwarded = [
            ("host", "in:1"),
            ("x-forwarded-host", "out"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(located(&plain, &[("host", "h:80")]), "http://h:80/files/a");
        assert_eq!(located(&plain, &[]), "/files/a");
        assert_eq!(located(&plain, &forwarded), "http://in:1/files/a");
        assert_eq!(located(&plain, &[("host", "h/evil?")]), "/files/a");
        let trusting = urls(|c| c.forwarded = Forwarded::Trust);
        assert_eq!(located(&trusting, &forwarded), "https://out/files/a");
        assert_eq!(
            located(
                &trusting,
                &[
                    ("host", "x"),
                    ("forwarded", "for=1;proto=https;host=\"o:443\"")
                ]
            ),
            "https://o/files/a"
        );
        let both = [
            ("forwarded", "host=evil;proto=http"),
            ("x-forwarded-host", "out"),
            ("x-forwarded-proto", "https"),
        ];
        assert_eq!(located(&trusting, &both), "https://out/files/a");
        let lenient = urls(|c| (c.forwarded, c.lenient) = (Forwarded::Trust, true));
        assert_eq!(located(&lenient, &both), "http://evil/files/a");
        assert_eq!(located(&lenient, &both[1..]), "https://out/files/a");
        let partly = [("forwarded", "host=o"), both[1], both[2]];
        assert_eq!(located(&lenient, &partly), "https://o/files/a");
        let only_for = [
            ("host", "h"),
            ("forwarded", "host=evil"),
            ("x-forwarded-for", "::1"),
        ];
        assert_eq!(located(&trusting, &only_for), "http://h/files/a");
        assert_eq!(
            located(
                &trusting,
                &[
                    ("x-forwarded-host", "o"),
                    ("x-forwarded-port", "81"),
                    ("x-forwarded-prefix", "/p")
                ]
            ),
            "http://o:81/p/files/a"
        );
        let relative = urls(|c| c.location = LocationStyle::Relative);
        assert_eq!(located(&relative, &[("host", "h")]), "/files/a");
        let absolute = urls(|c| c.base_path = "https://u.example/up".into());
        assert_eq!(
            located(&absolute, &[("host", "h")]),
            "https://u.example/up/a"
        );
        assert_eq!(absolute.base, "/up/");
    }
}
