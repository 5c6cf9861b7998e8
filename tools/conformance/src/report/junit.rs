//! The report for CI systems, in the XML format of JUnit.

use std::fmt::Write as _;

use super::{Counts, message};
use crate::requirement::{Finding, Level};
use crate::runner::{CheckOutcome, Report};

/// Returns the report as JUnit XML.
///
/// Only a MUST counts as a failure. Violations of SHOULD and MAY are skipped test cases with the reason.
#[must_use]
pub fn junit(report: &Report) -> String {
    let must = report.counts(Level::Must);
    let all = Counts::new(&report.outcomes);
    let mut xml = String::from("<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n");
    let seconds: f64 = report
        .outcomes
        .iter()
        .map(|outcome| outcome.duration.as_secs_f64())
        .sum();
    // Writing to a string does not fail.
    let _ = writeln!(
        xml,
        "<testsuite name=\"{}\" tests=\"{}\" failures=\"{}\" errors=\"{}\" skipped=\"{}\" time=\"{seconds:.3}\">",
        escaped(&report.endpoint),
        report.outcomes.len(),
        must.failed,
        must.errors,
        report.outcomes.len() - all.passed - must.violations()
    );
    for outcome in &report.outcomes {
        case(&mut xml, outcome);
    }
    xml.push_str("</testsuite>\n");
    xml
}

fn case(xml: &mut String, outcome: &CheckOutcome) {
    let (group, name) = (escaped(outcome.group.title), escaped(outcome.check.id));
    let seconds = outcome.duration.as_secs_f64();
    let _ = write!(
        xml,
        "  <testcase classname=\"{group}\" name=\"{name}\" time=\"{seconds:.3}\""
    );
    let Some(message) = message(outcome) else {
        xml.push_str("/>\n");
        return;
    };
    let level = outcome.check.level;
    let element = match (&outcome.result, level) {
        (Err(Finding::Skipped(_) | Finding::Documented(_)), _) => "skipped",
        (Err(Finding::Error(_)), Level::Must) => "error",
        (_, Level::Must) => "failure",
        _ => "skipped",
    };
    let text = format!(
        "{level}: {}\n{}",
        outcome.check.requirement, outcome.transcript
    );
    let _ = writeln!(
        xml,
        "><{element} message=\"{}\">{}</{element}></testcase>",
        escaped(message),
        escaped(&text)
    );
}

/// Escapes text for XML, and replaces characters that XML cannot contain.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\n' => escaped.push('\n'),
            '\u{fffe}' | '\u{ffff}' => escaped.push('\u{fffd}'),
            other if other.is_control() => escaped.push('\u{fffd}'),
            other => escaped.push(other),
        }
    }
    escaped
}
