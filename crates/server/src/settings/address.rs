//! Parsers of hosts, URLs, networks, methods and header names. Errors are as in [`value`](super::value).

use ipnet::IpNet;

use super::value::{Parsed, list, valid};
use landfall::LocationStyle;
use landfall_net::redacted_url;

pub(super) fn host(text: &str) -> Parsed<String> {
    let rest = text.strip_prefix('[');
    if let Some(address) = rest.and_then(|rest| rest.strip_suffix(']')) {
        return match address.parse::<std::net::Ipv6Addr>() {
            Ok(_) => Ok(address.to_owned()),
            Err(_) => Err(format!("{text:?} is not an IPv6 address")),
        };
    }
    if text.is_empty() || text.parse::<std::net::Ipv6Addr>().is_ok() {
        // Go listens on all addresses for an empty host.
        return Ok(if text.is_empty() { "0.0.0.0" } else { text }.to_owned());
    }
    if let Some((host, port)) = text.rsplit_once(':')
        && port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err(format!(
            "{text:?} contains a port; write --host {host} --port {port}"
        ));
    }
    let is_host = !text.contains(['/', '[', ']', '@', '?', '#', ' ']);
    let expected = "a host; write an IP address or a name, such as 127.0.0.1";
    valid(text, is_host, expected)
}

pub(super) fn host_of_url(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    if scheme.contains("unix") {
        return None;
    }
    host_of_authority(rest.split(['/', '?', '#']).next()?)
}

/// Returns the hosts of a database's or broker's URL, which may have several.
pub(super) fn hosts_of_url(url: &str) -> Vec<String> {
    let Some((scheme, rest)) = url.split_once("://") else {
        return Vec::new();
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let hosts = authority.rsplit('@').next().unwrap_or_default().split(',');
    let urls = hosts.map(|host| format!("{scheme}://{}", host.trim()));
    urls.filter_map(|url| host_of_url(&url)).collect()
}

pub(super) fn host_of_target(target: &str) -> Option<String> {
    if target.starts_with("unix:") {
        return None;
    }
    let dns = target.strip_prefix("dns:");
    let bare = dns.or(target.strip_prefix("passthrough:"));
    let rest = match target.split_once("://") {
        Some((_, rest)) => rest.trim_start_matches('/'),
        None => bare.unwrap_or(target),
    };
    host_of_authority(rest.trim_end_matches('/'))
}

fn host_of_authority(authority: &str) -> Option<String> {
    let host = authority.rsplit('@').next()?;
    let host = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next()?,
        None => host.rsplit_once(':').map_or(host, |(host, _)| host),
    };
    Some(host.to_owned()).filter(|host| !host.is_empty())
}

