//! Claims about a principal, in JSON.

use landfall_queue::{GrantLimits, Principal, is_subject};
use serde::Deserialize as _;
use serde_json::Value;

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
