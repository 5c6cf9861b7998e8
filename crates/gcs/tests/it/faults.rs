use std::{collections::BTreeSet, sync::Mutex};

use landfall_objects::{ErrorKind, ObjectHeaders};
use landfall_test_services::{
    Proxy,
    proxy::{Fault, Rule},
};

use super::*;

const COUNT: u32 = 65;

fn headers() -> ObjectHeaders {
    ObjectHeaders::default()
}

#[tokio::test]
async fn each_call_may_fail_once() {
    for fault in [
        Fault::SLOW_DOWN,
        Fault::INTERNAL_ERROR_AFTER,
        Fault::CutBefore,
        Fault::CutInside,
        Fault::CutAfter,
        Fault::CutAnswer,
    ] {
        let service = Service::start();
        service.fake.set_rate_limit(false);
        let proxy = Proxy::start(&service.fake.access());
        let client = service.client_at(&proxy.endpoint());
        let id = object("p/id");
        let failed = Mutex::new(BTreeSet::new());
        let once = Rule::any().matching(move |call| {
            let is_api = call.path.contains("/v1");
            is_api
                && failed
                    .lock()
                    .unwrap()
                    .insert(format!("{} {}?{}", call.method, call.path, call.query))
        });
        proxy.inject(once, fault);
        let (parts, all) = upload_parts(&client, &id, COUNT).await;
        client
            .complete_multipart(&id, "", &parts, &headers())
            .await
            .unwrap();
        assert_eq!(
            service.fake.bytes(BUCKET, "p/id").unwrap(),
            all,
            "{fault:?}"
        );
        assert_eq!(service.names(), ["p/id"], "{fault:?}");
    }
}

/// The process is killed before or after each call of a finish. Another one lists the parts and finishes.
#[tokio::test]
async fn interrupted_finish_is_repeated() {
    for fault in [Fault::Kill, Fault::KillAfter] {
        for calls in 0.. {
            let service = Service::start();
            service.fake.set_rate_limit(false);
            let (id, other) = (object("p/id"), service.client());
            let (parts, all) = upload_parts(&other, &id, COUNT).await;
            let proxy = Proxy::start(&service.fake.access());
            let mut client = service.client_at(&proxy.endpoint());
            let rule = Rule::any()
                .skip(calls)
                .matching(|call| call.path.contains("/v1"));
            proxy.inject(rule, fault);
            let headers = headers();
            let killed = client.complete_multipart(&id, "", &parts, &headers);
            let killed = tokio::time::timeout(Duration::from_secs(3), killed).await;
            let is_done = !proxy.is_dead();
            drop(killed);
            client = other;
            match client.list_parts(&id, "").await {
                Ok(listed) => {
                    let listed: Vec<_> = listed
                        .into_iter()
                        .map(|part| (part.number, part.etag))
                        .collect();
                    assert_eq!(listed, parts, "{fault:?} {calls}");
                    client
                        .complete_multipart(&id, "", &listed, &headers)
                        .await
                        .unwrap();
                }
                Err(error) => {
                    assert_eq!(*error.kind(), ErrorKind::NoSuchUpload, "{fault:?} {calls}");
                    // A sweep removes the rest.
                    client.abort_multipart(&id, "").await.unwrap();
                }
            }
            assert_eq!(
                service.fake.bytes(BUCKET, "p/id").unwrap(),
                all,
                "{fault:?} {calls}"
            );
            assert_eq!(service.names(), ["p/id"], "{fault:?} {calls}");
            if is_done {
                assert!(calls > 4, "the finish has several calls");
                break;
            }
        }
    }
}

#[tokio::test]
async fn download_continues_after_an_interruption() {
    let service = Service::start();
    let bytes: Bytes = (0..600_000_u32)
        .flat_map(u32::to_be_bytes)
        .collect::<Vec<_>>()
        .into();
    service.fake.insert(BUCKET, "p/id", bytes.clone());
    let proxy = Proxy::start(&service.fake.access());
    proxy.inject(
        Rule::any()
            .matching(|call| call.query.contains("alt=media"))
            .once(),
        Fault::CutAnswer,
    );
    let client = service.client_at(&proxy.endpoint());
    let opened = client
        .get_object(&object("p/id"), Some(7..2_000_000))
        .await
        .unwrap();
    assert_eq!(
        opened.bytes(1 << 22).await.unwrap(),
        bytes.slice(7..2_000_000)
    );
    assert_eq!(service.fake.count("objects.download"), 2);
}

#[tokio::test]
async fn expired_token_is_renewed() {
    let service = Service::start();
    service.fake.insert(BUCKET, "p/id", "x");
    let client = service.client();
    for _ in 0..2 {
        client.head_object(&object("p/id")).await.unwrap();
        service.fake.expire_token();
        client.head_object(&object("p/id")).await.unwrap();
    }
    assert_eq!(service.fake.count("tokens.oauth"), 3);
}
