//! Address policy for redirects, against server-side request forgery (SSRF).

use std::{
    net::{IpAddr, SocketAddr},
    sync::Arc,
    vec,
};

use hyper_util::client::legacy::connect::dns::Name;
use ipnet::IpNet;
use landfall::BoxError;
use tokio::net::lookup_host;
use tower::{service_fn, util::BoxCloneSyncService};
use url::{Host, Url};

#[derive(Debug, thiserror::Error)]
#[error("a redirect leads to {0}, which is neither public nor allowed, see --hooks-http-redirects")]
pub(super) struct AddressDenied(String);

/// Allows public addresses, and those in configured networks.
#[derive(Debug, Clone)]
pub(super) struct AddressPolicy(Arc<[IpNet]>);

impl AddressPolicy {
    pub(super) fn new(allow: &[IpNet]) -> Self {
        Self(allow.into())
    }

    fn allows(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        is_public(ip) || self.0.iter().any(|net| net.contains(&ip))
    }

    /// Checks an IP address in the URL itself, which is not resolved. Returns whether there is one.
    pub(super) fn check_literal(&self, url: &Url) -> Result<bool, AddressDenied> {
        let ip = match url.host() {
            Some(Host::Ipv4(ip)) => IpAddr::V4(ip),
            Some(Host::Ipv6(ip)) => IpAddr::V6(ip),
            _ => return Ok(false),
        };
        if self.allows(ip) {
            Ok(true)
        } else {
            Err(AddressDenied(ip.to_string()))
        }
    }
}

pub(super) type Resolver = BoxCloneSyncService<Name, vec::IntoIter<SocketAddr>, BoxError>;

/// Returns the system's resolver, limited to the addresses that the policy allows.
///
/// The connection uses the checked addresses, so DNS rebinding has no effect.
pub(super) fn resolver(policy: Option<AddressPolicy>) -> Resolver {
    BoxCloneSyncService::new(service_fn(move |name: Name| {
        let policy = policy.clone();
        async move {
            let mut addresses: Vec<_> = lookup_host((name.as_str(), 0)).await?.collect();
            if let Some(policy) = policy {
                let was_resolved = !addresses.is_empty();
                addresses.retain(|address| policy.allows(address.ip()));
                if was_resolved && addresses.is_empty() {
                    return Err(AddressDenied(name.as_str().to_owned()).into());
                }
            }
            Ok(addresses.into_iter())
        }
    }))
}

/// Returns whether an address is publicly routable, by the registries of RFC 6890.
fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, c, _] = ip.octets();
            let special = a == 0
                || a >= 240
                || (a, b, c) == (192, 0, 0)
                || (a, b, c) == (192, 88, 99)
                || (a == 100 && b & 0xC0 == 64)
                || (a == 198 && b & 0xFE == 18);
            !(special
                || ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_multicast()
                || ip.is_documentation())
        }
        IpAddr::V6(ip) => {
            let [a, b, ..] = ip.segments();
            let special = (a == 0x2001 && (b < 0x200 || b == 0xDB8))
                || a == 0x2002
                || (a == 0x3FFF && b < 0x1000);
            // Only 2000::/3 is allocated. Addresses that embed an IPv4 address are outside it or
            // special.
            a & 0xE000 == 0x2000 && !special
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_public_addresses_are_allowed() {
        for public in [
            "1.1.1.1",
            "9.255.255.255",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "192.167.1.1",
            "198.17.0.1",
            "198.20.0.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860:4860::8888",
            "2a00::1",
            "::ffff:1.1.1.1",
        ] {
            assert!(
                AddressPolicy::new(&[]).allows(public.parse().unwrap()),
                "{public}"
            );
        }
        for special in [
            "0.0.0.0",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.1",
            "192.0.2.1",
            "192.88.99.1",
            "192.168.0.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "64:ff9b::7f00:1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::",
            "3fff::1",
            "fc00::1",
            "fd12::1",
            "fe80::1",
            "ff02::1",
        ] {
            assert!(
                !AddressPolicy::new(&[]).allows(special.parse().unwrap()),
                "{special}"
            );
        }
    }

    #[test]
    fn configured_networks_are_allowed() {
        let policy =
            AddressPolicy::new(&["10.1.0.0/16".parse().unwrap(), "fd00::/8".parse().unwrap()]);
        for (ip, allowed) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("10.2.0.1", false),
            ("fd00::1", true),
            ("fc00::1", false),
        ] {
            assert_eq!(policy.allows(ip.parse().unwrap()), allowed, "{ip}");
        }
    }

    #[test]
    fn literal_addresses_are_checked_in_any_spelling() {
        let policy = AddressPolicy::new(&[]);
        for url in [
            "http://127.0.0.1/",
            "http://0x7f.1/",
            "http://2130706433/",
            "http://[::1]/",
            "http://[::ffff:127.0.0.1]/",
            "http://0/",
        ] {
            let checked = policy.check_literal(&Url::parse(url).unwrap());
            assert!(checked.is_err(), "{url}");
        }
        let literal = |url| policy.check_literal(&Url::parse(url).unwrap()).unwrap();
        assert!(literal("http://1.1.1.1/"));
        assert!(!literal("http://localhost/"));
    }
}
