use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use http::HeaderMap;

use crate::{net::ClientAddress, settings::Urls};

/// Trusted proxies, UNIX sockets and this machine, where a proxy is likely, are not limited.
pub(super) fn limit_address(urls: &Urls) -> ClientAddress {
    let urls = urls.clone();
    ClientAddress(Arc::new(move |headers, peer| {
        let address = client_address(&urls, headers, peer)?;
        let exempt = address.is_loopback() || urls.trusts(Some(address));
        (!exempt).then_some(address)
    }))
}

/// Each proxy appends the address of its peer, so the list is read from its end, while the reporting
/// proxy is trusted.
pub(super) fn client_address(
    urls: &Urls,
    headers: &HeaderMap,
    peer: Option<IpAddr>,
) -> Option<IpAddr> {
    let mut nearest = peer.map(|peer| peer.to_canonical());
    let lines: Vec<&str> = headers
        .get_all("x-forwarded-for")
        .iter()
        .map(|line| line.to_str().unwrap_or("?"))
        .collect();
    for hop in lines.iter().rev().flat_map(|line| line.rsplit(',')) {
        if !urls.trusts(nearest) {
            break;
        }
        let Some(address) = address(hop.trim()) else {
            break;
        };
        nearest = Some(address);
    }
    nearest
}

fn address(text: &str) -> Option<IpAddr> {
    let bare = text
        .strip_prefix('[')
        .and_then(|text| text.strip_suffix(']'));
    let alone = bare.unwrap_or(text).parse::<IpAddr>().ok();
    alone
        .or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()))
        .map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

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
        client_address(&urls(behind_proxy), &headers, peer).map(|found| found.to_string())
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
            (limit_address(&urls(behind)).0)(&HeaderMap::new(), Some(peer.parse().unwrap()))
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
