//! The conformance suite of [`Store`] and its capabilities.

mod append;
mod concatenate;
mod create;
pub mod damaged;
mod enumerate;
mod fences;
mod read;
mod save;
mod support;
mod unverified;

use std::sync::Arc;

use landfall::store::Store;

pub(crate) use self::support::{drop_midway, poll_times};
use crate::check::{Check, Report, checks, run_all};

/// The subject of the checks.
pub type Subject = Arc<dyn Store>;

/// Runs all checks one after another, each on a new store created by `make`.
///
/// A store is a fresh directory, bucket or prefix; it may also be shared and fill up with uploads: only
/// the checks of listing need it empty. Needs a tokio runtime with a timer; one with several threads
/// finds more.
///
/// ```
/// # tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap().block_on(async {
/// use landfall::store::MemoryStore;
///
/// let report = landfall_testkit::store::conformance(async || MemoryStore::new()).await;
/// report.assert_complete(); // it has every capability
/// # });
/// ```
///
/// # Panics
/// If checks fail: at the end, with the list of failures and reasons.
pub async fn conformance<S: Store>(make: impl AsyncFn() -> S) -> Report {
    run_all("store conformance", &all(), async || {
        Arc::new(make().await) as Subject
    })
    .await
}

/// Returns the checks, to run them one by one.
pub fn all() -> Vec<Check<Subject>> {
    checks! {
        |_: &Subject| true =>
            create::a_created_upload_is_empty,
            create::a_taken_id_is_rejected_and_the_upload_kept,
            create::one_of_many_creations_of_an_id_wins,
            create::a_missing_upload_is_not_found,
            create::a_description_comes_back_as_it_was,
            create::metadata_comes_back_byte_for_byte,
            create::ids_may_hold_slashes_and_odd_characters,
            create::create_append_is_both_in_one,
            create::a_dropped_creation_leaves_nothing_or_an_empty_upload,
            append::bytes_are_appended_in_order,
            append::appending_continues_at_the_offset,
            append::chunks_of_any_shape_are_taken,
            append::an_upload_without_bytes_is_whole,
            append::ten_mebibytes_are_kept,
            append::a_committed_offset_is_loaded,
            append::opening_is_no_change,
            append::dropping_keeps_written_bytes,
            append::resuming_is_one_act,
            append::a_dropped_write_has_ended_before_the_next_append,
            save::a_saved_description_replaces_the_old_one,
            save::saving_leaves_bytes_alone,
            save::an_upload_that_awaits_its_end_is_unfinished,
            save::a_description_is_never_a_mixture,
            save::a_dropped_save_leaves_the_old_description_or_the_new,
            fences::an_older_append_cannot_write,
            fences::an_older_append_cannot_begin_or_accept_unverified,
            fences::an_older_lease_cannot_save,
            fences::an_older_lease_cannot_append,
            fences::the_same_lease_may_append_again,
            unverified::discarded_bytes_are_gone,
            unverified::accepted_bytes_count,
            unverified::unverified_bytes_do_not_count_when_dropped,
            unverified::unverified_bytes_do_not_count_when_overtaken,
            unverified::beginning_unverified_without_bytes_changes_nothing,
            unverified::unverified_bytes_can_be_begun_again,
            unverified::discarding_without_unverified_bytes_restores_the_opening_offset,
            unverified::readable_bytes_can_be_loaded,
            append::a_hundred_uploads_at_once;
        |s: &Subject| s.capabilities().terminator.is_some() =>
            create::a_terminated_upload_is_gone,
            create::termination_can_be_repeated,
            create::a_dropped_termination_can_be_repeated,
            create::a_terminated_id_can_be_used_again,
            fences::an_older_lease_cannot_terminate,
            fences::an_append_cannot_bring_back_a_terminated_upload;
        |s: &Subject| s.capabilities().finisher.is_some() =>
            save::finishing_can_be_repeated;
        |s: &Subject| s.capabilities().length_deferrer.is_some() =>
            save::a_late_length_is_kept,
            save::a_late_length_comes_between_bytes,
            fences::an_older_lease_cannot_declare_a_length;
        |s: &Subject| s.capabilities().reader.is_some() =>
            read::any_range_can_be_read,
            read::many_can_read_at_once,
            read::a_missing_upload_cannot_be_read;
        |s: &Subject| s.capabilities().reader.is_some_and(|reader| reader.reads_unfinished()) =>
            read::an_unfinished_upload_can_be_read_while_it_grows;
        |s: &Subject| s.capabilities().concatenator.is_some() =>
            concatenate::parts_are_concatenated_in_order,
            concatenate::empty_and_repeated_parts_are_concatenated,
            concatenate::concatenating_nothing_is_empty,
            concatenate::a_missing_part_fails_the_concatenation,
            concatenate::concatenating_again_starts_empty,
            concatenate::a_dropped_concatenation_starts_again_empty,
            concatenate::large_parts_of_odd_size_are_concatenated,
            fences::an_older_lease_cannot_concatenate;
        |s: &Subject| s.capabilities().concatenator.is_some() && s.capabilities().terminator.is_some() =>
            concatenate::parts_can_be_removed_afterwards;
        |s: &Subject| s.capabilities().enumerator.is_some() =>
            enumerate::every_upload_is_listed_once_whatever_the_page_size,
            enumerate::an_empty_store_lists_nothing;
        |s: &Subject| s.capabilities().enumerator.is_some() && s.capabilities().terminator.is_some() =>
            enumerate::a_kept_upload_is_listed_once_while_others_are_removed;
    }
}
