//! Shared tests of all brokers.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::Arc,
    time::{Duration, Instant},
};

use landfall_hooks::format::cloud_event;
use landfall_hooks::{DeliveryError, HookName, Message, Transport};
use serde_json::Value;

use crate::samples::{samples, traced};

pub(crate) const SOURCE: &str = "https://uploads.example.org/files";

/// Returns the `n`th event of an upload.
pub(crate) fn told(upload: &str, n: u64) -> Message {
    let mut message = sample(HookName::PostFinish);
    message.upload.id = upload.to_owned();
    message.sequence = n;
    message.id = format!("{:0<16.16}{n:016x}", hex(upload));
    message
}

pub(crate) fn sample(hook: HookName) -> Message {
    let mut samples = samples().into_iter();
    samples.find(|message| message.hook == hook).unwrap()
}

/// Returns one message per event name.
pub(crate) fn all_told() -> Vec<Message> {
    let told = |message: &Message| !message.hook.is_blocking();
    samples().into_iter().filter(told).map(traced).collect()
}

fn hex(text: &str) -> String {
    text.bytes().map(|byte| format!("{byte:02x}")).collect()
}

/// Delivers `each` events of `uploads` uploads: in order per upload, uploads concurrently.
pub(crate) async fn deliver_all(
    transport: &Arc<dyn Transport>,
    uploads: u64,
    each: u64,
) -> Vec<Message> {
    let mut tasks = tokio::task::JoinSet::new();
    for upload in 0..uploads {
        let transport = Arc::clone(transport);
        tasks.spawn(async move {
            let mut sent = Vec::new();
            for n in 1..=each {
                let message = told(&format!("u{upload}"), n);
                transport.deliver(&message).await.unwrap();
                sent.push(message);
            }
            sent
        });
    }
    tasks.join_all().await.into_iter().flatten().collect()
}

/// Asserts that every message was received once, unchanged and in order per upload.
pub(crate) fn assert_arrived(sent: &[Message], received: &[Vec<u8>]) {
    let mut expected: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for message in sent {
        let event = json(&cloud_event(message, SOURCE));
        let upload = message.upload.id.clone();
        expected.entry(upload).or_default().push(event);
    }
    let mut came: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    for body in received {
        let event = json(body);
        let upload = event["subject"].as_str().unwrap().to_owned();
        came.entry(upload).or_default().push(event);
    }
    assert_eq!(came.len(), expected.len());
    for (upload, events) in &came {
        let numbers = |events: &[Value]| -> Vec<String> {
            events.iter().map(|e| e["sequence"].to_string()).collect()
        };
        assert_eq!(numbers(events), numbers(&expected[upload]), "{upload}");
        assert_eq!(events, &expected[upload], "{upload}");
    }
}

pub(crate) fn json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap()
}

/// Returns the error of a delivery, which must not take long.
pub(crate) async fn failure(transport: &dyn Transport, message: &Message) -> DeliveryError {
    let started = Instant::now();
    let failure = transport.deliver(message).await.unwrap_err();
    let took = started.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}: {failure}");
    failure
}

/// Retries until the delivery succeeds.
pub(crate) async fn until_delivered(transport: &dyn Transport, message: &Message) {
    let started = Instant::now();
    while let Err(failure) = transport.deliver(message).await {
        let took = started.elapsed();
        assert!(took < Duration::from_secs(60), "{took:?}: {failure}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Checks that deliveries fail while the broker is down, and succeed afterwards.
pub(crate) async fn outlives<S>(
    transport: &dyn Transport,
    service: &mut S,
    stop: fn(&mut S),
    restart: fn(&mut S),
) -> Message {
    transport.deliver(&told("before", 1)).await.unwrap();
    tokio::task::block_in_place(|| stop(service));
    for n in 1..=20 {
        failure(transport, &told("meanwhile", n)).await;
    }
    transport.check().await.unwrap_err();
    tokio::task::block_in_place(|| restart(service));
    let after = told("after", 1);
    until_delivered(transport, &after).await;
    transport.check().await.unwrap();
    after
}

/// Checks that absent and silent peers fail within the timeout, half a second.
///
/// The transport is created from an address, with TLS or without.
pub(crate) async fn never_hangs(transport: impl Fn(&str, bool) -> Box<dyn Transport>) {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().to_string();
    let addresses = ["127.0.0.1:1", &silent].into_iter();
    for (address, tls) in addresses.flat_map(|address| [(address, false), (address, true)]) {
        let transport = transport(address, tls);
        for n in 1..=3 {
            let started = Instant::now();
            let failure = transport.deliver(&told("a", n)).await.unwrap_err();
            let took = started.elapsed();
            assert!(took < Duration::from_secs(5), "{took:?}: {failure}");
        }
    }
}

/// Checks that blocking hooks are rejected.
pub(crate) async fn takes_no_questions(transport: &dyn Transport) {
    for message in samples() {
        if message.hook.is_blocking() {
            let text = failure(transport, &message).await.to_string();
            assert!(text.contains(message.hook.as_str()), "{text}");
        }
    }
}
