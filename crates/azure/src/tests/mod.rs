//! The client with a scripted transport: lost responses, tokens, throttling.

mod identities;
mod responses;
mod script;

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use landfall_objects::{CallLimits, CallSettings, ObjectRef, Payload};

use self::script::{Script, Step};
use crate::{AzureClient, AzureSettings, Variables};

const ACCOUNT: (&str, &str) = ("AZURE_STORAGE_ACCOUNT", "acme");
const KEY: (&str, &str) = ("AZURE_STORAGE_KEY", "a2V5");

fn client<const N: usize>(
    variables: [(&str, &str); N],
    steps: impl IntoIterator<Item = Step>,
) -> (AzureClient, Arc<Script>) {
    let script = Arc::new(Script::new(steps));
    let settings = AzureSettings {
        variables: Variables::from(variables),
        calls: CallSettings {
            http: Some(script.clone()),
            limits: CallLimits {
                backoff: Duration::from_millis(1),
                ..CallLimits::default()
            },
            ..CallSettings::default()
        },
        ..AzureSettings::default()
    };
    (AzureClient::new(settings).unwrap(), script)
}

fn object() -> ObjectRef {
    ObjectRef::new("uploads", "k")
}

fn payload() -> Payload {
    Payload::from(Bytes::from_static(b"hello"))
}
