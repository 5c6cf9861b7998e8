//! The creation of an upload, and the URL that clients receive for it.

use url::Url;

use super::{Doctor, Finding, Response, describe, is_from_server};

pub(super) const FIELDS_ADVICE: &str = "let the proxy pass it in both directions (nginx: no proxy_hide_header or proxy_set_header of it; \
     HAProxy: no http-request or http-response del-header; Caddy: no header_up or header_down -…)";

const LOCATION_ADVICE: &str = "let the proxy send the scheme and host (nginx: proxy_set_header X-Forwarded-Proto $scheme and \
     X-Forwarded-Host $http_host; HAProxy: http-request set-header; Caddy does), and start Landfall with \
     --behind-proxy, or with --public-url URL or relative";

/// The bytes of the upload for the checks of methods.
pub(super) const LENGTH: u64 = 8;

/// An error makes the other checks useless.
pub(super) async fn run(doctor: &mut Doctor<'_>) -> Result<Url, Finding> {
    const CHECK: &str = "creation";
    let response = doctor.request_creation(LENGTH).await;
    let response = response.map_err(|error| Finding::fail(CHECK, error))?;
    let Some(upload) = doctor.location(&response) else {
        return Err(failure(CHECK, &response));
    };
    doctor.add(Finding::ok(CHECK, describe(&response)));
    let finding = location(&doctor.url, &response);
    doctor.add(finding);
    Ok(upload)
}

fn failure(check: &'static str, response: &Response) -> Finding {
    let described = describe(response);
    let error = String::from_utf8_lossy(&response.body);
    let lost = |name: &str| {
        let text = format!("{name} does not reach the server: {described}");
        Finding::fail(check, text).advise(FIELDS_ADVICE)
    };
    match response.status {
        201 => {
            let text = "the response has no Location, and its upload remains";
            Finding::fail(check, text).advise(FIELDS_ADVICE)
        }
        412 if is_from_server(response) => lost("Tus-Resumable"),
        _ if error.contains("ERR_INVALID_UPLOAD_LENGTH") => lost("Upload-Length"),
        401 | 403 => {
            let advice = "give the credentials of a client with --header 'Authorization: …'";
            Finding::fail(check, described).advise(advice)
        }
        _ if is_from_server(response) => Finding::fail(check, described).advise(
            "give the fields that the server requires with --header, such as Upload-Metadata",
        ),
        _ => Finding::fail(check, described).advise("let the proxy pass POST requests"),
    }
}

fn location(url: &Url, response: &Response) -> Finding {
    const CHECK: &str = "Location";
    let location = response.field("Location").unwrap_or_default();
    let Ok(target) = url.join(location) else {
        return Finding::fail(CHECK, format!("{location:?} is not a URL"));
    };
    let base = format!("{}/", url.path().trim_end_matches('/'));
    let same_origin = target.origin() == url.origin();
    if same_origin && target.path().starts_with(&base) {
        return Finding::ok(CHECK, location);
    }
    let text = format!("{location} is not below {url}");
    let advice = match same_origin {
        true => {
            "let the proxy pass the path unchanged, or send X-Forwarded-Prefix to Landfall with --behind-proxy"
        }
        false => LOCATION_ADVICE,
    };
    Finding::fail(CHECK, text).advise(advice)
}

#[cfg(test)]
mod tests {
    use landfall_console::Severity;

    use super::*;

    fn severity(url: &str, target: &str) -> Severity {
        let response = Response {
            fields: vec![("Location".to_owned(), target.to_owned())],
            ..Response::default()
        };
        location(&Url::parse(url).unwrap(), &response).severity
    }

    #[test]
    fn a_location_is_below_the_url() {
        let url = "https://a.example/files/";
        for same in [
            "https://a.example/files/1",
            "https://a.example:443/files/1",
            "/files/1",
            "1",
        ] {
            assert_eq!(severity(url, same), Severity::Ok, "{same}");
        }
        for other in [
            "http://a.example/files/1",
            "https://a.example:8443/files/1",
            "https://b.example/files/1",
            "https://a.example/1",
        ] {
            assert_eq!(severity(url, other), Severity::Fail, "{other}");
        }
        assert_eq!(
            severity("http://[::1]:8080/files", "/files/1"),
            Severity::Ok
        );
    }
}
