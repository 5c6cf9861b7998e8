//! The part plan: which part of an upload contains which bytes. It must be stored before the parts are sent.

use std::fmt;

/// A part as the service lists it.
pub trait StoredPart {
    /// Its number, from 1.
    fn number(&self) -> u32;
    /// Its length in bytes.
    fn size(&self) -> u64;
    /// The name of its content.
    fn tag(&self) -> &str;
}

/// Consecutive parts of one size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segment {
    /// The number of the first part.
    pub number: u32,
    /// The offset of the first part in the upload.
    pub offset: u64,
    /// The size of each part, except the last one of the upload.
    pub size: u64,
}

/// Which part contains which bytes. Parts before the first segment are of another program.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PartPlan(Vec<Segment>);

/// The stored parts that a plan counts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CountedParts {
    /// Their numbers and tags.
    pub parts: Vec<(u32, String)>,
    /// The number of their bytes.
    pub offset: u64,
    /// The number of the next part.
    pub next: u32,
    /// The highest number of a stored part, counted or not.
    pub highest: u32,
}

/// There is no part with the bytes from this offset, although later ones were planned.
#[derive(Debug, PartialEq, Eq)]
pub struct MissingPart(pub u64);

/// Limits of parts, of the service and of memory.
#[derive(Debug, Clone, Copy)]
pub struct PartSizeLimits {
    /// The size unless the upload needs larger parts.
    pub preferred: u64,
    /// The largest size.
    pub largest: u64,
    /// The most parts of an upload.
    pub parts: u32,
}

impl PartSizeLimits {
    /// Returns the size of the part with this number and offset, after one of the size `current`. `None` if
    /// the rest of the upload does not fit into the parts that are left.
    pub fn next_size(
        &self,
        number: u32,
        offset: u64,
        length: Option<u64>,
        current: Option<u64>,
    ) -> Option<u64> {
        const UNIT: u64 = 64 << 10;
        let left = u64::from((self.parts + 1).saturating_sub(number));
        let current = current.unwrap_or(self.preferred);
        if left == 0 {
            return (length == Some(offset)).then_some(current);
        }
        match length {
            Some(length) => {
                let needed = length.saturating_sub(offset).div_ceil(left);
                if needed <= current {
                    return Some(current);
                }
                let rounded = needed.next_multiple_of(UNIT).min(self.largest);
                (needed <= rounded).then_some(rounded)
            }
            None => {
                let steps = (number - 1) / (self.parts / 10).max(1);
                let factor = 1_u64.checked_shl(steps).unwrap_or(u64::MAX);
                let grown = self.preferred.saturating_mul(factor);
                Some(current.max(grown.min(self.largest)))
            }
        }
    }

    /// Returns the length of the largest upload.
    pub fn max_size(&self) -> u64 {
        self.largest.saturating_mul(u64::from(self.parts))
    }
}

impl PartPlan {
    /// Returns the size of the parts from the last segment on.
    pub fn size(&self) -> Option<u64> {
        self.0.last().map(|segment| segment.size)
    }

    /// Adds a segment: from its number on, parts have its size.
    pub fn push(&mut self, segment: Segment) {
        // Drop segments without parts.
        self.0.retain(|old| old.number < segment.number);
        self.0.push(segment);
    }

