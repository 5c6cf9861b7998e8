use std::time::UNIX_EPOCH;

use landfall::upload::{Upload, UploadId};
use landfall_objects::{ObjectRef, Part};
use landfall_state::queue::JobId;
use proptest::prelude::*;

use super::*;

const HOUR: Duration = Duration::from_secs(3600);
const SIZE_LIMIT: u64 = 100;

fn at(hours: u32) -> SystemTime {
    UNIX_EPOCH + hours * HOUR
}

/// An open upload of 10 bytes, active at 1 h.
fn record(mode: TransferMode, change: impl FnOnce(&mut Record)) -> Record {
    let upload = Upload::new(UploadId::new("direct-1").unwrap(), Some(10));
    let object = ObjectRef::new("b", "k");
    let mut record = Record::new(upload, JobId(1), "ann", mode, object, at(1));
    record.status = Status::Open;
    record.multipart = (mode == TransferMode::Multipart).then(|| "m".into());
    change(&mut record);
    record
}

fn completing(record: &mut Record, stored: u64) {
    record.status = Status::Completing;
    record.stored = stored;
}

fn storage(record: &mut Record, name: &str, value: &str) {
    let mut upload = Upload::clone(&record.upload);
    upload.storage.insert(name.into(), value.into());
    record.upload = upload.into();
}

fn parts(sizes: &[u64]) -> Observed {
    let part = |(number, size): (u32, &u64)| Part {
        number,
        size: *size,
        etag: format!("\"e{number}\""),
        modified: None,
        writer: None,
    };
    Observed::Parts((1..).zip(sizes).map(part).collect())
}

fn head(size: u64) -> ObjectHead {
    ObjectHead {
        size,
        etag: "\"e\"".into(),
        modified: None,
        metadata: Default::default(),
        content_type: Some("text/plain".into()),
    }
}

fn object(size: u64) -> Observed {
    Observed::Object(head(size))
}

fn names(numbers: &[u32]) -> Vec<(u32, String)> {
    numbers.iter().map(|n| (*n, format!("e{n}"))).collect()
}

fn set(numbers: &[u32], size: u64, is_all: bool) -> Decision {
    let parts = numbers.iter().map(|n| (*n, format!("\"e{n}\"")));
    Decision::Assemble(PartSet {
        parts: parts.collect(),
        size,
        is_all,
    })
}

fn removed(reason: RemovalReason) -> Decision {
    Decision::Remove(reason)
}

/// A row of the table, usually created by [`of`].
struct Case<'a> {
    record: Record,
    seen: Observed,
    named: Option<&'a [u32]>,
    idle_timeout: Option<Duration>,
    decision: Decision,
}

fn of<'a>(record: Record, seen: Observed, decision: Decision) -> Case<'a> {
    Case {
        record,
        seen,
        named: None,
        idle_timeout: None,
        decision,
    }
}

fn named(numbers: &[u32], seen: Observed, decision: Decision) -> Case<'_> {
    Case {
        named: Some(numbers),
        ..of(record(TransferMode::Multipart, |_| ()), seen, decision)
    }
}

/// A case at 3 h, two hours after the client was active.
fn idle<'a>(record: Record, hours: u32, seen: Observed, decision: Decision) -> Case<'a> {
    Case {
        idle_timeout: Some(hours * HOUR),
        ..of(record, seen, decision)
    }
}

fn decided(case: &Case<'_>) -> Decision {
    let named = case.named.map(names);
    let input = DecisionInput {
        record: &case.record,
        size_limit: case.record.size_limit().unwrap_or(SIZE_LIMIT),
        named: named.as_deref(),
        idle_timeout: case.idle_timeout,
        now: at(3),
    };
    decide(&input, case.seen.clone())
}

