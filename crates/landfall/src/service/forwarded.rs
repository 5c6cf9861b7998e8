//! The scheme, host and path prefix that clients see behind a proxy (`X-Forwarded-*`; RFC 7239).
//!
//! `apply_forwarded` must be called only for a peer that [`Forwarded`] trusts. A host or prefix with a character that
//! could direct clients elsewhere is ignored.

use std::{
    borrow::Cow,
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::{HeaderMap, HeaderName, header};

/// The peer of a request's connection.
///
/// A server puts it into the request's extensions. It determines the scheme of `Location`, which
/// forwarded headers are trusted, and the address that hooks receive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Peer {
    /// The address; `None` for a UNIX socket.
    pub address: Option<SocketAddr>,
    /// True if the connection is encrypted.
    pub tls: bool,
}

impl Peer {
    /// Formats the address as `ip:port`, or `@` for a UNIX socket.
    ///
    /// [`RequestInfo::remote`](crate::hook::RequestInfo::remote) has this format.
    #[must_use]
    pub fn text(&self) -> String {
        self.address
            .map_or_else(|| "@".into(), |address| address.to_string())
    }
}

/// Which `X-Forwarded-Host`, `-Proto`, `-Port`, `-Prefix` and `Forwarded` headers are trusted.
#[derive(Clone, Default)]
#[non_exhaustive]
pub enum Forwarded {
    /// None.
    #[default]
    Ignore,
    /// All. Only safe if clients cannot reach the server except through a proxy that sets them.
    Trust,
    /// Those of peers for which this returns true (`None` is a UNIX socket).
    ///
    /// A request without a [`Peer`] in its extensions is not trusted.
    TrustIf(Arc<dyn Fn(Option<IpAddr>) -> bool + Send + Sync>),
}

impl Forwarded {
    pub(super) fn trusts(&self, peer: Option<Peer>) -> bool {
        match peer {
            Some(peer) => self.trusts_address(peer.address.map(|address| address.ip())),
            None => matches!(self, Self::Trust),
        }
    }

    fn trusts_address(&self, address: Option<IpAddr>) -> bool {
        match self {
            Self::Ignore => false,
            Self::Trust => true,
            Self::TrustIf(rule) => rule(address),
        }
    }

    /// Returns the client's address: the peer's, or the one that the trusted proxies between report in
    /// `X-Forwarded-For`. `peer` is `None` for a UNIX socket.
    ///
    /// Each proxy appends the address of its peer, so the list is read from its end, while the reporting
    /// proxy is trusted: clients can send any value.
    #[must_use]
    pub fn client(&self, headers: &HeaderMap, peer: Option<IpAddr>) -> Option<IpAddr> {
        let mut nearest = peer.map(|peer| peer.to_canonical());
        if !self.trusts_address(nearest) {
            return nearest;
        }
        let lines = headers.get_all(X_FORWARDED_FOR).iter().rev();
        let lines = lines.map(|line| line.to_str().unwrap_or("?"));
        for hop in lines.flat_map(|line| line.rsplit(',')) {
            match address(hop.trim()) {
                Some(address) => nearest = Some(address),
                None => break,
            }
            if !self.trusts_address(nearest) {
                break;
            }
        }
        nearest
    }
}

impl fmt::Debug for Forwarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ignore => "Ignore",
            Self::Trust => "Trust",
            Self::TrustIf(_) => "TrustIf(…)",
        })
    }
}

fn address(text: &str) -> Option<IpAddr> {
    let rest = text.strip_prefix('[');
    let bare = rest.and_then(|rest| rest.strip_suffix(']'));
    let alone = bare.unwrap_or(text).parse::<IpAddr>().ok();
    let address = alone.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    address.map(|address| address.to_canonical())
}

const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const X_FORWARDED_PREFIX: HeaderName = HeaderName::from_static("x-forwarded-prefix");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");

