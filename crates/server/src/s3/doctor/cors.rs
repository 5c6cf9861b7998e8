//! What the bucket lets web pages do: by its rules, and by what it answers.

use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, header};
use landfall_s3::client::CorsRule;

use super::{Examination, Finding, Mark, web};
use crate::s3::{
    advice,
    cors::{self, Needs, covering, lacking},
};

/// How long a signed request of a probe is good for.
const MINUTE: Duration = Duration::from_secs(60);

/// Whether pages of these origins may talk to the bucket: they have to when they send uploads
/// straight to it, or downloads are redirected to it.
pub(super) async fn examine(x: &mut Examination<'_>, origins: &[String], may_write: bool) {
    let read = x.client.bucket_cors(x.bucket).await;
    if origins.is_empty() {
        let text = match &read {
            Err(error) => format!("the rules can't be read: {}", advice::said(error)),
            Ok(None) => "the bucket has no rules".to_owned(),
            Ok(Some(rules)) => format!("the bucket has {} rule(s)", rules.len()),
        };
        let finding = Finding::new("CORS", Mark::Note, text);
        let pages = x.s3().download.redirect || x.settings.direct.enabled;
        x.note(match pages {
            true => finding.advise(
                "pages talk to the bucket themselves: check what they may with -origin \
                 https://example.com",
            ),
            false => finding,
        });
        return;
    }
    let needs = Needs::of(x.settings);
    // Without direct uploads, most of what Landfall does works all the same.
    let bad = match x.settings.direct.enabled {
        true => Mark::Fail,
        false => Mark::Warn,
    };
    let begun = x.findings.len();
    if let Err(error) = &read {
        let text = format!("the rules can't be read: {}", advice::said(error));
        let finding = Finding::new("CORS", Mark::Note, text);
        x.note(finding.advise("what follows is what the service answers"));
    }
    for origin in origins {
        if let Ok(rules) = &read {
            for finding in judge(rules.as_deref().unwrap_or_default(), origin, &needs, bad) {
                x.note(finding);
            }
        }
        for &method in &needs.methods {
            preflight(x, origin, method, &needs, bad).await;
        }
        if read.is_err() {
            for &method in &needs.helpful {
                preflight(x, origin, method, &needs, Mark::Note).await;
            }
        }
        if may_write {
            put(x, origin, bad).await;
        }
    }
    let found = &x.findings[begun..];
    if found
        .iter()
        .any(|one| matches!(one.mark, Mark::Warn | Mark::Fail))
    {
        let finding = remedy(x.bucket, read.ok(), origins);
        x.note(finding);
    }
}

/// What to set, and how.
fn remedy(bucket: &str, rules: Option<Option<Vec<CorsRule>>>, origins: &[String]) -> Finding {
    let ours = cors::rule(origins);
    let (rules, keeps) = match rules {
        Some(rules) => (cors::merged(&rules.unwrap_or_default(), ours), ""),
        None => (vec![ours], " beside those that are there"),
    };
    let rules = cors::to_json(&rules);
    let flags: String = origins
        .iter()
        .map(|origin| format!(" -origin {origin}"))
        .collect();
    let mut finding = Finding::new(
        "CORS to set",
        Mark::Note,
        format!("landfall s3 set-cors{flags}"),
    )
    .advise(format!(
        "or by other means{keeps}: aws s3api put-bucket-cors --bucket {bucket} \
         --cors-configuration '{rules}'"
    ));
    finding.rules = Some(rules);
    finding
}

/// What the rules say to an origin.
fn judge(rules: &[CorsRule], origin: &str, needs: &Needs, bad: Mark) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut note = |check, mark, text: String| findings.push(Finding::new(check, mark, text));
    let denied = |methods: &[&'static str]| -> Vec<&'static str> {
        let is_denied = |method: &&str| covering(rules, origin, method).is_none();
        methods.iter().copied().filter(is_denied).collect()
    };
    match denied(&needs.methods).as_slice() {
        [] => {
            let methods = needs.methods.join(" and ");
            note(
                "CORS",
                Mark::Ok,
                format!("{methods} from {origin} are allowed"),
            );
        }
        denied => {
            let text = format!("no rule allows {} from {origin}", denied.join(" and "));
            note("CORS", bad, text);
        }
    }
    if let denied @ [_, ..] = denied(&needs.helpful).as_slice() {
        let text = format!(
            "no rule allows {} from {origin}: pages that ask S3 themselves need them (Uppy with \
             signRequest or getCredentials)",
            denied.join(" and ")
        );
        note("CORS signer mode", Mark::Note, text);
    }
    let Some(rule) = covering(rules, origin, "PUT") else {
        return findings;
    };
    match lacking(&rule.allowed_headers, &needs.headers).as_slice() {
        [] => note("CORS headers", Mark::Ok, needs.headers.join(", ")),
        lacking => note(
            "CORS headers",
            bad,
            format!("the rule for {origin} doesn't allow {}", lacking.join(", ")),
        ),
    }
    match lacking(&rule.expose_headers, &["etag"]).as_slice() {
        [] => note("CORS ETag", Mark::Ok, "is exposed".to_owned()),
        _ => note(
            "CORS ETag",
            bad,
            format!(
                "the rule for {origin} doesn't expose ETag, without which parts can't be completed"
            ),
        ),
    }
    let form = covering(rules, origin, "POST").unwrap_or(rule);
    if !lacking(&form.expose_headers, &["location"]).is_empty() {
        let text = "isn't exposed: pages don't learn the address of a small file";
        note("CORS Location", Mark::Note, text.to_owned());
    }
    match rule.max_age_seconds {
        Some(seconds) if seconds >= 60 => {}
        _ => {
            let text = "is short: browsers ask again before almost every part";
            note("CORS max age", Mark::Note, text.to_owned());
        }
    }
    findings
}

