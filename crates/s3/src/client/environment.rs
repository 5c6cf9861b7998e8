//! Environment variables, and files with their values.

use landfall_objects::{UnreadableFile, variable_or_file};

/// Secrets of containers are files: `<NAME>_FILE` names one with the value, as in tusd's image.
const IN_FILES: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
];

/// Returns the value of a variable.
pub(super) type Environment<'a> = &'a dyn Fn(&str) -> Option<String>;

/// Returns a variable that is not empty.
pub(super) fn variable(name: &str) -> Option<String> {
    find(name, environment).unwrap_or_else(|error| {
        // It was readable when the client was created.
        tracing::warn!("{error}");
        None
    })
}

/// Checks that the files with values can be read: without one, other credentials would be used.
pub(super) fn check_files() -> Result<(), UnreadableFile> {
    IN_FILES
        .into_iter()
        .try_for_each(|name| find(name, environment).map(drop))
}

fn environment(name: &str) -> Option<String> {
    std::env::var(name).ok()
}

fn find(
    name: &str,
    get: impl Fn(&str) -> Option<String>,
) -> Result<Option<String>, UnreadableFile> {
    variable_or_file(name, &IN_FILES, get)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_stands_for_a_variable_that_is_not_set() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("secret");
        std::fs::write(&path, "from a file\n").expect("written");
        let path = path.to_str().expect("text");
        for (set, name, expected) in [
            (
                &[("AWS_SECRET_ACCESS_KEY", "direct")][..],
                "AWS_SECRET_ACCESS_KEY",
                Some("direct"),
            ),
            (
                &[("AWS_SECRET_ACCESS_KEY_FILE", path)],
                "AWS_SECRET_ACCESS_KEY",
                Some("from a file"),
            ),
            (
                &[("AWS_REGION", "direct"), ("AWS_REGION_FILE", path)],
                "AWS_REGION",
                Some("direct"),
            ),
            (
                &[("AWS_REGION", ""), ("AWS_REGION_FILE", path)],
                "AWS_REGION",
                Some("from a file"),
            ),
            (&[("AWS_PROFILE_FILE", path)], "AWS_PROFILE", None),
            (&[], "AWS_REGION", None),
        ] {
            let get = |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            let found = find(name, get).expect("readable");
            assert_eq!(found.as_deref(), expected, "{set:?}");
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_an_error() {
        let folder = tempfile::tempdir().expect("a folder");
        let large = folder.path().join("large");
        std::fs::write(&large, "x".repeat(64 * 1024 + 1)).expect("written");
        let large = large.to_str().expect("text");
        for path in ["/nonexistent", large] {
            let get = |name: &str| (name == "AWS_REGION_FILE").then(|| path.to_owned());
            let error = find("AWS_REGION", get).expect_err("an error").to_string();
            assert!(error.contains("AWS_REGION_FILE"), "{error}");
            assert!(error.contains(path), "{error}");
        }
    }
}
