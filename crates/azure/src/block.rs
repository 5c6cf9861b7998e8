//! Block ids, exactly as tusd has them. They decide which bytes an upload has.

use base64::{Engine as _, engine::general_purpose::STANDARD};

/// The block that marks an upload as unfinished. It has one byte, which counts nowhere.
const SENTINEL: u32 = i32::MAX as u32;

/// The meaning of a block, which its id tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Block {
    /// The block of a part, by its number from 1.
    Part(u32),
    /// It marks an upload as unfinished.
    Sentinel,
}

impl Block {
    /// The block of a part; `None` for a number that no block has.
    pub(crate) fn of_part(number: u32) -> Option<Self> {
        (1..=SENTINEL)
            .contains(&number)
            .then_some(Self::Part(number))
    }

    /// Base64 of the block's index as four bytes, the lowest first. The index of part 1 is 0.
    pub(crate) fn id(self) -> String {
        let index = match self {
            Self::Part(number) => number.saturating_sub(1),
            Self::Sentinel => SENTINEL,
        };
        STANDARD.encode(index.to_le_bytes())
    }

    /// `None` for the id of another program.
    pub(crate) fn from_id(id: &str) -> Option<Self> {
        let bytes = STANDARD.decode(id.trim()).ok()?;
        match u32::from_le_bytes(bytes.try_into().ok()?) {
            SENTINEL => Some(Self::Sentinel),
            index => Self::of_part(index.checked_add(1)?),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_those_of_tusd() {
        for (block, id) in [
            (Block::Part(1), "AAAAAA=="),
            (Block::Part(2), "AQAAAA=="),
            (Block::Part(257), "AAEAAA=="),
            (Block::Part(50_000), "T8MAAA=="),
            (Block::Sentinel, "////fw=="),
        ] {
            assert_eq!(block.id(), id);
            assert_eq!(Block::from_id(id), Some(block));
        }
        assert_eq!(
            Block::of_part(SENTINEL).map(Block::id).as_deref(),
            Some("/v//fw==")
        );
    }

    #[test]
    fn ids_of_others() {
        for id in ["", "AAAA", "AAAAAAA=", "not base64", "/////w==", "AAAAgA=="] {
            assert_eq!(Block::from_id(id), None, "{id}");
        }
        assert_eq!(Block::of_part(0), None);
        assert_eq!(Block::of_part(SENTINEL + 1), None);
    }
}
