//! Checks that host names resolve, and that this process may listen on an address and a port.
//!
//! Connects to nothing and does not bind the port, which the running server may use. Each lookup is a task, so that
//! several take `DNS_TIMEOUT` together.

use std::io;
use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use tokio::task::JoinHandle;

const DNS_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) type Lookup = JoinHandle<Result<(), String>>;

pub(super) fn spawn_lookup(host: String, is_local: bool) -> Lookup {
    tokio::spawn(async move {
        let lookup = tokio::net::lookup_host((host.as_str(), 0));
        let found: Vec<IpAddr> = match tokio::time::timeout(DNS_TIMEOUT, lookup).await {
            Ok(Ok(found)) => found.map(|found| found.ip()).collect(),
            Ok(Err(error)) => return Err(format!("the host {host:?} cannot be resolved: {error}")),
            Err(_) => {
                let reason = format!("no response from the name server in {DNS_TIMEOUT:?}");
                return Err(format!("the host {host:?} cannot be resolved: {reason}"));
            }
        };
        // The server prefers IPv4, too.
        match found.iter().find(|ip| ip.is_ipv4()).or(found.first()) {
            None => Err(format!("the host {host:?} has no address")),
            Some(ip) if is_local => check_local(*ip),
            Some(_) => Ok(()),
        }
    })
}

fn check_local(ip: IpAddr) -> Result<(), String> {
    match UdpSocket::bind((ip, 0)) {
        Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => Err(format!(
            "this machine does not have the address {ip}; write one that it has, or 0.0.0.0 for all"
        )),
        _ => Ok(()),
    }
}

/// A start finds out if the port is in use.
pub(super) fn check_port(port: u16) -> Result<(), String> {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let first_unprivileged = read("/proc/sys/net/ipv4/ip_unprivileged_port_start");
    let first_unprivileged = first_unprivileged.trim().parse().unwrap_or(0);
    if port == 0 || port >= first_unprivileged || can_bind_all(&read("/proc/self/status")) {
        return Ok(());
    }
    Err(format!(
        "{port} needs CAP_NET_BIND_SERVICE, as all ports below {first_unprivileged} do; choose a higher \
         port, or grant that capability"
    ))
}

fn can_bind_all(status: &str) -> bool {
    const CAP_NET_BIND_SERVICE: u32 = 10;
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.is_none_or(|mask| {
        u64::from_str_radix(mask.trim(), 16)
            .is_ok_and(|mask| mask & (1 << CAP_NET_BIND_SERVICE) != 0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_status() {
        assert!(can_bind_all("Name:\tx\nCapEff:\t0000000000000400\n"));
        assert!(!can_bind_all(
            "CapInh:\t0000000000000400\nCapEff:\t0000000000000000\n"
        ));
        assert!(can_bind_all(""));
    }

    #[tokio::test]
    async fn local_hosts_have_addresses_of_this_machine() {
        for (host, is_local) in [
            ("127.0.0.1", true),
            ("0.0.0.0", true),
            ("localhost", true),
            // Reserved for documentation.
            ("192.0.2.1", false),
        ] {
            let checked = spawn_lookup(host.to_owned(), true).await.unwrap();
            assert_eq!(checked.is_ok(), is_local, "{host}: {checked:?}");
            let resolved = spawn_lookup(host.to_owned(), false).await.unwrap();
            resolved.unwrap();
        }
    }
}
