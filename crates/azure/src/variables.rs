//! The environment, as it was when the client was made. It decides nothing about credentials.

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{self, Read as _},
};

use crate::error::SettingsError;

/// Secrets of containers are files: `<NAME>_FILE` names one with the value, as in tusd's image.
const IN_FILES: [&str; 4] = [
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
];

/// The most bytes of a file with a value, a token or a certificate.
pub(crate) const MAX_FILE: u64 = 64 * 1024;

/// Environment variables. `Debug` shows only their names.
#[derive(Clone, Default)]
pub struct Variables(BTreeMap<String, String>);

impl Variables {
    /// Returns those of this process, except names and values that are not UTF-8.
    pub fn of_process() -> Self {
        let pairs = std::env::vars_os();
        let text = pairs.filter_map(|(name, value)| {
            Some((name.into_string().ok()?, value.into_string().ok()?))
        });
        text.collect()
    }

    /// Returns the value of a variable that is not empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name).map(|value| value.trim());
        value.filter(|value| !value.is_empty())
    }

    /// Like [`get`](Self::get); a variable with the suffix `_FILE` names a file with the value.
    pub(crate) fn get_or_read(&self, name: &str) -> Result<Option<String>, SettingsError> {
        let variable = format!("{name}_FILE");
        match (self.get(name), self.get(&variable)) {
            (None, Some(path)) if IN_FILES.contains(&name) => match read(path) {
                Ok(text) => Ok(Some(text.trim().to_owned()).filter(|text| !text.is_empty())),
                Err(source) => Err(SettingsError::File {
                    path: path.to_owned(),
                    variable,
                    source,
                }),
            },
            (value, _) => Ok(value.map(ToOwned::to_owned)),
        }
    }

    pub(crate) fn pairs(&self) -> impl Iterator<Item = (&String, &String)> {
        self.0.iter()
    }
}

impl FromIterator<(String, String)> for Variables {
    fn from_iter<T: IntoIterator<Item = (String, String)>>(pairs: T) -> Self {
        Self(pairs.into_iter().collect())
    }
}

impl<const N: usize> From<[(&str, &str); N]> for Variables {
    fn from(pairs: [(&str, &str); N]) -> Self {
        let pairs = pairs.into_iter();
        pairs
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect()
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

fn read(path: &str) -> io::Result<String> {
    String::from_utf8(read_bytes(path)?).map_err(io::Error::other)
}

/// Reads a file of at most [`MAX_FILE`] bytes.
pub(crate) fn read_bytes(path: &str) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut file = File::open(path)?.take(MAX_FILE + 1);
    match file.read_to_end(&mut bytes)? as u64 {
        0..=MAX_FILE => Ok(bytes),
        _ => Err(io::Error::other("the file is larger than 64 KiB")),
    }
}
