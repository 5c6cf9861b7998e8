//! Rules of the configuration.

use async_trait::async_trait;
use http::request::Parts;

use super::{Ask, No, Policy};
use crate::{Caller, Limits};

/// The same limits for everyone.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rules {
    /// They.
    pub limits: Limits,
}

impl Rules {
    /// These.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits }
    }
}

#[async_trait]
impl Policy for Rules {
    async fn decide(&self, _caller: &Caller, ask: &mut Ask, _request: &Parts) -> Result<(), No> {
        ask.limits = ask.limits.and(&self.limits);
        Ok(())
    }
}
