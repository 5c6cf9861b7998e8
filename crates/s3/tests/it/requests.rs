//! The store behind a handler: responses to clients.

use bytes::Bytes;
use http::HeaderValue;
use landfall::{Composer, Config, Handler};
use landfall_s3::{S3Options, S3Store, UploadIds, client::Client};
use landfall_test_services::{Access, Garage, Moto, Proxy};

use crate::support::{
    append, client, client_without_retries, create, finish, options, pattern, request,
};

fn handler(client: Client, options: &S3Options) -> Handler {
    let store = S3Store::new(client, options.clone()).unwrap();
    Handler::new(Config::new(Composer::join(store))).unwrap()
}

/// Interrupts a DELETE at every call, and repeats it.
async fn deletes(access: &Access, options: &S3Options) {
    let proxy = Proxy::start(access);
    for (length, sent, is_finished) in [
        (12 << 20, 7 << 20, false),
        (6 << 20, 6 << 20, true),
        (100, 100, true),
        (0, 0, true),
    ] {
        for calls in 1.. {
            let store = S3Store::new(client(access), options.clone()).unwrap();
            let upload = create(&store, length).await;
            append(&store, &upload.id, 1, &pattern(1, sent)).await;
            if is_finished {
                finish(&store, &upload, 1).await;
            }
            proxy.kill_during(calls);
            let id = upload.id.as_str();
            let (_, was_killed) = proxy.run(async |access| {
                let victim = handler(client_without_retries(&access), options);
                let delete = request("DELETE", Bytes::new());
                victim.handle_at(Some(id), delete).await.status()
            });
            let next = handler(client(access), options);
            let mut statuses = Vec::new();
            for _ in 0..2 {
                let response = next
                    .handle_at(Some(id), request("DELETE", Bytes::new()))
                    .await;
                statuses.push(response.status().as_u16());
            }
            assert!(
                matches!(statuses[0], 204 | 404),
                "{statuses:?}: {}",
                proxy.transcript()
            );
            assert_eq!(statuses[1], 404, "{}", proxy.transcript());
            if !was_killed {
                break;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn delete_can_be_repeated() {
    let cases = [(UploadIds::Tusd, true), (UploadIds::Plain, false)];
    let on_garage = async {
        let garage = Garage::shared();
        for (ids, is_shared) in cases {
            let mut options = options(&garage.bucket("delete"));
            (options.ids, options.shared) = (ids, is_shared);
            options.conditional_writes = false;
            deletes(&garage.access(), &options).await;
        }
    };
    let on_moto = async {
        // A separate one, because the test is slow.
        let moto = Moto::start();
        for (ids, is_shared) in cases {
            let mut options = options(&moto.bucket("delete"));
            (options.ids, options.shared) = (ids, is_shared);
            deletes(&moto.access(), &options).await;
        }
    };
    tokio::join!(on_garage, on_moto);
}

#[tokio::test]
async fn metadata_that_leads_to_a_reserved_key_is_a_bad_request() {
    let garage = Garage::shared();
    let mut options = options(&garage.bucket("reserved"));
    options.key_template = Some("{meta:folder}/{filename}".into());
    for ids in [UploadIds::Tusd, UploadIds::Plain] {
        options.ids = ids;
        let handler = handler(client(&garage.access()), &options);
        // `.landfall`, `leases`; `a`, `x.info`; `a`, `x`.
        for (metadata, status) in [
            ("folder LmxhbmRmYWxs,filename bGVhc2Vz", 400),
            ("folder YQ==,filename eC5pbmZv", 400),
            ("folder YQ==,filename eA==", 201),
        ] {
            let mut create = request("POST", Bytes::new());
            let headers = create.headers_mut();
            headers.remove("Upload-Offset");
            headers.remove("Content-Type");
            headers.insert("Upload-Length", HeaderValue::from_static("5"));
            headers.insert("Upload-Metadata", HeaderValue::from_static(metadata));
            let response = handler.handle_at(None, create).await;
            assert_eq!(response.status().as_u16(), status, "{metadata}");
        }
    }
}
