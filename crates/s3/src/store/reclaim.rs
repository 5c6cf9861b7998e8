use landfall::upload::UploadId;

use super::{IDLE_AFTER, Inner, session::CachedState};

impl Inner {
    /// Releases at least `bytes` of memory of idle uploads other than `except`, if they have as
    /// much.
    pub(super) async fn reclaim(&self, bytes: usize, except: &UploadId) {
        let mut freed = 0;
        for session in self.sessions.idle_sessions(IDLE_AFTER) {
            if freed >= bytes {
                return;
            }
            if session.id == *except {
                continue;
            }
            // A locked session is not idle.
            let Ok(mut cached) = session.cached.try_lock() else {
                continue;
            };
            let CachedState::Known(state) = &mut *cached else {
                continue;
            };
            if state.unverified.is_some() || state.buffer.len() == 0 {
                continue;
            }
            let buffered = session.buffered();
            if !session.is_being_written() && state.is_dirty() {
                // Its request was dropped, and these bytes were never acknowledged.
                *cached = CachedState::Unknown;
            } else if !state.is_dirty() {
                state.offloaded += state.buffer.len();
                state.buffer = self.new_buffer();
            } else if self.flush_to_incomplete_part(state).await.is_err() {
                *cached = CachedState::Unknown;
            }
            drop(cached);
            session.touch(0);
            freed += buffered;
        }
    }
}
