//! A hook that refuses an upload when all its bytes are there.

use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use landfall::{
    BoxError,
    hook::{ClientResponse, Decision, Hook, HookPoints, RequestInfo},
    upload::{Snapshot, UploadId},
};

/// Denies one configured upload. Clones share the configuration.
#[derive(Debug, Clone, Default)]
pub(super) struct Refusing(Arc<Mutex<Option<UploadId>>>);

impl Refusing {
    pub(super) const STATUS: u16 = 422;

    pub(super) fn refuse(&self, id: Option<UploadId>) {
        *self.0.lock().unwrap() = id;
    }
}

#[async_trait]
impl Hook for Refusing {
    fn points(&self) -> HookPoints {
        HookPoints {
            before_finish: true,
            ..HookPoints::default()
        }
    }

    async fn before_finish(
        &self,
        _request: &RequestInfo,
        upload: &Snapshot,
    ) -> Result<Decision, BoxError> {
        let refused = *self.0.lock().unwrap() == Some(upload.upload.id.clone());
        Ok(if refused {
            Decision::Deny(ClientResponse::text(Self::STATUS, "not this one"))
        } else {
            Decision::allow()
        })
    }
}
