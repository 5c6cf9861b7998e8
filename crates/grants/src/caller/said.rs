//! What others say of a caller, in JSON.

use serde::Deserialize as _;
use serde_json::Value;

use super::{Caller, Limits, is_subject};

/// What is said makes no sense; what is wrong with it, for the log.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Nonsense(pub(super) String);

/// The name of a caller: a text, or a number as databases have them.
pub(super) fn subject(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) if number.is_i64() || number.is_u64() => number.to_string(),
        _ => return None,
    };
    is_subject(&text).then_some(text)
}

/// Reads an object with [`Limits`] and `admin` (or null) into a caller.
pub(super) fn limits(value: Value, caller: &mut Caller) -> Result<(), Nonsense> {
    let mut fields = match value {
        Value::Null => return Ok(()),
        Value::Object(fields) => fields,
        _ => return Err(Nonsense("it isn't an object".to_owned())),
    };
    caller.is_admin = match fields.remove("admin") {
        None | Some(Value::Null) => false,
        Some(Value::Bool(is_admin)) => is_admin,
        Some(_) => return Err(Nonsense("`admin` is neither true nor false".to_owned())),
    };
    let limits = Limits::deserialize(Value::Object(fields));
    caller.limits = limits.map_err(|error| Nonsense(error.to_string()))?;
    Ok(())
}
