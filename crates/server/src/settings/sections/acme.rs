//! Settings of certificates from an ACME authority, and the location of the obtained files.
//!
//! The files of each authority are in a separate directory below the state directory. Nothing is read or created here.

use std::path::PathBuf;

use landfall_http::CertificateFiles;

use super::Settings;
use super::table::group;
use crate::settings::acme;

group! {
    /// Settings of certificates from an ACME authority.
    #[derive(Eq)]
    pub struct Acme at tls.acme;
    domains: Vec<String> = acme::domains, "acme-domain", List("NAMES"), "", Protects
        => "Obtain and renew a certificate for these host names, comma-separated, from Let's Encrypt \
            or the authority of --acme-directory, and serve HTTPS with it. This agrees to the \
            authority's terms of service. The names must lead to this server, on port 443 or, \
            with --redirect-http, on port 80. Nodes share the certificate and its private key in \
            PostgreSQL (--database).";
    directory: String = acme::directory, "acme-directory", Text("URL"),
        "https://acme-v02.api.letsencrypt.org/directory"
        => "ACME directory of the authority. For tests, use \
            https://acme-staging-v02.api.letsencrypt.org/directory, whose certificates no browser \
            trusts. An ACME server of your own needs a certificate that this system trusts.";
}

impl Acme {
    /// Returns whether a certificate is obtained.
    pub fn is_on(&self) -> bool {
        !self.domains.is_empty()
    }
}

impl Settings {
    /// Returns the name of the authority in paths and keys.
    ///
    /// Each has its own, so that certificates of a staging authority are not used after a change.
    pub(crate) fn acme_directory_name(&self) -> String {
        let url = self.tls.acme.directory.trim_start_matches("https://");
        let plain = |c: char| {
            if c.is_ascii_alphanumeric() || c == '.' {
                c
            } else {
                '-'
            }
        };
        url.chars().map(plain).collect()
    }

    /// Returns the directory of accounts and certificates of the authority.
    pub(crate) fn acme_dir(&self) -> PathBuf {
        self.state_dir()
            .join("acme")
            .join(self.acme_directory_name())
    }

    /// Returns the file of the obtained certificate: key and chain are in one.
    pub(crate) fn acme_files(&self) -> CertificateFiles {
        let file = self.acme_dir().join("certificate.pem");
        CertificateFiles {
            chain: file.clone(),
            key: file,
        }
    }
}
