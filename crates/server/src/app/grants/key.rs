//! The key to the dashboard.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::Context as _;

use crate::settings::{Secret, Settings, grants::check_key};

/// No key is longer, in bytes; with a line break.
const LONGEST: u64 = 1026;

/// The key, as it was given or as its file has it.
///
/// # Errors
/// The file can't be read, or has no key in it. The key isn't cited.
pub(super) fn key(settings: &Settings) -> anyhow::Result<Option<Secret>> {
    let admin = &settings.admin;
    match &admin.key_file {
        Some(file) => of_file(file)
            .with_context(|| format!("-admin-key-file {}", file.display()))
            .map(Some),
        None => Ok(admin.key.clone()),
    }
}

fn of_file(path: &Path) -> anyhow::Result<Secret> {
    let mut text = String::new();
    let read = File::open(path)?
        .take(LONGEST + 1)
        .read_to_string(&mut text)?;
    anyhow::ensure!(read as u64 <= LONGEST, "is too long for a file with a key");
    let key = text.strip_suffix('\n').unwrap_or(&text);
    let key = key.strip_suffix('\r').unwrap_or(key);
    check_key(key).map_err(anyhow::Error::msg)?;
    Ok(Secret::new(key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_holds_one_line_with_a_key() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("key");
        for text in [
            "0123456789abcdef",
            "0123456789abcdef\n",
            "0123456789abcdef\r\n",
        ] {
            std::fs::write(&file, text).unwrap();
            assert_eq!(of_file(&file).unwrap().reveal(), "0123456789abcdef");
        }
        for text in ["", "short\n", "0123456789abcdef\n\n", "0123456789abcdef\nx"] {
            std::fs::write(&file, text).unwrap();
            let told = format!("{:#}", of_file(&file).unwrap_err());
            assert!(
                !told.contains("0123") && !told.contains("short\n"),
                "{told}"
            );
        }
        std::fs::write(&file, "x".repeat(2000)).unwrap();
        of_file(&file).unwrap_err();
        of_file(&dir.path().join("none")).unwrap_err();
    }
}
