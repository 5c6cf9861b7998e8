//! URLs of the service, its containers and blobs. It knows no credentials.

use landfall_objects::{Endpoint, is_address, path, segment};

use crate::{account::Account, error::SettingsError};

/// The blob service of one account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    /// Scheme, host and perhaps a path, without a slash at the end.
    base: String,
    pub(crate) secure: bool,
}

impl Address {
    /// `endpoint` takes precedence over that of the account.
    pub(crate) fn new(account: &Account, endpoint: Option<&str>) -> Result<Self, SettingsError> {
        let default = || format!("https://{}.blob.core.windows.net", account.name);
        let endpoint = endpoint.filter(|url| !url.is_empty());
        let url = endpoint
            .map(ToOwned::to_owned)
            .or_else(|| account.endpoint.clone());
        let url = url.unwrap_or_else(default);
        let wrong = |problem| SettingsError::Endpoint {
            endpoint: landfall_net::redacted_url(&url),
            problem,
        };
        let mut endpoint = Endpoint::parse(&url).map_err(wrong)?;
        let (path, name) = (endpoint.path.trim_end_matches('/'), &account.name);
        endpoint.path = match is_emulator(&endpoint.host) && path.rsplit('/').next() != Some(name) {
            true => format!("{path}/{name}"),
            false => path.to_owned(),
        };
        let (base, secure) = (endpoint.url(""), endpoint.secure);
        Ok(Self { base, secure })
    }

    /// Returns the base to which `/CONTAINER` is appended.
    pub(crate) fn base(&self) -> &str {
        &self.base
    }

    pub(crate) fn url(&self, container: &str, blob: Option<&str>) -> String {
        let (base, container) = (&self.base, segment(container));
        match blob {
            Some(blob) => format!("{base}/{container}/{}", path(blob)),
            None => format!("{base}/{container}"),
        }
    }
}

/// Its host does not name the account. In a network of containers, its host is a name without a dot.
fn is_emulator(host: &str) -> bool {
    is_address(host) || !host.contains('.')
}

#[cfg(test)]
mod tests {
    use http::Uri;

    use super::*;
    use crate::account::Source;

    fn account(endpoint: Option<&str>) -> Account {
        Account {
            name: "acme".to_owned(),
            endpoint: endpoint.map(ToOwned::to_owned),
            source: Source::Identity,
        }
    }

    fn base(endpoint: &str) -> String {
        Address::new(&account(None), Some(endpoint)).unwrap().base
    }

    #[test]
    fn endpoints() {
        let default = Address::new(&account(None), None).unwrap();
        assert_eq!(default.base, "https://acme.blob.core.windows.net");
        let other = account(Some("https://acme.blob.core.chinacloudapi.cn"));
        let of = |flag| Address::new(&other, flag).unwrap().base;
        assert_eq!(of(None), "https://acme.blob.core.chinacloudapi.cn");
        assert_eq!(of(Some("")), "https://acme.blob.core.chinacloudapi.cn");
        assert_eq!(of(Some("https://files.example")), "https://files.example");
        assert_eq!(
            base("http://127.0.0.1:10000"),
            "http://127.0.0.1:10000/acme"
        );
        assert_eq!(
            base("http://127.0.0.1:10000/acme/"),
            "http://127.0.0.1:10000/acme"
        );
        assert_eq!(base("http://Localhost:1/"), "http://localhost:1/acme");
        assert_eq!(base("http://[::1]:1"), "http://[::1]:1/acme");
        assert_eq!(base("http://azurite:10000"), "http://azurite:10000/acme");
        assert_eq!(
            base("https://proxy.example/blobs/"),
            "https://proxy.example/blobs"
        );
    }

    #[test]
    fn invalid_endpoints() {
        for (endpoint, problem) in [
            ("acme.blob.core.windows.net", "must begin with"),
            ("ftp://host", "must begin with"),
            ("http://a b", "not a URL"),
            ("http://host/?x", "query"),
            ("http://user:secret@host", "must not contain credentials"),
        ] {
            let error = Address::new(&account(None), Some(endpoint)).expect_err(endpoint);
            let error = error.to_string();
            assert!(error.contains(problem), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn every_name_makes_a_valid_uri() {
        let address = Address::new(&account(None), None).unwrap();
        let url = |blob| address.url("c", Some(blob));
        assert_eq!(
            url("a b/c+d"),
            "https://acme.blob.core.windows.net/c/a%20b/c%2Bd"
        );
        for blob in [
            "..", "a/../b", "//", "%", "é", "a?b#c", "\u{0}\n", "a\\b", "|^`{}", "\"<>",
        ] {
            assert!(url(blob).parse::<Uri>().is_ok(), "{blob:?}");
        }
        assert_eq!(
            address.url("c", None),
            "https://acme.blob.core.windows.net/c"
        );
        assert_eq!(segment("a/b c&").to_string(), "a%2Fb%20c%26");
    }
}
