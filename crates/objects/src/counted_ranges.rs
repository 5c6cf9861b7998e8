//! The ranges of an object that count, as its description records them.

use std::{fmt, ops::Range};

use landfall::store::info::UploadInfo;

use crate::part_plan::StoredPart;

/// The extension of a description with them.
pub const RANGES: &str = "CountedRanges";

/// The ranges of an object that count.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CountedRanges {
    /// The length of the object.
    pub total: u64,
    /// In order, not adjacent.
    pub ranges: Vec<Range<u64>>,
}

impl CountedRanges {
    /// Returns the ranges of the counted parts in an object of all listed ones.
    pub fn new(listed: &[impl StoredPart], counted: &[(u32, String)]) -> Self {
        let mut found = Self::default();
        for part in listed {
            let start = found.total;
            found.total += part.size();
            if counted.iter().any(|(number, _)| *number == part.number()) {
                match found.ranges.last_mut() {
                    Some(last) if last.end == start => last.end = found.total,
                    _ => found.ranges.push(start..found.total),
                }
            }
        }
        found
    }

    /// Returns those that a description records.
    pub fn recorded(info: &UploadInfo) -> Option<Self> {
        let mut numbers = info.extensions.get(RANGES)?.split(' ').map(str::parse);
        let total = numbers.next()?.ok()?;
        let mut ranges = Vec::new();
        while let Some(start) = numbers.next() {
            ranges.push(start.ok()?..numbers.next()?.ok()?);
        }
        Some(Self { total, ranges })
    }

    /// Returns the number of bytes that count.
    pub fn counted(&self) -> u64 {
        self.ranges
            .iter()
            .map(|range| range.end - range.start)
            .sum()
    }
}

/// Formats them as [`recorded`](CountedRanges::recorded) reads them.
impl fmt::Display for CountedRanges {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.total)?;
        self.ranges
            .iter()
            .try_for_each(|range| write!(f, " {} {}", range.start, range.end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_those_of_the_counted_parts() {
        let part = |number: u32, size: u64| (number, size);
        let listed = [part(1, 5), part(2, 5), part(3, 7), part(5, 6), part(6, 1)];
        let counted = [1, 2, 5, 6].map(|number| (number, String::new()));
        let ranges = CountedRanges::new(&listed, &counted);
        assert_eq!(ranges.to_string(), "24 0 10 17 24");
        assert_eq!(ranges.counted(), 17);
    }
}
