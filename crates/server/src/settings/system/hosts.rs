//! Hosts: whether their names have addresses.

use std::net::IpAddr;
use std::time::Duration;

use tokio::task::JoinHandle;

/// How long a name server may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Looks a host up, beside others.
pub(super) fn spawn_lookup(host: String) -> impl Future<Output = Result<(), String>> {
    let lookup: Option<JoinHandle<_>> = match host.parse::<IpAddr>() {
        Ok(_) => None,
        Err(_) => {
            let host = host.clone();
            Some(tokio::spawn(tokio::time::timeout(TIMEOUT, async move {
                let found = tokio::net::lookup_host((host, 0)).await?;
                Ok::<bool, std::io::Error>(found.count() > 0)
            })))
        }
    };
    async move {
        let Some(lookup) = lookup else {
            return Ok(());
        };
        match lookup.await {
            Ok(Ok(Ok(true))) => Ok(()),
            Ok(Ok(Ok(false))) => Err(format!("the host {host:?} has no address")),
            Ok(Ok(Err(error))) => Err(format!("the host {host:?} cannot be resolved: {error}")),
            Ok(Err(_)) => Err(format!(
                "the host {host:?} cannot be resolved: no answer from the name server in {}s",
                TIMEOUT.as_secs()
            )),
            Err(error) => Err(format!("the host {host:?} cannot be resolved: {error}")),
        }
    }
}

/// The host of a URL; nothing for a URL without one, as that of a UNIX socket.
pub(super) fn host_of_url(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    if scheme.contains("unix") {
        return None;
    }
    host_of_authority(rest.split(['/', '?', '#']).next()?)
}

/// The host of `host:port` and of the names that gRPC has for servers.
pub(super) fn host_of_target(target: &str) -> Option<String> {
    if target.starts_with("unix:") {
        return None;
    }
    let rest = match target.split_once("://") {
        Some((_, rest)) => rest.trim_start_matches('/'),
        None => ["dns:", "passthrough:"]
            .iter()
            .find_map(|resolver| target.strip_prefix(resolver))
            .unwrap_or(target),
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

/// Whether calls over HTTP go through a proxy, which resolves names itself.
pub(super) fn has_http_proxy() -> bool {
    ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|proxy| !proxy.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_found_in_urls_and_targets() {
        for (url, host) in [
            ("http://h/x", Some("h")),
            ("http://u:p@h:1?x", Some("h")),
            ("http://[::1]:80/", Some("::1")),
            ("redis+unix:///run/x", None),
            ("postgres:///db?host=/run", None),
        ] {
            assert_eq!(host_of_url(url).as_deref(), host, "{url}");
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