/// What a browser finds in an answer.
struct Allowed<'a>(&'a Response<Bytes>);

impl Allowed<'_> {
    /// The words of all headers of a name.
    fn words(&self, name: HeaderName) -> Vec<String> {
        let values = self.0.headers().get_all(name);
        let values = values.iter().filter_map(|value| value.to_str().ok());
        values
            .flat_map(|value| value.split(','))
            .map(|word| word.trim().to_owned())
            .filter(|word| !word.is_empty())
            .collect()
    }

    /// What is wrong with the answer to a request from `origin`, if anything.
    fn problem(&self, origin: &str) -> Option<String> {
        let status = self.0.status();
        let allowed = self.words(header::ACCESS_CONTROL_ALLOW_ORIGIN);
        let is_allowed = matches!(allowed.as_slice(), [one] if one == "*" || one == origin);
        if status.is_success() && is_allowed {
            return None;
        }
        let allowed = match allowed.as_slice() {
            [] => "no origin".to_owned(),
            origins => origins.join(", "),
        };
        Some(format!("the service answers {status} and allows {allowed}"))
    }
}

/// Asks as a browser would before the request itself.
async fn preflight(x: &mut Examination<'_>, origin: &str, method: &str, needs: &Needs, bad: Mark) {
    const CHECK: &str = "preflight";
    let asked = match method {
        "PUT" => needs.headers.join(","),
        _ => String::new(),
    };
    let Ok(of) = Method::from_bytes(method.as_bytes()) else {
        return;
    };
    let place = landfall_s3::client::ObjectRef::new(x.bucket, format!("{}-none", x.stem));
    let none = HeaderMap::new();
    let url = match x.client.presign(of, &place, &[], &none, MINUTE).await {
        Ok(url) => url,
        Err(error) => return x.note(Finding::new(CHECK, bad, advice::said(&error))),
    };
    let mut request = Request::options(url)
        .header(header::ORIGIN, origin)
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, method);
    if !asked.is_empty() {
        request = request.header(header::ACCESS_CONTROL_REQUEST_HEADERS, asked);
    }
    let Ok(request) = request.body(()) else {
        return;
    };
    let response = match web::ask(request).await {
        Ok(response) => response,
        Err(error) => return x.note(Finding::new(CHECK, bad, error)),
    };
    let answer = Allowed(&response);
    let methods = answer.words(header::ACCESS_CONTROL_ALLOW_METHODS);
    let headers = answer.words(header::ACCESS_CONTROL_ALLOW_HEADERS);
    let lacking = match method {
        "PUT" => lacking(&headers, &needs.headers),
        _ => Vec::new(),
    };
    let problem = if let Some(problem) = answer.problem(origin) {
        Some(problem)
    } else if !methods.iter().any(|one| one == method || one == "*") {
        Some(format!(
            "the service allows the methods {:?} alone",
            methods.join(", ")
        ))
    } else if !lacking.is_empty() {
        Some(format!(
            "the service doesn't allow the headers {}",
            lacking.join(", ")
        ))
    } else {
        None
    };
    x.note(match problem {
        None => Finding::new(CHECK, Mark::Ok, format!("{origin} may {method}")),
        Some(problem) => Finding::new(CHECK, bad, format!("{method} from {origin}: {problem}")),
    });
}

/// Sends an empty file by a presigned URL, as a page would, and looks what it could read of the answer.
async fn put(x: &mut Examination<'_>, origin: &str, bad: Mark) {
    const CHECK: &str = "presigned PUT";
    let place = x.place("by-page");
    let mut headers = HeaderMap::new();
    let content_type = HeaderValue::from_static("text/x-landfall");
    headers.insert(header::CONTENT_TYPE, content_type.clone());
    let signed = x.client.presign(Method::PUT, &place, &[], &headers, MINUTE);
    let url = match signed.await {
        Ok(url) => url,
        Err(error) => return x.note(Finding::new(CHECK, bad, advice::said(&error))),
    };
    let request = Request::put(url)
        .header(header::ORIGIN, origin)
        .header(header::CONTENT_TYPE, content_type)
        .body(());
    let Ok(request) = request else { return };
    let response = match web::ask(request).await {
        Ok(response) => response,
        Err(error) => return x.note(Finding::new(CHECK, bad, error)),
    };
    let answer = Allowed(&response);
    let exposed = answer.words(header::ACCESS_CONTROL_EXPOSE_HEADERS);
    let problem = if let Some(problem) = answer.problem(origin) {
        Some(problem)
    } else if !response.headers().contains_key(header::ETAG) {
        Some("the answer has no ETag".to_owned())
    } else if !lacking(&exposed, &["etag"]).is_empty() {
        Some("the answer doesn't expose its ETag".to_owned())
    } else {
        None
    };
    x.note(match problem {
        None => Finding::new(
            CHECK,
            Mark::Ok,
            format!("from {origin} works, ETag can be read"),
        ),
        Some(problem) => Finding::new(CHECK, bad, format!("from {origin}: {problem}")),
    });
}
