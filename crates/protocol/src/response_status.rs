//! The status of a response to a failed request: what a client reads from it depends on the operation.

use crate::{Operation, ProblemKind};

/// For the statuses of hooks.
const RETRY_AFTER: u64 = 5;

impl ProblemKind {
    /// Returns the status of the response to a request of tus, and the seconds for `Retry-After`. `chosen` is
    /// the status that a hook set.
    ///
    /// Clients wait after 423 to a HEAD. Any other error tells them that the upload is lost, and they send the
    /// file from its first byte: so all that passes is 423 there. The responses to other methods keep their
    /// status, because clients repeat a request after 5xx and 423.
    #[must_use]
    pub const fn response_status(
        self,
        operation: Option<Operation>,
        chosen: Option<u16>,
    ) -> (u16, Option<u64>) {
        let (status, retry_after) = match chosen {
            // A hook that denies an upload does so for good, whatever its status.
            Some(status @ (408 | 425 | 429 | 500..=599)) if !matches!(self, Self::Rejected) => {
                match self.retry_after() {
                    None => (status, Some(RETRY_AFTER)),
                    known => (status, known),
                }
            }
            Some(status) => (status, None),
            None => (self.describe().0, self.retry_after()),
        };
        match (operation, retry_after) {
            (Some(Operation::Inspect), Some(_)) => (423, retry_after),
            _ => (status, retry_after),
        }
    }
}
