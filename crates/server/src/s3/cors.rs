//! The CORS rules of a bucket that direct uploads from browsers need.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use anyhow::{Context as _, bail};
use landfall_s3::client::{CorsRule, Error, ErrorKind};
use serde_json::{Value, json};

use super::{diagnose, probe_client};
use crate::settings::{Loaded, S3, Settings};

const ID: &str = "landfall-direct";

pub(crate) fn rule(origins: &[String]) -> CorsRule {
    let texts = |texts: &[&str]| texts.iter().map(|text| (*text).to_owned()).collect();
    CorsRule {
        id: Some(ID.to_owned()),
        allowed_origins: origins.to_vec(),
        allowed_methods: texts(&["GET", "HEAD", "PUT", "POST", "DELETE"]),
        allowed_headers: texts(&["*"]),
        expose_headers: texts(&["ETag", "Location"]),
        max_age_seconds: Some(3_000),
    }
}

/// The rule comes first, because services use the first rule that matches an origin and a method.
/// Replaces an earlier one.
pub(crate) fn merged(rules: &[CorsRule], rule: CorsRule) -> Vec<CorsRule> {
    let others = rules.iter().filter(|one| !is_own_rule(one, &rule)).cloned();
    std::iter::once(rule.clone()).chain(others).collect()
}

fn is_own_rule(one: &CorsRule, rule: &CorsRule) -> bool {
    if one.id.is_some() {
        return one.id == rule.id;
    }
    let sorted = |names: &[String]| {
        let mut names = names.to_vec();
        names.sort_unstable();
        names
    };
    sorted(&one.allowed_methods) == sorted(&rule.allowed_methods)
        && sorted(&one.expose_headers) == sorted(&rule.expose_headers)
        && one.allowed_headers == rule.allowed_headers
        && one.max_age_seconds == rule.max_age_seconds
}

/// Returns the rules as AWS's tools take them. XML names each value of a list, JSON names the list.
pub(crate) fn to_json(rules: &[CorsRule]) -> Value {
    let to_json = |rule: &CorsRule| -> Value {
        let fields = json!(rule);
        let fields = fields.as_object().into_iter().flatten();
        let filled = fields.filter(|(_, value)| **value != json!([]));
        let named = filled.map(|(name, value)| match value {
            Value::Array(_) => (format!("{name}s"), value.clone()),
            value => (name.clone(), value.clone()),
        });
        named.collect()
    };
    let rules: Vec<Value> = rules.iter().map(to_json).collect();
    json!({ "CORSRules": rules })
}

#[derive(Debug)]
pub(crate) struct RequiredRules {
    pub(crate) methods: Vec<&'static str>,
    pub(crate) optional: Vec<&'static str>,
    pub(crate) headers: Vec<&'static str>,
}

impl RequiredRules {
    pub(crate) fn new(settings: &Settings) -> Self {
        let (mut methods, mut optional) = (vec!["PUT", "POST"], vec!["GET", "DELETE"]);
        if settings.s3.redirects {
            methods.push("GET");
            optional.remove(0);
        }
        let configured = &settings.s3.headers;
        let signs = settings.direct.sts.is_some();
        let has_disposition = configured.content_disposition.is_some();
        let has_key = configured.sse_kms_key_id.is_some();
        let mut headers: Vec<_> = [
            ("content-type", true),
            ("cache-control", configured.cache_control.is_some()),
            ("content-disposition", has_disposition),
            ("x-amz-storage-class", configured.storage_class.is_some()),
            ("x-amz-server-side-encryption", configured.sse.is_some()),
            ("x-amz-server-side-encryption-aws-kms-key-id", has_key),
            // A page with its own credentials signs headers.
            ("authorization", signs),
            ("x-amz-content-sha256", signs),
            ("x-amz-date", signs),
            ("x-amz-security-token", signs),
        ]
        .into_iter()
        .filter_map(|(name, is_sent)| is_sent.then_some(name))
        .collect();
        headers.sort_unstable();
        Self {
            methods,
            optional,
            headers,
        }
    }
}

/// A service applies the first for this origin and method.
pub(crate) fn find_rule<'a>(
    rules: &'a [CorsRule],
    origin: &str,
    method: &str,
) -> Option<&'a CorsRule> {
    rules.iter().find(|rule| {
        rule.allowed_methods.iter().any(|one| one == method)
            && rule.allowed_origins.iter().any(|one| matches(one, origin))
    })
}

