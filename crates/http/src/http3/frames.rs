//! The frames of a stream (RFC 9114 section 7.1), checked before h3 buffers them.
//!
//! h3 passes on the content of DATA frames as it arrives, but buffers every other frame whole, whatever its
//! length, and takes the end of the stream within a DATA frame for the end of the content. An empty DATA frame
//! is to it the end of the content, too, and the frames after it are an error of the connection, so it does not get
//! them.

use std::collections::VecDeque;
use std::mem;

use bytes::{Buf as _, Bytes};

const DATA: u64 = 0;

#[derive(Debug)]
pub(super) struct FrameCheck {
    /// The start of a frame's header.
    header: Vec<u8>,
    /// Bytes of the current frame's payload that have not arrived.
    rest: u64,
    max_len: u64,
}

/// A frame that h3 would buffer is longer than the maximum.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("a frame is too long")]
pub(super) struct FrameTooLong;

impl FrameCheck {
    /// `max_len` does not apply to DATA frames.
    pub(super) fn new(max_len: u64) -> Self {
        Self {
            header: Vec::new(),
            rest: 0,
            max_len,
        }
    }

    /// Follows the frames in the next bytes of the stream, and passes them on without empty DATA frames. The start of
    /// a header follows with the rest of it.
    pub(super) fn receive(
        &mut self,
        mut bytes: Bytes,
        passed: &mut VecDeque<Bytes>,
    ) -> Result<(), FrameTooLong> {
        while !bytes.is_empty() {
            if self.rest > 0 {
                let len = self.rest.min(bytes.len() as u64);
                self.rest -= len;
                passed.push_back(bytes.split_to(len as usize));
                continue;
            }
            self.header.push(bytes.get_u8());
            let Some((kind, len)) = parse_header(&self.header) else {
                continue;
            };
            if kind != DATA && len > self.max_len {
                return Err(FrameTooLong);
            }
            let header = mem::take(&mut self.header);
            if (kind, len) != (DATA, 0) {
                passed.push_back(header.into());
            }
            self.rest = len;
        }
        Ok(())
    }

    /// Returns whether the stream may end here.
    pub(super) fn is_between_frames(&self) -> bool {
        self.header.is_empty() && self.rest == 0
    }
}

/// Returns the type and the length of a frame, once both have arrived.
fn parse_header(bytes: &[u8]) -> Option<(u64, u64)> {
    let (kind, bytes) = parse_integer(bytes)?;
    let (len, _) = parse_integer(bytes)?;
    Some((kind, len))
}

/// A variable-length integer (RFC 9000 section 16), and what follows it.
fn parse_integer(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let first = *bytes.first()?;
    let (integer, rest) = bytes.split_at_checked(1 << (first >> 6))?;
    let first = u64::from(first & 0x3f);
    let value = integer[1..]
        .iter()
        .fold(first, |value, byte| value << 8 | u64::from(*byte));
    Some((value, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// With the type's integer in `1 << kind_len` bytes, and the length's in `1 << len_len`.
    fn encode(kind: u64, kind_len: u8, len: u64, len_len: u8) -> Vec<u8> {
        let integer = |value: u64, log: u8| {
            let bytes = value.to_be_bytes();
            let mut bytes = bytes[8 - (1 << log)..].to_vec();
            bytes[0] |= log << 6;
            bytes
        };
        [integer(kind, kind_len), integer(len, len_len)].concat()
    }

    fn receive(check: &mut FrameCheck, bytes: &[u8]) -> Result<Vec<u8>, FrameTooLong> {
        let mut passed = VecDeque::new();
        check.receive(Bytes::copy_from_slice(bytes), &mut passed)?;
        Ok(passed.into_iter().flatten().collect())
    }

    #[test]
    fn only_data_frames_may_be_long() {
        for kind in [0x1, 0x4, 0x21, 0x3f] {
            let mut check = FrameCheck::new(1000);
            let header = encode(kind, 0, 1000, 1);
            assert_eq!(receive(&mut check, &header), Ok(header));
            let mut check = FrameCheck::new(1000);
            let header = encode(kind, 1, 1001, 3);
            assert_eq!(receive(&mut check, &header), Err(FrameTooLong));
        }
        let mut check = FrameCheck::new(1000);
        let header = encode(DATA, 3, 1 << 40, 3);
        assert_eq!(receive(&mut check, &header), Ok(header));
        assert!(!check.is_between_frames());
    }

    proptest! {
        #[test]
        fn any_bytes_have_the_same_outcome_in_pieces(
            bytes in prop::collection::vec(prop_oneof![Just(0_u8), any::<u8>()], 0..200),
            cut in 0_usize..200,
        ) {
            let (mut whole, mut pieces) = (FrameCheck::new(1000), FrameCheck::new(1000));
            let (first, second) = bytes.split_at(cut.min(bytes.len()));
            let received = receive(&mut pieces, first).and_then(|mut passed| {
                passed.extend(receive(&mut pieces, second)?);
                Ok(passed)
            });
            prop_assert_eq!(receive(&mut whole, &bytes), received);
            prop_assert_eq!(whole.is_between_frames(), pieces.is_between_frames());
        }

        /// All but the empty DATA frames are passed on, wherever the bytes are cut.
        #[test]
        fn frames_end_where_their_lengths_say(
            frames in prop::collection::vec((0_u64..60, 0..4_u8, 0_u64..60, 0..4_u8), 0..8),
            empty in prop::collection::vec((0..9_usize, 0..4_u8, 0..4_u8), 0..8),
            cuts in prop::collection::vec(0_usize..600, 0..8),
        ) {
            let (mut bytes, mut expected) = (Vec::new(), Vec::<u8>::new());
            let mut ends = vec![0];
            for n in 0..=frames.len() {
                for (_, kind_len, len_len) in empty.iter().filter(|(at, ..)| *at == n) {
                    bytes.extend(encode(DATA, *kind_len, 0, *len_len));
                    ends.push(bytes.len());
                }
                let Some((kind, kind_len, len, len_len)) = frames.get(n).copied() else {
                    break;
                };
                let frame = [encode(kind, kind_len, len, len_len), vec![0xff; len as usize]].concat();
                if (kind, len) != (DATA, 0) {
                    expected.extend(&frame);
                }
                bytes.extend(frame);
                ends.push(bytes.len());
            }
            let mut check = FrameCheck::new(60);
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| *cut <= bytes.len()).collect();
            cuts.push(bytes.len());
            cuts.sort_unstable();
            let (mut at, mut passed) = (0, Vec::new());
            for cut in cuts {
                passed.extend(receive(&mut check, &bytes[at..cut]).unwrap());
                at = cut;
                prop_assert_eq!(check.is_between_frames(), ends.contains(&at), "{}", at);
            }
            prop_assert_eq!(passed, expected);
        }
    }
}
