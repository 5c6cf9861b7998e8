//! Rules of the configuration.

use async_trait::async_trait;
use http::request::Parts;

use super::{Policy, PolicyDenial, PolicyRequest};
use crate::{GrantLimits, Principal};

/// The same limits for everyone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// They.
    pub limits: GrantLimits,
}

impl Rules {
    /// These.
    #[must_use]
    pub fn new(limits: GrantLimits) -> Self {
        Self { limits }
    }
}

#[async_trait]
impl Policy for Rules {
    async fn decide(
        &self,
        _caller: &Principal,
        ask: &mut PolicyRequest,
        _request: &Parts,
    ) -> Result<(), PolicyDenial> {
        ask.limits = ask.limits.intersect(&self.limits);
        Ok(())
    }
}
