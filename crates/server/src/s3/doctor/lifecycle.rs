//! Checks the bucket's rules for multipart uploads, old versions and retention. It changes none.

use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode};
use landfall_s3::client::ObjectRef;
use serde::Deserialize;

use super::{Doctor, Finding};

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
    #[serde(default)]
    noncurrent_version_expiration: Option<NoncurrentExpiration>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Abort {
    days_after_initiation: u64,
}

#[derive(Debug, Deserialize)]
struct NoncurrentExpiration {
    #[serde(rename = "NoncurrentDays")]
    days: u64,
}

/// The days after which multipart uploads are aborted, and old versions are removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Days {
    abort: Option<u64>,
    old_versions: Option<u64>,
}

fn days(xml: &str) -> Result<Days, String> {
    let lifecycle: Lifecycle =
        quick_xml::de::from_str(xml).map_err(|error| format!("cannot parse the rules: {error}"))?;
    let rules = lifecycle.rules.iter();
    let enabled = rules.filter(|rule| rule.status == "Enabled");
    let aborts = enabled.clone();
    let aborts = aborts.filter_map(|rule| rule.abort_incomplete_multipart_upload.as_ref());
    let expirations = enabled.filter_map(|rule| rule.noncurrent_version_expiration.as_ref());
    Ok(Days {
        abort: aborts.map(|abort| abort.days_after_initiation).min(),
        old_versions: expirations.map(|expiration| expiration.days).min(),
    })
}

/// The bucket must abort multipart uploads, and not too early, and should keep no old versions.
pub(super) async fn run(doctor: &mut Doctor<'_>) {
    let keep = doctor.settings.expiry.unfinished;
    let lifecycle = configuration(doctor, "lifecycle").await;
    let lifecycle = lifecycle.and_then(|xml| xml.as_deref().map_or(Ok(Days::default()), days));
    doctor.report(match &lifecycle {
        Ok(days) => evaluate(days.abort, keep),
        Err(error) => Finding::info("lifecycle", error.clone()),
    });
    // Many services have neither versions nor Object Lock, nor answers about them.
    if contains(doctor, "versioning", "<Status>Enabled<").await {
        let days = lifecycle.ok().and_then(|days| days.old_versions);
        doctor.report(evaluate_versions(days));
    }
    if contains(doctor, "object-lock", "<DefaultRetention>").await {
        let finding = retention(doctor.settings.direct.enabled);
        doctor.report(finding);
    }
}

async fn contains(doctor: &Doctor<'_>, name: &str, element: &str) -> bool {
    let xml = configuration(doctor, name).await;
    xml.is_ok_and(|xml| xml.is_some_and(|xml| xml.contains(element)))
}

/// A part of the bucket's configuration; `None` if there is none.
async fn configuration(doctor: &Doctor<'_>, name: &str) -> Result<Option<String>, String> {
    let object = ObjectRef::new(doctor.bucket, "");
    let signed = (Method::GET, HeaderMap::new());
    let get = Request::builder().method(Method::GET);
    let response = doctor.send(&object, &[(name, "")], signed, get).await?;
    match response.status() {
        StatusCode::OK => Ok(Some(String::from_utf8_lossy(response.body()).into_owned())),
        StatusCode::NOT_FOUND => Ok(None),
        status => Err(format!("cannot read the rules ({status})")),
    }
}

fn evaluate_versions(days: Option<u64>) -> Finding {
    const CHECK: &str = "versions";
    match days {
        Some(days) => {
            let text = format!("the bucket removes old versions after {days} days");
            Finding::ok(CHECK, text)
        }
        None => Finding::warn(
            CHECK,
            "the bucket keeps all old versions: of .part and .info, which are written again with each request, \
             and of removed uploads",
        )
        .advise(
            "add a lifecycle rule that removes old versions (NoncurrentVersionExpiration, 1 day), or suspend \
             versioning",
        ),
    }
}

fn retention(is_direct: bool) -> Finding {
    const CHECK: &str = "object lock";
    let text = "the bucket retains every object, also .part, .info and removed uploads, until their retention \
                ends; each write is sent with a digest";
    match is_direct {
        true => Finding::fail(CHECK, text).advise(
            "direct uploads do not work here, since browsers send no digest: use a bucket without default \
             retention for --direct",
        ),
        false => Finding::warn(CHECK, text)
            .advise("if that is not wanted, use a bucket without default retention"),
    }
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
        assert_eq!(days(&xml("")), Ok(Days::default()));
        let rules = rule("Enabled", 9) + &rule("Disabled", 1) + &rule("Enabled", 8);
        let wanted = Days {
            abort: Some(8),
            old_versions: None,
        };
        assert_eq!(days(&xml(&rules)), Ok(wanted));
        let other = "<Rule><Status>Enabled</Status><Expiration><Days>3</Days></Expiration></Rule>";
        assert_eq!(days(&xml(other)), Ok(Days::default()));
        let versions = "<Rule><Status>Enabled</Status><NoncurrentVersionExpiration>\
            <NoncurrentDays>2</NoncurrentDays></NoncurrentVersionExpiration></Rule>";
        assert_eq!(days(&xml(versions)).unwrap().old_versions, Some(2));
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