#[test]
fn decisions_follow_the_table() {
    let plain = || record(TransferMode::Put, |_| ());
    let in_parts = || record(TransferMode::Multipart, |_| ());
    let assembling = |stored| record(TransferMode::Multipart, |record| completing(record, stored));
    let no_length = |record: &mut Record| {
        let mut upload = Upload::clone(&record.upload);
        (upload.length, upload.max_size) = (None, Some(SIZE_LIMIT));
        record.upload = upload.into();
    };
    let too_large = |stored, limit| removed(RemovalReason::TooLarge { stored, limit });
    let invalid = |why: &str| removed(RemovalReason::Invalid(why.into()));
    let gone = "the object is missing in the bucket";
    let aborted = "the multipart upload is missing in the bucket";
    let accepting =
        |types: &'static str| record(TransferMode::Put, |one| storage(one, TYPES, types));
    let cases = [
        // Sent in one piece.
        of(plain(), Observed::Nothing, Decision::Wait { stored: 0 }),
        of(plain(), object(10), Decision::Finish(head(10))),
        of(plain(), object(11), too_large(11, 10)),
        of(plain(), object(9), invalid("it has 9 bytes instead of 10")),
        of(
            record(TransferMode::Post, no_length),
            object(9),
            Decision::Finish(head(9)),
        ),
        of(
            record(TransferMode::Post, no_length),
            object(101),
            too_large(101, SIZE_LIMIT),
        ),
        of(
            accepting("image/*,text/plain"),
            object(10),
            Decision::Finish(head(10)),
        ),
        of(
            accepting("image/*"),
            object(10),
            invalid("the type \"text/plain\" is not accepted; accepted: image/*"),
        ),
        // Being completed: the hooks were not called yet, or failed.
        of(
            record(TransferMode::Put, |one| completing(one, 10)),
            object(10),
            Decision::Finish(head(10)),
        ),
        of(
            record(TransferMode::Put, |one| completing(one, 10)),
            Observed::Nothing,
            removed(RemovalReason::Vanished(gone)),
        ),
        // The form was sent again.
        of(
            record(TransferMode::Post, |one| {
                no_length(one);
                completing(one, 10);
            }),
            object(12),
            Decision::Finish(head(12)),
        ),
        // In parts, checked by the sweeper.
        of(in_parts(), parts(&[]), Decision::Wait { stored: 0 }),
        of(in_parts(), parts(&[5, 5]), Decision::Wait { stored: 10 }),
        of(in_parts(), parts(&[5, 6]), too_large(11, 10)),
        of(in_parts(), object(10), Decision::Finish(head(10))),
        of(
            in_parts(),
            Observed::Nothing,
            removed(RemovalReason::Vanished(aborted)),
        ),
        of(
            record(TransferMode::SignedMultipart, |one| {
                one.multipart = Some("m".into())
            }),
            Observed::Nothing,
            removed(RemovalReason::Unwanted(TerminationReason::Client)),
        ),
        of(
            record(TransferMode::SignedMultipart, |one| {
                one.multipart = Some("m".into());
                storage(one, COMPLETES, "1");
                one.active_at = at(3) - MAX_COMPLETION_DURATION / 2;
            }),
            Observed::Nothing,
            Decision::Wait { stored: 0 },
        ),
        of(
            record(TransferMode::SignedMultipart, |one| {
                one.multipart = Some("m".into());
                storage(one, COMPLETES, "1");
                one.active_at = at(3) - MAX_COMPLETION_DURATION;
            }),
            Observed::Nothing,
            removed(RemovalReason::Unwanted(TerminationReason::Client)),
        ),
        of(
            record(TransferMode::SignedMultipart, |_| ()),
            Observed::Nothing,
            Decision::Wait { stored: 0 },
        ),
        // In parts, completed by the client.
        named(&[1, 2], parts(&[5, 5]), set(&[1, 2], 10, true)),
        named(&[1, 2], parts(&[5, 5, 5]), set(&[1, 2], 10, false)),
        named(&[1, 2, 3], parts(&[5, 5, 5]), too_large(15, 10)),
        named(
            &[1],
            parts(&[5, 5]),
            Decision::Reject(
                "the parts have 5 bytes in total, but the file has 10; S3 has the parts 1-2".into(),
            ),
        ),
        named(
            &[1, 3],
            parts(&[5, 5]),
            Decision::Reject("S3 has no part 3; send it, then complete the upload".into()),
        ),
        named(&[1], object(10), Decision::Finish(head(10))),
        named(
            &[1],
            Observed::Nothing,
            removed(RemovalReason::Vanished(aborted)),
        ),
        // The process died while the object was assembled.
        of(assembling(10), parts(&[5, 5]), set(&[1, 2], 10, true)),
        of(
            record(TransferMode::Multipart, |one| {
                completing(one, 5);
                storage(one, PARTS, "2");
            }),
            parts(&[4, 5]),
            set(&[2], 5, false),
        ),
        of(
            assembling(10),
            parts(&[5, 6]),
            Decision::Reopen(
                "the parts have changed during the completion; complete it again".into(),
            ),
        ),
        of(assembling(10), object(10), Decision::Finish(head(10))),
        of(
            assembling(10),
            object(9),
            invalid("it has 9 bytes instead of 10"),
        ),
        of(
            assembling(10),
            Observed::Nothing,
            removed(RemovalReason::Vanished(gone)),
        ),
        // Without activity for two hours.
        idle(
            plain(),
            2,
            Observed::Nothing,
            removed(RemovalReason::Expired),
        ),
        idle(plain(), 3, Observed::Nothing, Decision::Wait { stored: 0 }),
        idle(plain(), 1, object(10), Decision::Finish(head(10))),
        idle(in_parts(), 2, parts(&[]), removed(RemovalReason::Expired)),
        idle(in_parts(), 2, parts(&[1]), Decision::Wait { stored: 1 }),
        idle(in_parts(), 2, parts(&[11]), too_large(11, 10)),
        idle(assembling(10), 2, parts(&[5, 5]), set(&[1, 2], 10, true)),
    ];
    for (number, case) in cases.iter().enumerate() {
        let (record, seen) = (&case.record, &case.seen);
        assert_eq!(
            decided(case),
            case.decision,
            "{number}: {record:?} {seen:?}"
        );
    }
}

