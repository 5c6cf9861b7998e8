//! Stores and servers with one defect each, which the model must find.

use std::sync::Arc;

use landfall::store::MemoryStore;
use proptest::{
    collection::vec,
    test_runner::{TestError, TestRng, TestRunner},
};

use super::{
    file_store,
    gate::Resume,
    gated,
    op::{self, Op},
    play,
    run::ModelRun,
};

/// Returns the minimal failure that the model finds in a run created by `open`.
fn find(open: impl Fn() -> ModelRun) -> Option<(String, Vec<Op>)> {
    let config = proptest::test_runner::Config {
        cases: 300,
        max_shrink_iters: 300,
        failure_persistence: None,
        ..Default::default()
    };
    let rng = TestRng::deterministic_rng(config.rng_algorithm);
    let mut runner = TestRunner::new_with_rng(config, rng);
    match runner.run(&vec(op::any(), 1..40), |ops| play(&ops, &open)) {
        Ok(()) => None,
        Err(TestError::Fail(reason, ops)) => Some((reason.to_string(), ops)),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}

#[test]
fn a_resume_made_of_load_and_append_is_found_in_memory() {
    let found = find(|| {
        let store = MemoryStore::new();
        gated(Resume::Split, move || Arc::new(store.clone()))
    });
    let (reason, ops) = found.expect("the model finds it");
    println!("{reason}\n{ops:#?}");
    assert!(
        ops.iter().any(|op| matches!(op, Op::Block { .. })),
        "{reason}"
    );
}

#[test]
fn a_resume_made_of_load_and_append_is_found_on_files() {
    let found = find(|| {
        let dir = tempfile::tempdir().unwrap();
        gated(Resume::Split, move || file_store(dir.path()))
    });
    let (reason, ops) = found.expect("the model finds it");
    println!("{reason}\n{ops:#?}");
    assert!(
        ops.iter().any(|op| matches!(op, Op::Block { .. })),
        "{reason}"
    );
}
