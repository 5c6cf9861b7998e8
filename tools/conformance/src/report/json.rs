//! The report for programs.

use serde::Serialize;

use super::{Counts, message, word};
use crate::requirement::Level;
use crate::runner::Report;

#[derive(Serialize)]
struct JsonReport<'a> {
    endpoint: &'a str,
    server: Option<&'a str>,
    conformant: bool,
    seed: u64,
    must: Counts,
    should: Counts,
    may: Counts,
    checks: Vec<JsonCheck<'a>>,
}

#[derive(Serialize)]
struct JsonCheck<'a> {
    id: &'a str,
    level: &'a str,
    specification: &'a str,
    group: &'a str,
    section: &'a str,
    requirement: &'a str,
    result: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    transcript: &'a str,
    duration_ms: u64,
}

/// Returns the report as a JSON object.
#[must_use]
pub fn json(report: &Report) -> String {
    let checks = report.outcomes.iter().map(|outcome| JsonCheck {
        id: outcome.check.id,
        level: outcome.check.level.keyword(),
        specification: outcome.group.protocol.title(),
        group: outcome.group.title,
        section: outcome.check.section,
        requirement: outcome.check.requirement,
        result: word(outcome),
        message: message(outcome),
        transcript: &outcome.transcript,
        duration_ms: u64::try_from(outcome.duration.as_millis()).unwrap_or(u64::MAX),
    });
    let report = JsonReport {
        endpoint: &report.endpoint,
        server: report.server.software.as_deref(),
        conformant: report.is_conformant(),
        seed: report.seed,
        must: report.counts(Level::Must),
        should: report.counts(Level::Should),
        may: report.counts(Level::May),
        checks: checks.collect(),
    };
    // Strings and numbers can be serialized.
    let mut text = serde_json::to_string_pretty(&report).unwrap_or_default();
    text.push('\n');
    text
}
