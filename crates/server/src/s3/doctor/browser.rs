//! What the bucket says to web pages, and what it does with multipart uploads by itself.

use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, Uri, header};
use landfall_s3::client::{CorsRule, Place};
use serde::Deserialize;

use super::{Examination, Finding, Mark, web};
use crate::s3::advice;

/// Whether pages of an origin may talk to the bucket: they have to when downloads are redirected
/// to it.
pub(super) async fn cors(x: &mut Examination<'_>, origin: Option<&str>) {
    let rules = match x.client.bucket_cors(x.bucket).await {
        Ok(rules) => rules,
        Err(error) => {
            let mark = match origin {
                Some(_) => Mark::Warn,
                None => Mark::Note,
            };
            let text = format!("the rules can't be read: {}", advice::said(&error));
            x.note(Finding::new("CORS", mark, text));
            if let Some(origin) = origin {
                preflight(x, origin).await;
            }
            return;
        }
    };
    let redirects = x.s3().download.redirect;
    let Some(origin) = origin else {
        let text = match rules {
            None => "the bucket has no rules".to_owned(),
            Some(rules) => format!("the bucket has {} rule(s)", rules.len()),
        };
        let finding = Finding::new("CORS", Mark::Note, text);
        x.note(match redirects {
            true => finding.advise(
                "pages that read uploads by script are redirected to the bucket: check one with \
                 -origin https://example.com",
            ),
            false => finding,
        });
        return;
    };
    let rules = rules.unwrap_or_default();
    let allows = |method: &str| rules.iter().any(|rule| covers(rule, origin, method));
    let mut missing = Vec::new();
    for method in ["GET", "PUT"] {
        if !allows(method) {
            missing.push(method);
        }
    }
    let shows_etag = rules.iter().any(|rule| {
        covers(rule, origin, "PUT") && rule.expose_headers.iter().any(|name| matches(name, "etag"))
    });
    let remedy = format!(
        "add a rule with AllowedOrigins [\"{origin}\"], AllowedMethods [\"GET\", \"HEAD\", \
         \"PUT\"], AllowedHeaders [\"*\"] and ExposeHeaders [\"ETag\"]"
    );
    let finding = if !missing.is_empty() {
        let text = format!("no rule allows {} from {origin}", missing.join(" and "));
        Finding::new("CORS", Mark::Warn, text).advise(remedy)
    } else if !shows_etag {
        let text = format!("the rule for {origin} doesn't expose ETag");
        Finding::new("CORS", Mark::Warn, text).advise(remedy)
    } else {
        let text = format!("GET and PUT from {origin} are allowed, ETag is exposed");
        Finding::new("CORS", Mark::Ok, text)
    };
    x.note(finding);
    preflight(x, origin).await;
}

/// Whether a rule is for this origin and method.
fn covers(rule: &CorsRule, origin: &str, method: &str) -> bool {
    let is_method = rule.allowed_methods.iter().any(|one| one == method);
    is_method && rule.allowed_origins.iter().any(|one| matches(one, origin))
}

/// Whether a pattern of a rule, with at most one `*`, matches.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

/// Asks as a browser would.
async fn preflight(x: &mut Examination<'_>, origin: &str) {
    let place = Place::new(x.bucket, format!("{}-none", x.stem));
    let none = HeaderMap::new();
    let minute = Duration::from_secs(60);
    let Ok(url) = x
        .client
        .presign(Method::PUT, &place, &[], &none, minute)
        .await
    else {
        return;
    };
    let request = Request::options(url)
        .header(header::ORIGIN, origin)
        .header(header::ACCESS_CONTROL_REQUEST_METHOD, "PUT")
        .body(());
    let Ok(request) = request else { return };
    let finding = match web::ask(request).await {
        Ok(response) => {
            let allowed = response
                .headers()
                .get(header::ACCESS_CONTROL_ALLOW_ORIGIN)
                .and_then(|value| value.to_str().ok());
            let status = response.status();
            match allowed {
                Some(allowed) if status.is_success() && (allowed == "*" || allowed == origin) => {
                    Finding::new("preflight", Mark::Ok, format!("{origin} may PUT"))
                }
                _ => Finding::new(
                    "preflight",
                    Mark::Warn,
                    format!(
                        "the service answers {status} and allows {}",
                        allowed.unwrap_or("no origin")
                    ),
                ),
            }
        }
        Err(error) => Finding::new("preflight", Mark::Warn, error),
    };
    x.note(finding);
}

