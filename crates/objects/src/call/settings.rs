//! The settings of a client that are the same for each service. They read no environment, and send nothing.

use std::{io, sync::Arc};

use rustls::RootCertStore;

use super::{Caller, connections::Connections, http_send::HttpSend, limits::CallLimits};

/// Settings of the calls of a client.
#[derive(Clone, Debug)]
pub struct CallSettings {
    /// Transport of the requests; `None`: the client's own connections.
    pub http: Option<Arc<dyn HttpSend>>,
    /// Attempts and timeouts of each call.
    pub limits: CallLimits,
    /// Maximum number of idle connections.
    pub idle_connections: usize,
    /// `User-Agent`.
    pub user_agent: String,
    /// Logs each attempt as a debug event with operation, duration and status.
    pub log_calls: bool,
}

impl Default for CallSettings {
    fn default() -> Self {
        Self {
            http: None,
            limits: CallLimits::default(),
            idle_connections: 64,
            user_agent: concat!("landfall/", env!("CARGO_PKG_VERSION")).to_owned(),
            log_calls: false,
        }
    }
}

impl From<CallLimits> for CallSettings {
    fn from(limits: CallLimits) -> Self {
        Self {
            limits,
            ..Self::default()
        }
    }
}

/// Invalid settings of calls.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CallSettingsError {
    /// The user agent is not a valid header value.
    #[error("the user agent {0:?} is not a valid header value")]
    UserAgent(String),
    /// The root certificates of this machine cannot be read.
    #[error("cannot read the root certificates of this machine, which HTTPS requires")]
    Certificates(#[source] io::Error),
}

impl CallSettings {
    /// Opens no connection yet. `secure`: certificates are needed; they are those of the system.
    ///
    /// # Errors
    /// There are none, TLS is not possible with them, or the user agent is invalid.
    pub fn caller(self, secure: bool) -> Result<Caller, CallSettingsError> {
        self.caller_with(|| {
            landfall_net::system_certificates(secure).map_err(CallSettingsError::Certificates)
        })
    }

    /// Opens no connection yet. The root certificates are read if the settings have no transport.
    ///
    /// # Errors
    /// The certificates cannot be read; TLS is not possible with them, or the user agent is invalid.
    pub fn caller_with<E: From<CallSettingsError>>(
        self,
        certificates: impl FnOnce() -> Result<RootCertStore, E>,
    ) -> Result<Caller, E> {
        let http = match self.http {
            Some(http) => http,
            None => {
                let timeout = self.limits.connect_timeout;
                let opened = Connections::new(certificates()?, timeout, self.idle_connections);
                Arc::new(opened.map_err(CallSettingsError::Certificates)?)
            }
        };
        let agent = self.user_agent;
        let caller = Caller::new(http, self.limits, &agent, self.log_calls);
        Ok(caller.map_err(|_| CallSettingsError::UserAgent(agent))?)
    }
}
