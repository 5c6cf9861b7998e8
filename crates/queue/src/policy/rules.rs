use async_trait::async_trait;
use http::request::Parts;

use super::{Policy, PolicyDenial, PolicyRequest};
use crate::{GrantLimits, Principal};

/// The same limits for all principals.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// The limits.
    pub limits: GrantLimits,
}

impl Rules {
    /// Creates a policy with these limits.
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
