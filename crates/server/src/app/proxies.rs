use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use http::HeaderMap;
use parking_lot::Mutex;

use crate::settings::{Urls, is_private};

const WARNING_INTERVAL: Duration = Duration::from_secs(60);

const FORWARDED_HEADERS: [&str; 4] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "forwarded",
];

#[derive(Debug)]
pub(super) struct UntrustedProxies {
    urls: Urls,
    warned: Mutex<Option<Instant>>,
}

impl UntrustedProxies {
    pub(super) fn new(urls: &Urls) -> Option<Self> {
        urls.behind_proxy.then(|| Self {
            urls: urls.clone(),
            warned: Mutex::default(),
        })
    }

    pub(super) fn check(&self, peer: Option<SocketAddr>, headers: &HeaderMap) {
        let Some(address) = peer.map(|peer| peer.ip().to_canonical()) else {
            return;
        };
        if self.is_untrusted_proxy(address, headers) && self.is_due(Instant::now()) {
            tracing::warn!(
                peer = %address,
                "ignored forwarded headers from an untrusted proxy: add the address to --trusted-proxies if \
                 the proxy is yours"
            );
        }
    }

    /// True only on this machine or in a private network: headers from other networks may be forged.
    fn is_untrusted_proxy(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        !self.urls.trusts(Some(peer))
            && (peer.is_loopback() || is_private(peer))
            && FORWARDED_HEADERS
                .iter()
                .any(|name| headers.contains_key(*name))
    }

    fn is_due(&self, now: Instant) -> bool {
        let mut warned = self.warned.lock();
        let is_due = warned.is_none_or(|last| now.duration_since(last) >= WARNING_INTERVAL);
        if is_due {
            *warned = Some(now);
        }
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Invocation, read};

    fn proxies(args: &[&str]) -> Option<UntrustedProxies> {
        match read(args.iter().map(Into::into), []) {
            Ok(Invocation::Run(loaded, _)) => UntrustedProxies::new(&loaded.settings.urls),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn only_private_peers_with_forwarded_headers_are_worth_a_warning() {
        assert!(proxies(&[]).is_none());
        let proxies = proxies(&["-behind-proxy"]).unwrap();
        let shows = |peer: &str, name: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, "x".parse().unwrap());
            proxies.is_untrusted_proxy(peer.parse().unwrap(), &headers)
        };
        for peer in ["10.1.2.3", "192.168.0.1", "172.17.0.1", "fd00::1"] {
            assert!(shows(peer, "x-forwarded-for"), "{peer}");
            assert!(shows(peer, "forwarded"), "{peer}");
            assert!(!shows(peer, "host"), "{peer}");
        }
        for peer in ["127.0.0.1", "::1", "8.8.8.8", "2001:db8::1"] {
            assert!(!shows(peer, "x-forwarded-for"), "{peer}");
        }
    }

    #[test]
    fn a_warning_comes_once_a_minute() {
        let proxies = proxies(&["-behind-proxy"]).unwrap();
        let start = Instant::now();
        assert!(proxies.is_due(start));
        assert!(!proxies.is_due(start + Duration::from_secs(59)));
        assert!(proxies.is_due(start + Duration::from_secs(60)));
    }
}
