//! Memory that is lent to connections while they use it: read buffers, responses, maps of fields.
//!
//! A buffer belongs to a connection only as long as it holds bytes that were not used. The memory of a buffer that is
//! given back may still be in use, by frames that are being stored: it is taken again when they are gone. Each thread
//! has its own, so that the bytes of a connection stay in the cache of one processor.

use std::cell::RefCell;

use bytes::{Bytes, BytesMut};
use http::{Extensions, HeaderMap};
use landfall::service::{FieldLines, Peer};

/// Buffers that a thread keeps.
const MAX_KEPT: usize = 4;
/// Larger ones are freed.
const MAX_SIZE: usize = 256 * 1024;

thread_local! {
    static KEPT: RefCell<Vec<BytesMut>> = const { RefCell::new(Vec::new()) };
    /// Of a response that has been sent, and the maps of it and of its request.
    static SENT: RefCell<(Vec<u8>, HeaderMap, Extensions)> = RefCell::default();
    /// Heads of the last requests.
    static HEADS: RefCell<BytesMut> = RefCell::default();
}

/// Of a response, without its data.
const USUAL_RESPONSE: usize = 1024;
/// Heads that share memory are no larger.
const SMALL_HEAD: usize = 1024;
/// Larger maps are freed.
const MAX_FIELDS: usize = 48;

/// Returns an empty buffer for a response.
pub(crate) fn take_response() -> Vec<u8> {
    let taken = SENT.try_with(|sent| std::mem::take(&mut sent.borrow_mut().0));
    let taken = taken.unwrap_or_default();
    match taken.capacity() {
        0 => Vec::with_capacity(USUAL_RESPONSE),
        _ => taken,
    }
}

pub(crate) fn give_response(mut buffer: Vec<u8>) {
    buffer.clear();
    if (1..=4 * USUAL_RESPONSE).contains(&buffer.capacity()) {
        let _ = SENT.try_with(|sent| sent.borrow_mut().0 = buffer);
    }
}

/// Returns an empty map of fields.
pub(crate) fn take_fields() -> HeaderMap {
    let taken = SENT.try_with(|sent| std::mem::take(&mut sent.borrow_mut().1));
    taken.unwrap_or_default()
}

pub(crate) fn give_fields(mut fields: HeaderMap) {
    if (1..=MAX_FIELDS).contains(&fields.capacity()) {
        fields.clear();
        let _ = SENT.try_with(|sent| sent.borrow_mut().1 = fields);
    }
}

/// Returns extensions with empty [`FieldLines`], perhaps with the [`Peer`] of another request, and nothing else.
pub(crate) fn take_extensions() -> Extensions {
    let taken = SENT.try_with(|sent| std::mem::take(&mut sent.borrow_mut().2));
    let mut extensions = taken.unwrap_or_default();
    extensions.get_or_insert_default::<FieldLines>();
    extensions
}

pub(crate) fn give_extensions(mut extensions: Extensions) {
    if extensions.len() == 2
        && extensions.get::<Peer>().is_some()
        && let Some(lines) = extensions.get_mut::<FieldLines>()
    {
        lines.clear();
        let _ = SENT.try_with(|sent| sent.borrow_mut().2 = extensions);
    }
}

/// Copies the head of a request, into memory that those of a few requests share.
pub(crate) fn copy_head(head: &[u8]) -> Bytes {
    if head.len() > SMALL_HEAD {
        return Bytes::copy_from_slice(head);
    }
    let copied = HEADS.try_with(|heads| {
        let mut heads = heads.borrow_mut();
        if !heads.try_reclaim(head.len()) {
            *heads = BytesMut::with_capacity(2 * SMALL_HEAD);
        }
        heads.extend_from_slice(head);
        heads.split().freeze()
    });
    copied.unwrap_or_else(|_| Bytes::copy_from_slice(head))
}

/// Returns an empty buffer with space for at least `size` bytes.
pub(crate) fn take(size: usize) -> BytesMut {
    let kept = KEPT.try_with(|kept| {
        let mut kept = kept.borrow_mut();
        // Not one much larger, which a small frame would keep.
        let fits = |one: &mut BytesMut| one.try_reclaim(size) && one.capacity() <= 4 * size;
        let fitting = (0..kept.len()).rev().find(|n| fits(&mut kept[*n]))?;
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
