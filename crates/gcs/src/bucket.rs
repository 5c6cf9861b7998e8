//! The credentials, and the permissions and settings of a bucket, that an operator should know. It changes nothing.

use http::Method;
use landfall_objects::{ErrorKind, Result, Service as _};
use serde_json::Value;

use crate::{client::Client, credentials::source, request::ApiRequest};

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
    /// Requests are billed to a project that they name, and rejected if they name none.
    pub requester_pays: bool,
    /// New objects have a hold, so that they cannot be deleted, parts among them.
    pub default_hold: bool,
    /// Lifecycle rules that delete or move objects of unfinished uploads.
    pub lifecycle: Vec<LifecycleRule>,
}

/// A lifecycle rule for live objects.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct LifecycleRule {
    /// The class to which objects are moved; `None`: they are deleted.
    pub storage_class: Option<String>,
    /// The prefixes of the objects; none: all.
    pub prefixes: Vec<String>,
    /// Days after the creation of an object; `None`: a date, or at once.
    pub age_days: Option<u64>,
}

/// Conditions that no object of an unfinished upload meets: it is live, and has no custom time.
const UNMET_CONDITIONS: [&str; 5] = [
    "customTimeBefore",
    "daysSinceCustomTime",
    "daysSinceNoncurrentTime",
    "noncurrentTimeBefore",
    "numNewerVersions",
];

impl LifecycleRule {
    fn parse(rule: &Value) -> Option<Self> {
        let (action, condition) = (&rule["action"], &rule["condition"]);
        let storage_class = match action["type"].as_str()? {
            "Delete" => None,
            "SetStorageClass" => Some(action["storageClass"].as_str()?.to_owned()),
            _ => return None,
        };
        let is_unmet = |name: &&str| condition.get(name).is_some();
        let suffixes = texts(condition, "/matchesSuffix");
        let is_met = condition["isLive"] != false
            && !UNMET_CONDITIONS.iter().any(is_unmet)
            && (suffixes.is_empty() || suffixes.iter().any(|suffix| ends_piece(suffix)));
        is_met.then(|| Self {
            storage_class,
            prefixes: texts(condition, "/matchesPrefix"),
            age_days: condition["age"].as_u64(),
        })
    }
}

/// Returns whether the name of a part or of a description may end like this.
fn ends_piece(suffix: &str) -> bool {
    let rest = suffix.trim_end_matches(|last: char| last.is_ascii_digit());
    let ends_part = rest.len() < suffix.len() && (rest.is_empty() || rest.ends_with('_'));
    ends_part || ".info".ends_with(suffix) || suffix.ends_with(".info")
}

impl Client {
    /// Returns the source of the credentials, for people, after they have given a token.
    ///
    /// # Errors
    /// [`ErrorKind::BadCredentials`]; [`ErrorKind::Unavailable`] if the service of the tokens does not respond.
    pub async fn inspect_credentials(&self) -> Result<String> {
        let credentials = &self.inner.credentials;
        let request = ApiRequest::new("GetToken", Method::GET, String::new(), "");
        let given = credentials.get().await;
        given.map_err(|error| self.inner.no_credentials(&request, error).error)?;
        Ok(source(credentials).await)
    }

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
                let bucket = request.bucket;
                let advice = format!("create the bucket {bucket:?}, or correct --gcs-bucket");
                let error = request.error(ErrorKind::NoSuchBucket);
                Err(error.with_advice(Some(advice)))
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
        Self {
            location: text("/location").to_owned(),
            storage_class: text("/storageClass").to_owned(),
            soft_delete_seconds: seconds(text("/softDeletePolicy/retentionDurationSeconds")),
            retention_seconds: seconds(text("/retentionPolicy/retentionPeriod")),
            versioning: is("/versioning/enabled"),
            uniform_access: is("/iamConfiguration/uniformBucketLevelAccess/enabled"),
            requester_pays: is("/billing/requesterPays"),
            default_hold: is("/defaultEventBasedHold"),
            lifecycle: rules.filter_map(LifecycleRule::parse).collect(),
        }
    }
}

fn list<'v>(value: &'v Value, pointer: &str) -> &'v [Value] {
    let list = value.pointer(pointer).and_then(Value::as_array);
    list.map_or(&[], Vec::as_slice)
}

fn texts(value: &Value, pointer: &str) -> Vec<String> {
    let list = list(value, pointer).iter();
    list.filter_map(|one| Some(one.as_str()?.to_owned()))
        .collect()
}

fn seconds(text: &str) -> u64 {
    text.parse().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suffixes_of_parts_and_descriptions() {
        for suffix in ["", "0", "_12", "id_1", "fo", ".info", "id.info"] {
            assert!(ends_piece(suffix), "{suffix}");
        }
        for suffix in [".mp4", "id1", "_", ".txt"] {
            assert!(!ends_piece(suffix), "{suffix}");
        }
    }

    #[test]
    fn settings_of_the_service() {
        let json = r#"{"kind":"storage#bucket","location":"EU","storageClass":"NEARLINE",
            "softDeletePolicy":{"retentionDurationSeconds":"604800","effectiveTime":"2026-01-01T00:00:00Z"},
            "retentionPolicy":{"retentionPeriod":"60","isLocked":false},"versioning":{"enabled":true},
            "iamConfiguration":{"uniformBucketLevelAccess":{"enabled":true}},"defaultEventBasedHold":true,
            "billing":{"requesterPays":true},
            "lifecycle":{"rule":[{"action":{"type":"Delete"},"condition":{"age":3,"matchesPrefix":["a/","b/"]}},
                {"action":{"type":"SetStorageClass","storageClass":"COLDLINE"},"condition":{"age":9}},
                {"action":{"type":"Delete"},"condition":{"isLive":false}},
                {"action":{"type":"Delete"},"condition":{"numNewerVersions":2}},
                {"action":{"type":"Delete"},"condition":{"age":1,"matchesSuffix":[".mp4"]}},
                {"action":{"type":"AbortIncompleteMultipartUpload"},"condition":{"age":1}}]}}"#;
        let bucket: Value = serde_json::from_str(json).expect("a bucket");
        let wanted = BucketSettings {
            location: "EU".to_owned(),
            storage_class: "NEARLINE".to_owned(),
            soft_delete_seconds: 604_800,
            retention_seconds: 60,
            versioning: true,
            uniform_access: true,
            requester_pays: true,
            default_hold: true,
            lifecycle: vec![
                LifecycleRule {
                    prefixes: vec!["a/".to_owned(), "b/".to_owned()],
                    age_days: Some(3),
                    ..LifecycleRule::default()
                },
                LifecycleRule {
                    storage_class: Some("COLDLINE".to_owned()),
                    age_days: Some(9),
                    ..LifecycleRule::default()
                },
            ],
        };
        assert_eq!(BucketSettings::from(&bucket), wanted);
        assert_eq!(
            BucketSettings::from(&Value::Null),
            BucketSettings::default()
        );
    }
}
