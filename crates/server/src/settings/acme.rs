//! Parsers of the settings of ACME.

use std::net::IpAddr;

use super::address::http_url;
use super::value::{self, Parsed};

/// Of Let's Encrypt.
const MAX_NAMES: usize = 100;

pub(super) fn domains(text: &str) -> Parsed<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for name in value::list(text) {
        let name = domain(name)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    match names.len() > MAX_NAMES {
        true => Err(format!(
            "has {} names; a certificate has at most {MAX_NAMES}",
            names.len()
        )),
        false => Ok(names),
    }
}

fn domain(text: &str) -> Parsed<String> {
    if text.starts_with("*.") {
        return Err(format!(
            "{text:?} is a wildcard, which needs a DNS challenge; write each host name, or obtain the \
             certificate with another program and use --tls-certificate"
        ));
    }
    if text.trim_matches(['[', ']']).parse::<IpAddr>().is_ok() {
        return Err(format!("{text:?} is an IP address; write a host name"));
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && value::is_plain(label, "-")
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_name = text.len() <= 253 && text.split('.').all(is_label);
    let expected = "a host name such as uploads.example.com (international names begin with xn--)";
    value::valid(text, is_name, expected).map(|name| name.to_ascii_lowercase())
}

pub(super) fn directory(text: &str) -> Parsed<String> {
    const EXAMPLE: &str = "https://acme-v02.api.letsencrypt.org/directory";
    http_url(text, "URL", EXAMPLE)?;
    value::valid(
        text,
        text.starts_with("https://"),
        "a URL with https://, as ACME requires",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_are_host_names() {
        let names = domains("Uploads.Example.com, a.example,uploads.example.com").unwrap();
        assert_eq!(names, ["uploads.example.com", "a.example"]);
        for (text, expected) in [
            ("*.example.com", "wildcard"),
            ("192.0.2.1", "IP address"),
            ("[2001:db8::1]", "IP address"),
            ("https://example.com", "not a host name"),
            ("example.com:443", "not a host name"),
            ("-a.example", "not a host name"),
            ("a..example", "not a host name"),
            ("bücher.example", "not a host name"),
        ] {
            let error = domains(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let many: Vec<_> = (0..101).map(|at| format!("a{at}.example")).collect();
        assert!(domains(&many.join(",")).unwrap_err().contains("101 names"));
    }

    #[test]
    fn directories_are_checked() {
        directory("https://localhost:14000/dir").unwrap();
        let error = directory("http://localhost:14000/dir").unwrap_err();
        assert!(error.contains("https://"), "{error}");
    }
}
