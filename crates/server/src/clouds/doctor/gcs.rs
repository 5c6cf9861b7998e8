//! The checks of Google Cloud Storage alone: permissions by their names, the settings of the bucket, public access.

use std::{process::ExitCode, time::Duration};

use anyhow::Context as _;
use landfall_console::Finding;
use landfall_gcs::{
    BucketReport, BucketSettings, Client, ClientSettings, CredentialSource, LifecycleRule,
};
use landfall_objects::{Cloud as _, Error, StoreOptions};

use super::{
    super::{diagnose_gcs, gcs_client, probe_limits},
    CloudChecks,
    permissions::{self, CheckNames},
    run_checks,
};
use crate::{
    app,
    diagnosis::{Diagnosis, error_line},
    doctor::{self, Examined},
    settings::{Loaded, Settings},
};

type Doctor<'a> = doctor::Doctor<'a, Client>;

const DAY: u64 = 86_400;

impl Examined for Client {
    fn diagnose(error: Error, settings: &Settings, bucket: &str) -> Diagnosis {
        diagnose_gcs(error, settings, bucket)
    }

    fn options(settings: &Settings, bucket: &str) -> StoreOptions {
        app::gcs_options(settings, bucket)
    }
}

/// Runs all checks and prints the findings; exits with 1 if uploads cannot work.
///
/// # Errors
/// The settings name no bucket, or the client cannot be created.
pub async fn run(loaded: Loaded, json: bool) -> anyhow::Result<ExitCode> {
    loaded.print_warnings();
    let (settings, gcs) = (&loaded.settings, &loaded.settings.gcs);
    let bucket = gcs.bucket.as_deref().context("no bucket is named")?;
    let client = gcs_client(gcs, probe_limits())?;
    let about = serde_json::json!({"bucket": bucket, "endpoint": client.endpoint()});
    let doctor = Doctor::new(settings, bucket, &gcs.object_prefix, client, json);
    Ok(doctor.run(run_checks, about).await)
}

impl CloudChecks for Client {
    const NAMES: CheckNames = CheckNames {
        bucket: "bucket",
        part: "put part",
        copy: "copy object",
        complete: "compose objects",
        without_list: None,
    };

    fn url(&self) -> &str {
        self.endpoint()
    }

    async fn check_credentials(&self) -> Result<Vec<Finding>, Error> {
        let source = self.inspect_credentials().await?;
        Ok(vec![Finding::ok("credentials", source)])
    }

    async fn check_settings(doctor: &Doctor<'_>) -> Vec<Finding> {
        let report = doctor.client.inspect_bucket(doctor.bucket).await;
        evaluate(doctor, report)
    }

    /// Reads an object without credentials.
    async fn check_object(doctor: &mut Doctor<'_>) -> Option<Finding> {
        const CHECK: &str = "public access";
        if std::env::var_os("STORAGE_EMULATOR_HOST").is_some() {
            return None;
        }
        let anonymous = Self::new(ClientSettings {
            endpoint: doctor.settings.gcs.endpoint.clone(),
            credentials: CredentialSource::Anonymous,
            calls: probe_limits().into(),
            ..ClientSettings::default()
        });
        let object = doctor.object("public");
        let stored = permissions::put_object(&doctor.client, &object).await;
        stored.ok()?;
        Some(match anonymous.ok()?.head_object(&object).await {
            Ok(_) => {
                let text = "anyone can read uploads, those that are not complete too";
                Finding::warn(CHECK, text).advise(format!(
                    "if that is not wanted: gcloud storage buckets update gs://{} --public-access-prevention",
                    doctor.bucket
                ))
            }
            Err(_) => Finding::ok(CHECK, "none"),
        })
    }
}

/// Evaluates the permissions and settings of the bucket. The permissions that are missing are also found by trying.
fn evaluate(doctor: &Doctor<'_>, report: Result<BucketReport, Error>) -> Vec<Finding> {
    let bucket = doctor.bucket;
    let report = match report {
        Ok(report) => report,
        Err(error) => {
            let text = format!("cannot be read: {}", error_line(&error));
            return vec![Finding::info("bucket settings", text)];
        }
    };
    let mut findings = vec![evaluate_permissions(bucket, &report.missing_permissions)];
    match &report.settings {
        Some(settings) => {
            let keep = doctor.settings.expiry.unfinished;
            findings.extend(evaluate_settings(bucket, doctor.prefix, settings, keep));
        }
        None => findings.push(
            Finding::info(
                "bucket settings",
                "cannot be read without storage.buckets.get, which no upload needs: retention, soft delete and lifecycle \
                 rules were not checked",
            )
            .advise("for this check, grant the role Storage Bucket Viewer (roles/storage.bucketViewer)"),
        ),
    }
    findings
}

