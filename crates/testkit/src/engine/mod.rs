//! The conformance suite of a store, its locker and its sinks behind a [`Handler`].
//!
//! The suites of the parts check the documentation of their traits. This one checks what clients
//! see of the parts together: takeovers, completion, dropped requests, final uploads.

mod beyond_length;
pub(crate) mod client;
mod completion;
mod deferred;
mod dropped;
mod finals;
mod second_times;
mod takeover;

use landfall::{Config, Handler, LocationStyle, upload::UploadId};

use crate::check::{Check, Report, checks, run_all};

/// The configuration to check.
///
/// The checks use its default base path, add hooks and sinks, and create several handlers from it, like
/// several processes. Its hooks must allow everything.
pub type Subject = Config;

/// Runs all checks one after another, each with a new configuration created by `make`.
///
/// Needs a tokio runtime with a timer. Takes a few seconds.
///
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use landfall::{Composer, Config, store::MemoryStore};
///
/// let report =
///     landfall_testkit::engine::conformance(async || Config::new(Composer::join(MemoryStore::new())));
/// report.await.assert_complete();
/// # });
/// ```
///
/// # Panics
/// If checks fail: at the end, with the list of failures and reasons.
pub async fn conformance(make: impl AsyncFn() -> Subject) -> Report {
    run_all("engine conformance", &all(), make).await
}

/// The checks, to be run one by one.
pub fn all() -> Vec<Check<Subject>> {
    checks! {
        |_: &Subject| true =>
            beyond_length::content_beyond_the_length_changes_nothing,
            takeover::a_new_client_resumes_at_the_stopped_writers_offset,
            completion::readers_wait_while_a_hook_decides_about_completion,
            second_times::a_creation_with_the_id_of_the_application_is_answered_again,
            second_times::an_append_is_answered_again_or_its_offset_is_known,
            second_times::a_completion_is_decided_when_the_application_is_back;
        |config: &Subject| config.store.terminator().is_some() =>
            completion::a_denied_completion_leaves_nothing,
            second_times::a_removed_upload_stays_removed,
            second_times::a_creation_whose_completion_fails_leaves_nothing,
            dropped::a_dropped_request_cuts_no_effect_from_its_event;
        |config: &Subject| config.store.concatenator().is_some() =>
            finals::the_length_of_a_final_upload_is_stored_at_its_creation,
            finals::a_final_upload_is_inspected_while_it_is_concatenated,
            finals::a_concatenated_upload_has_the_fields_of_a_complete_one,
            second_times::a_final_upload_is_answered_again;
        |config: &Subject| config.store.length_deferrer().is_some() =>
            deferred::a_late_length_leads_to_the_fields_of_an_early_one;
    }
}

fn open(config: &Config) -> Handler {
    let mut config = config.clone();
    config.location = LocationStyle::Relative;
    Handler::new(config).expect("a configuration that works")
}

async fn assert_content(config: &Config, handler: &Handler, id: &UploadId, bytes: &[u8]) {
    if config.store.reader().is_some() {
        let read = client::get(handler, id).await.expect(200).bytes;
        assert!(read == bytes, "bytes are missing or in the wrong place");
    }
}
