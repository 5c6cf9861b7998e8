//! Policies: what principals may upload.

mod hook;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{StatusCode, request::Parts};
use landfall::hook::MediaType;

use super::{GrantLimits, NewJob, Principal};

impl NewJob {
    /// Checks size and type. Other limits depend on other jobs.
    ///
    /// # Errors
    /// A limit is exceeded.
    pub fn check(&self) -> Result<(), PolicyDenial> {
        let limits = &self.limits;
        match (self.size, limits.max_size) {
            (None, _) if limits.require_size => {
                return Err(PolicyDenial::field("filesize", "the size is required"));
            }
            (Some(size), Some(max)) if size > max => {
                let why = format!("{size} bytes exceed the maximum of {max}");
                return Err(PolicyDenial::field("filesize", why));
            }
            _ => {}
        }
        if limits.allowed_types.is_empty() {
            return Ok(());
        }
        let list = limits.allowed_types.join(", ");
        let Some(stated) = self.filetype.as_deref() else {
            let why = format!("the type is required; accepted: {list}");
            return Err(PolicyDenial::field("filetype", why));
        };
        if limits
            .allowed_types
            .iter()
            .any(|one| MediaType::is_match(stated, one))
        {
            return Ok(());
        }
        let why = format!("the type {stated:?} is not accepted; accepted: {list}");
        Err(PolicyDenial::field("filetype", why))
    }
}

/// A denial by a policy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PolicyDenial {
    /// The field that is invalid, such as `filesize`, if it is a single one.
    pub field: Option<&'static str>,
    /// The HTTP status: 403, 422, 429 or 503, or one that a hook has chosen.
    pub status: StatusCode,
    /// The reason, for users.
    pub message: String,
    /// Time after which to try again.
    pub retry_after: Option<Duration>,
}

impl PolicyDenial {
    /// A field exceeds a limit (422).
    pub fn field(field: &'static str, message: impl Into<String>) -> Self {
        Self {
            field: Some(field),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
        }
    }

    /// The principal is denied (403).
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// The decision cannot be made now (503); retry in five seconds.
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(Duration::from_secs(5)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    /// Creates a denial with another status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            field: None,
            status,
            message: message.into(),
            retry_after: None,
        }
    }
}

/// Decides what principals may upload.
#[async_trait]
pub trait Policy: fmt::Debug + Send + Sync + 'static {
    /// Allows a request. It may restrict the limits (see [`GrantLimits::intersect`]) and change the name, the
    /// type and the metadata, which are stored as it leaves them.
    ///
    /// `request` is the HTTP request to the grant API.
    ///
    /// # Errors
    /// The request is denied.
    ///
    /// # Cancel safety
    /// Safe to drop; nothing is granted then.
    async fn decide(
        &self,
        principal: &Principal,
        ask: &mut NewJob,
        request: &Parts,
    ) -> Result<(), PolicyDenial>;
}

/// The same limits for all principals.
#[async_trait]
impl Policy for GrantLimits {
    async fn decide(
        &self,
        _principal: &Principal,
        ask: &mut NewJob,
        _request: &Parts,
    ) -> Result<(), PolicyDenial> {
        ask.limits = ask.limits.intersect(self);
        Ok(())
    }
}

/// Applies the principal's limits, then all policies in order.
///
/// Each policy sees the result of those before it. A request that exceeds a limit is not passed on.
///
/// # Errors
/// The first denial.
///
/// # Cancel safety
/// Safe to drop; nothing is granted then.
pub async fn decide(
    policies: &[Arc<dyn Policy>],
    principal: &Principal,
    ask: &mut NewJob,
    request: &Parts,
) -> Result<(), PolicyDenial> {
    ask.limits = ask.limits.intersect(&principal.limits);
    ask.check()?;
    for policy in policies {
        let before = ask.limits.clone();
        policy.decide(principal, ask, request).await?;
        // A policy cannot extend the limits of others.
        ask.limits = before.intersect(&ask.limits);
        ask.check()?;
    }
    Ok(())
}
