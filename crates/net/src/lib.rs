//! Outgoing connections: the proxy of a URL, the certificates that are trusted, and
//! connections that use both.
//!
//! Every HTTP client of Landfall connects with a [`Connector`], so that `HTTPS_PROXY`, `NO_PROXY`,
//! `SSL_CERT_FILE` and `SSL_CERT_DIR` mean the same everywhere. Pools, timeouts, retries and limits
//! are those of the clients, with the delays of [`backoff`].

mod backoff;
mod client;
mod connector;
mod proxies;
mod redaction;
mod runtime;
mod tls;
mod verifier;

pub use self::{
    backoff::backoff,
    client::{Client, failure},
    connector::{Connector, ProxyConnector, Stream, connector, tcp},
    proxies::Proxies,
    redaction::redacted_url,
    runtime::PerRuntime,
    tls::{
        certificates_in, client_config, client_config_without_verification, pinning_client_config,
        system_certificates,
    },
};
