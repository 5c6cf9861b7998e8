//! The table of settings of TLS, and the certificate files to load: configured, or those of ACME.
//!
//! Files are named here and not read. `settings::check` ensures that certificates and keys are pairs.

use std::path::PathBuf;
use std::time::Duration;

use landfall_http::{CertificateFiles, ClientAuth, TlsFiles, TlsMode};

use super::table::group;
use super::{Acme, Settings};
use crate::settings::value;

const MODES: &[(&str, TlsMode)] = &[
    ("tls12", TlsMode::Tls12),
    ("tls12-strong", TlsMode::Tls12Strong),
    ("tls13", TlsMode::Tls13),
];
const CLIENT_AUTH: &[(&str, ClientAuth)] = &[
    ("required", ClientAuth::Required),
    ("optional", ClientAuth::Optional),
];

group! {
    /// TLS.
    pub struct Tls at tls, with {
        /// Certificates from an ACME authority.
        acme: Acme,
    };
    certificates: Vec<PathBuf> = value::paths, "tls-certificate", List("FILES"), "", Protects, Reloads
        => "Serve HTTPS with this certificate and its chain (PEM), and offer HTTP/2. Of several, \
            comma-separated, the first is chosen that is valid for the host name that a client \
            asks for (SNI). Replaced files are read within 10s.";
    keys: Vec<PathBuf> = value::paths, "tls-key", List("FILES"), "", Protects, Reloads
        => "Private keys (PEM, unencrypted) of --tls-certificate, in the same order.";
    mode: TlsMode = |v| value::choice(v, MODES), "tls-mode", Text("tls12|tls12-strong|tls13"), "tls12", FailsAtStart
        => "Versions of TLS: 1.2 and 1.3 (tls12), 1.2 with 256-bit AES-GCM only (tls12-strong), or \
            1.3 only (tls13).";
    client_authorities: Option<PathBuf> = value::path_or_none,
        "tls-client-ca", Text("FILE"), "", Protects, Reloads
        => "Accept only clients with a certificate that an authority in this file (PEM) issued.";
    client_auth: ClientAuth = |v| value::choice(v, CLIENT_AUTH),
        "tls-client-auth", Text("required|optional"), "required", Protects, Reloads
        => "Whether clients need a certificate of --tls-client-ca. With optional, clients without one are accepted, too.";
    redirect_http: Option<u16> = value::optional(value::port), "redirect-http", Number("PORT"), ""
        => "Listen on this port, too, and redirect its requests to HTTPS.";
    http3: bool = value::boolean, "http3", Switch, "false"
        => "Serve HTTP/3, too, on the UDP port with the number of --port, and offer it to HTTPS clients (Alt-Svc).";
    hsts: Option<Duration> = value::duration_or_none, "hsts", Time, "0", Protects
        => "Time for which browsers use HTTPS only for this host (Strict-Transport-Security), such as 365d. 0: \
            the header is not sent.";
}

impl Tls {
    /// Returns whether the server serves HTTPS.
    pub fn is_on(&self) -> bool {
        !self.certificates.is_empty() || self.acme.is_on()
    }

    /// Returns whether clients without a certificate, such as an authority that validates names, are rejected.
    pub fn needs_client_certificate(&self) -> bool {
        self.client_authorities.is_some() && self.client_auth == ClientAuth::Required
    }
}

impl Settings {
    /// Returns the files to read; `None` without TLS.
    pub fn tls_files(&self) -> Option<TlsFiles> {
        let tls = &self.tls;
        let pairs = tls.certificates.iter().zip(&tls.keys);
        let pairs = pairs.map(|(chain, key)| CertificateFiles {
            chain: chain.clone(),
            key: key.clone(),
        });
        tls.is_on().then(|| TlsFiles {
            certificates: match tls.acme.is_on() {
                true => vec![self.acme_files()],
                false => pairs.collect(),
            },
            client_authorities: tls.client_authorities.clone(),
            client_auth: tls.client_auth,
        })
    }
}