fn evaluate_permissions(bucket: &str, missing: &[String]) -> Finding {
    const CHECK: &str = "permissions";
    match missing {
        [] => Finding::ok(CHECK, "those of Storage Object User"),
        missing => {
            let text = format!("missing on {bucket:?}: {}", missing.join(", "));
            Finding::fail(CHECK, text).advise(format!(
                "grant the role Storage Object User: gcloud storage buckets add-iam-policy-binding gs://{bucket} \
                 --member=serviceAccount:NAME --role=roles/storage.objectUser"
            ))
        }
    }
}

/// Each setting has its finding, unless it does not matter.
fn evaluate_settings(
    bucket: &str,
    prefix: &str,
    settings: &BucketSettings,
    keep: Option<Duration>,
) -> Vec<Finding> {
    let update = |flag: &str| format!("gcloud storage buckets update gs://{bucket} {flag}");
    let mut findings = Vec::new();
    findings.push(evaluate_class(settings));
    if settings.soft_delete_seconds > 0 {
        let days = settings.soft_delete_seconds as f64 / DAY as f64;
        let text = format!(
            "soft delete stores and bills each deleted part for {days:.0} days, so every byte twice for that time"
        );
        let advice = update("--clear-soft-delete");
        findings.push(Finding::warn("soft delete", text).advise(advice));
    }
    if settings.versioning {
        let text =
            "the bucket keeps all old versions: of parts, of descriptions and of removed uploads";
        let advice = format!(
            "{}, or add a lifecycle rule that deletes noncurrent versions after a day",
            update("--no-versioning")
        );
        findings.push(Finding::warn("versions", text).advise(advice));
    }
    if settings.retention_seconds > 0 {
        let text = format!(
            "a retention policy of {} s forbids to delete parts and to replace them: uploads cannot be stored",
            settings.retention_seconds
        );
        let advice = format!(
            "use another bucket, or {}",
            update("--clear-retention-period")
        );
        findings.push(Finding::fail("retention", text).advise(advice));
    }
    if settings.default_hold {
        let text = "new objects have an event-based hold, so that parts cannot be deleted";
        let advice = update("--no-default-event-based-hold");
        findings.push(Finding::fail("holds", text).advise(advice));
    }
    if settings.requester_pays {
        let text =
            "the bucket bills requests to the project of the caller, which Landfall does not name";
        let advice = update("--no-requester-pays");
        findings.push(Finding::warn("requester pays", text).advise(advice));
    }
    if !settings.uniform_access {
        let text = "lists of each object (ACL) decide about access besides IAM; Landfall sets none";
        let advice = update("--uniform-bucket-level-access");
        findings.push(Finding::info("uniform access", text).advise(advice));
    }
    let rules = settings.lifecycle.iter();
    let rules = rules.filter(|rule| overlaps(&rule.prefixes, prefix));
    findings.extend(rules.map(|rule| evaluate_rule(rule, keep)));
    findings
}

fn evaluate_class(settings: &BucketSettings) -> Finding {
    const CHECK: &str = "storage class";
    let BucketSettings {
        location,
        storage_class,
        ..
    } = settings;
    match storage_class.as_str() {
        "NEARLINE" | "COLDLINE" | "ARCHIVE" => {
            let text = format!(
                "{storage_class}: parts, which are deleted soon, are billed for its minimum time"
            );
            Finding::warn(CHECK, text).advise(
                "use a bucket with the class STANDARD, and a lifecycle rule that moves files later",
            )
        }
        class => Finding::ok(CHECK, format!("{class} in {location}")),
    }
}

