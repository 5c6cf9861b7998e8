use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, Method, Request, Uri, header};
use landfall_net::Proxies;
use landfall_s3::client::{ErrorKind, ObjectRef};

use super::{Doctor, Finding, Severity, milliseconds, web};
use crate::{s3::Diagnosis, settings::is_private};

const TIMEOUT: Duration = Duration::from_secs(5);

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
    let uri = url.parse::<Uri>();
    let uri = uri.map_err(|_| Finding::fail("endpoint", "cannot be used in a URL"))?;
    doctor.report(credentials(&uri));
    connect(doctor, &uri).await?;
    probe(doctor, &uri).await?;
    bucket(doctor).await?;
    // By now the client has detected another region of the bucket, and signs for it.
    let signed_again = doctor.presign(Method::GET, &object, &[], &none).await;
    if let Some(found) = signed_again.ok().and_then(|url| url.parse::<Uri>().ok())
        && region(&found) != region(&uri)
    {
        let (own, other) = (region(&found), region(&uri));
        let text = format!("the bucket is in {own}, not in {other}");
        let remedy = format!("set --s3-region {own}");
        doctor.report(Finding::warn("region", text).advise(remedy));
    }
    Ok(())
}

fn parameter<'a>(signed: &'a Uri, name: &str) -> Option<&'a str> {
    signed.query()?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then_some(value)
    })
}

fn scope(signed: &Uri) -> (String, String) {
    let scope = parameter(signed, "X-Amz-Credential").unwrap_or_default();
    let scope = scope.replace("%2F", "/");
    let mut parts = scope.split('/').map(str::to_owned);
    let key = parts.next().unwrap_or_default();
    (key, parts.nth(1).unwrap_or_default())
}

fn region(signed: &Uri) -> String {
    scope(signed).1
}

fn credentials(signed: &Uri) -> Finding {
    let (key, region) = scope(signed);
    let temporary = match parameter(signed, "X-Amz-Security-Token") {
        Some(_) => ", temporary",
        None => "",
    };
    let origin = origin(&key);
    let text = format!("access key {key}{temporary}, from {origin}; region {region}");
    Finding::ok("credentials", text)
}

fn origin(key: &str) -> String {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if std::env::var("AWS_ACCESS_KEY_ID").is_ok_and(|known| known == key) {
        return "AWS_ACCESS_KEY_ID".to_owned();
    }
    for (variable, default) in [
        ("AWS_ACCESS_KEY_ID_FILE", ""),
        ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
        ("AWS_CONFIG_FILE", ".aws/config"),
    ] {
        let file = std::env::var_os(variable).map(PathBuf::from).or_else(|| {
            let home = std::env::var_os("HOME")?;
            Some(PathBuf::from(home).join(default))
        });
        if let Some(file) = file
            && std::fs::read_to_string(&file).is_ok_and(|text| text.contains(key))
        {
            return file.display().to_string();
        }
    }
    if is_set("AWS_WEB_IDENTITY_TOKEN_FILE") {
        return "web identity (AWS_WEB_IDENTITY_TOKEN_FILE)".to_owned();
    }
    if is_set("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
        || is_set("AWS_CONTAINER_CREDENTIALS_FULL_URI")
    {
        return "the container's role".to_owned();
    }
    "a role, a login or a program of the AWS configuration".to_owned()
}

async fn connect(doctor: &mut Doctor<'_>, uri: &Uri) -> Result<(), Finding> {
    let host = uri.host().unwrap_or_default();
    let is_plain = uri.scheme_str() == Some("http");
    let port = uri.port_u16().unwrap_or(if is_plain { 80 } else { 443 });
    if let Some(proxy) = Proxies::from_env().for_uri(uri) {
        // It resolves the name; whether it connects is seen by the first request.
        let text = format!("{host}:{port} through the proxy {}", proxy.uri());
        doctor.report(Finding::ok("connection", text));
        return Ok(());
    }
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let started = Instant::now();
    let resolved = tokio::time::timeout(TIMEOUT, tokio::net::lookup_host((bare, port))).await;
    let addresses: Vec<SocketAddr> = match resolved {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            let text = format!("{host} has no address: {error}");
            return Err(Finding::fail("name", text).advise(
                "correct --s3-endpoint or --s3-region, or this machine's DNS; if only the host with the \
                 bucket's name is unknown, set --s3-path-style true",
            ));
        }
        Err(_) => Vec::new(),
    };
    let Some(first) = addresses.first() else {
        let text = format!("{host} was not resolved within {} s", TIMEOUT.as_secs());
        return Err(Finding::fail("name", text).advise("check this machine's DNS"));
    };
    let others = match addresses.len() {
        1 => String::new(),
        all => format!(" and {} more", all - 1),
    };
    let took = milliseconds(started.elapsed());
    let text = format!("{host} is {}{others}, {took}", first.ip());
    doctor.report(Finding::ok("name", text));

    let started = Instant::now();
    let connected =
        tokio::time::timeout(TIMEOUT, tokio::net::TcpStream::connect(&addresses[..])).await;
    let error = match connected {
        Ok(Ok(_)) => {
            let text = format!("{host}:{port}, {}", milliseconds(started.elapsed()));
            doctor.report(Finding::ok("connection", text));
            return Ok(());
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("timeout after {} s", TIMEOUT.as_secs()),
    };
    let text = format!("cannot connect to {host}:{port}: {error}");
    Err(Finding::fail("connection", text).advise(
        "correct --s3-endpoint, start the service, or allow the connection in the firewall",
    ))
}

async fn probe(doctor: &mut Doctor<'_>, uri: &Uri) -> Result<(), Finding> {
    let tls = uri.scheme_str() == Some("https");
    let root = Uri::builder()
        .scheme(uri.scheme_str().unwrap_or("https"))
        .authority(uri.authority().map_or("", |authority| authority.as_str()))
        .path_and_query("/")
        .build();
    let Ok(request) = root.and_then(|root| Request::get(root).body(())) else {
        return Ok(());
    };
    let started = Instant::now();
    let response = match web::send(request).await {
        Ok(response) => response,
        Err(error) => {
            let advice = if tls {
                "if the certificate is from a private authority, name its file in AWS_CA_BUNDLE, or add it \
                 to this machine's trusted ones; if the service has no TLS, use http:// in --s3-endpoint"
            } else {
                "if the service requires TLS, use https:// in --s3-endpoint"
            };
            return Err(Finding::fail("response", error).advise(advice));
        }
    };
    let took = started.elapsed();
    let headers = response.headers();
    let text_of = |name| headers.get(name)?.to_str().ok();
    let server = text_of(header::SERVER).map(|server| format!(", {server}"));
    let server = server.unwrap_or_default();
    let transport = if tls { "TLS" } else { "no TLS" };
    let text = format!("HTTP over {transport}{server}, {}", milliseconds(took));
    doctor.report(match tls || is_private_host(uri) {
        true => Finding::ok("response", text),
        false => Finding::warn("response", text)
            .advise("use https:// unless the network in between is private"),
    });
    let date = text_of(header::DATE).map(httpdate::parse_http_date);
    if let Some(Ok(service_time)) = date {
        doctor.report(clock(service_time, SystemTime::now()));
    }
    Ok(())
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
        Ok(_) => {
            let took = milliseconds(started.elapsed());
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
        let text = credentials(&uri).text;
        assert!(
            text.starts_with("access key AKIDX, temporary, from "),
            "{text}"
        );
        assert!(text.ends_with("; region eu-west-1"), "{text}");
        assert!(!text.contains("secret"), "{text}");
    }
}
