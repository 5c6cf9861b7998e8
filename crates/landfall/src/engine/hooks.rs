//! Calls the blocking hooks of a point in order, and applies their changes to upload and response.
//!
//! The first denial or failure ends the calls. Callers must perform the effect only after all hooks have allowed it.
//! The future is boxed only if a hook uses the point, because most uploads have none.

use std::sync::Arc;

use async_trait::async_trait;
use http::StatusCode;
use landfall_protocol::ProblemKind;

use super::{Engine, Error, RequestContext, ends::log_end};
use crate::{
    BoxError,
    error::HandlerError,
    hook::{
        Access, ClientResponse, CreateDecision, Decision, FindUpload, Hook, HookPoints,
        IdempotencyKey, Intent, MediaType, RequestInfo,
    },
    upload::{Snapshot, Upload, UploadId},
};

/// The changes that hooks make to a response, if any. In a box because requests have several, and most none.
pub(crate) type HookReply = Option<Box<ClientResponse>>;

pub(super) fn merge(reply: &mut HookReply, more: HookReply) {
    match (&mut *reply, more) {
        (Some(reply), Some(more)) => reply.merge(*more),
        (None, more) => *reply = more,
        (Some(_), None) => {}
    }
}

pub(crate) enum HookCall<'a> {
    Access(&'a Access),
    Create(&'a mut Upload, &'a mut Option<Arc<dyn IdempotencyKey>>),
    Finish(&'a Snapshot),
    Terminate(&'a Snapshot),
}

impl HookCall<'_> {
    fn applies_to(&self, points: HookPoints) -> bool {
        match self {
            Self::Access(_) => points.on_access,
            Self::Create(..) => points.before_create,
            Self::Finish(_) => points.before_finish,
            Self::Terminate(_) => points.before_terminate,
        }
    }

    fn problem_kind(&self) -> ProblemKind {
        match self {
            Self::Access(_) => ProblemKind::Forbidden,
            Self::Create(..) | Self::Finish(_) => ProblemKind::Rejected,
            Self::Terminate(_) => ProblemKind::TerminationRejected,
        }
    }

    /// A denied upload leaves no other trace for an operator.
    fn log_denial(&self, hook: &dyn Hook, response: &ClientResponse, context: &RequestContext) {
        let (by, upload) = match self {
            Self::Create(upload, _) => ("pre-create", Some(&**upload)),
            Self::Finish(snapshot) => ("pre-finish", Some(&*snapshot.upload)),
            Self::Access(access) if access.intent == Intent::Create => ("pre-access", None),
            Self::Access(_) | Self::Terminate(_) => return,
        };
        let by = hook.name().unwrap_or(by);
        log_end("UploadDenied", upload, Some((by, response)), context);
    }

    async fn call_one(
        &mut self,
        hook: &dyn Hook,
        request: &RequestInfo,
    ) -> Result<Decision, BoxError> {
        match self {
            Self::Access(access) => hook.on_access(request, access).await,
            Self::Create(upload, key) => {
                let mut creation = hook.before_create(request, upload).await?;
                let offered = creation.idempotency.take();
                if key.is_none() {
                    **key = offered;
                }
                Ok(apply_changes(upload, creation))
            }
            Self::Finish(snapshot) => hook.before_finish(request, snapshot).await,
            Self::Terminate(snapshot) => hook.before_terminate(request, snapshot).await,
        }
    }
}

impl Engine {
    pub(crate) async fn call_all(
        &self,
        context: &RequestContext,
        call: HookCall<'_>,
    ) -> Result<HookReply, Error> {
        if !call.applies_to(self.hook_points) {
            return Ok(None);
        }
        // Boxed because few uploads have hooks: the largest branch sets the size of every request's future.
        Box::pin(self.call_each(context, call)).await
    }

    async fn call_each(
        &self,
        context: &RequestContext,
        mut call: HookCall<'_>,
    ) -> Result<HookReply, Error> {
        let mut reply = None;
        let no_request = Arc::default();
        let request = context.info.as_ref().unwrap_or(&no_request);
        for hook in &self.config.hooks {
            if !call.applies_to(hook.points()) {
                continue;
            }
            let earlier = match &call {
                HookCall::Create(_, key) => (**key).clone(),
                _ => None,
            };
            let decision = call.call_one(&**hook, request).await;
            match decision.map_err(Error::Hook)? {
                Decision::Allow(more) => {
                    merge(&mut reply, (!more.is_empty()).then(|| Box::new(more)));
                }
                Decision::Deny(response) => {
                    call.log_denial(&**hook, &response, context);
                    if let Some(key) = earlier {
                        key.deny(&response).await;
                    }
                    return Err(Error::Rejected(call.problem_kind(), Box::new(response)));
                }
                Decision::Fail(response) => {
                    return Err(Error::Rejected(ProblemKind::Internal, Box::new(response)));
                }
            }
        }
        Ok(reply)
    }

    pub(crate) fn has_creation_hooks(&self) -> bool {
        self.config.hooks.iter().any(|hook| {
            let points = hook.points();
            points.on_access || (points.before_create && hook.affects_direct_uploads())
        })
    }

    pub(crate) async fn check_access(
        self: &Arc<Self>,
        context: &RequestContext,
        intent: Intent,
        id: Option<&UploadId>,
    ) -> Result<(), Error> {
        if self.checks_access() {
            let mut access = Access::new(intent, id.cloned());
            access.finder = Some(self.clone());
            self.call_all(context, HookCall::Access(&access)).await?;
        }
        Ok(())
    }

    /// Applies the changes that hooks make, and returns the idempotency key that a hook set, and whether a hook
    /// chose the id.
    pub(crate) async fn call_pre_create(
        &self,
        context: &RequestContext,
        upload: &mut Upload,
    ) -> Result<(HookReply, Option<Arc<dyn IdempotencyKey>>, bool), Error> {
        let mut key = None;
        let drawn = upload.id.clone();
        let call = HookCall::Create(upload, &mut key);
        let reply = self.call_all(context, call).await?;
        let is_chosen = upload.id != drawn;
        if is_chosen {
            Box::pin(self.remove_denied(&upload.id)).await?;
        }
        if let (Some(length), Some(max)) = (upload.length, upload.max_size)
            && length > max
        {
            return Err(ProblemKind::MaxSizeExceeded
                .with_detail(format_args!("this upload may have at most {max} bytes"))
                .into());
        }
        Ok((reply, key, is_chosen))
    }
}

#[async_trait]
impl FindUpload for Engine {
    async fn find(&self, id: &UploadId) -> Result<Option<Snapshot>, HandlerError> {
        if let Some(registry) = self.registry_of(id) {
            return registry.get(id).await.map_err(HandlerError::Other);
        }
        match self.live_snapshot(id) {
            Some(snapshot) => Ok(Some(snapshot)),
            None => self.stored(id).await.map_err(HandlerError::Store),
        }
    }
}

/// A content type that the hook does not allow is denied.
fn apply_changes(upload: &mut Upload, creation: CreateDecision) -> Decision {
    let Decision::Allow(_) = creation.answer else {
        return creation.answer;
    };
    if let Some(id) = creation.id {
        upload.id = id;
    }
    if let Some(metadata) = creation.metadata {
        upload.metadata = metadata;
    }
    upload.storage.extend(creation.storage);
    upload.labels.extend(creation.labels);
    upload.length = upload.length.or(creation.length);
    upload.expires = creation.expires.or(upload.expires);
    upload.max_size = smaller(upload.max_size, creation.max_size);
    match rejected_type(upload, &creation.content_types) {
        None => creation.answer,
        Some(reason) => Decision::Deny(ClientResponse::text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16(),
            reason,
        )),
    }
}

