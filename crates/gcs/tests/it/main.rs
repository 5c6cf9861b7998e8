//! The client against the strict fake of Google Cloud Storage, and an emulator by others.
#![allow(
    clippy::unwrap_used,
    reason = "a test fails by panicking, and so does everything in here"
)]

mod completion;
mod emulator;
mod faults;
mod objects;
mod rights;

use std::{io::Write as _, time::Duration};

use bytes::Bytes;
use landfall_gcs::{Client, ClientSettings, CredentialSource};
use landfall_objects::{CallLimits, Cloud as _, ObjectRef, PartCondition, Payload};
use landfall_test_services::GcsFake;
use tempfile::NamedTempFile;

const BUCKET: &str = "bucket";

/// A fake with a bucket, and the key of an account.
struct Service {
    fake: GcsFake,
    key: NamedTempFile,
}

impl Service {
    fn start() -> Self {
        let fake = GcsFake::start(&[BUCKET]);
        let mut key = NamedTempFile::new().unwrap();
        let account = fake.service_account(&fake.endpoint()).to_string();
        key.write_all(account.as_bytes()).unwrap();
        Self { fake, key }
    }

    fn client(&self) -> Client {
        self.client_at(&self.fake.endpoint())
    }

    fn client_at(&self, endpoint: &str) -> Client {
        Client::new(ClientSettings {
            endpoint: Some(endpoint.to_owned()),
            credentials: CredentialSource::File(self.key.path().to_str().unwrap().to_owned()),
            object_prefix: "p/".to_owned(),
            calls: CallLimits {
                backoff: Duration::from_millis(2),
                idle_timeout: Duration::from_secs(5),
                ..CallLimits::default()
            }
            .into(),
        })
        .unwrap()
    }

    fn names(&self) -> Vec<String> {
        let objects = self.fake.objects(BUCKET);
        objects.into_iter().map(|object| object.name).collect()
    }
}

fn object(key: &str) -> ObjectRef {
    ObjectRef::new(BUCKET, key)
}

fn payload(text: &str) -> Payload {
    Payload::from(Bytes::from(text.to_owned()))
}

/// Stores parts with the texts `1.`, `2.`, …; returns their numbers and tags, and all their bytes.
async fn upload_parts(
    client: &Client,
    object: &ObjectRef,
    count: u32,
) -> (Vec<(u32, String)>, String) {
    let mut parts = Vec::new();
    for number in 1..=count {
        let upload = client.upload_part(
            object,
            "",
            number,
            payload(&format!("{number}.")),
            PartCondition::default(),
        );
        parts.push((number, upload.await.unwrap()));
    }
    let all = (1..=count).map(|number| format!("{number}."));
    (parts, all.collect())
}
