//! The host and path of a bucket, an object or another service.

use landfall_objects::{Endpoint, is_address, path};

use super::settings::{ClientSettings, SettingsError};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Address {
    pub(super) secure: bool,
    accelerate: bool,
    /// Host and path; `None`: AWS, whose host depends on the region.
    endpoint: Option<(String, String)>,
    /// `None`: if the bucket does not fit into a host name.
    path_style: Option<bool>,
}

impl Address {
    pub(super) fn new(
        settings: &ClientSettings,
        endpoint: Option<&str>,
    ) -> Result<Self, SettingsError> {
        if settings.accelerate {
            if endpoint.is_some() {
                let why = "transfer acceleration works only with AWS and excludes an endpoint";
                return Err(SettingsError::Conflict(why));
            }
            if settings.path_style == Some(true) {
                let why = "transfer acceleration needs the bucket in the host name and excludes \
                           path style";
                return Err(SettingsError::Conflict(why));
            }
        }
        let Some(endpoint) = endpoint else {
            return Ok(Self {
                secure: !settings.disable_ssl,
                accelerate: settings.accelerate,
                endpoint: None,
                path_style: settings.path_style,
            });
        };
        let wrong = |problem| SettingsError::Endpoint {
            endpoint: landfall_net::redacted_url(endpoint),
            problem,
        };
        let Endpoint { secure, host, path } = Endpoint::parse(endpoint).map_err(wrong)?;
        let path_style = settings.path_style.unwrap_or(true);
        if !path_style && is_address(&host) {
            return Err(wrong("is an IP address, which requires path style"));
        }
        Ok(Self {
            secure,
            accelerate: false,
            endpoint: Some((host, path.trim_end_matches('/').to_owned())),
            path_style: Some(path_style),
        })
    }

    pub(super) fn target(&self, region: &str, bucket: &str, key: Option<&str>) -> Endpoint {
        let fits = fits_host(bucket, self.secure);
        let (host, base, in_path) = match &self.endpoint {
            Some((host, base)) => (host.clone(), base.as_str(), self.path_style),
            None if self.accelerate && fits => {
                ("s3-accelerate.amazonaws.com".to_owned(), "", Some(false))
            }
            None => {
                let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
                let host = format!("s3.{region}.amazonaws.com{suffix}");
                (host, "", self.path_style)
            }
        };
        let in_path = in_path.unwrap_or(!fits);
        let mut all = base.to_owned();
        if in_path {
            all.push('/');
            all.extend(path(bucket));
        }
        if let Some(key) = key {
            all.push('/');
            all.extend(path(key));
        } else if all.is_empty() {
            all.push('/');
        }
        let host = match in_path {
            true => host,
            false => format!("{bucket}.{host}"),
        };
        Endpoint {
            secure: self.secure,
            host,
            path: all,
        }
    }
}

