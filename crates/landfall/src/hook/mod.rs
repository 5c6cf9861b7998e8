//! Asking before the effect: the application allows, changes or refuses.

mod claim;
mod content_type;
mod token;
mod types;

use std::fmt;

use async_trait::async_trait;

pub use self::claim::{IdempotencyError, IdempotencyKey};
pub use self::content_type::{MediaType, matches_content_type};
pub use self::token::UploadToken;
pub use self::types::{Access, ClientResponse, CreateDecision, Decision, Intent, RequestInfo};
use crate::{
    BoxError,
    upload::{Snapshot, Upload},
};

/// Which questions a hook wants to be asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[allow(missing_docs, reason = "each is the method of that name")]
pub struct HookPoints {
    pub before_create: bool,
    pub before_finish: bool,
    pub before_terminate: bool,
    pub on_access: bool,
}

impl HookPoints {
    /// All questions.
    pub const ALL: Self = Self {
        before_create: true,
        before_finish: true,
        before_terminate: true,
        on_access: true,
    };
}

/// Something that is asked. Several hooks are asked in the order in which they were added: the first
/// refusal wins, changes apply one after another and are seen by the hooks that come later.
///
/// An error is not a refusal: the request fails with 500, and nothing has happened.
///
/// ```
/// use async_trait::async_trait;
/// use landfall::{hook::*, store::BoxError, upload::Upload};
///
/// #[derive(Debug)]
/// struct OnlyImages;
///
/// #[async_trait]
/// impl Hook for OnlyImages {
///     fn asks(&self) -> Asks {
///         Asks { before_create: true, ..Asks::default() }
///     }
///
///     async fn before_create(
///         &self,
///         _request: &RequestInfo,
///         upload: &Upload,
///     ) -> Result<Creation, BoxError> {
///         let filetype = upload.metadata.get_text("filetype").unwrap_or_default();
///         // Pieces of a file have no metadata; their sum has, and is asked about, too.
///         Ok(if upload.is_partial() || filetype.starts_with("image/") {
///             Creation::allow()
///         } else {
///             Creation::refuse(Reply::text(422, "only images, please"))
///         })
///     }
/// }
/// ```
#[async_trait]
pub trait Hook: fmt::Debug + Send + Sync + 'static {
    /// Which of the methods below are to be called. Asked once, when the handler is built.
    fn points(&self) -> HookPoints;

    /// Whether [`before_create`](Self::before_create) may change or reject a
    /// [direct upload](crate::direct). If no hook does, such an upload is created with fewer writes.
    fn affects_direct_uploads(&self) -> bool {
        true
    }

    /// Before an upload is created. `upload.id` is what it will be called unless the answer names it
    /// otherwise. Comes for [partial](Upload::is_partial) uploads, too, which clients send without the
    /// file's metadata.
    ///
    /// # Errors
    /// The request then fails with 500.
    async fn before_create(
        &self,
        request: &RequestInfo,
        upload: &Upload,
    ) -> Result<CreateDecision, BoxError> {
        let _ = (request, upload);
        Ok(CreateDecision::allow())
    }

    /// When all bytes are stored (of [partial](Upload::is_partial) uploads, too), before completion is acknowledged. A refusal removes the upload,
    /// so that a client that asks again doesn't take it for complete (E-62). Asked once per
    /// completion: what an allowing answer tells the client is kept and told again when the client
    /// repeats its last request.
    ///
    /// # Errors
    /// The request fails with 500; the question comes again with the client's next request.
    async fn before_finish(
        &self,
        request: &RequestInfo,
        upload: &Snapshot,
    ) -> Result<Decision, BoxError> {
        let _ = (request, upload);
        Ok(Decision::allow())
    }

    /// Before a client's DELETE removes an upload.
    ///
    /// # Errors
    /// The request then fails with 500.
    async fn before_terminate(
        &self,
        request: &RequestInfo,
        upload: &Snapshot,
    ) -> Result<Decision, BoxError> {
        let _ = (request, upload);
        Ok(Decision::allow())
    }

    /// Before anything else is done for a request on an upload (or for a creation). Headers of an
    /// allowing answer are ignored.
    ///
    /// # Errors
    /// The request then fails with 500.
    async fn on_access(
        &self,
        request: &RequestInfo,
        access: &Access<'_>,
    ) -> Result<Decision, BoxError> {
        let _ = (request, access);
        Ok(Decision::allow())
    }
}
