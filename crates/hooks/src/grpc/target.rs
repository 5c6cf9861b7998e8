//! gRPC target names.

use std::path::{Path, PathBuf};

use http::{Uri, uri::Authority};

use super::GrpcSettingsError;

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) secure: bool,
    /// `localhost` for a UNIX socket, as in gRPC.
    authority: Authority,
    socket: Option<PathBuf>,
}

impl Target {
    /// `secure` enables TLS unless the target has a scheme.
    pub(super) fn new(target: &str, secure: bool) -> Result<Self, GrpcSettingsError> {
        let invalid = |reason| GrpcSettingsError::Target {
            target: target.to_owned(),
            reason,
        };
        if let Some(rest) = target.strip_prefix("unix:") {
            let path = rest.strip_prefix("//").unwrap_or(rest);
            let absolute = path.starts_with('/') || rest == path;
            if path.is_empty() || !absolute {
                return Err(invalid("it must be unix:///path or unix:path"));
            }
            return Ok(Self {
                secure,
                authority: Authority::from_static("localhost"),
                socket: Some(path.into()),
            });
        }
        let (secure, port, rest) = if let Some(rest) = target.strip_prefix("http://") {
            if secure {
                return Err(invalid("http:// contradicts the TLS setting"));
            }
            (false, 80, rest.trim_end_matches('/'))
        } else if let Some(rest) = target.strip_prefix("https://") {
            (true, 443, rest.trim_end_matches('/'))
        } else {
            let names = ["dns:", "passthrough:"];
            let named = names.iter().find_map(|name| target.strip_prefix(name));
            let rest = match named {
                None => target,
                Some(rest) => match rest.strip_prefix("//") {
                    None => rest,
                    // A DNS server between the slashes is not supported.
                    Some(rest) => rest
                        .strip_prefix('/')
                        .ok_or_else(|| invalid("the host must come after three slashes"))?,
                },
            };
            (secure, 443, rest)
        };
        let authority: Authority = rest
            .parse()
            .map_err(|_| invalid("it must be host:port or unix:///path"))?;
        let host = authority.host();
        if host.is_empty() || authority.as_str().contains('@') {
            return Err(invalid("it must be host:port or unix:///path"));
        }
        let authority = match authority.port() {
            Some(port) if port.as_str().parse() == Ok(port.as_u16()) => authority,
            Some(_) => return Err(invalid("the port must be a number up to 65535")),
            None if authority.as_str() == host => format!("{host}:{port}")
                .parse()
                .map_err(|_| invalid("it must be host:port"))?,
            None => return Err(invalid("the port must be a number up to 65535")),
        };
        Ok(Self {
            secure,
            authority,
            socket: None,
        })
    }

    pub(super) fn origin(&self) -> Uri {
        let scheme = if self.secure { "https" } else { "http" };
        Uri::builder()
            .scheme(scheme)
            .authority(self.authority.clone())
            .path_and_query("/")
            .build()
            .expect("a scheme, an authority and a path make a URI")
    }

    pub(super) fn host(&self) -> &str {
        let host = self.authority.host();
        let address = host
            .strip_prefix('[')
            .and_then(|host| host.strip_suffix(']'));
        address.unwrap_or(host)
    }

    pub(super) fn socket(&self) -> Option<&Path> {
        self.socket.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(target: &str, secure: bool) -> String {
        Target::new(target, secure).unwrap().origin().to_string()
    }

    #[test]
    fn parses_hosts_and_ports() {
        for target in [
            "hooks:8000",
            "dns:///hooks:8000",
            "dns:hooks:8000",
            "passthrough:///hooks:8000",
            "http://hooks:8000",
            "http://hooks:8000/",
        ] {
            assert_eq!(origin(target, false), "http://hooks:8000/", "{target}");
        }
        assert_eq!(origin("hooks:8000", true), "https://hooks:8000/");
        assert_eq!(origin("https://hooks:8000", false), "https://hooks:8000/");
        assert_eq!(origin("hooks", false), "http://hooks:443/");
        assert_eq!(origin("http://hooks", false), "http://hooks:80/");
        assert_eq!(origin("[::1]:50051", false), "http://[::1]:50051/");
        assert_eq!(Target::new("[::1]:1", true).unwrap().host(), "::1");
        assert_eq!(
            Target::new("127.0.0.1:1", true).unwrap().host(),
            "127.0.0.1"
        );
    }

    #[test]
    fn parses_unix_sockets() {
        for (target, path) in [
            ("unix:///run/hooks.sock", "/run/hooks.sock"),
            ("unix:/run/hooks.sock", "/run/hooks.sock"),
            ("unix:hooks.sock", "hooks.sock"),
        ] {
            let read = Target::new(target, false).unwrap();
            assert_eq!(read.socket(), Some(Path::new(path)), "{target}");
            assert_eq!(read.origin(), "http://localhost/");
        }
    }

    #[test]
    fn rejects_invalid_targets() {
        for target in [
            "",
            ":8000",
            "dns://8.8.8.8/hooks:8000",
            "hooks:port",
            "hooks:70000",
            "hooks:",
            "http://hooks:8000/path",
            "http://user@hooks:8000",
            "a b:1",
            "unix:",
            "unix://",
            "unix://run/hooks.sock",
            "ftp://hooks:1",
        ] {
            let error = Target::new(target, false).unwrap_err().to_string();
            assert!(error.contains(&format!("{target:?}")), "{error}");
        }
        assert!(Target::new("http://hooks:8000", true).is_err());
    }
}
