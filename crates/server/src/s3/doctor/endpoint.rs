//! The way to the service: credentials, name, connection, clock, and whether the bucket is there.

use std::{
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use http::{HeaderMap, Method, Request, Uri, header};
use landfall_s3::client::{ErrorKind, ObjectRef};

use super::{Examination, Finding, Mark, Need, milliseconds, web};
use crate::s3::Advice;

/// How long a connection may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// From here on services refuse requests.
const MOST_SKEW: Duration = Duration::from_secs(15 * 60);

/// From here on somebody should look after the clock.
const ODD_SKEW: Duration = Duration::from_secs(60);

/// What has been told already keeps everything else from working.
#[derive(Debug)]
pub(super) struct Hopeless;

/// Looks at the way to the service.
pub(super) async fn examine(x: &mut Examination<'_>) -> Result<(), Hopeless> {
    // A signed URL shows both who asks and where: it is made without a call to the service.
    let place = ObjectRef::new(x.bucket, format!("{}-none", x.stem));
    let signed = x
        .client
        .presign(Method::GET, &place, &[], &HeaderMap::new(), LIFETIME)
        .await;
    let url = match signed {
        Ok(url) => url,
        Err(error) => {
            let finding = x.failure("credentials", Need::Uploads, &error);
            x.note(finding);
            return Err(Hopeless);
        }
    };
    let Ok(uri) = url.parse::<Uri>() else {
        x.note(Finding::new(
            "endpoint",
            Mark::Fail,
            "can't be put into a URL",
        ));
        return Err(Hopeless);
    };
    x.note(credentials(&uri));
    connect(x, &uri).await?;
    knock(x, &uri).await?;
    bucket(x).await?;
    // The client has learnt by now if the bucket is elsewhere, and signs for that place.
    let again = x
        .client
        .presign(Method::GET, &place, &[], &HeaderMap::new(), LIFETIME)
        .await;
    if let Some(found) = again.ok().and_then(|url| url.parse::<Uri>().ok())
        && region(&found) != region(&uri)
    {
        let text = format!(
            "the bucket is in {}, not in {}",
            region(&found),
            region(&uri)
        );
        let remedy = format!("set --s3-region {}", region(&found));
        x.note(Finding::new("region", Mark::Warn, text).advise(remedy));
    }
    Ok(())
}

/// How long the URLs are good that are only looked at.
const LIFETIME: Duration = Duration::from_secs(60);

/// A parameter of a signed URL.
fn parameter<'a>(signed: &'a Uri, name: &str) -> Option<&'a str> {
    signed.query()?.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then_some(value)
    })
}

/// What a URL is signed with: the access key, and the region.
fn scope(signed: &Uri) -> (String, String) {
    let scope = parameter(signed, "X-Amz-Credential").unwrap_or_default();
    let scope = scope.replace("%2F", "/");
    let mut parts = scope.split('/').map(str::to_owned);
    let key = parts.next().unwrap_or_default();
    (key, parts.nth(1).unwrap_or_default())
}

/// The region that a URL is signed for.
fn region(signed: &Uri) -> String {
    scope(signed).1
}

/// Who asks, and where that was found.
fn credentials(signed: &Uri) -> Finding {
    let (key, region) = scope(signed);
    let temporary = match parameter(signed, "X-Amz-Security-Token") {
        Some(_) => ", temporary",
        None => "",
    };
    let text = format!(
        "access key {key}{temporary}, from {}; region {region}",
        origin(&key)
    );
    Finding::new("credentials", Mark::Ok, text)
}

