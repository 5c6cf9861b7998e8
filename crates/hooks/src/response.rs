//! The response of a hook in any format or transport, and its conversion to a decision of the engine.
//!
//! A failure takes precedence over a rejection. Fields that have no effect in a hook are not applied, only named for
//! the log.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use landfall::{
    hook::{ClientResponse, CreateDecision, Decision},
    upload::{InvalidId, Metadata, UploadId},
};

use crate::HookName;

/// The response of a hook. The default allows the operation and changes nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct HookResponse {
    /// The response to the client (`HTTPResponse`).
    pub client_response: ClientResponse,
    /// Rejects a creation, or a completion, which removes the upload (`RejectUpload`).
    pub reject_upload: bool,
    /// Rejects a termination (`RejectTermination`).
    pub reject_termination: bool,
    /// Rejects an access (`RejectAccess`).
    pub reject_access: bool,
    /// Stops an upload that is receiving data (`StopUpload`).
    pub stop_upload: bool,
    /// Changes to an upload before it is created.
    pub changes: UploadChanges,
    /// The time for which this response is cached for similar accesses (`CacheFor`).
    pub cache_for: Option<Duration>,
    /// The hook failed. The client gets `client_response`, or 500, and the operation does not run.
    pub failed: bool,
    /// The ignored part of the receiver's response: unknown fields, or the reason why all of it is ignored,
    /// where it has no effect and is invalid.
    pub ignored: Option<String>,
}

/// Changes to an upload before it is created.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UploadChanges {
    /// The upload id (`ID`).
    pub id: Option<String>,
    /// The metadata; replaces what the client sent (`MetaData`).
    pub metadata: Option<BTreeMap<String, String>>,
    /// Storage options, in the store's own keys (`Storage`).
    pub storage: BTreeMap<String, String>,
    /// Key-value pairs that later messages contain (`Labels`).
    pub labels: BTreeMap<String, String>,
    /// The time after which the unfinished upload may be removed (`Expires`).
    pub expires: Option<SystemTime>,
    /// The maximum length in bytes (`MaxSize`).
    pub max_size: Option<u64>,
    /// The accepted content types (`ContentTypes`).
    pub content_types: Vec<String>,
}

impl HookResponse {
    /// Describes the part of the response that has no effect in this hook, for the log.
    pub fn ignored_in(&self, hook: HookName) -> Option<String> {
        use HookName::{PostReceive, PreAccess, PreCreate, PreFinish, PreGrant, PreTerminate};
        let is = |names: &[HookName]| names.contains(&hook);
        let UploadChanges {
            id,
            metadata,
            storage,
            labels,
            expires,
            max_size,
            content_types,
        } = &self.changes;
        let restricts = max_size.is_some() || !content_types.is_empty() || metadata.is_some();
        let others = id.is_some() || !storage.is_empty() || !labels.is_empty() || expires.is_some();
        let blocking = [PreCreate, PreFinish, PreTerminate, PreAccess, PreGrant];
        let fields = [
            (
                self.client_response != ClientResponse::default()
                    && !is(&blocking)
                    && !(self.stop_upload && hook == PostReceive),
                "HTTPResponse",
            ),
            (
                self.reject_upload && !is(&[PreCreate, PreFinish, PreGrant, PreAccess]),
                "RejectUpload",
            ),
            (
                self.reject_termination && !is(&[PreTerminate, PreAccess]),
                "RejectTermination",
            ),
            (self.reject_access && hook != PreAccess, "RejectAccess"),
            (self.stop_upload && hook != PostReceive, "StopUpload"),
            (self.cache_for.is_some() && hook != PreAccess, "CacheFor"),
            (
                restricts && !is(&[PreCreate, PreGrant]) || others && hook != PreCreate,
                "ChangeFileInfo",
            ),
        ];
        let fields = fields.iter().filter(|(is_ignored, _)| *is_ignored);
        let fields: Vec<_> = fields.map(|(_, name)| *name).collect();
        let fields = (!fields.is_empty()).then(|| format!("{} has no effect", fields.join(", ")));
        let parts: Vec<_> = self.ignored.iter().cloned().chain(fields).collect();
        (!parts.is_empty()).then(|| format!("{hook}: {}", parts.join("; ")))
    }

    /// Converts the response to `pre-create` into a decision.
    ///
    /// # Errors
    /// The upload id that the hook chose is invalid.
    pub fn into_create_decision(self) -> Result<CreateDecision, InvalidUploadId> {
        let changes = self.changes.clone();
        let mut creation = CreateDecision::new(self.into_decision(|this| this.reject_upload));
        if let Some(id) = changes.id.filter(|id| !id.is_empty()) {
            creation.id =
                Some(UploadId::new(&id).map_err(|source| InvalidUploadId { id, source })?);
        }
        creation.metadata = changes.metadata.map(Metadata::from_pairs);
        creation.storage = changes.storage;
        creation.labels = changes.labels;
        creation.expires = changes.expires;
        creation.max_size = changes.max_size;
        creation.content_types = changes.content_types;
        Ok(creation)
    }

    /// Converts the response to another blocking hook; `is_rejected` reads the field for that hook.
    pub fn into_decision(self, is_rejected: impl FnOnce(&Self) -> bool) -> Decision {
        if self.failed {
            Decision::Fail(self.client_response)
        } else if is_rejected(&self) {
            Decision::Deny(self.client_response)
        } else {
            Decision::Allow(self.client_response)
        }
    }
}

/// A hook chose an invalid upload id.
#[derive(Debug, thiserror::Error)]
#[error("the hook returned an invalid upload id {id:?}: {source}")]
pub struct InvalidUploadId {
    id: String,
    source: InvalidId,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_without_effect_are_named() {
        let mut response = HookResponse {
            reject_upload: true,
            stop_upload: true,
            ..HookResponse::default()
        };
        response.changes.labels.insert("a".into(), "1".into());
        let ignored = |response: &HookResponse, hook| response.ignored_in(hook);
        for (hook, text) in [
            (HookName::PreCreate, "pre-create: StopUpload has no effect"),
            (
                HookName::PreTerminate,
                "pre-terminate: RejectUpload, StopUpload, ChangeFileInfo has no effect",
            ),
            (
                HookName::PreGrant,
                "pre-grant: StopUpload, ChangeFileInfo has no effect",
            ),
            (
                HookName::PostReceive,
                "post-receive: RejectUpload, ChangeFileInfo has no effect",
            ),
        ] {
            assert_eq!(ignored(&response, hook).unwrap(), text);
        }
        response = HookResponse::default();
        assert_eq!(ignored(&response, HookName::PostFinish), None);
        response.ignored = Some("unknown field a".into());
        let text = ignored(&response, HookName::PostFinish).unwrap();
        assert_eq!(text, "post-finish: unknown field a");
    }
}
