//! The names of parts and temporary objects, and the tags of parts. It makes no call.
//!
//! Part n of the object `K` is the object `K_` and n − 1, as tusd names its chunks. Ids may contain `_` and be the
//! beginnings of others: what begins with `K_` is a part only if nothing but a number follows, and if it is not the
//! file of another upload, which has a `.info`.

use std::collections::BTreeSet;

use landfall_objects::{OWNER, PART_WRITER, Part};

use crate::{
    checksum::{self, Checksum},
    resource::Resource,
};

const INFO: &str = ".info";

/// The objects of one upload besides its file and its description.
#[derive(Debug, Default)]
pub(crate) struct Pieces {
    /// The parts, in the order of their numbers.
    pub(crate) parts: Vec<Part>,
    /// The keys of the objects that a finish of tusd composed of 32 chunks each.
    pub(crate) composites: Vec<String>,
}

/// Returns what all names of parts of an object begin with.
pub(crate) fn part_prefix(key: &str) -> String {
    format!("{key}_")
}

/// Returns the key of a part; `None` for the number 0.
pub(crate) fn part_key(key: &str, number: u32) -> Option<String> {
    let index = number.checked_sub(1)?;
    Some(format!("{key}_{index}"))
}

fn part_number(key: &str, listed: &str) -> Option<u32> {
    let index = listed.strip_prefix(key)?.strip_prefix('_')?;
    decimal(index)?.checked_add(1)
}

/// Reads a number without a sign and without leading zeros.
fn decimal(text: &str) -> Option<u32> {
    let number: u32 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

fn is_composite(key: &str, listed: &str) -> bool {
    let rest = listed.strip_prefix(key);
    let numbers = rest.and_then(|rest| rest.strip_prefix("_tmp_")?.split_once('_'));
    numbers.is_some_and(|(level, index)| decimal(level).is_some() && decimal(index).is_some())
}

/// Picks the pieces of `key` from all objects whose names begin with [`part_prefix`].
pub(crate) fn pieces(key: &str, listed: Vec<Resource>) -> Pieces {
    let described = listed.iter().filter_map(|one| one.name.strip_suffix(INFO));
    let described: BTreeSet<_> = described.map(str::to_owned).collect();
    let mut pieces = Pieces::default();
    for one in listed {
        // The key of an upload `a_0` is also that of the first part of `a`.
        let is_file = one.metadata.contains_key(OWNER) || described.contains(&one.name);
        if is_file && !one.metadata.contains_key(PART_WRITER) {
            continue;
        }
        if let Some(number) = part_number(key, &one.name) {
            pieces.parts.push(Part {
                number,
                size: one.size,
                etag: PartTag::from(&one).to_string(),
                modified: one.modified(),
                writer: one.metadata.get(PART_WRITER).cloned(),
            });
        } else if is_composite(key, &one.name) {
            pieces.composites.push(one.name);
        }
    }
    pieces.parts.sort_by_key(|part| part.number);
    pieces
}

/// Returns what the names of the temporary objects of an object begin with, which tusd does not read.
///
/// `prefix` is that of all keys of the store.
pub(crate) fn temporary_prefix(prefix: &str, key: &str) -> String {
    let id = key.strip_prefix(prefix).unwrap_or(key);
    format!("{prefix}.landfall/compose/{id}/")
}

/// Returns true for the name of a temporary object with this prefix, and for no other's.
pub(crate) fn is_temporary(prefix: &str, listed: &str) -> bool {
    let numbers = listed
        .strip_prefix(prefix)
        .and_then(|rest| rest.split_once('-'));
    numbers.is_some_and(|(level, index)| decimal(level).is_some() && decimal(index).is_some())
}

/// The tag of a part: the generation of its object, its size and its checksum, so that a finish has to ask for none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PartTag {
    pub(crate) generation: u64,
    pub(crate) size: u64,
    /// `None`: the service has none.
    pub(crate) crc32c: Option<u32>,
}

