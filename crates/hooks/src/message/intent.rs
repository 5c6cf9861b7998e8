//! Serializes the operation of `pre-access` by its name, for `#[serde(with = "intent")]`.
//!
//! `ALL` must contain every intent: the name of a missing one is written, but cannot be read.

use landfall::hook::Intent;
use serde::{Deserialize, Deserializer, Serializer, de};

const ALL: [Intent; 6] = [
    Intent::Create,
    Intent::Write,
    Intent::Inspect,
    Intent::Read,
    Intent::Terminate,
    Intent::Concatenate,
];

pub(super) fn serialize<S: Serializer>(
    intent: &Option<Intent>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match intent {
        Some(intent) => serializer.serialize_some(intent.as_str()),
        None => serializer.serialize_none(),
    }
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Intent>, D::Error> {
    let Some(name) = Option::<String>::deserialize(deserializer)? else {
        return Ok(None);
    };
    let found = ALL.into_iter().find(|intent| intent.as_str() == name);
    let invalid = || de::Error::custom(format_args!("unknown intent {name:?}"));
    found.map(Some).ok_or_else(invalid)
}