fn url_path(text: &str, example: &str) -> Parsed<()> {
    if text.contains("://") {
        return Err(format!(
            "{:?} is a URL; write its path, such as {example} (for a prefix of upload URLs, see \
             --public-url)",
            redacted_url(text)
        ));
    }
    if !text.starts_with('/') {
        let path = text.trim_matches('/');
        return Err(if path.is_empty() {
            format!("is empty; write a path, such as {example}")
        } else {
            format!("{text:?} does not begin with a slash; write /{path}")
        });
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/-._~!$&'()*+,;=:@".contains(&byte);
    if let Some(invalid) = text.chars().find(|c| !c.is_ascii() || !plain(*c as u8)) {
        return Err(format!(
            "{text:?} contains {invalid:?}, which is not allowed in URL paths"
        ));
    }
    if text.contains("//") || text.split('/').any(|part| part == "." || part == "..") {
        return Err(format!("{text:?} contains an empty, . or .. segment"));
    }
    Ok(())
}

pub(super) fn base_path(text: &str) -> Parsed<String> {
    url_path(text, "/files/")?;
    Ok(format!("{}/", text.trim_end_matches('/')))
}

pub(super) fn page_path(text: &str) -> Parsed<String> {
    url_path(text, "/metrics")?;
    Ok(text.to_owned())
}

pub(super) fn location(text: &str) -> Parsed<LocationStyle> {
    const EXAMPLE: &str = "https://uploads.example.com/files/";
    match text {
        "" => Ok(LocationStyle::Absolute),
        "relative" => Ok(LocationStyle::Relative),
        text => {
            let url = http_url(text, "URL prefix", EXAMPLE)?;
            Ok(LocationStyle::Prefix(format!("{url}/")))
        }
    }
}

/// The URL of the upload page; the fragment with the secret of a link follows.
pub(super) fn page_url(text: &str) -> Parsed<String> {
    let url = http_url(
        text,
        "URL of the upload page",
        "https://uploads.example.com/",
    )?;
    Ok(format!("{url}/"))
}

/// Parses a URL without user and query, and removes a trailing slash. Errors do not contain its password.
pub(super) fn http_url(text: &str, what: &str, example: &str) -> Parsed<String> {
    let shown = redacted_url(text);
    let Some((scheme, rest)) = text.split_once("://") else {
        return Err(match text.starts_with('/') {
            true => format!("{shown:?} has no scheme and host; write one such as {example}"),
            false => format!(
                "{shown:?} has no scheme; write https://{shown}, or http://{shown} without TLS"
            ),
        });
    };
    if !matches!(scheme, "http" | "https") {
        return Err(format!(
            "{shown:?} has neither the scheme http:// nor https://"
        ));
    }
    if rest.contains(['?', '#']) {
        return Err(format!("{shown:?} has a query or a fragment; remove it"));
    }
    let authority = rest.split('/').next().unwrap_or_default();
    if !has_host(text) || authority.contains('@') {
        return Err(format!(
            "{shown:?} is not a {what}; write one such as {example}"
        ));
    }
    Ok(text.trim_end_matches('/').to_owned())
}

/// Returns whether a URL names one host.
pub(super) fn has_host(url: &str) -> bool {
    let uri = url.parse::<http::Uri>();
    let is_one = |host: &str| !host.is_empty() && !host.contains(',');
    uri.is_ok_and(|uri| uri.host().is_some_and(is_one))
}

const LOOPBACK: &[&str] = &["127.0.0.0/8", "::1/128"];

/// Private and link-local ones, in addition to `LOOPBACK`.
const PRIVATE: &[&str] = &[
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "169.254.0.0/16",
    "fc00::/7",
    "fe80::/10",
];

fn parse_all(table: &[&str]) -> impl Iterator<Item = IpNet> {
    table.iter().filter_map(|net| net.parse().ok())
}

/// Loopback addresses are not private.
pub(crate) fn is_private(address: std::net::IpAddr) -> bool {
    parse_all(PRIVATE).any(|net| net.contains(&address))
}

pub(super) fn networks(text: &str) -> Parsed<Vec<IpNet>> {
    let mut networks = Vec::new();
    for item in list(text) {
        if item == "loopback" {
            networks.extend(parse_all(LOOPBACK));
        } else if item == "private" {
            networks.extend(parse_all(LOOPBACK).chain(parse_all(PRIVATE)));
        } else if let Ok(address) = item.parse::<std::net::IpAddr>() {
            networks.push(IpNet::from(address));
        } else {
            let expected = "write an IP address, a network such as 10.0.0.0/8, loopback or private";
            let invalid = |_| format!("{item:?} is not a network; {expected}");
            networks.push(item.parse::<IpNet>().map_err(invalid)?);
        }
    }
    Ok(networks)
}

pub(super) fn methods(text: &str) -> Parsed<Vec<String>> {
    all_valid::<http::Method>(text, "a valid method name")
}

pub(super) fn header_names(text: &str) -> Parsed<Vec<String>> {
    all_valid::<http::HeaderName>(text, "a valid header name")
}

fn all_valid<T: std::str::FromStr>(text: &str, expected: &str) -> Parsed<Vec<String>> {
    let items = list(text);
    let parsed = items.map(|item| valid(item, item.parse::<T>().is_ok(), expected));
    parsed.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_lose_their_brackets_and_have_no_port() {
        assert_eq!(host("[::1]").as_deref(), Ok("::1"));
        assert_eq!(host("::1").as_deref(), Ok("::1"));
        assert_eq!(host("").as_deref(), Ok("0.0.0.0"));
        assert_eq!(host("localhost").as_deref(), Ok("localhost"));
        assert!(host("localhost:80").unwrap_err().contains("-port 80"));
        for text in ["[::1", "[localhost]", "http://x", "a b"] {
            host(text).unwrap_err();
        }
    }

    #[test]
    fn url_paths_are_plain() {
        assert_eq!(base_path("/files").as_deref(), Ok("/files/"));
        assert_eq!(base_path("/files/").as_deref(), Ok("/files/"));
        assert_eq!(base_path("/").as_deref(), Ok("/"));
        assert_eq!(base_path("/a/b-c").as_deref(), Ok("/a/b-c/"));
        assert!(base_path("files/").unwrap_err().contains("/files"));
        assert!(
            base_path("https://x/files/")
                .unwrap_err()
                .contains("-public-url")
        );
        for text in [
            "", "//", "/a//b", "/a/../b", "/./", "/ä/", "/a?b", "/a b", "/%41",
        ] {
            base_path(text).unwrap_err();
        }
    }

    #[test]
    fn url_prefixes_are_absolute() {
        assert_eq!(location(""), Ok(LocationStyle::Absolute));
        assert_eq!(location("relative"), Ok(LocationStyle::Relative));
        for (text, url) in [
            ("https://x.example", "https://x.example/"),
            (
                "http://x.example:8080/files",
                "http://x.example:8080/files/",
            ),
            ("https://[::1]/files/", "https://[::1]/files/"),
        ] {
            assert_eq!(
                location(text),
                Ok(LocationStyle::Prefix(url.to_owned())),
                "{text}"
            );
        }
        for text in [
            "x.example/files",
            "ftp://x/",
            "https://",
            "https:///files",
            "https://x/?a",
            "https://x/#a",
            "https://u:p@x/",
            "https://x y/",
        ] {
            location(text).unwrap_err();
        }
        let host = location("x.example/files").unwrap_err();
        assert!(host.contains("write https://x.example/files,"), "{host}");
        let path = location("/files/").unwrap_err();
        assert!(
            path.contains("write one such as https://uploads.example.com/files/"),
            "{path}"
        );
    }

    #[test]
    fn networks_are_addresses_ranges_and_the_private_ones() {
        let networks = networks("192.0.2.7, 2001:db8::/32,private,").unwrap();
        assert_eq!(networks.len(), 2 + LOOPBACK.len() + PRIVATE.len());
        assert_eq!(super::networks("loopback").unwrap().len(), 2);
        assert_eq!(networks[0].to_string(), "192.0.2.7/32");
        assert_eq!(super::networks(""), Ok(Vec::new()));
        for text in ["10.0.0.0/33", "proxy.example", "10.0.0", "*"] {
            super::networks(text).unwrap_err();
        }
    }

    #[test]
    fn lists_hold_valid_names() {
        assert_eq!(methods("PUT, SEARCH").unwrap(), ["PUT", "SEARCH"]);
        methods("GE T").unwrap_err();
        assert_eq!(header_names("X-One,x-two").unwrap(), ["X-One", "x-two"]);
        header_names("X One").unwrap_err();
        header_names("X-One\r\nSet-Cookie").unwrap_err();
    }

    #[test]
    fn hosts_of_urls_and_targets() {
        for (url, host) in [
            ("http://h/x", Some("h")),
            ("http://u:p@h:1?x", Some("h")),
            ("http://[::1]:80/", Some("::1")),
            ("redis+unix:///run/x", None),
            ("postgres:///db?host=/run", None),
        ] {
            assert_eq!(host_of_url(url).as_deref(), host, "{url}");
        }
        for (url, hosts) in [
            (
                "postgres://u:p,q@a:1,b,[::1]:2/d,e?x",
                &["a", "b", "::1"][..],
            ),
            ("postgres://u@/d?host=/run", &[]),
            ("redis+unix:///run/x", &[]),
        ] {
            assert_eq!(hosts_of_url(url), hosts, "{url}");
        }
        for (target, host) in [
            ("h:50051", Some("h")),
            ("h", Some("h")),
            ("[::1]:1", Some("::1")),
            ("dns:///h:1", Some("h")),
            ("dns:h:1", Some("h")),
            ("https://h:1/", Some("h")),
            ("unix:///run/x", None),
        ] {
            assert_eq!(host_of_target(target).as_deref(), host, "{target}");
        }
    }
}
