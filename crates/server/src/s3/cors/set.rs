use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use landfall_s3::client::{CorsRule, Error, ErrorKind};

use super::{merged, rule, to_json};
use crate::{
    s3::{Diagnosis, probe_client},
    settings::{Loaded, S3},
};

/// Sets the CORS rule for direct uploads from these origins and keeps all other rules.
///
/// Prints the rules before and after; with `dry_run`, sets nothing.
///
/// # Errors
/// The rules cannot be read or set; the error contains the fix.
pub async fn set(loaded: Loaded, origins: Vec<String>, dry_run: bool) -> anyhow::Result<ExitCode> {
    loaded.print_warnings();
    let settings = &loaded.settings.s3;
    let bucket = settings.bucket.as_deref().context("no bucket is named")?;
    let client = probe_client(settings)?;
    let ours = rule(&origins);
    // Without reading the rules, writing them would delete those of others.
    let before = match client.bucket_cors(bucket).await {
        Ok(rules) => rules.unwrap_or_default(),
        Err(error) => return explain_failure(&error, settings, bucket, "read", &[ours]),
    };
    let after = merged(&before, ours);
    show("Before", &before)?;
    if before == after {
        return finish("The rules are already set.");
    }
    show("After", &after)?;
    if dry_run {
        return finish("Nothing was set: --dry-run.");
    }
    match client.set_bucket_cors(bucket, &after).await {
        Ok(()) => finish("Set. Check the result: landfall doctor s3 --origin ORIGIN"),
        Err(error) => explain_failure(&error, settings, bucket, "set", &after),
    }
}

fn explain_failure(
    error: &Error,
    settings: &S3,
    bucket: &str,
    action: &str,
    rules: &[CorsRule],
) -> anyhow::Result<ExitCode> {
    let diagnosis = Diagnosis::new(error, settings, bucket);
    let by_hand = to_json(rules);
    match error.kind() {
        ErrorKind::NotImplemented => bail!(
            "cannot {action} the CORS rules, because the service does not support the S3 call: set \
             this rule in its settings or console: {by_hand} ({})",
            diagnosis.response
        ),
        ErrorKind::AccessDenied => bail!(
            "cannot {action} the CORS rules: {diagnosis}; or have an administrator add this rule: \
             {by_hand}"
        ),
        _ => bail!("cannot {action} the CORS rules: {diagnosis}"),
    }
}

fn show(when: &str, rules: &[CorsRule]) -> anyhow::Result<()> {
    let text = match rules {
        [] => format!("{when}: no rules\n"),
        rules => format!("{when}: {:#}\n", to_json(rules)),
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

fn finish(text: &str) -> anyhow::Result<ExitCode> {
    writeln!(io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}