pub(super) fn has_forwarded_headers(headers: &HeaderMap) -> bool {
    const NAMES: [HeaderName; 4] = [
        X_FORWARDED_HOST,
        X_FORWARDED_PROTO,
        X_FORWARDED_FOR,
        header::FORWARDED,
    ];
    // A request has few fields, and looking for a name costs more than comparing it with them.
    headers.keys().any(|name| NAMES.contains(name))
}

pub(super) struct Origin<'a> {
    pub(super) scheme: &'static str,
    pub(super) authority: Option<Cow<'a, str>>,
    pub(super) prefix: &'a str,
}

impl<'a> Origin<'a> {
    /// The first of several values counts, which was set nearest to the client. With `prefers_standard`,
    /// `Forwarded` takes precedence, as in tusd.
    pub(super) fn apply_forwarded(&mut self, headers: &'a HeaderMap, prefers_standard: bool) {
        let first = |name: HeaderName| {
            headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .map(|value| value.split(',').next().unwrap_or_default().trim())
                .filter(|value| !value.is_empty())
        };
        let mut host = first(X_FORWARDED_HOST);
        let mut proto = first(X_FORWARDED_PROTO);
        // Common proxies set `X-Forwarded-*` and forward the client's `Forwarded` unchanged.
        let is_set = host.is_some() || proto.is_some() || headers.contains_key(X_FORWARDED_FOR);
        if let Some(element) = first(header::FORWARDED).filter(|_| prefers_standard || !is_set) {
            for pair in element.split(';') {
                let Some((name, value)) = pair.split_once('=') else {
                    continue;
                };
                let value = value.trim().trim_matches('"');
                match name.trim().to_ascii_lowercase().as_str() {
                    "host" => host = Some(value),
                    "proto" => proto = Some(value),
                    _ => {}
                }
            }
        }
        match proto {
            Some(proto) if proto.eq_ignore_ascii_case("https") => self.scheme = "https",
            Some(proto) if proto.eq_ignore_ascii_case("http") => self.scheme = "http",
            _ => {}
        }
        if let Some(host) = host.filter(|host| is_authority(host)) {
            let port = first(X_FORWARDED_PORT)
                .filter(|port| !has_port(host) && port.bytes().all(|b| b.is_ascii_digit()));
            self.authority = Some(match port {
                Some(port) => format!("{host}:{port}").into(),
                None => host.into(),
            });
        }
        let default_port = if self.scheme == "https" {
            ":443"
        } else {
            ":80"
        };
        if let Some(authority) = &self.authority
            && let Some(bare) = authority.strip_suffix(default_port)
        {
            self.authority = Some(bare.to_owned().into());
        }
        let prefix = first(X_FORWARDED_PREFIX).map(|prefix| prefix.trim_end_matches('/'));
        if let Some(prefix) = prefix.filter(|prefix| is_path(prefix)) {
            self.prefix = prefix;
        }
    }
}

/// Anything else in a `Host` header could direct clients elsewhere.
pub(super) fn is_authority(text: &str) -> bool {
    let is_allowed = |b| is_path_byte(b) && !matches!(b, b'/' | b'@') || matches!(b, b'[' | b']');
    !text.is_empty() && text.bytes().all(is_allowed)
}

/// The path must not start with `//`, which would be a host.
pub(super) fn is_path(text: &str) -> bool {
    text.starts_with('/') && !text.starts_with("//") && text.bytes().all(is_path_byte)
}

const fn is_path_byte(byte: u8) -> bool {
    matches!(
        byte,
        b'0'..=b'9' | b'A'..=b'Z' | b'a'..=b'z' | b'&'..=b'/' | b'!' | b'$' | b'%' | b':' | b';' | b'=' | b'@' | b'_' | b'~'
    )
}

fn has_port(host: &str) -> bool {
    host.rsplit_once(':')
        .is_some_and(|(_, port)| !port.contains(']'))
}