    /// Counts stored parts, in the order of their numbers, up to the first gap and to `limit` bytes.
    ///
    /// # Errors
    /// [`MissingPart`]: the upload is damaged.
    pub fn count<P: StoredPart>(
        &self,
        parts: &[P],
        length: Option<u64>,
        limit: u64,
    ) -> Result<CountedParts, MissingPart> {
        let mut counted = CountedParts {
            next: 1,
            highest: parts.last().map_or(0, StoredPart::number),
            ..CountedParts::default()
        };
        let find = |number: u32| {
            let at = parts.binary_search_by_key(&number, StoredPart::number);
            at.ok().map(|at| &parts[at])
        };
        let external = Segment {
            number: 1,
            offset: 0,
            size: 0,
        };
        let segments = std::iter::once(&external).chain(&self.0);
        let mut nexts = self.0.iter();
        for segment in segments {
            let next = nexts.next();
            let end = next.map_or(limit, |next| next.offset.min(limit));
            counted.next = segment.number;
            while counted.offset < end
                && next.is_none_or(|next| counted.next < next.number)
                && let Some(part) = find(counted.next)
            {
                let after = counted.offset + part.size();
                let fits =
                    segment.size == 0 || part.size() == segment.size || length == Some(after);
                if !fits || after > end {
                    break;
                }
                counted.parts.push((part.number(), part.tag().to_owned()));
                counted.offset = after;
                counted.next += 1;
            }
            if let Some(next) = next {
                if counted.offset >= limit {
                    return Ok(counted);
                }
                if counted.offset != next.offset {
                    return Err(MissingPart(counted.offset));
                }
            }
        }
        Ok(counted)
    }

    /// Parses a plan as it is formatted. `None` if it contradicts itself.
    pub fn parse(text: &str) -> Option<Self> {
        let mut plan = Self::default();
        for segment in text.split(',').filter(|segment| !segment.is_empty()) {
            let mut numbers = segment.split(':').map(str::parse::<u64>);
            let mut number = || numbers.next()?.ok();
            let segment = Segment {
                number: u32::try_from(number()?).ok().filter(|number| *number > 0)?,
                offset: number()?,
                size: number().filter(|size| *size > 0)?,
            };
            let is_after =
                |last: &Segment| last.number >= segment.number || last.offset > segment.offset;
            if plan.0.last().is_some_and(is_after) {
                return None;
            }
            plan.0.push(segment);
        }
        Some(plan)
    }
}

/// Formats segments as `number:offset:size`, separated by commas.
impl fmt::Display for PartPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, segment) in self.0.iter().enumerate() {
            let comma = if n > 0 { "," } else { "" };
            let Segment {
                number,
                offset,
                size,
            } = segment;
            write!(f, "{comma}{number}:{offset}:{size}")?;
        }
        Ok(())
    }
}

/// For tests.
#[cfg(test)]
impl StoredPart for (u32, u64) {
    fn number(&self) -> u32 {
        self.0
    }

    fn size(&self) -> u64 {
        self.1
    }

