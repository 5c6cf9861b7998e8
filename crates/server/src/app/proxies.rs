//! Determines the client's address behind trusted proxies, and warns of proxies that are not trusted.
//!
//! A forwarded address counts only if a trusted proxy reported it: clients can send any `X-Forwarded-For`. The result
//! identifies clients for limits, failed logins and logs. `limit_address` returns `None` for those without a limit.

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::HeaderMap;
use landfall::service::Forwarded;
use landfall_http::{ClientAddress, Function};

use crate::{
    condition::{ConditionKind, Conditions},
    settings::{Settings, Urls, is_private},
};

const FORWARDED_HEADERS: [&str; 4] = [
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "forwarded",
];

#[derive(Debug)]
pub(super) struct UntrustedProxies {
    urls: Urls,
    conditions: Conditions,
}

impl UntrustedProxies {
    pub(super) fn new(urls: &Urls, conditions: &Conditions) -> Option<Self> {
        urls.behind_proxy.then(|| Self {
            urls: urls.clone(),
            conditions: conditions.clone(),
        })
    }

    pub(super) fn check(&self, peer: Option<SocketAddr>, headers: &HeaderMap) {
        let Some(address) = peer.map(|peer| peer.ip().to_canonical()) else {
            return;
        };
        if self.is_untrusted_proxy(address, headers) {
            let detail = format_args!("from {address}");
            self.conditions
                .raise(ConditionKind::ForwardedIgnored, "", detail);
        }
    }

    /// True only on this machine or in a private network: headers from other networks may be forged.
    fn is_untrusted_proxy(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let is_near = peer.is_loopback() || is_private(peer);
        let mut forwarded = FORWARDED_HEADERS.iter();
        let has_any = forwarded.any(|name| headers.contains_key(*name));
        is_near && has_any && !self.urls.trusts(Some(peer))
    }
}

pub(super) fn forwarded(urls: &Urls) -> Forwarded {
    if !urls.behind_proxy {
        return Forwarded::Ignore;
    }
    let urls = urls.clone();
    Forwarded::TrustIf(Arc::new(move |peer| urls.trusts(peer)))
}

/// Trusted proxies, UNIX sockets and this machine, where a proxy is likely, are not limited.
pub(super) fn limit_address(settings: &Settings) -> ClientAddress {
    let (urls, proxy_protocol) = (settings.urls.clone(), settings.listen.proxy_protocol);
    let forwarded = forwarded(&urls);
    Function(Arc::new(move |headers, peer| {
        let address = forwarded.client(headers, peer)?;
        let is_proxy = proxy_protocol && urls.is_trusted_proxy(address);
        let exempt = address.is_loopback() || is_proxy || urls.trusts(Some(address));
        (!exempt).then_some(address)
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::{Invocation, read};

    fn proxies(args: &[&str]) -> Option<UntrustedProxies> {
        match read(args.iter().map(Into::into), []) {
            Ok(Invocation::Run(loaded, _)) => {
                UntrustedProxies::new(&loaded.settings.urls, &Conditions::default())
            }
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

    fn urls(behind_proxy: bool) -> Urls {
        let trusted_proxies = ["10.0.0.0/8", "::1/128"].map(|text| text.parse().unwrap());
        Urls {
            behind_proxy,
            trusted_proxies: trusted_proxies.to_vec(),
            ..Urls::default()
        }
    }

    fn found(behind_proxy: bool, peer: Option<&str>, lines: &[&str]) -> Option<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", line.parse().unwrap());
        }
        let peer = peer.map(|peer| peer.parse().unwrap());
        forwarded(&urls(behind_proxy))
            .client(&headers, peer)
            .map(|found| found.to_string())
    }

    #[test]
    fn the_nearest_address_behind_trusted_proxies_is_the_client() {
        let client = |peer: &str, lines: &[&str]| found(true, Some(peer), lines).unwrap();
        assert_eq!(client("10.0.0.1", &["192.0.2.7"]), "192.0.2.7");
        assert_eq!(
            client("10.0.0.1", &["1.1.1.1, 192.0.2.7, 10.0.0.9"]),
            "192.0.2.7"
        );
        assert_eq!(client("10.0.0.1", &["1.1.1.1", "192.0.2.7"]), "192.0.2.7");
        assert_eq!(client("::1", &["192.0.2.7:4711"]), "192.0.2.7");
        assert_eq!(client("::1", &["[2001:db8::7]:4711"]), "2001:db8::7");
        assert_eq!(client("::1", &["[2001:db8::7]"]), "2001:db8::7");
        assert_eq!(
            client("::ffff:10.0.0.1", &["::ffff:192.0.2.7"]),
            "192.0.2.7"
        );
        // All of them are proxies: the farthest.
        assert_eq!(client("10.0.0.1", &["10.0.0.3, 10.0.0.2"]), "10.0.0.3");
        // This entry cannot be interpreted.
        assert_eq!(client("10.0.0.1", &["192.0.2.7, unknown"]), "10.0.0.1");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }

    #[test]
    fn proxies_and_this_machine_are_not_counted() {
        let counted = |behind, peer: &str| {
            let settings = Settings {
                urls: urls(behind),
                ..Settings::default()
            };
            (limit_address(&settings).0)(&HeaderMap::new(), Some(peer.parse().unwrap()))
        };
        for exempt in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert_eq!(counted(false, exempt), None);
        }
        assert_eq!(counted(true, "10.0.0.1"), None);
        assert!(counted(false, "10.0.0.1").is_some());
        assert!(counted(true, "192.0.2.1").is_some());
    }

    #[test]
    fn forwarded_headers_of_untrusted_peers_are_ignored() {
        let untrusted = found(true, Some("192.0.2.1"), &["10.0.0.1"]);
        assert_eq!(untrusted.as_deref(), Some("192.0.2.1"));
        let alone = found(false, Some("10.0.0.1"), &["192.0.2.7"]);
        assert_eq!(alone.as_deref(), Some("10.0.0.1"));
        assert_eq!(
            found(true, None, &["192.0.2.7"]).as_deref(),
            Some("192.0.2.7")
        );
        assert_eq!(found(false, None, &["192.0.2.7"]), None);
    }
}
