//! The key to the dashboard, and secrets in files.

use std::{fs::File, io::Read as _, path::Path};

use anyhow::Context as _;

use crate::settings::{Secret, Settings, grants::check_key};

/// No key is longer, in bytes; with a line break.
const LONGEST: u64 = 1026;

/// The key, as it was given or as its file has it.
///
/// # Errors
/// The file can't be read, or has no key in it. The key isn't cited.
pub(in crate::app) fn key(settings: &Settings) -> anyhow::Result<Option<Secret>> {
    let admin = &settings.admin;
    match &admin.key_file {
        Some(file) => secret_of_file(file)
            .with_context(|| format!("-admin-key-file {}", file.display()))
            .map(Some),
        None => Ok(admin.key.clone()),
    }
}

/// What a file of one line has in it.
///
/// # Errors
/// It can't be read, or has nothing in it that can be a secret. The text isn't cited.
pub(in crate::app) fn secret_of_file(path: &Path) -> anyhow::Result<Secret> {
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
            assert_eq!(secret_of_file(&file).unwrap().reveal(), "0123456789abcdef");
        }
        for text in ["", "short\n", "0123456789abcdef\n\n", "0123456789abcdef\nx"] {
            std::fs::write(&file, text).unwrap();
            let told = format!("{:#}", secret_of_file(&file).unwrap_err());
            assert!(
                !told.contains("0123") && !told.contains("short\n"),
                "{told}"
            );
        }
        std::fs::write(&file, "x".repeat(2000)).unwrap();
        secret_of_file(&file).unwrap_err();
        secret_of_file(&dir.path().join("none")).unwrap_err();
    }
}
