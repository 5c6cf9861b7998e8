use landfall::{
    hook::RequestInfo,
    upload::{Upload, UploadId},
};
use landfall_hooks::{HookName, MessageId};

use super::*;

const ALL: Allowed = Allowed {
    first: true,
    retries: true,
};

fn event(key: &str, event: &str) -> ClaimedEvent {
    let upload = Upload::new(UploadId::random(), None);
    let request = RequestInfo::default();
    let hook = HookName::PostCreate;
    let message = Message::blocking(hook, &request, &upload, 0, MessageId::random());
    ClaimedEvent {
        event: event.into(),
        key: key.into(),
        message: Arc::new(message),
        bytes: 10,
        attempts: 0,
        earlier_attempts: 0,
        first_failed_at: None,
    }
}

fn retry(key: &str, id: &str) -> ClaimedEvent {
    ClaimedEvent {
        first_failed_at: Some(1),
        ..event(key, id)
    }
}

fn take(queues: &DeliveryQueues, allowed: Allowed) -> Option<String> {
    Some(queues.take(0, allowed)?.event.to_string())
}

#[test]
fn deliveries_of_a_key_run_one_at_a_time() {
    let queues = DeliveryQueues::new(1);
    queues.push(0, event("a", "a1"));
    queues.push(0, event("a", "a2"));
    queues.push(0, event("b", "b1"));
    assert_eq!(take(&queues, ALL).as_deref(), Some("a1"));
    assert_eq!(take(&queues, ALL).as_deref(), Some("b1"));
    assert_eq!(take(&queues, ALL), None);
    queues.push(0, event("a", "a3"));
    assert_eq!(take(&queues, ALL), None, "a1 is still running");
    queues.advance(0, &event("a", "a1"));
    assert_eq!(take(&queues, ALL).as_deref(), Some("a2"));
    queues.advance(0, &event("a", "a1"));
    assert_eq!(take(&queues, ALL), None, "a1 was removed already");
    queues.advance(0, &event("a", "a2"));
    assert_eq!(take(&queues, ALL).as_deref(), Some("a3"));
}

#[test]
fn retries_do_not_block_their_key() {
    let queues = DeliveryQueues::new(1);
    queues.push(0, retry("a", "a1"));
    queues.push(0, event("a", "a2"));
    let first = Allowed {
        retries: false,
        ..ALL
    };
    assert_eq!(take(&queues, first).as_deref(), Some("a2"));
    assert_eq!(take(&queues, first), None);
    assert_eq!(take(&queues, ALL).as_deref(), Some("a1"));
    assert_eq!((queues.retries(0), queues.is_idle(0)), (1, true));
    queues.remove(0, &retry("a", "a1"));
    assert_eq!(queues.retries(0), 0);
    assert!(queues.get(0, &"a".into(), "a1").is_none());
    assert!(queues.get(0, &"a".into(), "a2").is_some());
}

#[test]
fn removed_deliveries_free_capacity() {
    let queues = DeliveryQueues::new(2);
    let max = MAX_EVENTS / 2;
    for _ in 0..max {
        queues.push(0, event("a", "x"));
    }
    assert_eq!(queues.capacity(0), 0);
    assert_eq!(queues.capacity(1), max, "each route has its own");
    let head = queues.take(0, ALL).unwrap();
    queues.remove(0, &head);
    assert_eq!(queues.capacity(0), max);
    queues.advance(0, &head);
    assert_eq!(queues.capacity(0), max);
    queues.push(0, event("a", "y"));
    assert_eq!(
        take(&queues, ALL).as_deref(),
        Some("y"),
        "a new queue is not busy"
    );
}
