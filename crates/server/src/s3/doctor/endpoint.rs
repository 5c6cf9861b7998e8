//! Checks that the service can be reached, by its clock and its region, too. It writes nothing.

use std::time::{Duration, Instant, SystemTime};

use http::{HeaderMap, Method, Uri};
use landfall_s3::client::{ErrorKind, ObjectRef};

use super::{Doctor, Finding, Severity, milliseconds};
use crate::{s3::Diagnosis, settings::is_private};

/// Services reject requests above this clock skew.
const MAX_SKEW: Duration = Duration::from_secs(15 * 60);

const WARN_SKEW: Duration = Duration::from_secs(60);

/// An error makes the other checks useless.
pub(super) async fn run(doctor: &mut Doctor<'_>) -> Result<(), Finding> {
    // A presigned URL shows the credentials and the address without a call.
    let object = ObjectRef::new(doctor.bucket, format!("{}-none", doctor.key_prefix));
    let none = HeaderMap::new();
    let url = doctor.presign(Method::GET, &object, &[], &none).await;
    let url = url.map_err(|error| doctor.failure("credentials", &error))?;
    let signed = url.parse::<Uri>();
    let signed = signed.map_err(|_| Finding::fail("endpoint", "cannot be used in a URL"))?;
    let configured = doctor.client.region(doctor.bucket);
    doctor.report(credentials(&signed, &configured));
    if signed.scheme_str() == Some("http") && !is_private_host(&signed) {
        let finding = Finding::warn("connection", "is not encrypted");
        let advice = "use https:// unless the network in between is private";
        doctor.report(finding.advise(advice));
    }
    bucket(doctor).await?;
    // By now the client has detected another region of the bucket.
    let own = doctor.client.region(doctor.bucket);
    if own != configured {
        let text = format!("the bucket is in {own}, not in {configured}");
        let remedy = format!("set --s3-region {own}");
        doctor.report(Finding::warn("region", text).advise(remedy));
    }
    Ok(())
}

fn credentials(signed: &Uri, region: &str) -> Finding {
    let parameter = |name: &str| {
        let pairs = signed.query().unwrap_or_default().split('&');
        let mut pairs = pairs.filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then_some(value))
    };
    let scope = parameter("X-Amz-Credential").unwrap_or_default();
    let key = scope.split("%2F").next().unwrap_or_default();
    let temporary = match parameter("X-Amz-Security-Token") {
        Some(_) => ", temporary",
        None => "",
    };
    let text = format!("access key {key}{temporary}; region {region}");
    Finding::ok("credentials", text)
}

fn is_private_host(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let is_near = |address: std::net::IpAddr| address.is_loopback() || is_private(address);
    bare == "localhost" || bare.parse().is_ok_and(is_near)
}

fn clock(service_time: SystemTime, local_time: SystemTime) -> Finding {
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

async fn bucket(doctor: &mut Doctor<'_>) -> Result<(), Finding> {
    let started = Instant::now();
    let (bucket, prefix) = (doctor.bucket, &doctor.settings.s3.object_prefix);
    let finding = match doctor.client.list_objects(bucket, prefix, None, 1).await {
        Ok(page) => {
            let took = milliseconds(started.elapsed());
            if let Some(service_time) = page.time {
                doctor.report(clock(service_time, SystemTime::now()));
            }
            let text = format!("{bucket} exists and can be listed, {took}");
            Finding::ok("bucket", text)
        }
        Err(error) if *error.kind() == ErrorKind::AccessDenied => {
            let diagnosis = Diagnosis::new(&error, doctor.s3(), bucket);
            let text = "cannot be listed, which expiry and landfall sweep require";
            let text = format!("{bucket} {text}: {}", diagnosis.response);
            Finding::warn("bucket", text).advise(diagnosis.fix)
        }
        Err(error) => return Err(doctor.failure("bucket", &error)),
    };
    doctor.report(finding);
    Ok(())
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

    #[test]
    fn credentials_show_the_access_key_and_no_secret() {
        let uri = "https://h/b?X-Amz-Credential=AKIDX%2F20260101%2Feu-west-1%2Fs3%2Faws4_request\
                   &X-Amz-Security-Token=secret&X-Amz-Signature=secret"
            .parse()
            .unwrap();
        let text = credentials(&uri, "eu-west-1").text;
        assert!(text.starts_with("access key AKIDX, temporary; "), "{text}");
        assert!(text.ends_with("; region eu-west-1"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}
