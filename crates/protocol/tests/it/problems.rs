//! The table of errors.

use landfall_protocol::{Operation, Problem, ProblemKind};

/// Each kind with its status, and with its code if tusd has it.
const TABLE: [(ProblemKind, u16, &str); 45] = {
    use ProblemKind::*;
    [
        (UnsupportedVersion, 412, "ERR_UNSUPPORTED_VERSION"),
        (MaxSizeExceeded, 413, "ERR_MAX_SIZE_EXCEEDED"),
        (InvalidContentType, 415, "ERR_INVALID_CONTENT_TYPE"), // tusd: 400
        (ContentEncoding, 415, "ERR_UNSUPPORTED_CONTENT_ENCODING"),
        (InvalidUploadLength, 400, "ERR_INVALID_UPLOAD_LENGTH"),
        (InvalidOffset, 400, "ERR_INVALID_OFFSET"),
        (InvalidMetadata, 400, "ERR_INVALID_METADATA"),
        (InvalidMethod, 400, "ERR_INVALID_METHOD"),
        (InvalidPath, 400, "ERR_INVALID_PATH"),
        (NotFound, 404, "ERR_UPLOAD_NOT_FOUND"),
        (Gone, 410, "ERR_UPLOAD_GONE"),
        (Locked, 423, "ERR_UPLOAD_LOCKED"),
        (CompletionPending, 423, "ERR_COMPLETION_PENDING"),
        (MismatchedOffset, 409, "ERR_MISMATCHED_OFFSET"),
        (SizeExceeded, 413, "ERR_UPLOAD_SIZE_EXCEEDED"),
        (NotImplemented, 501, "ERR_NOT_IMPLEMENTED"),
        (NotFinished, 400, "ERR_UPLOAD_NOT_FINISHED"),
        (InvalidConcat, 400, "ERR_INVALID_CONCAT"),
        (
            ConcatenationUnsupported,
            400,
            "ERR_CONCATENATION_UNSUPPORTED",
        ),
        (ModifyFinal, 403, "ERR_MODIFY_FINAL"),
        (AmbiguousLength, 400, "ERR_AMBIGUOUS_UPLOAD_LENGTH"),
        (InvalidDeferLength, 400, "ERR_INVALID_UPLOAD_LENGTH_DEFER"),
        (InvalidChecksum, 400, "ERR_INVALID_CHECKSUM"),
        (
            UnsupportedChecksum,
            400,
            "ERR_UNSUPPORTED_CHECKSUM_ALGORITHM",
        ),
        (ChecksumMismatch, 460, "ERR_CHECKSUM_MISMATCH"),
        (Stopped, 400, "ERR_UPLOAD_STOPPED"),
        (Rejected, 400, "ERR_UPLOAD_REJECTED"),
        (TerminationRejected, 400, "ERR_UPLOAD_TERMINATION_REJECTED"),
        (Forbidden, 403, "ERR_FORBIDDEN"),
        (Interrupted, 423, "ERR_UPLOAD_INTERRUPTED"), // tusd: 400
        (ShuttingDown, 503, "ERR_SERVER_SHUTDOWN"),
        (OriginNotAllowed, 403, "ERR_ORIGIN_NOT_ALLOWED"),
        (UnexpectedEof, 400, "ERR_UNEXPECTED_EOF"),
        (ReadTimeout, 500, "ERR_READ_TIMEOUT"),
        (ConnectionReset, 500, "ERR_CONNECTION_RESET"),
        (IncompleteUpload, 400, "ERR_INCOMPLETE_UPLOAD"),
        (MethodNotAllowed, 405, "ERR_METHOD_NOT_ALLOWED"),
        (AlreadyExists, 409, "ERR_UPLOAD_EXISTS"),
        (RangeNotSatisfiable, 416, "ERR_RANGE_NOT_SATISFIABLE"),
        (TooManyUploads, 503, "ERR_TOO_MANY_UPLOADS"),
        (StorageFull, 507, "ERR_STORAGE_FULL"),
        (StorageRefused, 403, "ERR_STORAGE_REFUSED"),
        (Unavailable, 503, "ERR_STORAGE_UNAVAILABLE"),
        (Damaged, 500, "ERR_UPLOAD_DAMAGED"),
        (Internal, 500, "ERR_INTERNAL_SERVER_ERROR"),
    ]
};

#[test]
fn each_kind_has_its_status_and_a_unique_code() {
    let mut codes = std::collections::HashSet::new();
    for (kind, status, code) in TABLE {
        let problem = Problem::from(kind);
        assert_eq!((problem.status(), problem.code()), (status, code));
        assert!(codes.insert(code), "{code} twice");
    }
}

#[test]
fn bodies_are_code_message_and_detail() {
    assert_eq!(
        Problem::from(ProblemKind::NotFound).to_string(),
        "ERR_UPLOAD_NOT_FOUND: upload not found\n"
    );
    assert_eq!(
        ProblemKind::InvalidOffset
            .with_detail("the value must be digits")
            .to_string(),
        "ERR_INVALID_OFFSET: missing or invalid Upload-Offset header: the value must be digits\n"
    );
}

#[test]
fn what_passes_is_423_on_head_and_retried_on_other_methods() {
    use Operation::{Append, Create, Download, Inspect, Terminate};
    for kind in ProblemKind::ALL {
        let (usual, ..) = kind.describe();
        let (on_head, retry_after) = kind.response_status(Some(Inspect), None);
        assert_eq!(retry_after, kind.retry_after());
        match retry_after {
            Some(_) => assert_eq!(
                on_head, 423,
                "{kind:?} tells clients that the upload is lost"
            ),
            None => assert!(on_head != 423, "{kind:?} lets clients wait in vain"),
        }
        for operation in [Create, Append, Terminate, Download] {
            let (status, after) = kind.response_status(Some(operation), None);
            assert_eq!((status, after), (usual, retry_after));
            // tus-js-client and tus-java-client repeat requests after these only.
            let is_repeated = matches!(status, 423 | 500..=599);
            // Nothing but an operator ends it, so clients need not repeat it, but HEAD must not lose the upload.
            let waits_for_operator = *kind == ProblemKind::StorageRefused;
            assert!(
                is_repeated || after.is_none() || waits_for_operator,
                "{kind:?} is final for clients"
            );
        }
    }
}

#[test]
fn statuses_of_hooks_follow_the_same_rule() {
    let of = |kind: ProblemKind, operation, chosen| kind.response_status(Some(operation), chosen);
    for kind in [ProblemKind::Forbidden, ProblemKind::Internal] {
        for passes in [408, 425, 429, 500, 503] {
            let (status, after) = of(kind, Operation::Inspect, Some(passes));
            assert!(status == 423 && after.is_some(), "{passes}");
            let (status, after) = of(kind, Operation::Append, Some(passes));
            assert!(status == passes && after.is_some(), "{passes}");
        }
        let denied = of(ProblemKind::Rejected, Operation::Inspect, Some(503));
        assert_eq!(denied, (503, None), "the upload is removed");
        for last in [400, 401, 403, 404, 410, 422] {
            for operation in [Operation::Inspect, Operation::Append, Operation::Create] {
                assert_eq!(of(kind, operation, Some(last)), (last, None));
            }
        }
    }
}
