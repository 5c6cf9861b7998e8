//! Checks that the service can be reached, by its clock and its region, too. It writes nothing.

use std::time::{Instant, SystemTime};

use http::{HeaderMap, Method, Uri};
use landfall_objects::Cloud as _;
use landfall_s3::client::{ErrorKind, ObjectRef};

use super::{Doctor, Finding};
use crate::doctor::{
    connection::{clock, unencrypted},
    milliseconds,
};

/// An error makes the other checks useless.
pub(super) async fn run(doctor: &mut Doctor<'_>) -> Result<(), Finding> {
    // A presigned URL shows the credentials and the address without a call.
    let object = ObjectRef::new(doctor.bucket, format!("{}-none", doctor.key_prefix));
    let none = HeaderMap::new();
    let url = doctor.presign(Method::GET, &object, &[], &none).await;
    let url = url.map_err(|error| doctor.diagnose(error).failure("credentials"))?;
    let signed = url.parse::<Uri>();
    let signed = signed.map_err(|_| Finding::fail("endpoint", "cannot be used in a URL"))?;
    let configured = doctor.client.region(doctor.bucket);
    doctor.report(credentials(&signed, &configured));
    if let Some(finding) = unencrypted(&signed) {
        doctor.report(finding);
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

async fn bucket(doctor: &mut Doctor<'_>) -> Result<(), Finding> {
    let started = Instant::now();
    let (bucket, prefix) = (doctor.bucket, doctor.prefix);
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
            let diagnosis = doctor.diagnose(error);
            let text = "cannot be listed, which expiry and landfall sweep require";
            let text = format!("{bucket} {text}: {}", diagnosis.response);
            Finding::warn("bucket", text).advise(diagnosis.fix)
        }
        Err(error) => return Err(doctor.diagnose(error).failure("bucket")),
    };
    doctor.report(finding);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

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
