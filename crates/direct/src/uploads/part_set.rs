//! The parts that make up a file: as listed by a client, or as recorded.

use std::collections::HashMap;

use landfall_objects::Part;

/// S3's limit.
pub(crate) const MAX_PARTS: u32 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PartSet {
    /// Number and entity tag, in order.
    pub(super) parts: Vec<(u32, String)>,
    pub(super) size: u64,
    pub(super) is_all: bool,
}

impl PartSet {
    pub(super) fn named(named: &[(u32, String)], listed: &[Part]) -> Result<Self, String> {
        let by_number: HashMap<_, _> = listed.iter().map(|part| (part.number, part)).collect();
        let mut set = Self {
            parts: Vec::with_capacity(named.len()),
            size: 0,
            is_all: named.len() == by_number.len(),
        };
        for (number, etag) in named {
            let missing = || format!("S3 has no part {number}; send it, then complete the upload");
            let part = by_number.get(number).ok_or_else(missing)?;
            if part.etag.trim_matches('"') != etag.trim().trim_matches('"') {
                let why = format!("part {number} has another entity tag than the listed one");
                return Err(why);
            }
            set.size = set.size.saturating_add(part.size);
            set.parts.push((*number, part.etag.clone()));
        }
        Ok(set)
    }

    /// Selects the parts in [`ranges`](Self::ranges) of an interrupted completion, or all.
    pub(super) fn recorded(ranges: Option<&str>, listed: &[Part]) -> Self {
        let is_meant = |part: &&Part| ranges.is_none_or(|ranges| has_number(ranges, part.number));
        let meant: Vec<_> = listed.iter().filter(is_meant).collect();
        Self {
            size: meant.iter().map(|part| part.size).sum(),
            is_all: meant.len() == listed.len(),
            parts: (meant.iter().map(|part| (part.number, part.etag.clone()))).collect(),
        }
    }

    pub(super) fn ranges(&self) -> String {
        ranges(self.parts.iter().map(|(number, _)| *number))
    }
}

/// Numbers must be from 1 to 10,000 and ascending. Fails with the first invalid one.
pub(super) fn check_order(parts: &[(u32, String)]) -> Result<(), String> {
    if parts.is_empty() {
        return Err("no parts are listed".into());
    }
    let mut last = 0;
    for (number, _) in parts {
        if !(1..=MAX_PARTS).contains(number) {
            let why = format!("the part number {number} is not from 1 to {MAX_PARTS}");
            return Err(why);
        }
        if *number <= last {
            let why = "list each part once, in ascending order";
            return Err(format!("part {number} is listed after {last}: {why}"));
        }
        last = *number;
    }
    Ok(())
}

pub(super) fn ranges(numbers: impl Iterator<Item = u32>) -> String {
    let mut ranges: Vec<(u32, u32)> = Vec::new();
    for number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    let ranges = ranges.into_iter().map(|(first, last)| match first == last {
        true => first.to_string(),
        false => format!("{first}-{last}"),
    });
    ranges.collect::<Vec<_>>().join(",")
}

fn has_number(ranges: &str, number: u32) -> bool {
    ranges.split(',').any(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        match (first.parse(), last.parse()) {
            (Ok(first), Ok(last)) => (first..=last).contains(&number),
            _ => false,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listed(parts: &[(u32, u64)]) -> Vec<Part> {
        let part = |(number, size): &(u32, u64)| Part {
            number: *number,
            size: *size,
            etag: format!("\"e{number}\""),
            modified: None,
            writer: None,
        };
        parts.iter().map(part).collect()
    }

    fn named(parts: &[(u32, &str)]) -> Vec<(u32, String)> {
        parts.iter().map(|(n, etag)| (*n, (*etag).into())).collect()
    }

    #[test]
    fn parts_must_be_in_order() {
        check_order(&named(&[(1, "a"), (3, "b"), (10_000, "c")])).unwrap();
        for bad in [
            &[][..],
            &[(0, "a")],
            &[(10_001, "a")],
            &[(2, "a"), (1, "b")],
            &[(1, "a"), (1, "a")],
        ] {
            check_order(&named(bad)).unwrap_err();
        }
    }

    #[test]
    fn listed_parts_must_match_s3() {
        let there = listed(&[(1, 5), (2, 7), (4, 1)]);
        let set = PartSet::named(&named(&[(1, "e1"), (4, "\"e4\"")]), &there).unwrap();
        assert_eq!((set.size, set.is_all), (6, false));
        assert_eq!(set.parts, named(&[(1, "\"e1\""), (4, "\"e4\"")]));
        for bad in [(3, "e3"), (2, "e1")] {
            PartSet::named(&named(&[(1, "e1"), bad]), &there).unwrap_err();
        }
    }

    #[test]
    fn numbers_are_formatted_as_ranges() {
        let all = |list: &[u32]| ranges(list.iter().copied());
        assert_eq!(all(&[1, 2, 3, 5, 7, 8]), "1-3,5,7-8");
        assert_eq!(all(&[]), "");
        let there = listed(&[(1, 5), (2, 7), (4, 1)]);
        let set = PartSet::recorded(Some("1,3-4"), &there);
        assert_eq!((set.size, &*set.ranges()), (6, "1,4"));
        assert_eq!(PartSet::recorded(None, &there).size, 13);
        assert!(!has_number("", 1) && !has_number("x-y", 1));
    }
}