pub(crate) fn missing<'a>(patterns: &[String], names: &[&'a str]) -> Vec<&'a str> {
    let is_in = |name: &str| patterns.iter().any(|one| matches(one, name));
    names.iter().copied().filter(|name| !is_in(name)).collect()
}

/// The pattern has at most one `*`; case is ignored.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text) = (pattern.to_ascii_lowercase(), text.to_ascii_lowercase());
    match pattern.split_once('*') {
        None => pattern == text,
        Some((start, end)) => {
            text.len() >= start.len() + end.len() && text.starts_with(start) && text.ends_with(end)
        }
    }
}

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
    let diagnosis = diagnose(error, settings, bucket);
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

#[cfg(test)]
mod tests {
    use super::*;

    fn other(id: Option<&str>) -> CorsRule {
        CorsRule {
            id: id.map(str::to_owned),
            allowed_origins: vec!["https://other.example".to_owned()],
            allowed_methods: vec!["GET".to_owned()],
            ..CorsRule::default()
        }
    }

    #[test]
    fn patterns_have_one_star() {
        assert!(matches("*", "https://a.example"));
        assert!(matches("https://*.example", "https://a.example"));
        assert!(!matches("https://*.example", "https://.exam"));
        assert!(matches("ETag", "etag"));
        assert!(!matches("https://a.example", "https://b.example"));
    }

    #[test]
    fn an_earlier_rule_is_replaced_and_comes_first() {
        let ours = |origin: &str| rule(&[origin.to_owned()]);
        let before = [other(None), ours("https://a"), other(Some("theirs"))];
        let after = merged(&before, ours("https://b"));
        assert_eq!(
            after,
            [ours("https://b"), other(None), other(Some("theirs"))]
        );
        // A service that stores neither ids nor the order of names.
        let mut nameless = ours("https://a");
        nameless.id = None;
        nameless.allowed_methods.reverse();
        assert_eq!(merged(&[nameless], ours("https://b")), [ours("https://b")]);
        assert_eq!(merged(&[], ours("https://b")), [ours("https://b")]);
    }

    #[test]
    fn rules_have_the_json_of_aws_tools() {
        let rules = [rule(&["https://a".to_owned()]), other(None)];
        assert_eq!(
            to_json(&rules),
            json!({ "CORSRules": [
                {
                    "ID": "landfall-direct",
                    "AllowedOrigins": ["https://a"],
                    "AllowedMethods": ["GET", "HEAD", "PUT", "POST", "DELETE"],
                    "AllowedHeaders": ["*"],
                    "ExposeHeaders": ["ETag", "Location"],
                    "MaxAgeSeconds": 3000,
                },
                { "AllowedOrigins": ["https://other.example"], "AllowedMethods": ["GET"] },
            ]})
        );
    }

    #[test]
    fn headers_follow_from_settings() {
        let mut settings = Settings::default();
        assert_eq!(RequiredRules::new(&settings).headers, ["content-type"]);
        assert_eq!(RequiredRules::new(&settings).methods, ["PUT", "POST"]);
        settings.s3.headers.sse = Some("AES256".to_owned());
        settings.direct.sts = Some(crate::settings::StsRole::User);
        settings.s3.redirects = true;
        let rules = RequiredRules::new(&settings);
        assert_eq!(
            rules.headers,
            [
                "authorization",
                "content-type",
                "x-amz-content-sha256",
                "x-amz-date",
                "x-amz-security-token",
                "x-amz-server-side-encryption",
            ]
        );
        assert_eq!(rules.methods, ["PUT", "POST", "GET"]);
        assert_eq!(rules.optional, ["DELETE"]);
    }

    #[test]
    fn headers_without_a_pattern_are_missing() {
        let allowed = ["Content-*".to_owned(), "x-amz-date".to_owned()];
        let wanted = ["content-type", "x-amz-date", "authorization"];
        assert_eq!(missing(&allowed, &wanted), ["authorization"]);
        assert_eq!(missing(&["*".to_owned()], &wanted), Vec::<&str>::new());
    }

    #[test]
    fn the_first_matching_rule_applies() {
        let mut first = rule(&["https://*.example".to_owned()]);
        first.expose_headers.clear();
        let rules = [other(None), first.clone(), rule(&["*".to_owned()])];
        assert_eq!(find_rule(&rules, "https://a.example", "PUT"), Some(&first));
        assert_eq!(find_rule(&rules[..1], "https://other.example", "PUT"), None);
    }
}