/// The bucket's lifecycle rules, as far as they are about multipart uploads.
#[derive(Debug, Deserialize)]
struct Lifecycle {
    #[serde(rename = "Rule", default)]
    rules: Vec<Rule>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Rule {
    status: String,
    #[serde(default)]
    abort_incomplete_multipart_upload: Option<Abort>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Abort {
    days_after_initiation: u64,
}

/// After how many days the bucket drops multipart uploads by itself.
fn days(xml: &str) -> Result<Option<u64>, String> {
    let lifecycle: Lifecycle = quick_xml::de::from_str(xml).map_err(|error| error.to_string())?;
    Ok(lifecycle
        .rules
        .iter()
        .filter(|rule| rule.status == "Enabled")
        .filter_map(|rule| {
            Some(
                rule.abort_incomplete_multipart_upload
                    .as_ref()?
                    .days_after_initiation,
            )
        })
        .min())
}

/// Whether the bucket drops multipart uploads by itself, and not too soon.
pub(super) async fn lifecycle(x: &mut Examination<'_>) {
    // The client has no such call; a signed URL does for reading.
    let place = Place::new(x.bucket, "");
    let none = HeaderMap::new();
    let query = [("lifecycle", "")];
    let minute = Duration::from_secs(60);
    let signed = x.client.presign(Method::GET, &place, &query, &none, minute);
    let Some(uri) = signed.await.ok().and_then(|url| url.parse::<Uri>().ok()) else {
        return;
    };
    let Ok(request) = Request::get(uri).body(()) else {
        return;
    };
    let keep = x.settings.expiry.unfinished;
    let finding = match web::ask(request).await {
        Ok(response) if response.status() == StatusCode::OK => {
            match days(&String::from_utf8_lossy(response.body())) {
                Ok(days) => judge(days, keep),
                Err(error) => Finding::new(
                    "lifecycle",
                    Mark::Note,
                    format!("the rules make no sense here: {error}"),
                ),
            }
        }
        Ok(response) if response.status() == StatusCode::NOT_FOUND => judge(None, keep),
        Ok(response) => Finding::new(
            "lifecycle",
            Mark::Note,
            format!("the rules can't be read ({})", response.status()),
        ),
        Err(error) => Finding::new("lifecycle", Mark::Note, error),
    };
    x.note(finding);
}

/// Compares the bucket's rule with the lifetime that uploads have here.
fn judge(days: Option<u64>, keep: Option<Duration>) -> Finding {
    const DAY: u64 = 86_400;
    let least = keep.map(|keep| keep.as_secs().div_ceil(DAY) + 1);
    match (days, least) {
        (None, least) => Finding::new(
            "lifecycle",
            Mark::Note,
            "no rule of the bucket drops unfinished multipart uploads; the sweeper does",
        )
        .advise(format!(
            "as a second net, add one (AbortIncompleteMultipartUpload) after {} days or more",
            least.unwrap_or(30)
        )),
        (Some(days), Some(least)) if days >= least => Finding::new(
            "lifecycle",
            Mark::Ok,
            format!("the bucket drops unfinished multipart uploads after {days} days"),
        ),
        (Some(days), least) => {
            let ours = match keep {
                Some(keep) => format!("{:.1} days", keep.as_secs_f64() / DAY as f64),
                None => "for ever".to_owned(),
            };
            Finding::new(
                "lifecycle",
                Mark::Warn,
                format!(
                    "the bucket drops multipart uploads after {days} days, counted from their \
                     beginning, and with them uploads that are kept {ours} here \
                     (-expire-unfinished)"
                ),
            )
            .advise(match least {
                Some(least) => format!("let the rule wait {least} days or more"),
                None => "remove the rule, or set -expire-unfinished".to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_have_one_star() {
        assert!(matches("*", "https://a.example"));
        assert!(matches("https://*.example", "https://a.example"));
        assert!(!matches("https://*.example", "https://.exam"));
        assert!(matches("ETag", "etag"));
        assert!(!matches("https://a.example", "https://b.example"));
    }

    #[test]
    fn the_shortest_rule_in_force_counts() {
        let rule = |status: &str, days: u64| {
            format!(
                "<Rule><ID>r</ID><Status>{status}</Status><Filter><Prefix/></Filter>\
                 <AbortIncompleteMultipartUpload><DaysAfterInitiation>{days}</DaysAfterInitiation>\
                 </AbortIncompleteMultipartUpload></Rule>"
            )
        };
        let xml = |rules: &str| {
            format!(
                "<?xml version=\"1.0\"?><LifecycleConfiguration>{rules}</LifecycleConfiguration>"
            )
        };
        assert_eq!(days(&xml("")), Ok(None));
        let rules = rule("Enabled", 9) + &rule("Disabled", 1) + &rule("Enabled", 8);
        assert_eq!(days(&xml(&rules)), Ok(Some(8)));
        let other = "<Rule><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>";
        assert_eq!(days(&xml(other)), Ok(None));
        days("{}").unwrap_err();
    }

    #[test]
    fn a_rule_must_not_be_shorter_than_the_lifetime() {
        let week = Some(Duration::from_secs(7 * 86_400));
        assert_eq!(judge(Some(7), week).mark, Mark::Warn);
        assert_eq!(judge(Some(8), week).mark, Mark::Ok);
        assert_eq!(judge(Some(100), None).mark, Mark::Warn);
        assert_eq!(judge(None, week).mark, Mark::Note);
    }
}