    fn tag(&self) -> &str {
        ""
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn count(plan: &str, sizes: &[(u32, u64)], length: Option<u64>, limit: u64) -> (u64, u32) {
        let plan = PartPlan::parse(plan).unwrap();
        let counted = plan.count(sizes, length, limit).unwrap();
        (counted.offset, counted.next)
    }

    const ALL: u64 = u64::MAX;

    #[test]
    fn parts_count_up_to_the_first_gap() {
        assert_eq!(count("1:0:8", &[], None, ALL), (0, 1));
        assert_eq!(count("1:0:8", &[(1, 8), (2, 8)], None, ALL), (16, 3));
        assert_eq!(count("1:0:8", &[(1, 8), (3, 8)], None, ALL), (8, 2));
        assert_eq!(count("1:0:8", &[(2, 8)], None, ALL), (0, 1));
        // Created by another program.
        assert_eq!(count("", &[(1, 7), (2, 5), (4, 5)], None, ALL), (12, 3));
    }

    #[test]
    fn a_part_of_another_size_counts_only_as_the_last() {
        assert_eq!(count("1:0:8", &[(1, 8), (2, 3)], Some(11), ALL), (11, 3));
        assert_eq!(count("1:0:8", &[(1, 8), (2, 3)], Some(12), ALL), (8, 2));
        assert_eq!(count("1:0:8", &[(1, 8), (2, 3)], None, ALL), (8, 2));
    }

    #[test]
    fn discarded_parts_do_not_count() {
        // Parts 2 and 3 were discarded at byte 8; part 4 starts there.
        let plan = "1:0:8,4:8:8";
        assert_eq!(count(plan, &[(1, 8), (2, 8), (3, 8)], None, ALL), (8, 4));
        assert_eq!(
            count(plan, &[(1, 8), (2, 8), (3, 8), (4, 8)], None, ALL),
            (16, 5)
        );
        assert_eq!(count("1:0:8", &[(1, 8), (2, 8), (3, 8)], None, 20), (16, 3));
        assert_eq!(count(plan, &[(1, 8), (4, 8)], None, 9), (8, 4));
    }

    #[test]
    fn missing_parts_are_reported() {
        let plan = PartPlan::parse("1:0:8,4:16:8").unwrap();
        assert_eq!(plan.count(&[(1, 8)], None, ALL), Err(MissingPart(8)));
    }

    #[test]
    fn parts_of_another_program_come_first() {
        let plan = "4:12:8";
        assert_eq!(count(plan, &[(1, 7), (2, 5), (3, 9)], None, ALL), (12, 4));
        assert_eq!(
            count(plan, &[(1, 7), (2, 5), (3, 9), (4, 8)], None, ALL),
            (20, 5)
        );
    }

    #[test]
    fn invalid_plans_are_rejected() {
        for text in [
            "1",
            "1:2",
            "0:0:8",
            "1:0:0",
            "2:0:8,1:8:8",
            "1:9:8,2:8:8",
            "a:0:8",
        ] {
            assert_eq!(PartPlan::parse(text), None, "{text}");
        }
    }

    const LIMITS: PartSizeLimits = PartSizeLimits {
        preferred: 8 << 20,
        largest: 5 << 30,
        parts: 10_000,
    };

    #[test]
    fn every_known_length_fits() {
        for length in [0, 1, 8 << 20, 80 << 30, 1 << 40, 5 << 40, 48 << 40] {
            let size = LIMITS.next_size(1, 0, Some(length), None).unwrap();
            assert!(size >= LIMITS.preferred && size * 10_000 >= length);
        }
        assert_eq!(
            LIMITS.next_size(1, 0, Some(LIMITS.max_size() + 1), None),
            None
        );
        assert_eq!(
            LIMITS.next_size(10_000, 5, Some(5 + (1 << 30)), None),
            Some(1 << 30)
        );
        assert_eq!(LIMITS.next_size(10_001, 5, Some(6), None), None);
    }

    #[test]
    fn five_tebibytes_of_unknown_length_fit() {
        let (mut offset, mut size) = (0, None);
        for number in 1..=10_000 {
            size = LIMITS.next_size(number, offset, None, size);
            offset += size.unwrap();
        }
        assert!(offset >= 5 << 40);
    }

    proptest! {
        #[test]
        fn parsing_is_the_inverse_of_writing(steps in proptest::collection::vec((1..50_u32, 0..1000_u64, 1..1000_u64), 0..6)) {
            let mut plan = PartPlan::default();
            let (mut number, mut offset) = (0, 0);
            for (numbers, bytes, size) in steps {
                number += numbers;
                offset += bytes;
                plan.push(Segment { number, offset, size });
            }
            prop_assert_eq!(PartPlan::parse(&plan.to_string()), Some(plan));
        }

        #[test]
        fn every_upload_can_be_completed(
            length in 1..10_000_000_u64,
            cuts in proptest::collection::vec(1..2_000_000_u64, 0..8),
        ) {
            // First parts of other programs, then ours.
            let sizes = PartSizeLimits { preferred: 1000, largest: 100 << 20, parts: 100 };
            let (mut number, mut offset) = (1, 0);
            for cut in cuts {
                offset = (offset + cut).min(length);
                number += 1;
            }
            let mut size = None;
            while offset < length {
                prop_assert!(number <= 100);
                size = sizes.next_size(number, offset, Some(length), size);
                prop_assert!(size.is_some());
                offset = (offset + size.unwrap()).min(length);
                number += 1;
            }
        }

        #[test]
        fn parsing_never_panics(text: String) {
            let _ = PartPlan::parse(&text);
        }
    }
}
