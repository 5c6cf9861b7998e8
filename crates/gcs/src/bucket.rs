//! The permissions and settings of a bucket that an operator should know. It changes nothing.

use http::Method;
use landfall_objects::{ErrorKind, Result};
use serde_json::Value;

use crate::{client::Client, request::ApiRequest};

const GET_BUCKET: &str = "buckets.get";
const TEST_PERMISSIONS: &str = "buckets.testIamPermissions";

/// The permissions that a store of uploads needs; the role Storage Object User has them all.
const PERMISSIONS: [&str; 4] = [
    "storage.objects.create",
    "storage.objects.delete",
    "storage.objects.get",
    "storage.objects.list",
];

/// The result of [`Client::inspect_bucket`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketReport {
    /// The permissions that these credentials lack.
    pub missing_permissions: Vec<String>,
    /// The settings; `None` without the permission `storage.buckets.get`, which no upload needs.
    pub settings: Option<BucketSettings>,
}

/// The settings of a bucket that matter to uploads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct BucketSettings {
    /// Region or multi-region, such as `EUROPE-WEST3`.
    pub location: String,
    /// The storage class of objects that name none, parts among them.
    pub storage_class: String,
    /// The seconds for which deleted objects, parts among them, are kept and paid for; 0 for none.
    pub soft_delete_seconds: u64,
    /// The seconds for which objects cannot be deleted, parts among them; 0 for none.
    pub retention_seconds: u64,
    /// Old generations are kept, those of parts among them.
    pub versioning: bool,
    /// Access is decided by IAM alone, not by lists of each object.
    pub uniform_access: bool,
    /// Lifecycle rules that delete objects: their prefixes, empty for all objects, and the age in days if they have
    /// one.
    pub deletions: Vec<(String, Option<u64>)>,
}

impl Client {
    /// Returns what these credentials may do in a bucket, and its settings if they may read them.
    ///
    /// # Errors
    /// [`ErrorKind::NoSuchBucket`] and others.
    pub async fn inspect_bucket(&self, bucket: &str) -> Result<BucketReport> {
        let (missing, settings) = futures_util::join!(
            self.missing_permissions(bucket),
            self.bucket_settings(bucket)
        );
        let settings = match settings {
            Err(error) if *error.kind() == ErrorKind::AccessDenied => None,
            settings => Some(settings?),
        };
        Ok(BucketReport {
            missing_permissions: missing?,
            settings,
        })
    }

    async fn missing_permissions(&self, bucket: &str) -> Result<Vec<String>> {
        let url = format!("{}/iam/testPermissions", self.inner.address.bucket(bucket));
        let mut request = ApiRequest::new(TEST_PERMISSIONS, Method::GET, url, bucket);
        for permission in PERMISSIONS {
            request = request.query("permissions", permission);
        }
        let granted = self.fetch_bucket(&request).await?;
        let granted = list(&granted, "/permissions");
        let missing = PERMISSIONS.into_iter();
        let missing = missing.filter(|one| !granted.iter().any(|given| given == one));
        Ok(missing.map(str::to_owned).collect())
    }

    async fn bucket_settings(&self, bucket: &str) -> Result<BucketSettings> {
        let url = self.inner.address.bucket(bucket);
        let request = ApiRequest::new(GET_BUCKET, Method::GET, url, bucket);
        Ok(BucketSettings::from(&self.fetch_bucket(&request).await?))
    }

    /// The message does not always say that the bucket is missing.
    async fn fetch_bucket(&self, request: &ApiRequest<'_>) -> Result<Value> {
        match self.inner.fetch(request).await {
            Err(error) if *error.kind() == ErrorKind::NoSuchKey => {
                let why = format!(
                    "create the bucket {:?}, or correct --gcs-bucket",
                    request.bucket
                );
                Err(request.error(ErrorKind::NoSuchBucket).with_message(why))
            }
            fetched => fetched,
        }
    }
}

impl From<&Value> for BucketSettings {
    fn from(bucket: &Value) -> Self {
        let value = |pointer| bucket.pointer(pointer);
        let text = |pointer| value(pointer).and_then(Value::as_str).unwrap_or_default();
        let is = |pointer| value(pointer).and_then(Value::as_bool).unwrap_or_default();
        let rules = list(bucket, "/lifecycle/rule").iter();
        let deletes = rules.filter(|rule| rule["action"]["type"] == "Delete");
        let deletions = deletes.flat_map(|rule| {
            let age = rule["condition"]["age"].as_u64();
            let prefixes = list(rule, "/condition/matchesPrefix").iter();
            let prefixes = prefixes.filter_map(|prefix| Some(prefix.as_str()?.to_owned()));
            let mut prefixes: Vec<_> = prefixes.collect();
            if prefixes.is_empty() {
                prefixes.push(String::new());
            }
            prefixes.into_iter().map(move |prefix| (prefix, age))
        });
        Self {
            location: text("/location").to_owned(),
            storage_class: text("/storageClass").to_owned(),
            soft_delete_seconds: seconds(text("/softDeletePolicy/retentionDurationSeconds")),
            retention_seconds: seconds(text("/retentionPolicy/retentionPeriod")),
            versioning: is("/versioning/enabled"),
            uniform_access: is("/iamConfiguration/uniformBucketLevelAccess/enabled"),
            deletions: deletions.collect(),
        }
    }
}

fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

fn seconds(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_of_the_service() {
        let json = r#"{"kind":"storage#bucket","location":"EU","storageClass":"NEARLINE",
            "softDeletePolicy":{"retentionDurationSeconds":"604800","effectiveTime":"2026-01-01T00:00:00Z"},
            "retentionPolicy":{"retentionPeriod":"60","isLocked":false},"versioning":{"enabled":true},
            "iamConfiguration":{"uniformBucketLevelAccess":{"enabled":true}},
            "lifecycle":{"rule":[{"action":{"type":"Delete"},"condition":{"age":3,"matchesPrefix":["a/","b/"]}},
                {"action":{"type":"SetStorageClass","storageClass":"COLDLINE"},"condition":{"age":9}},
                {"action":{"type":"Delete"},"condition":{"isLive":false}}]}}"#;
        let bucket: Value = serde_json::from_str(json).expect("a bucket");
        let wanted = BucketSettings {
            location: "EU".to_owned(),
            storage_class: "NEARLINE".to_owned(),
            soft_delete_seconds: 604_800,
            retention_seconds: 60,
            versioning: true,
            uniform_access: true,
            deletions: vec![
                ("a/".to_owned(), Some(3)),
                ("b/".to_owned(), Some(3)),
                (String::new(), None),
            ],
        };
        assert_eq!(BucketSettings::from(&bucket), wanted);
        assert_eq!(
            BucketSettings::from(&Value::Null),
            BucketSettings::default()
        );
    }
}
