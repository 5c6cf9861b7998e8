//! The badge: one line of SVG for a README.

use std::collections::BTreeSet;

use crate::requirement::{Finding, Level, Protocol};
use crate::runner::Report;

const LABEL: &str = "resumable uploads";
const CHARACTER_WIDTH: usize = 7;
const PADDING: usize = 10;

/// Returns the badge as an SVG image, such as "tus: 180 of 180 MUST".
#[must_use]
pub fn badge(report: &Report) -> String {
    let protocols: BTreeSet<_> = report
        .outcomes
        .iter()
        .map(|outcome| outcome.group.protocol)
        .collect();
    let label = match Vec::from_iter(protocols).as_slice() {
        [Protocol::Tus] => "tus 1.0.0",
        [Protocol::Draft] => "resumable uploads draft",
        _ => LABEL,
    };
    let counts = report.counts(Level::Must);
    let total = counts.passed + counts.violations() + counts.documented;
    let has_failures = report.outcomes.iter().any(|outcome| {
        matches!(
            outcome.result,
            Err(Finding::Failed(_) | Finding::Documented(_))
        )
    });
    let (text, color) = match (counts.violations(), total) {
        (_, 0) => ("not checked".to_owned(), "#9f9f9f"),
        (0, _) if !has_failures => (format!("{} of {total} MUST", counts.passed), "#2e7d32"),
        (0, _) => (format!("{} of {total} MUST", counts.passed), "#558b2f"),
        _ => (format!("{} of {total} MUST", counts.passed), "#c62828"),
    };
    svg(label, &text, color)
}

fn svg(label: &str, text: &str, color: &str) -> String {
    let width = |text: &str| text.len() * CHARACTER_WIDTH + PADDING;
    let (left, right) = (width(label), width(text));
    let total = left + right;
    let (label_x, text_x) = (left / 2, left + right / 2);
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{total}\" height=\"20\" role=\"img\" \
         aria-label=\"{label}: {text}\"><title>{label}: {text}</title>\
         <rect width=\"{total}\" height=\"20\" rx=\"3\" fill=\"#555\"/>\
         <rect x=\"{left}\" width=\"{right}\" height=\"20\" rx=\"3\" fill=\"{color}\"/>\
         <g fill=\"#fff\" font-family=\"Verdana,sans-serif\" font-size=\"11\" text-anchor=\"middle\">\
         <text x=\"{label_x}\" y=\"14\">{label}</text><text x=\"{text_x}\" y=\"14\">{text}</text></g></svg>\n"
    )
}
