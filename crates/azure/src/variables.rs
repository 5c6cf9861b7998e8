//! The environment, as it was when the client was made. It decides nothing about credentials.

use std::{collections::BTreeMap, fmt};

use landfall_objects::{UnreadableFile, variable_or_file};

/// Secrets of containers are files: `<NAME>_FILE` names one with the value, as in tusd's image.
const IN_FILES: [&str; 4] = [
    "AZURE_STORAGE_ACCOUNT",
    "AZURE_STORAGE_KEY",
    "AZURE_STORAGE_SAS_TOKEN",
    "AZURE_STORAGE_CONNECTION_STRING",
];

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
    pub(crate) fn get_or_read(&self, name: &str) -> Result<Option<String>, UnreadableFile> {
        variable_or_file(name, &IN_FILES, |name| self.get(name).map(str::to_owned))
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
