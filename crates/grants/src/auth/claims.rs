//! What others say of a caller, in JSON.

use serde::Deserialize as _;
use serde_json::Value;

use super::{GrantLimits, Principal, is_subject};

/// What is said makes no sense; what is wrong with it, for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct InvalidClaims(pub(super) String);

/// The name of a caller: a text, or a number as databases have them.
pub(super) fn subject(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        _ => return None,
    };
    is_subject(&text).then_some(text)
}

/// Reads an object with [`GrantLimits`] and `admin` (or null) into a caller.
pub(super) fn limits(value: Value, principal: &mut Principal) -> Result<(), InvalidClaims> {
    let mut fields = match value {
        Value::Null => return Ok(()),
        Value::Object(fields) => fields,
        _ => return Err(InvalidClaims("it isn't an object".to_owned())),
    };
    principal.is_admin = match fields.remove("admin") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(is_admin)) => is_admin,
        Some(_) => {
            return Err(InvalidClaims(
                "`admin` is neither true nor false".to_owned(),
            ));
        }
    };
    let limits = GrantLimits::deserialize(Value::Object(fields));
    principal.limits = limits.map_err(|error| InvalidClaims(error.to_string()))?;
    Ok(())
}
