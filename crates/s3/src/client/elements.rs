use std::time::SystemTime;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, de::Error};

pub(super) fn filled<'de, D: Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Err(D::Error::custom("an element of the response is empty"));
    }
    Ok(text)
}

pub(super) fn if_filled<'de, D: Deserializer<'de>>(from: D) -> Result<Option<String>, D::Error> {
    let text = String::deserialize(from)?;
    Ok(Some(text).filter(|text| !text.is_empty()))
}

pub(super) fn time<'de, D: Deserializer<'de>>(from: D) -> Result<SystemTime, D::Error> {
    let text = String::deserialize(from)?;
    let time = text.trim().parse::<Timestamp>().map_err(D::Error::custom)?;
    Ok(time.into())
}

pub(super) fn if_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<SystemTime>, D::Error> {
    Ok(time(from).ok())
}

pub(super) fn if_number<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    Ok(String::deserialize(from)?.trim().parse().ok())
}
