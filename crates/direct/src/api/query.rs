//! Queries in the syntax of Companion's clients: `name=value` and `metadata[name]=value`.

use std::{borrow::Cow, collections::BTreeMap};

use landfall_api::Problem;
use url::form_urlencoded;

use super::{metadata, problem};

#[derive(Debug, Clone, Copy)]
pub(super) struct Query<'a>(&'a str);

impl<'a> Query<'a> {
    pub(super) fn new(query: Option<&'a str>) -> Self {
        Self(query.unwrap_or_default())
    }

    fn pairs(self) -> form_urlencoded::Parse<'a> {
        form_urlencoded::parse(self.0.as_bytes())
    }

    pub(super) fn single(self, name: &'static str) -> Result<Option<Cow<'a, str>>, Problem> {
        let mut values = self.pairs().filter(|(key, _)| key == name);
        let value = values.next();
        match values.next() {
            None => Ok(value.map(|(_, value)| value)),
            Some(_) => Err(problem::field(
                name,
                format!("s3: the \"{name}\" query parameter must not be repeated"),
            )),
        }
    }

    /// The last of equal names counts, nested ones are ignored.
    pub(super) fn metadata(self) -> Result<BTreeMap<String, String>, Problem> {
        let mut metadata = BTreeMap::new();
        for (key, value) in self.pairs() {
            if let Some(name) = bracketed(&key) {
                metadata.insert(name.to_owned(), value.into_owned());
                metadata::check_size(&metadata)?;
            }
        }
        Ok(metadata)
    }

    pub(super) fn without_secrets(self) -> Option<String> {
        let is_secret = |key: &str, value: &str| {
            let name = bracketed(key).unwrap_or(key);
            metadata::is_token_name(name) || landfall_queue::is_secret(value)
        };
        if !self.pairs().any(|(key, value)| is_secret(&key, &value)) {
            return None;
        }
        let harmless = self.pairs().filter(|(key, value)| !is_secret(key, value));
        let mut left = form_urlencoded::Serializer::new(String::new());
        Some(left.extend_pairs(harmless).finish())
    }
}

fn bracketed(key: &str) -> Option<&str> {
    let name = key.strip_prefix("metadata[")?.strip_suffix(']')?;
    Some(name).filter(|name| !name.is_empty() && !name.contains(['[', ']']))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queries_of_uppy_are_parsed() {
        let query = Query::new(Some(
            "filename=My+file%20%C3%BC.bin&type=image%2Fpng&metadata%5Bname%5D=a%26b&\
             metadata[type]=image/png&metadata[relativePath]=null&metadata[a][b]=1&metadata[]=x&metadata=y",
        ));
        assert_eq!(query.single("filename").unwrap().unwrap(), "My file ü.bin");
        assert_eq!(query.single("type").unwrap().unwrap(), "image/png");
        assert_eq!(query.single("key").unwrap(), None);
        let metadata: Vec<_> = query.metadata().unwrap().into_iter().collect();
        let wanted = [
            ("name", "a&b"),
            ("relativePath", "null"),
            ("type", "image/png"),
        ];
        let wanted = wanted.map(|(name, value)| (name.to_owned(), value.to_owned()));
        assert_eq!(metadata, wanted);
    }

    #[test]
    fn repeated_parameters_are_rejected() {
        let query = Query::new(Some("key=a&key=b&metadata[a]=1&metadata[a]=2"));
        assert!(query.single("key").is_err());
        assert_eq!(query.metadata().unwrap()["a"], "2");
    }

    #[test]
    fn metadata_is_limited() {
        let of = |count: usize| {
            (0..count)
                .map(|n| format!("metadata[{n}]=&"))
                .collect::<String>()
        };
        assert!(Query::new(Some(&of(64))).metadata().is_ok());
        assert!(Query::new(Some(&of(65))).metadata().is_err());
        let long = format!("metadata[a]={}", "x".repeat(20_000));
        assert!(Query::new(Some(&long)).metadata().is_err());
    }

    #[test]
    fn secrets_are_removed() {
        for (query, left) in [
            ("a=1&b=2", None),
            ("a=1&upload_token=x", Some("a=1")),
            ("metadata%5Bupload_token%5D=lft_x&a=%26", Some("a=%26")),
            (
                "metadata[token]=lft_x&metadata[album]=7",
                Some("metadata%5Balbum%5D=7"),
            ),
            ("x=lfk_secret", Some("")),
            ("token=events", Some("")),
        ] {
            let found = Query::new(Some(query)).without_secrets();
            assert_eq!(found.as_deref(), left, "{query}");
        }
    }

    proptest! {
        #[test]
        fn any_query_is_parsed(query in ".{0,200}") {
            let query = Query::new(Some(&query));
            let _ = (query.single("key"), query.metadata());
            if let Some(left) = query.without_secrets() {
                prop_assert_eq!(Query::new(Some(&left)).without_secrets(), None);
            }
        }

        #[test]
        fn metadata_round_trips(pairs in prop::collection::btree_map("[^\\[\\]]{1,10}", ".{0,20}", 0..20)) {
            let mut query = form_urlencoded::Serializer::new(String::new());
            for (name, value) in &pairs {
                query.append_pair(&format!("metadata[{name}]"), value);
            }
            let query = query.finish();
            prop_assert_eq!(Query::new(Some(&query)).metadata().unwrap(), pairs);
        }
    }
}