/// Returns whether objects with the store's prefix are among those of a rule.
fn overlaps(prefixes: &[String], prefix: &str) -> bool {
    let overlaps = |one: &String| one.starts_with(prefix) || prefix.starts_with(one.as_str());
    prefixes.is_empty() || prefixes.iter().any(overlaps)
}

fn evaluate_rule(rule: &LifecycleRule, keep: Option<Duration>) -> Finding {
    const CHECK: &str = "lifecycle";
    let action = match &rule.storage_class {
        None => "deletes objects".to_owned(),
        Some(class) => format!("moves objects to {class}"),
    };
    let when = match rule.age_days {
        Some(days) => format!("{days} days after their creation"),
        None => "at once or at a date".to_owned(),
    };
    let least = keep.map(|keep| keep.as_secs().div_ceil(DAY) + 1);
    if let (Some(days), Some(least)) = (rule.age_days, least)
        && days >= least
    {
        return Finding::ok(CHECK, format!("the bucket {action} {when}"));
    }
    let ours = match keep {
        Some(keep) => format!("{:.1} days", keep.as_secs_f64() / DAY as f64),
        None => "without a limit".to_owned(),
    };
    let text = format!(
        "the bucket {action} {when}, parts too, but Landfall keeps unfinished uploads {ours} (--expire-unfinished)"
    );
    Finding::warn(CHECK, text).advise(match least {
        Some(least) => format!("set the rule to {least} days or more, or to another prefix"),
        None => "remove the rule, or set --expire-unfinished".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use landfall_console::Severity::{self, Fail, Note, Ok as Passed, Warn};

    use super::*;

    const WEEK: Option<Duration> = Some(Duration::from_secs(7 * DAY));

    fn standard() -> BucketSettings {
        let mut settings = BucketSettings::default();
        settings.storage_class = "STANDARD".to_owned();
        settings.location = "EU".to_owned();
        settings.uniform_access = true;
        settings
    }

    fn found(settings: &BucketSettings) -> Vec<(&'static str, Severity)> {
        let findings = evaluate_settings("b", "in/", settings, WEEK);
        let findings = findings.iter();
        findings.map(|one| (one.check, one.severity)).collect()
    }

    #[test]
    fn each_setting_has_a_finding() {
        assert_eq!(found(&standard()), [("storage class", Passed)]);
        type Change = fn(&mut BucketSettings);
        let changes: [(Change, &str, Severity); 6] = [
            (|one| one.soft_delete_seconds = 604_800, "soft delete", Warn),
            (|one| one.versioning = true, "versions", Warn),
            (|one| one.retention_seconds = 60, "retention", Fail),
            (|one| one.default_hold = true, "holds", Fail),
            (|one| one.requester_pays = true, "requester pays", Warn),
            (|one| one.uniform_access = false, "uniform access", Note),
        ];
        for (change, check, severity) in changes {
            let mut settings = standard();
            change(&mut settings);
            let expected = [("storage class", Passed), (check, severity)];
            assert_eq!(found(&settings), expected);
        }
        let mut cold = standard();
        cold.storage_class = "ARCHIVE".to_owned();
        assert_eq!(found(&cold), [("storage class", Warn)]);
    }

    #[test]
    fn rules_must_not_be_shorter_than_the_lifetime() {
        let rule = |days, class: Option<&str>, prefixes: &[&str]| {
            let mut rule = LifecycleRule::default();
            rule.age_days = days;
            rule.storage_class = class.map(str::to_owned);
            rule.prefixes = prefixes.iter().map(|&one| one.to_owned()).collect();
            rule
        };
        for (rule, severity) in [
            (rule(Some(7), None, &[]), Some(Warn)),
            (rule(Some(8), None, &[]), Some(Passed)),
            (rule(None, None, &["in/.landfall/"]), Some(Warn)),
            (rule(Some(1), Some("COLDLINE"), &["in"]), Some(Warn)),
            (rule(Some(1), None, &["out/", "inner/"]), None),
        ] {
            let mut settings = standard();
            settings.lifecycle = vec![rule.clone()];
            let found = found(&settings);
            let found = found.get(1).map(|(_, severity)| *severity);
            assert_eq!(found, severity, "{rule:?}");
        }
        let forever = evaluate_rule(&rule(Some(100), None, &[]), None);
        assert_eq!(forever.severity, Warn);
    }
}
