//! Environment variables, and files with their values.

use std::fs::File;
use std::io::Read as _;

/// Secrets of containers are files: `<NAME>_FILE` names one with the value, as in tusd's image.
const IN_FILES: [&str; 4] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
];

const MAX_SIZE: u64 = 64 * 1024;

/// Returns a variable that is not empty.
pub(super) fn variable(name: &str) -> Option<String> {
    find(name, |name| std::env::var(name).ok())
}

fn find(name: &str, get: impl Fn(&str) -> Option<String>) -> Option<String> {
    let get = |name: &str| get(name).filter(|value| !value.is_empty());
    get(name).or_else(|| {
        let known = IN_FILES.contains(&name);
        let path = get(&format!("{name}_FILE")).filter(|_| known)?;
        match read(&path) {
            Ok(text) => Some(text.trim().to_owned()).filter(|text| !text.is_empty()),
            Err(error) => {
                tracing::warn!("cannot read {name}_FILE, {path}: {error}");
                None
            }
        }
    })
}

fn read(path: &str) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?.take(MAX_SIZE).read_to_string(&mut text)?;
    Ok(text)
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
            (&[("AWS_REGION_FILE", "/nonexistent")], "AWS_REGION", None),
            (&[("AWS_PROFILE_FILE", path)], "AWS_PROFILE", None),
            (&[], "AWS_REGION", None),
        ] {
            let get = |name: &str| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            };
            assert_eq!(find(name, get).as_deref(), expected, "{set:?}");
        }
    }
}
