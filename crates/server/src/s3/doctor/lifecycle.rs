//! What the bucket does with multipart uploads by itself.

use std::time::Duration;

use http::{HeaderMap, Method, Request, StatusCode, Uri};
use landfall_s3::client::ObjectRef;
use serde::Deserialize;

use super::{Examination, Finding, Mark, web};

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
pub(super) async fn examine(x: &mut Examination<'_>) {
    // The client has no such call; a signed URL does for reading.
    let place = ObjectRef::new(x.bucket, "");
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
                     (--expire-unfinished)"
                ),
            )
            .advise(match least {
                Some(least) => format!("let the rule wait {least} days or more"),
                None => "remove the rule, or set --expire-unfinished".to_owned(),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
