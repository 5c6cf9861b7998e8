//! Tables of faults: each must be found by the check that is made for it.

use std::fmt::Debug;

use landfall_testkit::Check;

/// Runs checks, each with a subject of its own, and returns the names of those that fail.
pub(crate) async fn failing<T: Send + Sync + 'static>(
    checks: Vec<Check<T>>,
    subject: impl Fn() -> T,
) -> Vec<&'static str> {
    let mut running = Vec::new();
    for check in checks {
        let subject = subject();
        assert!(check.applies(&subject));
        let name = check.name();
        running.push((name, tokio::spawn(async move { check.run(&subject).await })));
    }
    let mut failed = Vec::new();
    for (name, run) in running {
        if run.await.is_err() {
            failed.push(name);
        }
    }
    failed
}

/// Fails unless `failed` has the check, or is empty if that is.
pub(crate) fn assert_found(fault: impl Debug, failed: &[&str], check: &str) {
    println!("{fault:?}: {failed:?}");
    match check {
        "" => assert!(failed.is_empty(), "{fault:?} fails {failed:?}"),
        _ => assert!(failed.contains(&check), "{fault:?} fails only {failed:?}"),
    }
}
