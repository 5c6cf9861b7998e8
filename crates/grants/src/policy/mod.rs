//! What callers may ask for.

mod asked;
mod rules;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{StatusCode, request::Parts};
use landfall::hook::matches_content_type;

pub use self::{asked::Asked, rules::Rules};
use crate::{Caller, Limits};

/// An upload that somebody asks for.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Ask {
    /// The caller's own id for it.
    pub id: String,
    /// The file's name.
    pub filename: String,
    /// Its length in bytes, if known.
    pub filesize: Option<u64>,
    /// Its type, if known.
    pub filetype: Option<String>,
    /// What else was said. What a policy leaves here is kept.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    /// What holds for it. Policies narrow it (see [`Limits::and`]).
    pub limits: Limits,
}

impl Ask {
    /// One of which nothing more is known.
    #[must_use]
    pub fn new(id: impl Into<String>, filename: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            filename: filename.into(),
            filesize: None,
            filetype: None,
            metadata: serde_json::Map::new(),
            limits: Limits::default(),
        }
    }

    /// Whether size and type are within the limits. (The others depend on what else was asked for.)
    ///
    /// # Errors
    /// Which isn't, and why.
    pub fn check(&self) -> Result<(), No> {
        let limits = &self.limits;
        match (self.filesize, limits.max_size) {
            (None, _) if limits.size_required => {
                return Err(No::field("filesize", "the size must be stated"));
            }
            (Some(size), Some(most)) if size > most => {
                let why = format!("{size} bytes are too many; at most {most} may be uploaded");
                return Err(No::field("filesize", why));
            }
            _ => {}
        }
        if limits.content_types.is_empty() {
            return Ok(());
        }
        let list = limits.content_types.join(", ");
        let Some(stated) = self.filetype.as_deref() else {
            let why = format!("the type must be stated; welcome: {list}");
            return Err(No::field("filetype", why));
        };
        if limits
            .content_types
            .iter()
            .any(|one| matches_content_type(stated, one))
        {
            return Ok(());
        }
        let why = format!("the type {stated:?} isn't accepted; welcome: {list}");
        Err(No::field("filetype", why))
    }
}

/// Why something isn't granted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct No {
    /// What of the request is wrong (`filesize`, `filetype`, …), if it is one thing.
    pub field: Option<&'static str>,
    /// The status of the answer: 403, 422, 429 or 503, or what an application wants.
    pub status: StatusCode,
    /// Why, for people.
    pub message: String,
    /// After which time it is worth asking again.
    pub retry_after: Option<Duration>,
}

impl No {
    /// Something of the request is against the limits (422).
    #[must_use]
    pub fn field(field: &'static str, message: impl Into<String>) -> Self {
        Self {
            field: Some(field),
            ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, message)
        }
    }

    /// This caller may not (403).
    #[must_use]
    pub fn forbidden(message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, message)
    }

    /// Nobody can tell now (503); again in a few seconds.
    #[must_use]
    pub fn unavailable(message: impl Into<String>) -> Self {
        Self {
            retry_after: Some(Duration::from_secs(5)),
            ..Self::new(StatusCode::SERVICE_UNAVAILABLE, message)
        }
    }

    /// Any other refusal.
    #[must_use]
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        Self {
            field: None,
            status,
            message: message.into(),
            retry_after: None,
        }
    }
}

/// Decides what callers may ask for.
#[async_trait]
pub trait Policy: fmt::Debug + Send + Sync + 'static {
    /// Agrees, maybe to less: it may narrow the limits and change the metadata. `request` is the one
    /// to the grant API.
    ///
    /// # Errors
    /// It doesn't.
    ///
    /// # Cancel safety
    /// May be dropped; nothing is granted then.
    async fn decide(&self, caller: &Caller, ask: &mut Ask, request: &Parts) -> Result<(), No>;
}

/// Has the caller's limits and all policies decide, one after another; each sees what those before it
/// left. Who is asked later isn't bothered with what is against the limits already.
///
/// # Errors
/// The first that doesn't agree.
///
/// # Cancel safety
/// May be dropped; nothing is granted then.
pub async fn decide(
    policies: &[Arc<dyn Policy>],
    caller: &Caller,
    ask: &mut Ask,
    request: &Parts,
) -> Result<(), No> {
    ask.limits = ask.limits.and(&caller.limits);
    ask.check()?;
    for policy in policies {
        let before = ask.limits.clone();
        policy.decide(caller, ask, request).await?;
        // Whatever it did, nobody gets more than the others gave.
        ask.limits = before.and(&ask.limits);
        ask.check()?;
    }
    Ok(())
}
