//! Region lookup: settings, environment, shared configuration file, and the service's redirects.

use std::{collections::HashMap, sync::Arc};

use parking_lot::RwLock;

use super::{
    Client,
    environment::Environment,
    profile::{self, SharedFiles},
    settings::SettingsError,
};

pub(super) const DEFAULT: &str = "us-east-1";

impl Client {
    /// Returns the region of a bucket: the one that the service named, or else the configured one.
    #[must_use]
    pub fn region(&self, bucket: &str) -> String {
        self.inner.regions.get(bucket).to_string()
    }
}

pub(super) fn resolve(
    set: Option<&str>,
    profile: Option<&str>,
    environment: Environment<'_>,
) -> Result<String, SettingsError> {
    let region = set
        .map(str::to_owned)
        .or_else(|| environment("AWS_REGION"))
        .or_else(|| environment("AWS_DEFAULT_REGION"))
        .or_else(|| from_profile(profile, environment))
        .unwrap_or_else(|| DEFAULT.to_owned());
    if is_name(&region) {
        Ok(region)
    } else {
        Err(SettingsError::Region(region))
    }
}

fn is_name(region: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    !region.is_empty() && region.len() <= 64 && region.bytes().all(plain)
}

fn from_profile(profile: Option<&str>, environment: Environment<'_>) -> Option<String> {
    let named = profile.map(str::to_owned);
    let named = named.or_else(|| environment("AWS_PROFILE"));
    // Of files that cannot be read, the credentials tell.
    let files = SharedFiles::read(environment).ok()?;
    files.region(named.as_deref().unwrap_or(profile::DEFAULT))
}

#[derive(Debug)]
pub(super) struct Regions {
    initial: Arc<str>,
    learned: RwLock<HashMap<String, Arc<str>>>,
}

const CACHE_CAPACITY: usize = 1_024;

impl Regions {
    pub(super) fn new(initial: String) -> Self {
        Self {
            initial: initial.into(),
            learned: RwLock::default(),
        }
    }

    pub(super) fn get(&self, bucket: &str) -> Arc<str> {
        let learned = self.learned.read();
        learned.get(bucket).unwrap_or(&self.initial).clone()
    }

    pub(super) fn learn(&self, bucket: &str, region: &str) -> bool {
        if !is_name(region) || &*self.get(bucket) == region {
            return false;
        }
        let mut learned = self.learned.write();
        if learned.len() >= CACHE_CAPACITY {
            learned.clear();
        }
        learned.insert(bucket.to_owned(), region.into());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: &str = "
        # comment
        [default]
        region = eu-west-1
        output=json
        [profile work]
        region=eu-central-1
        [profile empty]
        [sso-session work]
        region = us-west-2
    ";

    #[test]
    fn order_of_sources() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("config");
        std::fs::write(&path, CONFIG).expect("written");
        let config = ("AWS_CONFIG_FILE", path.to_str().expect("text"));
        let resolve = |set, profile, variables: &[(&str, &str)]| {
            let get = |name: &str| {
                let mut all = variables.iter();
                all.find(|(one, _)| *one == name)
                    .map(|(_, value)| (*value).to_owned())
            };
            super::resolve(set, profile, &get).expect("a region")
        };
        let env = ("AWS_REGION", "r1");
        assert_eq!(resolve(Some("set"), None, &[env, config]), "set");
        assert_eq!(
            resolve(None, None, &[env, ("AWS_DEFAULT_REGION", "r2"), config]),
            "r1"
        );
        assert_eq!(
            resolve(None, None, &[("AWS_DEFAULT_REGION", "r2"), config]),
            "r2"
        );
        assert_eq!(resolve(None, None, &[config]), "eu-west-1");
        assert_eq!(
            resolve(None, None, &[config, ("AWS_PROFILE", "work")]),
            "eu-central-1"
        );
        assert_eq!(
            resolve(None, Some("work"), &[config, ("AWS_PROFILE", "x")]),
            "eu-central-1"
        );
        assert_eq!(resolve(None, Some("empty"), &[config]), DEFAULT);
        assert_eq!(resolve(None, None, &[("HOME", "/nowhere")]), DEFAULT);
    }

    #[test]
    fn invalid_region_is_rejected() {
        for region in ["", "a b", "eu/west", "é"] {
            assert!(super::resolve(Some(region), None, &|_| None).is_err());
        }
    }

    #[test]
    fn regions_are_learned_by_bucket() {
        let regions = Regions::new("garage".to_owned());
        assert!(!regions.learn("b", "garage"));
        assert!(!regions.learn("b", "no region"));
        assert!(regions.learn("b", "eu-west-1"));
        assert_eq!(&*regions.get("b"), "eu-west-1");
        assert_eq!(&*regions.get("c"), "garage");
    }
}
