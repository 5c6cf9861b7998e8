//! Garage: an S3 service that others wrote and run in production.

use std::{fs, process::Command};

use serde_json::{Value, json};

use crate::{
    Access, fresh_name, plain_http,
    process::{Process, StopSignal, find, user_folder},
};

const ACCESS_KEY: &str = "GK1a2b3c4d5e6f708192a3b4c5";
const SECRET_KEY: &str = "5f4dcc3b5aa765d61d8327deb882cf995f4dcc3b5aa765d61d8327deb882cf99";
const SECRET: &str = "1799bccfd7411eddcf9ebd316bc1f5287ad12a68094e1c6ac6abde7e6feae1ec";
const TOKEN: &str = "Bearer 1799bccfd7411eddcf9ebd316bc1f5287ad12a68094e1c6ac6abde7e6feae1ec";
const REGION: &str = "garage";

/// A single-node Garage cluster. Stops when it is dropped, or with this process.
#[derive(Debug)]
pub struct Garage {
    process: Process,
    access: Access,
    admin: String,
}

s3_service!(Garage);

impl Garage {
    /// Starts a separate server, which takes a fifth of a second.
    ///
    /// # Panics
    ///
    /// When Garage is not installed or does not start.
    #[must_use]
    pub fn start() -> Self {
        let cargo = user_folder("CARGO_HOME", ".cargo").join("bin");
        let program = find("garage", &cargo);
        let (mut process, [s3, admin, _]) =
            Process::start("Garage", StopSignal::Kill, |dir, [s3, admin, rpc]| {
                let config = dir.join("garage.toml");
                let text = format!(
                    "metadata_dir = {meta:?}\n\
                 data_dir = {data:?}\n\
                 db_engine = \"lmdb\"\n\
                 replication_factor = 1\n\
                 rpc_bind_addr = \"127.0.0.1:{rpc}\"\n\
                 rpc_public_addr = \"127.0.0.1:{rpc}\"\n\
                 rpc_secret = \"{SECRET}\"\n\
                 [s3_api]\n\
                 s3_region = \"{REGION}\"\n\
                 api_bind_addr = \"127.0.0.1:{s3}\"\n\
                 [admin]\n\
                 api_bind_addr = \"127.0.0.1:{admin}\"\n\
                 admin_token = \"{SECRET}\"\n",
                    meta = dir.join("meta"),
                    data = dir.join("data"),
                );
                fs::write(&config, text).unwrap();
                let mut command = Command::new(&program);
                command
                    .arg("-c")
                    .arg(config)
                    .args(["server", "--single-node", "--default-access-key"])
                    .env("GARAGE_DEFAULT_ACCESS_KEY", ACCESS_KEY)
                    .env("GARAGE_DEFAULT_SECRET_KEY", SECRET_KEY)
                    .env("RUST_LOG", "garage=warn");
                command
            });
        process.wait_for(admin);
        Self {
            process,
            access: Access {
                endpoint: format!("http://127.0.0.1:{s3}"),
                region: REGION.to_owned(),
                access_key: ACCESS_KEY.to_owned(),
                secret_key: SECRET_KEY.to_owned(),
            },
            admin: format!("127.0.0.1:{admin}"),
        }
    }

    /// Makes a new bucket, on which the key has every right, and gives its name, which begins
    /// with `stem`.
    ///
    /// # Panics
    ///
    /// When Garage refuses.
    #[must_use]
    pub fn bucket(&self, stem: &str) -> String {
        let name = fresh_name(stem);
        let bucket = self.admin("CreateBucket", &json!({ "globalAlias": name }));
        self.allow(&bucket["id"], ACCESS_KEY, ["read", "write", "owner"]);
        name
    }

    /// Makes a second key with only the given ones of the rights `read`, `write` and `owner` on
    /// a bucket.
    ///
    /// # Panics
    ///
    /// When Garage refuses.
    #[must_use]
    pub fn limited_access(&self, bucket: &str, rights: &[&str]) -> Access {
        let key = self.admin("CreateKey", &json!({ "name": fresh_name("limited") }));
        let text = |field: &str| key[field].as_str().unwrap().to_owned();
        let access = Access {
            access_key: text("accessKeyId"),
            secret_key: text("secretAccessKey"),
            ..self.access()
        };
        self.allow(
            &self.bucket_info(bucket)["id"],
            &access.access_key,
            rights.iter().copied(),
        );
        access
    }

    /// Limits the size of a bucket to `bytes`.
    ///
    /// # Panics
    ///
    /// When Garage refuses.
    pub fn set_max_size(&self, bucket: &str, bytes: u64) {
        let id = self.bucket_info(bucket)["id"].clone();
        let path = format!("UpdateBucket?id={}", id.as_str().unwrap());
        self.admin(
            &path,
            &json!({ "quotas": { "maxSize": bytes, "maxObjects": null } }),
        );
    }

    fn bucket_info(&self, bucket: &str) -> Value {
        let path = format!("/v2/GetBucketInfo?globalAlias={bucket}");
        let info = plain_http::must(&self.admin, "GET", &path, &[("Authorization", TOKEN)], "");
        serde_json::from_str(&info).unwrap()
    }

    /// The id of the process that ends Garage when this one is gone.
    #[must_use]
    pub fn watchdog(&self) -> u32 {
        self.process.id()
    }

    fn allow<'a>(&self, bucket: &Value, key: &str, rights: impl IntoIterator<Item = &'a str>) {
        let rights: Value = rights
            .into_iter()
            .map(|right| (right.to_owned(), Value::Bool(true)))
            .collect::<serde_json::Map<_, _>>()
            .into();
        self.admin(
            "AllowBucketKey",
            &json!({ "bucketId": bucket, "accessKeyId": key, "permissions": rights }),
        );
    }

    fn admin(&self, operation: &str, body: &Value) -> Value {
        let path = format!("/v2/{operation}");
        let headers = [
            ("Authorization", TOKEN),
            ("Content-Type", "application/json"),
        ];
        let answer = plain_http::must(&self.admin, "POST", &path, &headers, &body.to_string());
        serde_json::from_str(&answer).unwrap()
    }
}