impl PartTag {
    pub(crate) fn new(generation: u64, checksum: Checksum) -> Self {
        Self {
            generation,
            size: checksum.size,
            crc32c: Some(checksum.crc32c),
        }
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        // The text of a checksum may contain slashes.
        let mut fields = text.splitn(3, '/');
        let generation = fields.next()?.parse().ok()?;
        let size = fields.next()?.parse().ok()?;
        let crc32c = match fields.next()? {
            "" => None,
            text => Some(checksum::decode(text)?),
        };
        Some(Self {
            generation,
            size,
            crc32c,
        })
    }

    pub(crate) fn checksum(self) -> Option<Checksum> {
        let size = self.size;
        self.crc32c.map(|crc32c| Checksum { size, crc32c })
    }
}

impl From<&Resource> for PartTag {
    fn from(object: &Resource) -> Self {
        Self {
            generation: object.generation,
            size: object.size,
            crc32c: object.checksum().map(|checksum| checksum.crc32c),
        }
    }
}

impl std::fmt::Display for PartTag {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/", self.generation, self.size)?;
        match self.checksum() {
            Some(checksum) => f.write_str(&checksum.encoded()),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn picked(key: &str, names: &[&str]) -> (Vec<u32>, Vec<String>) {
        let resource = |name: &&str| Resource {
            name: (*name).to_owned(),
            ..Resource::default()
        };
        let pieces = pieces(key, names.iter().map(resource).collect());
        let numbers = pieces.parts.iter().map(|part| part.number);
        (numbers.collect(), pieces.composites)
    }

    #[test]
    fn parts_are_told_from_other_objects() {
        let names = [
            "p/id_0",
            "p/id_1",
            "p/id_10",
            "p/id_2",
            "p/id_02",
            "p/id_",
            "p/id_+1",
            "p/id_1.info2",
            "p/id_x_0",
            "p/id_4294967295",
            "p/id_4294967296",
            "p/id_tmp_0_0",
            "p/id_tmp_0",
            "p/id_tmp_0_x",
            "p/id_7/x",
            "p/id_0_0",
        ];
        let (numbers, composites) = picked("p/id", &names);
        assert_eq!(numbers, [1, 2, 3, 11]);
        assert_eq!(composites, ["p/id_tmp_0_0"]);
    }

    #[test]
    fn finished_upload_with_the_name_of_a_part_is_none() {
        let (numbers, _) = picked("a", &["a_0", "a_1", "a_1.info", "a_1_0", "a_2"]);
        assert_eq!(numbers, [1, 3]);
        let (numbers, _) = picked("a_1", &["a_1_0"]);
        assert_eq!(numbers, [1]);
    }

    #[test]
    fn temporary_objects_stand_where_tusd_does_not_look() {
        let prefix = temporary_prefix("p/", "p/a/id_1");
        assert_eq!(prefix, "p/.landfall/compose/a/id_1/");
        assert_eq!(temporary_prefix("", "id"), ".landfall/compose/id/");
        assert_eq!(
            temporary_prefix("p/", "of a hook"),
            "p/.landfall/compose/of a hook/"
        );
        assert!(is_temporary(&prefix, "p/.landfall/compose/a/id_1/0-17"));
        // Of the upload `a/id_1/0`.
        assert!(!is_temporary(&prefix, "p/.landfall/compose/a/id_1/0/0-1"));
        assert!(!is_temporary(&prefix, "p/.landfall/compose/a/id_1/0-x"));
    }

    #[test]
    fn tags_come_back() {
        let checksum = Checksum {
            size: 8_388_608,
            crc32c: u32::MAX,
        };
        let tag = PartTag::new(123, checksum);
        assert_eq!(tag.to_string(), "123/8388608//////w==");
        assert_eq!(PartTag::parse("123/8388608//////w=="), Some(tag));
        let without = PartTag {
            crc32c: None,
            ..tag
        };
        assert_eq!(PartTag::parse(&without.to_string()), Some(without));
        for text in ["", "1", "1/2", "x/2/", "1/x/", "1/2/x", "\"1\""] {
            assert_eq!(PartTag::parse(text), None, "{text}");
        }
        assert_eq!(part_key("k", 0), None);
        assert_eq!(part_key("k", 1).as_deref(), Some("k_0"));
    }
}
