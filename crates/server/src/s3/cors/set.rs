//! `landfall s3 set-cors`.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use landfall_s3::client::{CorsRule, Error, ErrorKind};

use super::{merged, rule, to_json};
use crate::{
    s3::{Advice, impatient_client},
    settings::{Loaded, S3},
};

/// Lets pages of these origins send uploads straight to the bucket: sets one rule and keeps those of
/// others. Prints the rules before and after; with `dry_run`, sets nothing.
///
/// # Errors
/// If the rules can't be read, or can't be set; the text says what to do.
pub async fn set(loaded: Loaded, origins: Vec<String>, dry_run: bool) -> anyhow::Result<ExitCode> {
    for warning in &loaded.warnings {
        eprintln!("landfall: warning: {warning}");
    }
    let settings = &loaded.settings.s3;
    let bucket = settings.bucket.as_deref().context("no bucket is named")?;
    let client = impatient_client(settings)?;
    let ours = rule(&origins);
    // Who can't read them must not write them: those of others would be lost.
    let before = match client.bucket_cors(bucket).await {
        Ok(rules) => rules.unwrap_or_default(),
        Err(error) => return refused(&error, settings, bucket, "read", &[ours]),
    };
    let after = merged(&before, ours);
    show("Before", &before)?;
    if before == after {
        return done("The rules are as they should be already.");
    }
    show("After", &after)?;
    if dry_run {
        return done("Nothing was set: --dry-run.");
    }
    match client.set_bucket_cors(bucket, &after).await {
        Ok(()) => done("Set. To see what pages get: landfall doctor s3 -origin ORIGIN"),
        Err(error) => refused(&error, settings, bucket, "set", &after),
    }
}

/// Says what to do instead.
fn refused(
    error: &Error,
    settings: &S3,
    bucket: &str,
    what: &str,
    rules: &[CorsRule],
) -> anyhow::Result<ExitCode> {
    let advice = Advice::new(error, settings, bucket);
    let by_hand = to_json(rules);
    match error.kind() {
        ErrorKind::NotImplemented => bail!(
            "the CORS rules can't be {what} by S3's own call here; see to it in the service's \
             settings or console that pages get what this rule says: {by_hand} ({})",
            advice.said
        ),
        ErrorKind::AccessDenied => bail!(
            "the CORS rules can't be {what}: {advice}; or let somebody who may do so add this \
             rule: {by_hand}"
        ),
        _ => bail!("the CORS rules can't be {what}: {advice}"),
    }
}

fn show(when: &str, rules: &[CorsRule]) -> anyhow::Result<()> {
    let text = match rules {
        [] => format!("{when}: no rules\n"),
        rules => format!("{when}: {:#}\n", to_json(rules)),
    };
    Ok(io::stdout().write_all(text.as_bytes())?)
}

fn done(text: &str) -> anyhow::Result<ExitCode> {
    writeln!(io::stdout(), "{text}")?;
    Ok(ExitCode::SUCCESS)
}
