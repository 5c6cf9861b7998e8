//! The checks of Azure alone: the credentials, and the properties of the container and its account.

use std::{
    process::ExitCode,
    time::{Duration, SystemTime},
};

use anyhow::Context as _;
use landfall_azure::{AccessTier, AzureClient, ContainerAccess, ContainerReport, CredentialReport};
use landfall_console::Finding;
use landfall_objects::{Error, ErrorKind, StoreOptions};

use super::{
    super::{azure_client, diagnose_azure, probe_limits},
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

type Doctor<'a> = doctor::Doctor<'a, AzureClient>;

/// A signature that ends sooner causes a warning.
const EXPIRY_WARNING: Duration = Duration::from_secs(14 * 86_400);

/// The letters of the rights that Landfall uses.
const RIGHTS: &str = "racwdl";

impl Examined for AzureClient {
    fn diagnose(error: Error, settings: &Settings, bucket: &str) -> Diagnosis {
        diagnose_azure(error, settings, bucket)
    }

    fn options(settings: &Settings, bucket: &str) -> StoreOptions {
        app::azure_options(settings, bucket)
    }
}

/// Runs all checks and prints the findings; exits with 1 if uploads cannot work.
///
/// # Errors
/// The settings name no container, or the client cannot be created.
pub async fn run(loaded: Loaded, json: bool) -> anyhow::Result<ExitCode> {
    loaded.print_warnings();
    let (settings, azure) = (&loaded.settings, &loaded.settings.azure);
    let container = azure.container.as_deref();
    let container = container.context("no container is named")?;
    let client = azure_client(azure, probe_limits())?;
    let about = serde_json::json!({
        "container": container,
        "account": client.account(),
        "endpoint": client.endpoint(),
    });
    let doctor = Doctor::new(settings, container, &azure.object_prefix, client, json);
    Ok(doctor.run(run_checks, about).await)
}

impl CloudChecks for AzureClient {
    const NAMES: CheckNames = CheckNames {
        bucket: "container",
        part: "put block",
        copy: "put block from URL",
        complete: "put block list",
        without_list: Some("expired uploads are not removed"),
    };

    fn url(&self) -> &str {
        self.endpoint()
    }

    async fn check_credentials(&self) -> Result<Vec<Finding>, Error> {
        let report = self.inspect_credentials().await?;
        Ok(evaluate_credentials(&report, SystemTime::now()))
    }

    async fn check_settings(doctor: &Doctor<'_>) -> Vec<Finding> {
        let report = doctor.client.report(doctor.bucket).await;
        evaluate(doctor, report)
    }

    /// Finds out whether the account keeps versions, which its properties do not say.
    async fn check_object(doctor: &mut Doctor<'_>) -> Option<Finding> {
        let object = doctor.object("version");
        let stored = permissions::put_object(&doctor.client, &object).await;
        stored.ok()?;
        let has_versions = doctor.client.has_versions(&object).await.ok()?;
        has_versions.then(|| {
            let text = "the account keeps all old versions of blobs: of descriptions and of removed uploads";
            Finding::warn("versions", text).advise(
                "turn versioning off, or add a rule that deletes previous versions after a day",
            )
        })
    }
}

fn evaluate_credentials(report: &CredentialReport, now: SystemTime) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("credentials", &report.source)];
    if let Some(end) = report.expires {
        let date = httpdate::fmt_http_date(end);
        let advice = "create another shared access signature, and restart the server with it";
        match end.duration_since(now) {
            Err(_) => {
                let text = format!("the shared access signature has expired, at {date}");
                findings.push(Finding::fail("expiry", text).advise(advice));
            }
            Ok(left) if left < EXPIRY_WARNING => {
                let text = format!("the shared access signature ends at {date}");
                findings.push(Finding::warn("expiry", text).advise(advice));
            }
            Ok(_) => {
                let text = format!("the shared access signature ends at {date}");
                findings.push(Finding::ok("expiry", text));
            }
        }
    }
    if let Some(rights) = &report.rights {
        let missing: String = RIGHTS
            .chars()
            .filter(|one| !rights.contains(*one))
            .collect();
        // The calls show whether it matters.
        if !missing.is_empty() {
            let text = format!("the shared access signature has {rights}, and not {missing}");
            let advice = format!("create one with {RIGHTS}, for containers and objects");
            findings.push(Finding::info("rights", text).advise(advice));
        }
    }
    findings
}

fn evaluate(doctor: &Doctor<'_>, report: Result<ContainerReport, Error>) -> Vec<Finding> {
    let mut findings = match report {
        Ok(report) => evaluate_container(&report, doctor.settings.azure.access),
        Err(error) if *error.kind() == ErrorKind::AccessDenied => vec![Finding::info(
            "container settings",
            "cannot be read with these credentials, which no upload needs: public access, immutability and soft delete \
             were not checked",
        )],
        Err(error) => vec![Finding::info(
            "container settings",
            format!("cannot be read: {}", error_line(&error)),
        )],
    };
    findings.extend(evaluate_tier(doctor.settings.azure.tier));
    // Only the management of the account reads them.
    let text = "rules of the account cannot be read with the rights on blobs";
    let advice = format!(
        "check that none deletes or moves unfinished uploads below {:?}: az storage account management-policy show \
         --account-name {} --resource-group GROUP",
        format!("{}/{}", doctor.bucket, doctor.prefix),
        doctor.client.account()
    );
    findings.push(Finding::info("lifecycle", text).advise(advice));
    findings
}

