//! Claims about a principal, in JSON.

use std::fmt;

use landfall_state::queue::{GrantLimits, Principal, is_subject};
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};
use serde_json::{Map, Value};

/// An object in which no name comes twice, on any level.
///
/// Of two equal names, one parser uses the first and another the last.
#[derive(Deserialize, Default)]
#[serde(from = "Option<UniqueMap>")]
pub(super) struct UniqueObject(pub(super) Map<String, Value>);

impl From<Option<UniqueMap>> for UniqueObject {
    fn from(map: Option<UniqueMap>) -> Self {
        Self(map.map(|map| map.0).unwrap_or_default())
    }
}

struct UniqueMap(Map<String, Value>);

impl<'de> Deserialize<'de> for UniqueMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match UniqueValue::deserialize(deserializer)?.0 {
            Value::Object(map) => Ok(Self(map)),
            _ => Err(D::Error::custom("not an object")),
        }
    }
}

struct UniqueValue(Value);

impl<'de> Deserialize<'de> for UniqueValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor).map(Self)
    }
}

struct ValueVisitor;

macro_rules! visit_as_is {
    ($($visit:ident: $kind:ty),+) => {
        $(fn $visit<E>(self, value: $kind) -> Result<Value, E> {
            Ok(value.into())
        })+
    };
}

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    visit_as_is! { visit_bool: bool, visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_str: &str }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(UniqueValue(value)) = seq.next_element()? {
            list.push(value);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some((name, UniqueValue(value))) = entries.next_entry::<String, _>()? {
            if map.insert(name, value).is_some() {
                return Err(A::Error::custom("a name comes twice"));
            }
        }
        Ok(map.into())
    }
}

/// Parses a subject: a string, or an integer such as a database id.
pub(super) fn subject(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        _ => return None,
    };
    is_subject(&text).then_some(text)
}

/// Parses an object with [`GrantLimits`] and `admin`, or null, into a principal. An error is for the log.
pub(super) fn limits(value: Value, principal: &mut Principal) -> Result<(), String> {
    let mut fields = match value {
        Value::Null => return Ok(()),
        Value::Object(fields) => fields,
        _ => return Err("not an object".to_owned()),
    };
    principal.is_admin = match fields.remove("admin") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(is_admin)) => is_admin,
        Some(_) => return Err("`admin` is not a boolean".to_owned()),
    };
    let limits = GrantLimits::deserialize(Value::Object(fields));
    principal.limits = limits.map_err(|error| error.to_string())?;
    Ok(())
}
