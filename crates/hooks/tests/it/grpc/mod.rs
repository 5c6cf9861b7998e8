//! gRPC hooks against a scripted server in this process, and against independent servers in Python.

mod calls;
mod connections;
#[rustfmt::skip]
#[allow(unreachable_pub, missing_docs, clippy::all, reason = "generated")]
mod generated;
mod python;
mod server;
mod tls;

use std::{
    collections::BTreeMap,
    time::{Duration, UNIX_EPOCH},
};

use landfall::hook::{Access, Intent, RequestInfo};
use landfall_hooks::grpc::GrpcSettings;
use landfall_hooks::{HookName, Message, MessageId, RequestData, UploadData};

/// Settings with short delays.
fn settings(target: impl Into<String>) -> GrpcSettings {
    let mut settings = GrpcSettings::new(target);
    settings.backoff = Duration::from_millis(20);
    settings.timeout = Some(Duration::from_secs(20));
    settings
}

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    let owned = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(owned).collect()
}

/// A message with a value in each field.
fn message() -> Message {
    let access = Access::new(Intent::Concatenate, None);
    let mut message = Message::access(
        &RequestInfo::default(),
        &access,
        MessageId::with_id("0123456789abcdef0123456789abcdef".into()),
    );
    message.sequence = 1_795_190_400_000_123;
    message.at = UNIX_EPOCH + Duration::from_millis(1_795_190_400_042);
    message.hook = HookName::PostFinish;
    message.upload = UploadData::default();
    let upload = &mut message.upload;
    upload.id = "5d892c228ec8d0451dfec588697e8930".into();
    upload.size = Some(5_000_000_000);
    upload.offset = 4_999_999_999;
    upload.metadata = texts(&[("filename", "Zo\u{eb}.png"), ("empty", "")]);
    upload.is_partial = true;
    upload.is_final = true;
    upload.parts = Some(vec!["a".into(), "b/c".into()]);
    upload.storage = Some(texts(&[("Type", "filestore"), ("Path", "/data/x")]));
    upload.labels = texts(&[("tenant", "7")]);
    message.request = RequestData::default();
    let request = &mut message.request;
    request.method = "PATCH".into();
    request.uri = "/files/5d89?x=1".into();
    request.remote = "127.0.0.1:59395".into();
    let headers = [
        ("Host", &["localhost:8080"][..]),
        ("Authorization", &["Bearer one", "Bearer two"]),
        ("X-Request-Id", &["r-1"]),
    ];
    for (name, values) in headers {
        let values = values.iter().map(ToString::to_string).collect();
        request.headers.insert(name.into(), values);
    }
    message
}