fn evaluate_tier(tier: Option<AccessTier>) -> Option<Finding> {
    let text = match tier? {
        AccessTier::Hot => return None,
        AccessTier::Cool => "cool: files that are removed within 30 days are billed for 30",
        AccessTier::Cold => "cold: files that are removed within 90 days are billed for 90",
        AccessTier::Archive => {
            "archive: files cannot be read, and partial uploads not concatenated, before they are rehydrated for hours"
        }
    };
    Some(Finding::info("access tier", text))
}

/// Each property has its finding, unless it does not matter.
fn evaluate_container(report: &ContainerReport, wanted: ContainerAccess) -> Vec<Finding> {
    let mut findings = Vec::new();
    let access = match report.access {
        ContainerAccess::Private => None,
        ContainerAccess::Blob => Some("anyone who has a URL can read uploads"),
        ContainerAccess::Container => Some("anyone can list and read uploads"),
    };
    findings.push(match access {
        None => Finding::ok("public access", "none"),
        Some(text) if report.access == wanted => Finding::info("public access", text),
        Some(text) => Finding::warn("public access", text).advise(
            "if that is not wanted: az storage container set-permission --public-access off",
        ),
    });
    if report.has_immutability_policy {
        let text =
            "an immutability policy forbids to replace and delete blobs: uploads cannot be stored";
        findings.push(Finding::fail("immutability", text).advise("use another container"));
    }
    if report.has_legal_hold {
        let text = "a legal hold forbids to replace and delete blobs: uploads cannot be stored";
        let advice = "use another container, or remove the hold";
        findings.push(Finding::fail("legal hold", text).advise(advice));
    }
    match report.soft_delete_days {
        Some(0) => {}
        Some(days) => {
            let text = format!(
                "the account keeps and bills removed uploads and old descriptions for {days} days"
            );
            let advice = "if that is not wanted: az storage account blob-service-properties update \
                          --enable-delete-retention false";
            findings.push(Finding::warn("soft delete", text).advise(advice));
        }
        None => {
            let text = "cannot be read without a role on the account, which no upload needs";
            findings.push(Finding::info("soft delete", text));
        }
    }
    findings
}

#[cfg(test)]
mod tests {
    use landfall_console::Severity::{self, Fail, Note, Ok as Passed, Warn};

    use super::*;

    fn found(findings: &[Finding]) -> Vec<(&'static str, Severity)> {
        let findings = findings.iter();
        findings.map(|one| (one.check, one.severity)).collect()
    }

    fn container(change: fn(&mut ContainerReport)) -> ContainerReport {
        let mut report = ContainerReport::default();
        report.soft_delete_days = Some(0);
        change(&mut report);
        report
    }

    #[test]
    fn each_property_has_a_finding() {
        type Change = fn(&mut ContainerReport);
        let evaluate = |change| evaluate_container(&container(change), ContainerAccess::Private);
        assert_eq!(found(&evaluate(|_| {})), [("public access", Passed)]);
        let changes: [(Change, &str, Severity); 4] = [
            (
                |one| one.has_immutability_policy = true,
                "immutability",
                Fail,
            ),
            (|one| one.has_legal_hold = true, "legal hold", Fail),
            (|one| one.soft_delete_days = Some(7), "soft delete", Warn),
            (|one| one.soft_delete_days = None, "soft delete", Note),
        ];
        for (change, check, severity) in changes {
            let expected = [("public access", Passed), (check, severity)];
            assert_eq!(found(&evaluate(change)), expected);
        }
        let public = container(|one| one.access = ContainerAccess::Container);
        for (wanted, severity) in [
            (ContainerAccess::Private, Warn),
            (ContainerAccess::Container, Note),
        ] {
            let findings = evaluate_container(&public, wanted);
            assert_eq!(found(&findings), [("public access", severity)]);
        }
    }

    #[test]
    fn tiers_with_minimum_times_are_reported() {
        let check = |tier| evaluate_tier(tier).map(|one| (one.check, one.severity));
        assert_eq!(check(None), None);
        assert_eq!(check(Some(AccessTier::Hot)), None);
        for tier in [AccessTier::Cool, AccessTier::Cold, AccessTier::Archive] {
            assert_eq!(check(Some(tier)), Some(("access tier", Note)));
        }
    }

    #[test]
    fn signatures_are_examined() {
        let now = SystemTime::UNIX_EPOCH + 100 * EXPIRY_WARNING;
        let evaluate = |end: SystemTime, rights: &str| {
            let mut report = CredentialReport::default();
            report.expires = Some(end);
            report.rights = Some(rights.to_owned());
            found(&evaluate_credentials(&report, now))
        };
        let credentials = ("credentials", Passed);
        for (end, severity) in [
            (now - EXPIRY_WARNING, Fail),
            (now + EXPIRY_WARNING / 2, Warn),
            (now + 2 * EXPIRY_WARNING, Passed),
        ] {
            let expected = [credentials, ("expiry", severity)];
            assert_eq!(evaluate(end, "racwdl"), expected);
        }
        let expected = [credentials, ("expiry", Passed), ("rights", Note)];
        assert_eq!(evaluate(now + 2 * EXPIRY_WARNING, "rl"), expected);
        let key = CredentialReport::default();
        assert_eq!(found(&evaluate_credentials(&key, now)), [credentials]);
    }
}
