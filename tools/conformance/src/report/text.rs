//! The report for people.

use std::io::{self, Write};

use super::{Counts, message, word};
use crate::requirement::{Finding, Level};
use crate::runner::{CheckOutcome, Report};

/// Writes a line for each result as it arrives, and the details of failures at the end.
#[derive(Debug)]
pub struct Text<W> {
    output: W,
    is_quiet: bool,
    group: &'static str,
}

impl<W: Write> Text<W> {
    /// `is_quiet` leaves out the lines of checks.
    pub const fn new(output: W, is_quiet: bool) -> Self {
        Self {
            output,
            is_quiet,
            group: "",
        }
    }

    /// Writes the line of a check.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn line(&mut self, outcome: &CheckOutcome) -> io::Result<()> {
        if self.is_quiet {
            return Ok(());
        }
        if self.group != outcome.group.title {
            self.group = outcome.group.title;
            let protocol = outcome.group.protocol.title();
            writeln!(self.output, "\n{protocol}, {}", self.group)?;
        }
        let (level, id) = (outcome.check.level, outcome.check.id);
        write!(self.output, "  {:10} {level:6} {id}", word(outcome))?;
        match &outcome.result {
            Err(Finding::Skipped(reason) | Finding::Documented(reason)) => {
                writeln!(self.output, " ({reason})")
            }
            _ => writeln!(self.output),
        }
    }

    /// Writes the failures and the counts.
    ///
    /// # Errors
    /// The output cannot be written.
    pub fn summary(&mut self, report: &Report) -> io::Result<()> {
        for outcome in &report.outcomes {
            if self.is_quiet
                && let Err(Finding::Documented(reason)) = &outcome.result
            {
                let (level, id) = (outcome.check.level, outcome.check.id);
                writeln!(self.output, "documented choice: {level} {id} ({reason})")?;
            }
            if let Err(Finding::Failed(_) | Finding::Error(_)) = outcome.result {
                self.details(outcome)?;
            }
        }
        let output = &mut self.output;
        writeln!(output, "\n{} (seed {})", report.endpoint, report.seed)?;
        for level in [Level::Must, Level::Should, Level::May] {
            let Counts {
                passed,
                failed,
                documented,
                skipped,
                errors,
            } = report.counts(level);
            writeln!(
                output,
                "  {level:6} {passed:4} passed {failed:4} failed {errors:4} errors {skipped:4} skipped \
                 {documented:4} documented choices"
            )?;
        }
        if report.cleanup.remaining > 0 {
            let remaining = report.cleanup.remaining;
            writeln!(
                output,
                "  {remaining} uploads of the checks remain on the server"
            )?;
        }
        Ok(())
    }

    fn details(&mut self, outcome: &CheckOutcome) -> io::Result<()> {
        let check = outcome.check;
        let output = &mut self.output;
        writeln!(output, "\n{} {} {}", word(outcome), check.level, check.id)?;
        writeln!(output, "  {}", check.requirement)?;
        let title = outcome.group.protocol.title();
        writeln!(output, "  ({title}, {})", check.section)?;
        writeln!(output, "  {}", message(outcome).unwrap_or_default())?;
        for line in outcome.transcript.lines() {
            writeln!(output, "    {line}")?;
        }
        Ok(())
    }
}