/// Where an access key was found, as far as can be seen from outside.
fn origin(key: &str) -> String {
    let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    if std::env::var("AWS_ACCESS_KEY_ID").is_ok_and(|known| known == key) {
        return "AWS_ACCESS_KEY_ID".to_owned();
    }
    for (variable, usual) in [
        ("AWS_SHARED_CREDENTIALS_FILE", ".aws/credentials"),
        ("AWS_CONFIG_FILE", ".aws/config"),
    ] {
        let file = std::env::var_os(variable).map(PathBuf::from).or_else(|| {
            let home = std::env::var_os("HOME")?;
            Some(PathBuf::from(home).join(usual))
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
    "a role, a login or a program that the AWS configuration names".to_owned()
}

/// Name and connection, each by itself, so that it shows which of the two fails.
async fn connect(x: &mut Examination<'_>, uri: &Uri) -> Result<(), Hopeless> {
    let host = uri.host().unwrap_or_default();
    let port = uri
        .port_u16()
        .unwrap_or(if uri.scheme_str() == Some("http") {
            80
        } else {
            443
        });
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let begun = Instant::now();
    let looked_up = tokio::time::timeout(PATIENCE, tokio::net::lookup_host((bare, port))).await;
    let addresses: Vec<SocketAddr> = match looked_up {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            let text = format!("{host} has no address: {error}");
            x.note(Finding::new("name", Mark::Fail, text).advise(
                "correct --s3-endpoint or --s3-region, or this machine's DNS; if only the bucket's \
                 name before the host is unknown, set --s3-path-style true",
            ));
            return Err(Hopeless);
        }
        Err(_) => Vec::new(),
    };
    let Some(first) = addresses.first() else {
        let text = format!("{host} has no address within {} s", PATIENCE.as_secs());
        x.note(Finding::new("name", Mark::Fail, text).advise("look at this machine's DNS"));
        return Err(Hopeless);
    };
    let others = match addresses.len() {
        1 => String::new(),
        all => format!(" and {} more", all - 1),
    };
    let took = milliseconds(begun.elapsed());
    x.note(Finding::new(
        "name",
        Mark::Ok,
        format!("{host} is {}{others}, {took}", first.ip()),
    ));

    let begun = Instant::now();
    let connected =
        tokio::time::timeout(PATIENCE, tokio::net::TcpStream::connect(&addresses[..])).await;
    let error = match connected {
        Ok(Ok(_)) => {
            let text = format!("{host}:{port}, {}", milliseconds(begun.elapsed()));
            x.note(Finding::new("connection", Mark::Ok, text));
            return Ok(());
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => format!("nothing within {} s", PATIENCE.as_secs()),
    };
    let text = format!("{host}:{port} can't be connected: {error}");
    x.note(Finding::new("connection", Mark::Fail, text).advise(
        "correct --s3-endpoint, start the service, or let this machine through the firewall",
    ));
    Err(Hopeless)
}

/// TLS, a first answer, and the time that the service has.
async fn knock(x: &mut Examination<'_>, uri: &Uri) -> Result<(), Hopeless> {
    let tls = uri.scheme_str() == Some("https");
    let root = Uri::builder()
        .scheme(uri.scheme_str().unwrap_or("https"))
        .authority(uri.authority().map_or("", |authority| authority.as_str()))
        .path_and_query("/")
        .build();
    let Ok(request) = root
        .map(|root| Request::get(root).body(()))
        .and_then(|request| request)
    else {
        return Ok(());
    };
    let begun = Instant::now();
    let response = match web::ask(request).await {
        Ok(response) => response,
        Err(error) => {
            let advice = if tls {
                "if the certificate is of one's own authority, add that to this machine's; if the \
                 service has no TLS, write http:// in --s3-endpoint"
            } else {
                "if the service wants TLS, write https:// in --s3-endpoint"
            };
            x.note(Finding::new("answer", Mark::Fail, error).advise(advice));
            return Err(Hopeless);
        }
    };
    let took = begun.elapsed();
    let headers = response.headers();
    let server = headers
        .get(header::SERVER)
        .and_then(|server| server.to_str().ok())
        .map_or(String::new(), |server| format!(", {server}"));
    let over = if tls { "TLS" } else { "no TLS" };
    let mark = if tls || is_near(uri) {
        Mark::Ok
    } else {
        Mark::Warn
    };
    let answer = Finding::new(
        "answer",
        mark,
        format!("HTTP over {over}{server}, {}", milliseconds(took)),
    );
    x.note(match mark {
        Mark::Warn => answer.advise("use https:// unless the network in between is your own"),
        _ => answer,
    });
    let told = headers
        .get(header::DATE)
        .and_then(|date| date.to_str().ok())
        .and_then(|date| httpdate::parse_http_date(date).ok());
    if let Some(theirs) = told {
        x.note(clock(theirs, SystemTime::now()));
    }
    Ok(())
}

/// Whether a host is this machine or in a private network, by its address.
fn is_near(uri: &Uri) -> bool {
    let host = uri.host().unwrap_or_default();
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost"
        || bare.parse().is_ok_and(|address| match address {
            std::net::IpAddr::V4(v4) => v4.is_loopback() || v4.is_private(),
            std::net::IpAddr::V6(v6) => v6.is_loopback() || v6.is_unique_local(),
        })
}

/// How far two clocks are apart.
fn clock(theirs: SystemTime, ours: SystemTime) -> Finding {
    // The header has whole seconds, and took its time to get here.
    let (skew, way) = match theirs.duration_since(ours) {
        Ok(ahead) => (ahead, "behind"),
        Err(behind) => (behind.duration(), "ahead"),
    };
    let text = format!(
        "this machine is {:.0} s {way} of the service",
        skew.as_secs_f64()
    );
    let mark = match skew {
        skew if skew > MOST_SKEW => Mark::Fail,
        skew if skew > ODD_SKEW => Mark::Warn,
        _ => return Finding::new("clock", Mark::Ok, "agrees with the service's"),
    };
    Finding::new("clock", mark, text).advise("set it, best by NTP")
}

/// Whether the bucket is there.
async fn bucket(x: &mut Examination<'_>) -> Result<(), Hopeless> {
    let begun = Instant::now();
    let listing = x
        .client
        .list_objects(x.bucket, &x.settings.s3.object_prefix, None, 1)
        .await;
    let finding = match listing {
        Ok(_) => Finding::new(
            "bucket",
            Mark::Ok,
            format!(
                "{} is there and can be listed, {}",
                x.bucket,
                milliseconds(begun.elapsed())
            ),
        ),
        Err(error) if *error.kind() == ErrorKind::AccessDenied => {
            let advice = Advice::new(&error, x.s3(), x.bucket);
            Finding::new(
                "bucket",
                Mark::Warn,
                format!(
                    "{} can't be listed, which expiry and landfall sweep need: {}",
                    x.bucket, advice.said
                ),
            )
            .advise(advice.remedy)
        }
        Err(error) => {
            let finding = x.failure("bucket", Need::Uploads, &error);
            x.note(finding);
            return Err(Hopeless);
        }
    };
    x.note(finding);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_in_both_directions() {
        let now = SystemTime::now();
        let minutes = |n: u64| Duration::from_secs(n * 60);
        assert_eq!(clock(now, now).mark, Mark::Ok);
        assert_eq!(clock(now + minutes(2), now).mark, Mark::Warn);
        let late = clock(now - minutes(20), now);
        assert_eq!(late.mark, Mark::Fail);
        assert!(late.text.contains("1200 s ahead"), "{}", late.text);
    }

    #[test]
    fn the_key_is_shown_and_nothing_secret() {
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