fn fits_host(bucket: &str, secure: bool) -> bool {
    let fits = |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-') || byte == b'.' && !secure;
    bucket.bytes().all(fits)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(settings: ClientSettings) -> Result<Address, SettingsError> {
        Address::new(&settings, settings.endpoint.as_deref())
    }

    fn url(settings: ClientSettings, region: &str, bucket: &str, key: Option<&str>) -> String {
        address(settings)
            .expect("an address")
            .target(region, bucket, key)
            .url("")
    }

    fn endpoint(url: &str) -> ClientSettings {
        ClientSettings {
            endpoint: Some(url.to_owned()),
            ..ClientSettings::default()
        }
    }

    #[test]
    fn aws() {
        let settings = ClientSettings::default();
        let of = |bucket, key| url(settings.clone(), "eu-central-1", bucket, key);
        assert_eq!(
            of("b", Some("k")),
            "https://b.s3.eu-central-1.amazonaws.com/k"
        );
        assert_eq!(of("b", None), "https://b.s3.eu-central-1.amazonaws.com/");
        assert_eq!(
            of("b.c", Some("k")),
            "https://s3.eu-central-1.amazonaws.com/b.c/k"
        );
        assert_eq!(of("B_c", None), "https://s3.eu-central-1.amazonaws.com/B_c");
        assert_eq!(
            url(settings.clone(), "cn-north-1", "b", Some("k")),
            "https://b.s3.cn-north-1.amazonaws.com.cn/k"
        );
        let plain = ClientSettings {
            disable_ssl: true,
            ..settings.clone()
        };
        assert_eq!(
            url(plain, "r", "b.c", Some("k")),
            "http://b.c.s3.r.amazonaws.com/k"
        );
        let path = ClientSettings {
            path_style: Some(true),
            ..settings.clone()
        };
        assert_eq!(
            url(path, "r", "b", Some("k")),
            "https://s3.r.amazonaws.com/b/k"
        );
        let fast = ClientSettings {
            accelerate: true,
            ..settings
        };
        assert_eq!(
            url(fast.clone(), "r", "b", Some("k")),
            "https://b.s3-accelerate.amazonaws.com/k"
        );
        assert_eq!(
            url(fast, "r", "b.c", Some("k")),
            "https://s3.r.amazonaws.com/b.c/k"
        );
    }

    #[test]
    fn endpoints() {
        let at = |settings, key| url(settings, "r", "b", key);
        assert_eq!(
            at(endpoint("http://Host:3900"), Some("a b/c")),
            "http://host:3900/b/a%20b/c"
        );
        assert_eq!(
            at(endpoint("http://host:3900/"), None),
            "http://host:3900/b"
        );
        assert_eq!(
            at(endpoint("https://host/base/"), Some("k")),
            "https://host/base/b/k"
        );
        assert_eq!(
            at(endpoint("http://host:80"), Some("//k")),
            "http://host/b///k"
        );
        assert_eq!(
            at(endpoint("https://host:443"), Some("k")),
            "https://host/b/k"
        );
        assert_eq!(
            at(endpoint("https://host:80"), Some("k")),
            "https://host:80/b/k"
        );
        assert_eq!(
            at(endpoint("http://[::1]:9000"), Some("k")),
            "http://[::1]:9000/b/k"
        );
        let hosted = ClientSettings {
            path_style: Some(false),
            ..endpoint("http://host:1")
        };
        assert_eq!(at(hosted.clone(), Some("k")), "http://b.host:1/k");
        assert_eq!(at(hosted, None), "http://b.host:1/");
    }

    #[test]
    fn invalid_settings_are_rejected_with_one_line() {
        for (settings, text) in [
            (endpoint("host:3900"), "must begin with http:// or https://"),
            (
                endpoint("ftp://host"),
                "must begin with http:// or https://",
            ),
            (endpoint("http://a b"), "is not a URL"),
            (endpoint("http://host/?x"), "query"),
            (
                endpoint("http://key:secret@host"),
                "must not contain credentials",
            ),
            (
                ClientSettings {
                    path_style: Some(false),
                    ..endpoint("http://127.0.0.1:1")
                },
                "requires path style",
            ),
            (
                ClientSettings {
                    accelerate: true,
                    ..endpoint("http://host")
                },
                "acceleration",
            ),
            (
                ClientSettings {
                    accelerate: true,
                    path_style: Some(true),
                    ..ClientSettings::default()
                },
                "excludes path style",
            ),
        ] {
            let error = address(settings).expect_err("refused").to_string();
            assert!(error.contains(text), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn every_key_makes_a_valid_uri() {
        let address = address(endpoint("http://host:3900")).expect("an address");
        for key in [
            "..", "a/../b", "//", "%", "é", "a?b#c", "\u{0}\n", "a\\b", "|^`{}", "\"<>",
        ] {
            let target = address.target("r", "b", Some(key));
            let uri = target.url("a=b").parse::<http::Uri>().expect("a URI");
            assert_eq!(uri.path(), target.path, "sent as it is signed");
            assert_eq!(uri.query(), Some("a=b"));
        }
    }
}
