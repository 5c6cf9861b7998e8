//! The URL: redirects, HTTP versions, and OPTIONS.

use url::Url;

use super::{Doctor, Finding, Request, Response, client, describe};
use crate::capabilities::Capabilities;

const MAX_REDIRECTS: usize = 5;

const UNREACHABLE: &str = "check the URL, and that the proxy can reach the server";

/// An error makes the other checks useless.
pub(super) async fn run(doctor: &mut Doctor<'_>) -> Result<(), Finding> {
    let response = follow_redirects(doctor).await?;
    doctor.server = Capabilities::from_options(&response);
    let finding = options(&response)?;
    doctor.add(finding);
    if doctor.url.scheme() == "https" {
        let finding = versions(doctor, &response).await;
        doctor.add(finding);
    }
    Ok(())
}

async fn follow_redirects(doctor: &mut Doctor<'_>) -> Result<Response, Finding> {
    const CHECK: &str = "redirect";
    for _ in 0..=MAX_REDIRECTS {
        let sent = doctor.send(Request::new("OPTIONS", &doctor.url));
        let response = sent
            .await
            .map_err(|error| Finding::fail("response", error).advise(UNREACHABLE))?;
        let location = response.field("Location");
        let target = location.and_then(|location| doctor.url.join(location).ok());
        let Some(target) = target.filter(|_| matches!(response.status, 300..=399)) else {
            return Ok(response);
        };
        let text = format!(
            "{} redirects to {target} ({})",
            doctor.url,
            super::status(&response)
        );
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
        doctor.add(finding.advise(advice));
        let client = client(&doctor.options, &target);
        doctor.client = client.map_err(|error| Finding::fail(CHECK, error.to_string()))?;
        doctor.url = target;
    }
    let text = format!("more than {MAX_REDIRECTS} redirects");
    Err(Finding::fail(CHECK, text).advise("remove the loop of redirects in the proxy"))
}

fn same_origin(one: &Url, other: &Url) -> bool {
    one.origin() == other.origin()
}

fn options(response: &Response) -> Result<Finding, Finding> {
    const CHECK: &str = "OPTIONS";
    let value = |name| response.field(name);
    if let Some(versions) = value("Tus-Version") {
        let extensions = value("Tus-Extension").unwrap_or("none");
        let max_size = value("Tus-Max-Size").map(|size| format!("; max size {size}"));
        let max_size = max_size.unwrap_or_default();
        let text = format!("tus {versions}; extensions {extensions}{max_size}");
        return Ok(Finding::ok(CHECK, text));
    }
    let text = format!("no Tus-Version in the response {}", describe(response));
    let advice = match response.status {
        401 | 403 => "give the credentials of a client with --header 'Authorization: …'",
        404 | 410 => {
            "give the URL of the endpoint, such as https://example.com/files/, and pass it unchanged"
        }
        502..=504 => UNREACHABLE,
        // The proxy may respond to it alone, as for CORS.
        _ => {
            let advice = "let the proxy pass OPTIONS and the fields of the response; the URL of the upload page is not \
                          that of uploads, which is such as https://example.com/files/";
            return Ok(Finding::warn(CHECK, text).advise(advice));
        }
    };
    Err(Finding::fail(CHECK, text).advise(advice))
}

async fn versions(doctor: &Doctor<'_>, response: &Response) -> Finding {
    const CHECK: &str = "HTTP versions";
    match doctor.client.selects_http2(&doctor.url).await {
        Ok(has_http2) => {
            let selected = match has_http2 {
                true => "HTTP/2 and HTTP/1.1",
                false => "HTTP/1.1",
            };
            let alternative = response.field("Alt-Svc");
            let alternative = alternative.filter(|services| services.contains("h3"));
            let alternative = alternative.map_or("", |_| ", HTTP/3 by Alt-Svc");
            let text = format!("{selected}{alternative}; the checks use HTTP/1.1");
            Finding::info(CHECK, text)
        }
        Err(error) => Finding::warn(CHECK, doctor.error(&error)),
    }
}
