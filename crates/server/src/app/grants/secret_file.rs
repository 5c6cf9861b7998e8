use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
};

use anyhow::Context as _;

use crate::settings::{Secret, Settings, grants::check_key};

const MAX_FILE_SIZE: u64 = 1026;

pub(in crate::app) fn admin_key(settings: &Settings) -> anyhow::Result<Option<Secret>> {
    let admin = &settings.admin;
    read("--admin-key-file", &admin.key_file, &admin.key)
}

#[cfg(feature = "direct")]
pub(in crate::app) fn notifications_secret(settings: &Settings) -> anyhow::Result<Option<Secret>> {
    let direct = &settings.direct;
    let file = &direct.notifications_secret_file;
    let secret = &direct.notifications_secret;
    read("--direct-notifications-secret-file", file, secret)
}

fn read(
    name: &str,
    file: &Option<PathBuf>,
    configured: &Option<Secret>,
) -> anyhow::Result<Option<Secret>> {
    let Some(file) = file else {
        return Ok(configured.clone());
    };
    let secret = read_secret(file).with_context(|| format!("{name} {}", file.display()));
    secret.map(Some)
}

fn read_secret(path: &Path) -> anyhow::Result<Secret> {
    let mut text = String::new();
    let mut file = File::open(path)?.take(MAX_FILE_SIZE + 1);
    let is_short = file.read_to_string(&mut text)? as u64 <= MAX_FILE_SIZE;
    anyhow::ensure!(is_short, "the file is too long for a key");
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
            assert_eq!(read_secret(&file).unwrap().reveal(), "0123456789abcdef");
        }
        for text in ["", "short\n", "0123456789abcdef\n\n", "0123456789abcdef\nx"] {
            std::fs::write(&file, text).unwrap();
            let message = format!("{:#}", read_secret(&file).unwrap_err());
            assert!(
                !message.contains("0123") && !message.contains("short\n"),
                "{message}"
            );
        }
        std::fs::write(&file, "x".repeat(2000)).unwrap();
        read_secret(&file).unwrap_err();
        read_secret(&dir.path().join("none")).unwrap_err();
    }
}
