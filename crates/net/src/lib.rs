//! Outgoing HTTP: the proxy of a URL, the certificates that are trusted, and
//! connections that use both.
//!
//! Every HTTP client of Landfall connects with a [`Connector`], so that `HTTPS_PROXY`, `NO_PROXY`,
//! `SSL_CERT_FILE` and `SSL_CERT_DIR` mean the same everywhere. Pools, timeouts, retries and limits
//! are those of the clients.

mod certificates;
mod connector;
mod proxies;

pub use self::{
    certificates::{certificates_in, client_config, system_certificates},
    connector::{Connector, ProxyConnector, Stream, connector},
    proxies::Proxies,
};
