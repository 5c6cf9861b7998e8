//! Blocking hooks: the application allows, changes or denies an operation before it happens.

mod content_type;
mod error;
pub(crate) mod response;
mod token;
mod types;

use std::fmt;

use async_trait::async_trait;

pub use self::content_type::MediaType;
pub use self::error::HookError;
pub use self::response::ClientResponse;
pub use self::token::UploadToken;
pub(crate) use self::types::FindUpload;
pub use self::types::{
    Access, CreateDecision, Decision, IdempotencyError, IdempotencyKey, Intent, RequestInfo,
};
use crate::{
    BoxError,
    upload::{Snapshot, Upload},
};

/// The points at which a hook is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "each is the method of that name")]
pub struct HookPoints {
    pub before_create: bool,
    pub before_finish: bool,
    pub before_terminate: bool,
    pub on_access: bool,
}

impl HookPoints {
    /// All points.
    pub const ALL: Self = Self {
        before_create: true,
        before_finish: true,
        before_terminate: true,
        on_access: true,
    };
}

/// Application code that can allow, change or deny operations.
///
/// Several hooks are called in the order in which they were added. The first denial wins; changes apply
/// one after another and are visible to later hooks. An error is not a denial: the request fails with
/// 500, without effect.
///
/// A hook with one point can be a closure, such as [`Config::on_access`](crate::Config::on_access).
///
/// ```
/// use landfall::{BoxError, async_trait, hook::*, upload::Upload};
///
/// #[derive(Debug)]
/// struct OnlyImages;
///
/// #[async_trait]
/// impl Hook for OnlyImages {
///     fn points(&self) -> HookPoints {
///         HookPoints { before_create: true, ..HookPoints::default() }
///     }
///
///     async fn before_create(
///         &self,
///         _request: &RequestInfo,
///         upload: &Upload,
///     ) -> Result<CreateDecision, BoxError> {
///         let filetype = upload.metadata.get_text("filetype").unwrap_or_default();
///         // Partial uploads have no metadata; the hook is called for the final one, too.
///         Ok(if upload.is_partial() || filetype.starts_with("image/") {
///             CreateDecision::allow()
///         } else {
///             CreateDecision::deny(ClientResponse::text(422, "only images are allowed"))
///         })
///     }
/// }
/// ```
#[async_trait]
pub trait Hook: fmt::Debug + Send + Sync + 'static {
    /// Returns which of the methods below are called. Read once, when the handler is created.
    fn points(&self) -> HookPoints;

    /// Returns what denies, in log lines, if it is not the hook of a point.
    #[doc(hidden)]
    fn name(&self) -> Option<&'static str> {
        None
    }

    /// Returns whether [`before_create`](Self::before_create) may change or deny a direct upload.
    ///
    /// If no hook does, such an upload is created with fewer writes.
    #[doc(hidden)]
    fn affects_direct_uploads(&self) -> bool {
        true
    }

    /// Called before an upload is created.
    ///
    /// `upload.id` is the upload's id unless the decision changes it. Also called for
    /// [partial](Upload::is_partial) uploads, which clients send without the file's metadata.
    ///
    /// # Errors
    /// The request fails with 500.
    async fn before_create(
        &self,
        _request: &RequestInfo,
        _upload: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        Ok(CreateDecision::allow())
    }

    /// Called when all bytes are stored, before the completion is acknowledged.
    ///
    /// Also called for [partial](Upload::is_partial) uploads. A denial removes the upload, so that a client
    /// that retries does not find it complete. Called once per completion: the response of an
    /// allowing decision is stored, and repeated when the client repeats its last request.
    ///
    /// # Errors
    /// The request fails with 500; the hook is called again with the client's next request.
    async fn before_finish(
        &self,
        _request: &RequestInfo,
        _upload: &Snapshot,
    ) -> Result<Decision, BoxError> {
        Ok(Decision::allow())
    }

    /// Called before a client's DELETE removes an upload.
    ///
    /// # Errors
    /// The request fails with 500.
    async fn before_terminate(
        &self,
        _request: &RequestInfo,
        _upload: &Snapshot,
    ) -> Result<Decision, BoxError> {
        Ok(Decision::allow())
    }

    /// Called first for each request on an upload, and for a creation.
    ///
    /// Headers of an allowing decision are ignored. OPTIONS calls no hook, so preflight requests, which
    /// carry no credentials, pass; denials get CORS headers.
    ///
    /// # Errors
    /// The request fails with 500.
    async fn on_access(
        &self,
        _request: &RequestInfo,
        _access: &Access,
    ) -> Result<Decision, BoxError> {
        Ok(Decision::allow())
    }
}
