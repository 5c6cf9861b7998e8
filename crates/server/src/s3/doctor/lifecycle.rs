use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode};
use landfall_s3::client::ObjectRef;
use serde::Deserialize;

use super::{Doctor, Finding, web};

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

fn days(xml: &str) -> Result<Option<u64>, String> {
    let lifecycle: Lifecycle = quick_xml::de::from_str(xml).map_err(|error| error.to_string())?;
    let rules = lifecycle.rules.iter();
    let enabled = rules.filter(|rule| rule.status == "Enabled");
    let aborts = enabled.filter_map(|rule| rule.abort_incomplete_multipart_upload.as_ref());
    Ok(aborts.map(|abort| abort.days_after_initiation).min())
}

/// The bucket must abort multipart uploads, and not too early.
pub(super) async fn run(doctor: &mut Doctor<'_>) {
    let object = ObjectRef::new(doctor.bucket, "");
    let none = HeaderMap::new();
    let query = [("lifecycle", "")];
    let signed = doctor.presign(Method::GET, &object, &query, &none).await;
    let Some(Ok(request)) = signed.ok().map(|url| Request::get(url).body(())) else {
        return;
    };
    let keep = doctor.settings.expiry.unfinished;
    let finding = match web::send(request).await {
        Ok(response) if response.status() == StatusCode::OK => {
            match days(&String::from_utf8_lossy(response.body())) {
                Ok(days) => evaluate(days, keep),
                Err(error) => {
                    Finding::info("lifecycle", format!("cannot parse the rules: {error}"))
                }
            }
        }
        Ok(response) if response.status() == StatusCode::NOT_FOUND => evaluate(None, keep),
        Ok(response) => {
            let text = format!("cannot read the rules ({})", response.status());
            Finding::info("lifecycle", text)
        }
        Err(error) => Finding::info("lifecycle", error),
    };
    doctor.report(finding);
}

fn evaluate(days: Option<u64>, keep: Option<Duration>) -> Finding {
    const DAY: u64 = 86_400;
    let least = keep.map(|keep| keep.as_secs().div_ceil(DAY) + 1);
    match (days, least) {
        (None, least) => {
            let text =
                "no rule of the bucket aborts incomplete multipart uploads; the sweeper does";
            let days = least.unwrap_or(30);
            let rule = "add one (AbortIncompleteMultipartUpload)";
            let advice = format!("as a second safety net, {rule} after {days} days or more");
            Finding::info("lifecycle", text).advise(advice)
        }
        (Some(days), Some(least)) if days >= least => {
            let text = format!("the bucket aborts incomplete multipart uploads after {days} days");
            Finding::ok("lifecycle", text)
        }
        (Some(days), least) => {
            let ours = match keep {
                Some(keep) => format!("{:.1} days", keep.as_secs_f64() / DAY as f64),
                None => "without a limit".to_owned(),
            };
            let rule = format!("aborts multipart uploads {days} days after their creation");
            let text = format!("but Landfall keeps them {ours} (--expire-unfinished)");
            let finding = Finding::warn("lifecycle", format!("the bucket {rule}, {text}"));
            finding.advise(match least {
                Some(least) => format!("set the rule to {least} days or more"),
                None => "remove the rule, or set --expire-unfinished".to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Severity, *};

    #[test]
    fn the_shortest_enabled_rule_is_used() {
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
        assert_eq!(evaluate(Some(7), week).severity, Severity::Warn);
        assert_eq!(evaluate(Some(8), week).severity, Severity::Ok);
        assert_eq!(evaluate(Some(100), None).severity, Severity::Warn);
        assert_eq!(evaluate(None, week).severity, Severity::Note);
    }
}
