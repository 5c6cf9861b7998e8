//! Checks of the connection to a service, before a call of its API.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Uri};
use http_body_util::Empty;
use landfall_console::{Finding, Severity};
use landfall_net::{Client, Proxies};
use landfall_objects::service_time;

use crate::settings::is_private;

const TIMEOUT: Duration = Duration::from_secs(10);

const MAX_BODY: usize = 1 << 20;

/// Services reject requests above this clock skew.
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);

const WARN_SKEW: Duration = Duration::from_secs(60);

/// Requests the root of a service, without credentials. Any response shows that the service is reachable.
///
/// Returns the time of the service, if it sends it.
pub(crate) async fn reach(endpoint: &Uri) -> Result<Option<SystemTime>, String> {
    let request = Request::get(endpoint).body(Empty::<Bytes>::new());
    let request = request.map_err(|error| error.to_string())?;
    let is_secure = endpoint.scheme_str() == Some("https");
    let roots = landfall_net::system_certificates(is_secure);
    let tls = roots.and_then(landfall_net::client_config);
    let tls = tls.map_err(|error| error.to_string())?;
    let client = Client::new(&tls, Proxies::from_env());
    let response = client.send(request, MAX_BODY, TIMEOUT).await?;
    Ok(service_time(response.headers()))
}

/// Warns of a connection that others may read.
pub(crate) fn unencrypted(endpoint: &Uri) -> Option<Finding> {
    let is_open = endpoint.scheme_str() == Some("http") && !is_private_host(endpoint);
    is_open.then(|| {
        let finding = Finding::warn("connection", "is not encrypted");
        finding.advise("use https:// unless the network in between is private")
    })
}

fn is_private_host(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_near = |address: std::net::IpAddr| address.is_loopback() || is_private(address);
    bare == "localhost" || bare.parse().is_ok_and(is_near)
}

/// Compares this machine's clock with that of the service.
pub(crate) fn clock(service_time: SystemTime, local_time: SystemTime) -> Finding {
    // The header has a precision of a second and a transmission delay.
    let (skew, direction) = match service_time.duration_since(local_time) {
        Ok(ahead) => (ahead, "behind"),
        Err(behind) => (behind.duration(), "ahead"),
    };
    let seconds = skew.as_secs_f64();
    let text = format!("this machine is {seconds:.0} s {direction} of the service");
    let severity = match skew {
        skew if skew > MAX_SKEW => Severity::Fail,
        skew if skew > WARN_SKEW => Severity::Warn,
        _ => return Finding::ok("clock", "agrees with that of the service"),
    };
    Finding::new("clock", severity, text).advise("synchronize it, for example by NTP")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clock_skew_is_reported_in_both_directions() {
        let now = SystemTime::now();
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert_eq!(clock(now, now).severity, Severity::Ok);
        assert_eq!(clock(now + minutes(2), now).severity, Severity::Warn);
        let late = clock(now - minutes(20), now);
        assert_eq!(late.severity, Severity::Fail);
        assert!(late.text.contains("1200 s ahead"), "{}", late.text);
    }
}
