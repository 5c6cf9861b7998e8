//! The URLs of the JSON API, its uploads and its batches. It sends nothing.

use landfall_objects::{Endpoint, ObjectRef, path, segment};

use crate::settings::SettingsError;

const GOOGLE: &str = "https://storage.googleapis.com";

/// The path of the JSON API, which Google's clients want in the endpoint.
const API: &str = "/storage/v1";

/// The service, by the URL in front of all paths.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    root: String,
}

impl Address {
    /// Reads an endpoint, with or without the path of the JSON API; without one, Google's.
    pub(crate) fn new(endpoint: Option<&str>) -> Result<Self, SettingsError> {
        let Some(endpoint) = endpoint else {
            let root = GOOGLE.to_owned();
            return Ok(Self { root });
        };
        let refused = |problem| SettingsError::Endpoint {
            endpoint: endpoint.to_owned(),
            problem,
        };
        let root = Endpoint::parse(endpoint).map_err(refused)?.url("");
        let root = root.trim_end_matches('/');
        let root = root.strip_suffix(API).unwrap_or(root);
        let root = root.trim_end_matches('/').to_owned();
        Ok(Self { root })
    }

    pub(crate) fn root(&self) -> &str {
        &self.root
    }

    pub(crate) fn is_secure(&self) -> bool {
        self.root.starts_with("https:")
    }

    pub(crate) fn bucket(&self, bucket: &str) -> String {
        format!("{}{API}/b/{}", self.root, segment(bucket))
    }

    pub(crate) fn object(&self, object: &ObjectRef) -> String {
        format!("{}{}", self.root, Self::path(&object.bucket, &object.key))
    }

    /// Returns the path of an object, as a request within a batch has it.
    pub(crate) fn path(bucket: &str, key: &str) -> String {
        format!("{API}{}", Self::name(bucket, key))
    }

    /// Returns the end of paths that names an object.
    pub(crate) fn name(bucket: &str, key: &str) -> String {
        format!("/b/{}/o/{}", segment(bucket), segment(key))
    }

    pub(crate) fn upload(&self, bucket: &str) -> String {
        format!("{}/upload{API}/b/{}/o", self.root, segment(bucket))
    }

    pub(crate) fn batch(&self) -> String {
        format!("{}/batch{API}", self.root)
    }

    /// Returns the URL of the XML API, which signed URLs use.
    pub(crate) fn signed(&self, object: &ObjectRef) -> String {
        let (bucket, key) = (segment(&object.bucket), path(&object.key));
        format!("{}/{bucket}/{key}", self.root)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_with_and_without_the_path_of_the_api() {
        for endpoint in [
            "http://127.0.0.1:9",
            "http://127.0.0.1:9/",
            "http://127.0.0.1:9/storage/v1",
            "http://127.0.0.1:9/storage/v1/",
        ] {
            let address = Address::new(Some(endpoint)).expect(endpoint);
            assert_eq!(
                address.upload("b"),
                "http://127.0.0.1:9/upload/storage/v1/b/b/o"
            );
        }
        let emulator = Address::new(Some("http://localhost:4443")).expect("an address");
        assert_eq!(emulator.bucket("b"), "http://localhost:4443/storage/v1/b/b");
        assert!(!emulator.is_secure());
        for endpoint in [
            "",
            "storage",
            "ftp://a",
            "http://a?b",
            "http://u@a",
            "http://a/#",
        ] {
            assert!(Address::new(Some(endpoint)).is_err(), "{endpoint}");
        }
    }

    #[test]
    fn keys_are_one_segment() {
        let address = Address::new(None).expect("Google's");
        let object = ObjectRef::new("bucket", "a folder/é_0?");
        assert_eq!(
            address.object(&object),
            "https://storage.googleapis.com/storage/v1/b/bucket/o/a%20folder%2F%C3%A9_0%3F"
        );
        assert_eq!(
            address.signed(&object),
            "https://storage.googleapis.com/bucket/a%20folder/%C3%A9_0%3F"
        );
    }
}
