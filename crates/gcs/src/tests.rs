//! The client against a scripted transport.

mod completion;
mod requests;
pub(crate) mod script;

use std::{
    sync::{Arc, LazyLock},
    time::Duration,
};

use landfall_objects::{CallLimits, CallSettings, ErrorKind, ObjectHeaders, ObjectRef, Payload};
use serde_json::{Value, json};

use self::script::{Script, Step, lost, reply};
use crate::{Client, ClientSettings, CredentialSource, checksum::Checksum, names::PartTag};

fn limits() -> CallLimits {
    CallLimits {
        attempts: 3,
        backoff: Duration::from_millis(2),
        ..CallLimits::default()
    }
}

/// A client without a token.
fn client(script: &Arc<Script>) -> Client {
    let settings = ClientSettings {
        credentials: CredentialSource::Anonymous,
        object_prefix: "p/".to_owned(),
        calls: CallSettings {
            http: Some(script.clone()),
            ..limits().into()
        },
        ..ClientSettings::default()
    };
    Client::with_variables(settings, Arc::new(|_| None)).expect("a client")
}

fn object() -> &'static ObjectRef {
    static OBJECT: LazyLock<ObjectRef> = LazyLock::new(|| ObjectRef::new("bucket", "p/id"));
    &OBJECT
}

fn of(bytes: &'static [u8]) -> Checksum {
    Checksum::of(&Payload::from(bytes::Bytes::from_static(bytes)))
}

fn resource(name: &str, generation: u64, checksum: Checksum) -> Value {
    json!({
        "name": name,
        "generation": generation.to_string(),
        "size": checksum.size.to_string(),
        "crc32c": checksum.encoded(),
    })
}

fn failure(status: u16, reason: &str) -> Step {
    let body = json!({"error": {"code": status, "message": "why", "errors": [{"reason": reason}]}});
    reply(status, &body.to_string())
}

fn ok(body: &Value) -> Step {
    reply(200, &body.to_string())
}
