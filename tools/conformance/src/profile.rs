//! Profiles: choices of a server, documented by its makers, that differ from a specification.
//!
//! A failed check that a profile names is reported as a documented choice, with its reason. Without the profile it is a
//! failure like any other.

/// The documented choices of a server.
#[derive(Debug, PartialEq, Eq)]
pub struct Profile {
    /// The value of `--profile`.
    pub name: &'static str,
    /// The names of checks, each with the reason why the server does not pass it.
    pub choices: &'static [(&'static str, &'static str)],
}

const SAFE_METHODS: &str = "a GET that removes or changes something deceives caches and filters";
const TUSD_POST_ONLY: &str = "X-HTTP-Method-Override is read on POST alone";
const TUSD_CONTENT_TYPE: &str = "ERR_INVALID_CONTENT_TYPE is 400";
const TUSD_READS: &str = "GET and HEAD are for browsers, too, and their version is not checked";

/// All profiles.
pub const PROFILES: &[Profile] = &[
    Profile {
        name: "landfall",
        choices: &[
            ("tus/method-override/get-as-delete", SAFE_METHODS),
            (
                "draft/concurrency/offset-during-chunks-is-not-stale",
                "bytes without Content-Length may end with a checksum, and count at their end",
            ),
            (
                "draft/options/accept-patch",
                "OPTIONS is the same for all resources, and those that create take no PATCH",
            ),
            (
                "draft/retrieval/get",
                "GET without a field of the draft is a download",
            ),
        ],
    },
    Profile {
        name: "tusd",
        choices: &[
            ("tus/method-override/put-as-patch", TUSD_POST_ONLY),
            ("tus/method-override/put-as-delete", TUSD_POST_ONLY),
            ("tus/method-override/delete-as-patch", TUSD_POST_ONLY),
            ("tus/method-override/get-as-delete", TUSD_POST_ONLY),
            ("tus/version/unsupported-head-is-412", TUSD_READS),
            ("tus/version/head-412-has-tus-version", TUSD_READS),
            ("tus/patch/other-content-type-is-415", TUSD_CONTENT_TYPE),
            ("tus/patch/octet-stream-is-415", TUSD_CONTENT_TYPE),
            ("tus/patch/similar-content-type-is-415", TUSD_CONTENT_TYPE),
            ("tus/patch/form-content-type-is-415", TUSD_CONTENT_TYPE),
            ("tus/patch/missing-content-type-is-415", TUSD_CONTENT_TYPE),
        ],
    },
];

impl Profile {
    /// Returns the profile with this name.
    #[must_use]
    pub fn by_name(name: &str) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// Returns why the server does not pass a check, if that is documented.
    pub(crate) fn reason(&self, id: &str) -> Option<&'static str> {
        let choice = self.choices.iter().find(|(name, _)| *name == id);
        choice.map(|(_, reason)| *reason)
    }
}

#[cfg(test)]
mod tests {
    use super::PROFILES;

    #[test]
    fn profiles_name_checks_that_exist() {
        for (id, _) in PROFILES.iter().flat_map(|profile| profile.choices) {
            let mut checks = crate::checks::groups().flat_map(|group| group.checks);
            assert!(
                checks.any(|check| check.id == *id),
                "there is no check {id}"
            );
        }
    }
}
