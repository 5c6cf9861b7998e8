//! The client against a scripted server.

mod downloads;
mod in_doubt;
mod requests;
mod retries;
pub(super) mod script;

use landfall_objects::{Cloud as _, PartCondition};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::StreamExt;
use http::{HeaderMap, Method};
use landfall::BoxError;

use self::script::{Script, Step, response};
use super::*;

const OK: &str = "200 OK";
const DENIED: &str = "403 Forbidden";
const MISSING: &str = "404 Not Found";
const BUSY: &str = "503 Service Unavailable";

fn limits() -> CallLimits {
    CallLimits {
        attempts: 3,
        backoff: Duration::from_millis(2),
        max_backoff: Duration::from_secs(2),
        idle_timeout: Duration::from_millis(400),
        connect_timeout: Duration::from_millis(400),
        ..CallLimits::default()
    }
}

fn settings(script: &Script) -> ClientSettings {
    ClientSettings {
        endpoint: Some(script.endpoint()),
        region: Some("us-east-1".to_owned()),
        credentials: CredentialSource::Static(Credentials::new("AKID", "the-secret")),
        calls: limits().into(),
        ..ClientSettings::default()
    }
}

fn client(script: &Script) -> Client {
    Client::new(settings(script)).expect("a client")
}

fn object() -> ObjectRef {
    ObjectRef::new("bucket", "folder/a key")
}

fn payload() -> Payload {
    Payload::new(
        vec![Bytes::from_static(b"hello "), Bytes::from_static(b"world")],
        None,
    )
}

fn error(status: &str, code: &str) -> Step {
    let body = format!("<Error><Code>{code}</Code><Message>why</Message></Error>");
    response(status, &[("x-amz-request-id", "RID")], &body)
}

fn stored() -> Step {
    response(OK, &[("etag", "\"tag\"")], "")
}

async fn upload(client: &Client) -> Result<String> {
    client
        .upload_part(
            &object(),
            "up/load+id",
            7,
            payload(),
            PartCondition::default(),
        )
        .await
}
