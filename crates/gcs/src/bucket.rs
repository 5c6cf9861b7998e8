//! The permissions and settings of a bucket that an operator should know. It changes nothing.

use http::Method;
use landfall_objects::{ErrorKind, Result};
use serde::Deserialize;

use crate::{client::Client, request::ApiRequest, resource};

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
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Permissions {
            permissions: Vec<String>,
        }
        let url = format!("{}/iam/testPermissions", self.inner.address.bucket(bucket));
        let mut request = ApiRequest::new(TEST_PERMISSIONS, Method::GET, url, bucket);
        for permission in PERMISSIONS {
            request = request.query("permissions", permission);
        }
        let granted: Permissions = self
            .inner
            .fetch(&request)
            .await
            .map_err(as_bucket(&request))?;
        let missing = PERMISSIONS.into_iter();
        let missing = missing.filter(|one| !granted.permissions.iter().any(|given| given == one));
        Ok(missing.map(str::to_owned).collect())
    }

    async fn bucket_settings(&self, bucket: &str) -> Result<BucketSettings> {
        let url = self.inner.address.bucket(bucket);
        let request = ApiRequest::new(GET_BUCKET, Method::GET, url, bucket);
        let bucket: Bucket = self
            .inner
            .fetch(&request)
            .await
            .map_err(as_bucket(&request))?;
        Ok(bucket.into())
    }
}

/// A missing bucket is not always named in the message.
fn as_bucket<'r>(
    request: &'r ApiRequest<'_>,
) -> impl Fn(landfall_objects::Error) -> landfall_objects::Error + 'r {
    |error| match error.kind() {
        ErrorKind::NoSuchKey => {
            let why = format!(
                "create the bucket {:?}, or correct --gcs-bucket",
                request.bucket
            );
            request.error(ErrorKind::NoSuchBucket).with_message(why)
        }
        _ => error,
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Bucket {
    location: String,
    storage_class: String,
    soft_delete_policy: Period,
    retention_policy: Period,
    versioning: Switch,
    iam_configuration: IamConfiguration,
    lifecycle: Lifecycle,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Period {
    #[serde(
        deserialize_with = "resource::number",
        alias = "retentionDurationSeconds"
    )]
    retention_period: u64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Switch {
    enabled: bool,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct IamConfiguration {
    uniform_bucket_level_access: Switch,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Lifecycle {
    rule: Vec<Rule>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Rule {
    action: Action,
    condition: RuleCondition,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Action {
    r#type: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct RuleCondition {
    age: Option<u64>,
    matches_prefix: Vec<String>,
}

impl From<Bucket> for BucketSettings {
    fn from(bucket: Bucket) -> Self {
        let deletes = bucket.lifecycle.rule.into_iter();
        let deletes = deletes.filter(|rule| rule.action.r#type == "Delete");
        let deletions = deletes.flat_map(|Rule { condition, .. }| {
            let mut prefixes = condition.matches_prefix;
            if prefixes.is_empty() {
                prefixes.push(String::new());
            }
            let age = condition.age;
            prefixes.into_iter().map(move |prefix| (prefix, age))
        });
        Self {
            location: bucket.location,
            storage_class: bucket.storage_class,
            soft_delete_seconds: bucket.soft_delete_policy.retention_period,
            retention_seconds: bucket.retention_policy.retention_period,
            versioning: bucket.versioning.enabled,
            uniform_access: bucket.iam_configuration.uniform_bucket_level_access.enabled,
            deletions: deletions.collect(),
        }
    }
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
        let bucket: Bucket = serde_json::from_str(json).expect("a bucket");
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
        assert_eq!(BucketSettings::from(bucket), wanted);
        let plain: Bucket = serde_json::from_str("{}").expect("a bucket");
        assert_eq!(BucketSettings::from(plain), BucketSettings::default());
    }
}
