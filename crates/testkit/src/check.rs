//! Runs the checks of a suite, each on a new subject, and reports all failures together.
//!
//! A panic or a check of more than a minute is a failure, and does not end the suite.

use std::{
    any::Any,
    fmt,
    future::{Future, poll_fn},
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    task::Poll,
    time::Duration,
};

const LIMIT: Duration = Duration::from_secs(60);

type CheckFn<T> = for<'a> fn(&'a T) -> Pin<Box<dyn Future<Output = ()> + Send + 'a>>;

/// A named check of a `T`; it panics with a message on failure.
pub struct Check<T> {
    pub(crate) name: &'static str,
    pub(crate) applies: fn(&T) -> bool,
    pub(crate) run: CheckFn<T>,
}

impl<T> Check<T> {
    /// Returns the checked property, a short sentence with underscores.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Returns whether `subject` has the checked capability.
    pub fn applies(&self, subject: &T) -> bool {
        (self.applies)(subject)
    }

    /// Runs it on a fresh subject, within a tokio runtime with its timer on.
    ///
    /// # Panics
    /// If the subject fails it, or takes longer than a minute.
    pub async fn run(&self, subject: &T) {
        if let Err(failure) = self.outcome(subject).await {
            panic!("{}: {failure}", self.name);
        }
    }

    async fn outcome(&self, subject: &T) -> Result<(), String> {
        let mut run = (self.run)(subject);
        let run = poll_fn(
            |cx| match catch_unwind(AssertUnwindSafe(|| run.as_mut().poll(cx))) {
                Ok(poll) => poll.map(Ok),
                Err(panic) => Poll::Ready(Err(message(&*panic))),
            },
        );
        let outcome = tokio::time::timeout(LIMIT, run).await;
        outcome.unwrap_or_else(|_| Err(format!("not done after {LIMIT:?}")))
    }
}

impl<T> Clone for Check<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Check<T> {}

impl<T> fmt::Debug for Check<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Check").field(&self.name).finish()
    }
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or(panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("a panic without a message").to_owned()
}

/// The result of a suite.
#[derive(Debug, Clone, Default)]
#[must_use = "check `not_applicable` for untested capabilities"]
pub struct Report {
    /// The checks that passed.
    pub passed: Vec<&'static str>,
    /// The checks about something that the subject doesn't claim to do.
    pub not_applicable: Vec<&'static str>,
}

impl Report {
    /// Fails unless every check of the suite applied: for subjects that claim to do everything.
    ///
    /// # Panics
    /// If a check did not apply.
    pub fn assert_complete(&self) {
        let Self { not_applicable, .. } = self;
        assert!(not_applicable.is_empty(), "not claimed: {not_applicable:?}");
    }
}

pub(crate) async fn run_all<T>(
    suite: &str,
    checks: &[Check<T>],
    make: impl AsyncFn() -> T,
) -> Report {
    let mut report = Report::default();
    let mut failures = Vec::new();
    for check in checks {
        let subject = make().await;
        if !check.applies(&subject) {
            report.not_applicable.push(check.name);
            continue;
        }
        match check.outcome(&subject).await {
            Ok(()) => report.passed.push(check.name),
            Err(failure) => failures.push(format!("- {}: {failure}", check.name)),
        }
    }
    let (failed, all, list) = (failures.len(), checks.len(), failures.join("\n"));
    assert!(
        failed == 0,
        "{suite}: {failed} of {all} checks failed:\n{list}"
    );
    report
}

/// The checks of a group need the same of their subject.
macro_rules! checks {
    ($($applies:expr => $($run:path),+;)+) => {
        vec![$($($crate::check::Check {
            name: stringify!($run).rsplit("::").next().unwrap_or_default().trim(),
            applies: $applies,
            run: |subject| Box::pin($run(subject)),
        }),+),+]
    };
}
pub(crate) use checks;

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_even(n: &u32) {
        tokio::task::yield_now().await;
        assert!(n.is_multiple_of(2), "{n} is odd");
    }
    async fn hangs(_: &u32) {
        std::future::pending().await
    }

    #[tokio::test]
    async fn passes_and_leaves_out() {
        let list = checks![|_| true => is_even; |n: &u32| *n > 9 => hangs;];
        let report = run_all("numbers", &list, async || 4).await;
        assert_eq!(report.passed, ["is_even"]);
        assert_eq!(report.not_applicable, ["hangs"]);
    }

    #[tokio::test(start_paused = true)]
    #[should_panic(expected = "numbers: 2 of 2 checks failed:\n- is_even: 3 is odd\n- hangs: not")]
    async fn tells_all_that_failed() {
        let checks: Vec<_> = checks![|_| true => is_even, hangs;];
        let _ = run_all("numbers", &checks, async || 3).await;
    }
}
