//! The URL: redirects, HTTP versions, and OPTIONS.

use bytes::Bytes;
use http::{Method, StatusCode};
use url::Url;

use super::{Doctor, Response, Server, describe, field};
use crate::finding::Finding;

const MAX_REDIRECTS: usize = 5;

const UNREACHABLE: &str = "check the URL, and that the proxy can reach the server";

/// An error makes the other checks useless.
pub(super) async fn run(doctor: &mut Doctor) -> Result<(), Finding> {
    let response = follow_redirects(doctor).await?;
    doctor.server = server(&response);
    let finding = options(&response)?;
    doctor.report.add(finding);
    if doctor.url.scheme() == "https" {
        let finding = versions(doctor, &response).await;
        doctor.report.add(finding);
    }
    Ok(())
}

async fn follow_redirects(doctor: &mut Doctor) -> Result<Response, Finding> {
    const CHECK: &str = "redirect";
    for _ in 0..=MAX_REDIRECTS {
        let sent = doctor.send(&Method::OPTIONS, &doctor.url, &[], Bytes::new());
        let response = sent
            .await
            .map_err(|error| Finding::fail("response", error).advise(UNREACHABLE))?;
        let status = response.status();
        let location = field(response.headers(), "Location");
        let target = location.and_then(|location| doctor.url.join(location).ok());
        let Some(target) = target.filter(|_| status.is_redirection()) else {
            return Ok(response);
        };
        let text = format!("{} redirects to {target} ({status})", doctor.url);
        let is_upgrade = doctor.url.scheme() == "http" && target.scheme() == "https";
        // Another host must not receive the operator's headers.
        if target.host() != doctor.url.host() || !(is_upgrade || same_origin(&target, &doctor.url))
        {
            return Err(Finding::fail(CHECK, text).advise("check that URL instead"));
        }
        let finding = match is_upgrade && target.path() == doctor.url.path() {
            true => Finding::info(CHECK, text),
            false => Finding::warn(CHECK, text),
        };
        let advice = "give clients the second URL: not all follow redirects of POST and PATCH";
        doctor.report.add(finding.advise(advice));
        let prepared = doctor.client.prepare(&target);
        prepared.map_err(|error| Finding::fail(CHECK, format!("{error:#}")))?;
        doctor.url = target;
    }
    let text = format!("more than {MAX_REDIRECTS} redirects");
    Err(Finding::fail(CHECK, text).advise("remove the loop of redirects in the proxy"))
}

fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

fn server(response: &Response) -> Server {
    let headers = response.headers();
    let extensions = field(headers, "Tus-Extension").map(|names| {
        let names = names.split(',').map(|name| name.trim().to_owned());
        names.collect()
    });
    Server {
        extensions,
        max_size: field(headers, "Tus-Max-Size").and_then(|size| size.parse().ok()),
        has_draft: headers.contains_key("Upload-Limit"),
        responds_to_options: headers.contains_key("Tus-Version"),
    }
}

fn options(response: &Response) -> Result<Finding, Finding> {
    const CHECK: &str = "OPTIONS";
    let headers = response.headers();
    let value = |name| field(headers, name);
    if let Some(versions) = value("Tus-Version") {
        let extensions = value("Tus-Extension").unwrap_or("none");
        let max_size = value("Tus-Max-Size").map(|size| format!("; max size {size}"));
        let max_size = max_size.unwrap_or_default();
        let text = format!("tus {versions}; extensions {extensions}{max_size}");
        return Ok(Finding::ok(CHECK, text));
    }
    let text = format!("no Tus-Version in the response {}", describe(response));
    let advice = match response.status() {
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "give the credentials of a client with --header 'Authorization: …'"
        }
        StatusCode::NOT_FOUND | StatusCode::GONE => {
            "give the URL of the endpoint, such as https://example.com/files/, and pass it unchanged"
        }
        StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT => {
            UNREACHABLE
        }
        // The proxy may respond to it alone, as for CORS.
        _ => {
            let advice = "let the proxy pass OPTIONS and the fields of the response";
            return Ok(Finding::warn(CHECK, text).advise(advice));
        }
    };
    Err(Finding::fail(CHECK, text).advise(advice))
}

async fn versions(doctor: &Doctor, response: &Response) -> Finding {
    const CHECK: &str = "HTTP versions";
    let negotiated = doctor.client.negotiate(&doctor.url, &["h2", "http/1.1"]);
    match negotiated.await {
        Ok(selected) => {
            let selected = match selected.as_deref() {
                Some("h2") => "HTTP/2 and HTTP/1.1",
                _ => "HTTP/1.1",
            };
            let alternative = field(response.headers(), "Alt-Svc");
            let alternative = alternative.filter(|services| services.contains("h3"));
            let alternative = alternative.map_or("", |_| ", HTTP/3 by Alt-Svc");
            let text = format!("{selected}{alternative}; the checks use HTTP/1.1");
            Finding::info(CHECK, text)
        }
        Err(error) => Finding::warn(CHECK, error),
    }
}
