//! The real program on a bucket of a real service, and a client to inspect the bucket.

use std::{
    collections::BTreeMap,
    path::Path,
    process::Command,
    sync::{Arc, Mutex},
};

use bytes::Bytes;
use landfall_objects::{Cloud as _, PartCondition};
use landfall_s3::client::{
    Client, ClientSettings, Condition, CredentialSource, Credentials, ErrorKind, ObjectHead,
    ObjectHeaders, ObjectRef, Payload, Result,
};
use landfall_test_services::{Access, Ceph, Garage, Moto};
use tokio::runtime::Runtime;

use crate::serve_harness::{Landfall, program};

/// The bucket of one test.
pub(crate) struct Bucket {
    pub(crate) access: Access,
    pub(crate) name: String,
    client: Client,
    runtime: Arc<Mutex<Runtime>>,
}

impl Bucket {
    pub(crate) fn on_garage() -> Self {
        let garage = Garage::shared();
        Self::new(garage.access(), garage.bucket("server"))
    }

    pub(crate) fn on_moto() -> Self {
        let moto = Moto::shared();
        Self::new(moto.access(), moto.bucket("server"))
    }

    pub(crate) fn on_ceph() -> Self {
        let ceph = Ceph::shared();
        Self::new(ceph.access(), ceph.bucket("server"))
    }

    /// One on each service.
    pub(crate) fn on_each() -> [Self; 3] {
        [Self::on_garage(), Self::on_moto(), Self::on_ceph()]
    }

    pub(crate) fn new(access: Access, name: String) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let client = Client::new(ClientSettings {
            endpoint: Some(access.endpoint.clone()),
            region: Some(access.region.clone()),
            credentials: CredentialSource::Static(Credentials::new(
                &access.access_key,
                &access.secret_key,
            )),
            ..ClientSettings::default()
        })
        .unwrap();
        Self {
            access,
            name,
            client,
            runtime: Arc::new(Mutex::new(runtime)),
        }
    }

    /// The program with this bucket and nothing of the caller's AWS settings.
    pub(crate) fn command(&self, command: &[&str]) -> Command {
        let mut program = keyless(command);
        program
            .args(["-s3-bucket", &self.name])
            .args(["-s3-endpoint", &self.access.endpoint])
            .args(["-s3-region", &self.access.region])
            .env("AWS_ACCESS_KEY_ID", &self.access.access_key)
            .env("AWS_SECRET_ACCESS_KEY", &self.access.secret_key);
        program
    }

    /// A server on this bucket.
    pub(crate) fn server(&self, args: &[&str]) -> Landfall {
        let mut command = self.command(&["serve"]);
        command
            .args(["-host", "127.0.0.1", "-port", "0"])
            .args(args);
        Landfall::spawn(command, Path::new("/nonexistent"))
    }

    /// Waits for an S3 call.
    pub(crate) fn wait<T>(&self, call: impl AsyncFnOnce(&Client) -> Result<T>) -> T {
        let runtime = self.runtime.lock().unwrap();
        runtime.block_on(call(&self.client)).unwrap()
    }

    fn place(&self, key: &str) -> ObjectRef {
        ObjectRef::new(&self.name, key)
    }

    /// All keys and the sizes of their objects.
    pub(crate) fn keys(&self) -> BTreeMap<String, u64> {
        let page = self.wait(async |client| client.list_objects(&self.name, "", None, 1000).await);
        assert_eq!(page.next, None);
        // The sweeper's own stay, and are of no upload.
        let of_sweeper =
            |key: &str| key.contains(".landfall/due/") || key.ends_with("sweeper.json");
        let objects = page.objects.into_iter();
        let objects = objects.filter(|object| !of_sweeper(&object.key));
        objects.map(|object| (object.key, object.size)).collect()
    }

    /// The ids of all multipart uploads.
    pub(crate) fn multiparts(&self) -> Vec<String> {
        let page =
            self.wait(async |client| client.list_multiparts(&self.name, "", None, 1000).await);
        page.uploads.into_iter().map(|one| one.upload_id).collect()
    }

    /// An object's content; `None` if there is no such object.
    pub(crate) fn object(&self, key: &str) -> Option<Bytes> {
        self.wait(
            async |client| match client.get_object(&self.place(key), None).await {
                Ok(object) => object.bytes(1 << 30).await.map(Some),
                Err(error) if *error.kind() == ErrorKind::NoSuchKey => Ok(None),
                Err(error) => Err(error),
            },
        )
    }

    pub(crate) fn head(&self, key: &str) -> ObjectHead {
        self.wait(async |client| client.head_object(&self.place(key)).await)
    }

    pub(crate) fn put(&self, key: &str, content: &[u8]) {
        let payload = Payload::from(Bytes::copy_from_slice(content));
        let none = ObjectHeaders::default();
        self.wait(async |client| {
            let place = self.place(key);
            client
                .put_object(&place, payload, &none, Condition::None)
                .await
        });
    }

    /// Begins a multipart upload with these parts, and gives its id.
    pub(crate) fn multipart(&self, key: &str, headers: &ObjectHeaders, parts: &[&[u8]]) -> String {
        self.wait(async |client| {
            let place = self.place(key);
            let id = client.create_multipart(&place, headers).await?;
            for (number, part) in (1..).zip(parts) {
                let payload = Payload::from(Bytes::copy_from_slice(part));
                client
                    .upload_part(&place, &id, number, payload, PartCondition::default())
                    .await?;
            }
            Ok(id)
        })
    }
}

/// Returns the program without credentials, profiles and metadata services of this machine.
pub(crate) fn keyless(command: &[&str]) -> Command {
    let mut program = program();
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("AWS_") {
            program.env_remove(name);
        }
    }
    program
        .env("HOME", "/nonexistent")
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .args(command);
    program
}

/// The object's name in an upload's id.
pub(crate) fn object_of(id: &str) -> &str {
    id.rsplit_once('+').map_or(id, |(object, _)| object)
}

/// The id at the end of an upload's path, without its percent-encoding.
pub(crate) fn id_of(path: &str) -> String {
    crate::serve_harness::id_of(path)
        .replace("%2B", "+")
        .replace("%2b", "+")
}