const TYPE_KEYS: [&str; 3] = ["filetype", "type", "contentType"];

fn rejected_type(upload: &Upload, allowed: &[String]) -> Option<String> {
    if allowed.is_empty() {
        return None;
    }
    let list = allowed.join(", ");
    let Some(stated) = TYPE_KEYS
        .iter()
        .find_map(|key| upload.metadata.get_text(key))
    else {
        return Some(format!(
            "the metadata must contain the content type as `filetype`; allowed: {list}\n"
        ));
    };
    let is_allowed = allowed
        .iter()
        .any(|pattern| MediaType::is_match(&stated, pattern));
    (!is_allowed).then(|| format!("the type {stated:?} is not allowed; allowed types: {list}\n"))
}

pub(super) fn smaller(one: Option<u64>, other: Option<u64>) -> Option<u64> {
    one.into_iter().chain(other).min()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upload::Metadata;

    fn rejection(stated: Option<(&str, &str)>, allowed: &[&str]) -> Option<String> {
        let mut upload = Upload::new(UploadId::random(), None);
        upload.metadata = Metadata::from_pairs(stated);
        let allowed: Vec<_> = allowed.iter().map(ToString::to_string).collect();
        rejected_type(&upload, &allowed)
    }

    #[test]
    fn content_types_are_matched() {
        assert_eq!(rejection(None, &[]), None);
        assert_eq!(
            rejection(Some(("filetype", "image/PNG")), &["image/png"]),
            None
        );
        assert_eq!(
            rejection(Some(("type", "image/png; q=1")), &["image/*"]),
            None
        );
        assert_eq!(
            rejection(Some(("contentType", "x/y")), &["a/b", "*/*"]),
            None
        );
        let text = rejection(Some(("filetype", "text/html")), &["image/*", "text/plain"]).unwrap();
        assert!(text.contains("text/html") && text.contains("image/*, text/plain"));
        assert!(rejection(None, &["*/*"]).unwrap().contains("`filetype`"));
        assert!(rejection(Some(("filetype", "imagex/png")), &["image/*"]).is_some());
        let doubled = ("filetype", "image/png;,text/html");
        assert!(rejection(Some(doubled), &["image/*"]).is_some());
    }
}
