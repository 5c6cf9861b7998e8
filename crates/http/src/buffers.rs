//! Read buffers, lent to connections while bytes flow.
//!
//! A buffer belongs to a connection only as long as it holds bytes that were not used. The memory of a buffer that is
//! given back may still be in use, by frames that are being stored: it is taken again when they are gone. Each thread
//! has its own, so that the bytes of a connection stay in the cache of one processor.

use std::cell::RefCell;

use bytes::BytesMut;

/// Buffers that a thread keeps.
const MAX_KEPT: usize = 4;
/// Larger ones are freed.
const MAX_SIZE: usize = 256 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
}

/// Returns an empty buffer with space for at least `size` bytes.
pub(crate) fn take(size: usize) -> BytesMut {
    let kept = KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        let fitting = (0..kept.len()).rev().find(|n| kept[*n].try_reclaim(size))?;
        Some(kept.swap_remove(fitting))
    });
    let kept = kept.ok().flatten();
    kept.unwrap_or_else(|| BytesMut::with_capacity(size))
}

/// Takes a buffer back, which holds nothing that is needed.
pub(crate) fn give(mut buffer: BytesMut) {
    buffer.clear();
    let size = buffer.capacity();
    if size == 0 || size > MAX_SIZE {
        return;
    }
    let _ = KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        if kept.len() == MAX_KEPT {
            // The one that has not been used for the longest time.
            kept.remove(0);
        }
        kept.push(buffer);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_used_again_when_its_frames_are_gone() {
        let mut buffer = take(1000);
        buffer.extend_from_slice(b"frame");
        let place = buffer.as_ptr();
        let frame = buffer.split().freeze();
        give(buffer);
        let other = take(1000);
        assert_ne!(other.as_ptr(), place);
        drop(frame);
        assert_eq!(take(1000).as_ptr(), place);
    }
}
