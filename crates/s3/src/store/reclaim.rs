//! Getting memory back from uploads that wait for their clients.

use landfall::upload::UploadId;

use super::{Inner, RESTED, session::Known};

impl Inner {
    /// Frees at least `bytes`, if uploads other than `but` have as much that isn't moving. What is in
    /// `.part` already is simply forgotten; the rest is put there first.
    pub(super) async fn reclaim(&self, bytes: usize, but: &UploadId) {
        let mut freed = 0;
        for session in self.sessions.resting(RESTED) {
            if freed >= bytes {
                return;
            }
            if session.id == *but {
                continue;
            }
            // Whoever has it locked is busy with it.
            let Ok(mut known) = session.known.try_lock() else {
                continue;
            };
            let Known::State(state) = &mut *known else {
                continue;
            };
            if state.held.is_some() || state.gather.len() == 0 {
                continue;
            }
            let gathered = session.gathered();
            if !session.is_written() && state.is_dirty() {
                // Its request was dropped: nobody was told of these bytes.
                *known = Known::Nothing;
            } else if !state.is_dirty() {
                state.skipped += state.gather.len();
                state.gather = self.gather();
            } else if self.put_away(state).await.is_err() {
                *known = Known::Nothing;
            }
            drop(known);
            session.touch(0);
            freed += gathered;
        }
    }
}