fn observations() -> impl Strategy<Value = Observed> {
    prop_oneof![
        proptest::collection::vec(0..20_u64, 0..5).prop_map(|sizes| parts(&sizes)),
        (0..20_u64).prop_map(object),
        Just(Observed::Nothing),
    ]
}

fn modes() -> impl Strategy<Value = TransferMode> {
    prop_oneof![
        Just(TransferMode::Put),
        Just(TransferMode::Post),
        Just(TransferMode::Multipart),
        Just(TransferMode::SignedMultipart)
    ]
}

proptest! {
    /// No upload is completed with bytes that were not granted, and none expires or waits while it
    /// is being completed.
    #[test]
    fn the_grant_limits_completed_bytes(
        mode in modes(),
        is_begun in any::<bool>(),
        is_completing in any::<bool>(),
        stored in 0..20_u64,
        length in proptest::option::of(0..20_u64),
        max_size in proptest::option::of(0..20_u64),
        seen in observations(),
        named in proptest::option::of(proptest::collection::btree_set(1..6_u32, 0..5)),
        timeout in proptest::option::of(0..5_u32),
    ) {
        let record = record(mode, |record| {
            let mut upload = Upload::clone(&record.upload);
            (upload.length, upload.max_size) = (length, max_size);
            record.upload = upload.into();
            record.stored = stored;
            record.multipart = is_begun.then(|| "m".into());
            if is_completing {
                record.status = Status::Completing;
            }
        });
        let most = record.size_limit().unwrap_or(SIZE_LIMIT);
        let numbers: Option<Vec<u32>> = named.map(|numbers| numbers.into_iter().collect());
        let case = Case {
            named: numbers.as_deref(),
            idle_timeout: timeout.map(|hours| hours * HOUR),
            ..of(record, seen, Decision::Wait { stored: 0 })
        };
        match decided(&case) {
            Decision::Finish(head) => {
                prop_assert!(head.size <= most);
                prop_assert!(is_completing || length.is_none_or(|length| head.size == length));
                prop_assert_eq!(case.seen, Observed::Object(head));
            }
            Decision::Assemble(set) if is_completing => prop_assert_eq!(set.size, stored),
            Decision::Assemble(set) => {
                prop_assert!(set.size <= most && numbers.is_some());
                prop_assert!(length.is_none_or(|length| set.size == length));
            }
            Decision::Wait { .. } => prop_assert!(!is_completing),
            Decision::Remove(RemovalReason::Expired) => {
                prop_assert!(!is_completing && timeout.is_some_and(|hours| hours <= 2));
                prop_assert!(!matches!(case.seen, Observed::Object(_)));
            }
            Decision::Remove(RemovalReason::TooLarge { stored, limit: bound }) => {
                prop_assert!(stored > bound && bound == most);
            }
            Decision::Reopen(_) => prop_assert!(is_completing),
            Decision::Reject(_) => prop_assert!(numbers.is_some() && !is_completing),
            Decision::Remove(_) => prop_assert!(case.seen != parts(&[])),
        }
    }
}
