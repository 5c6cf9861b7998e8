//! How an upload has got its last byte, which decides what its completion still has to do.

use super::live::completing::Received;

/// How an upload has got its last byte.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Finishing {
    /// This request stored the last byte.
    pub(super) fresh: bool,
    /// It has prepared the event under this lease, so that no node resolves it before the lease ends.
    pub(super) is_prepared: bool,
    /// The client can ask for the upload again. Otherwise nothing of it remains if this fails: its client would create
    /// another one, and both would complete.
    pub(super) knows_url: bool,
    pub(super) received: Received,
}

impl Finishing {
    /// An earlier request has stored the last byte, and its completion was interrupted.
    pub(super) fn interrupted(start: u64) -> Self {
        Self {
            fresh: true,
            knows_url: true,
            received: Received {
                start,
                ..Received::default()
            },
            ..Self::default()
        }
    }
}
