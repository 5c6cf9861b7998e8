//! Asking the hooks: one after another, the first refusal ends it.

use std::sync::Arc;

use http::StatusCode;
use landfall_protocol::ProblemKind;

use super::{Engine, Error, RequestContext, append::smaller};
use crate::{
    BoxError,
    hook::{
        Access, ClientResponse, CreateDecision, Decision, Hook, HookPoints, IdempotencyKey, Intent,
        RequestInfo, matches_content_type,
    },
    upload::{Snapshot, Upload, UploadId},
};

/// What hooks are asked.
enum HookCall<'a> {
    /// Whether a request may touch an upload at all.
    Access(Access<'a>),
    /// Whether the upload may be created, and how; and whose claim is on it.
    Create(&'a mut Upload, &'a mut Option<Arc<dyn IdempotencyKey>>),
    /// Whether the upload counts as complete.
    Finish(&'a Snapshot),
    /// Whether a client may remove the upload.
    Terminate(&'a Snapshot),
}

impl HookCall<'_> {
    fn applies_to(&self, asks: HookPoints) -> bool {
        match self {
            Self::Access(_) => asks.on_access,
            Self::Create(..) => asks.before_create,
            Self::Finish(_) => asks.before_finish,
            Self::Terminate(_) => asks.before_terminate,
        }
    }

    /// What a refusal is.
    fn refused(&self) -> ProblemKind {
        match self {
            Self::Access(_) => ProblemKind::Forbidden,
            Self::Create(..) | Self::Finish(_) => ProblemKind::Rejected,
            Self::Terminate(_) => ProblemKind::TerminationRejected,
        }
    }

    /// Puts it to one hook; what that one wants changed is then seen by the next.
    async fn call_one(
        &mut self,
        hook: &dyn Hook,
        request: &RequestInfo,
    ) -> Result<Decision, BoxError> {
        match self {
            Self::Access(access) => hook.on_access(request, access).await,
            Self::Create(upload, claim) => {
                let mut creation = hook.before_create(request, upload).await?;
                let theirs = creation.idempotency.take();
                if claim.is_none() {
                    **claim = theirs;
                }
                Ok(change(upload, creation))
            }
            Self::Finish(snapshot) => hook.before_finish(request, snapshot).await,
            Self::Terminate(snapshot) => hook.before_terminate(request, snapshot).await,
        }
    }
}

impl Engine {
    /// Puts a question to all whom it concerns, and returns what they want the client to be told.
    async fn call_all(
        &self,
        caller: &RequestContext,
        mut question: HookCall<'_>,
    ) -> Result<ClientResponse, Error> {
        let mut reply = ClientResponse::default();
        if !question.applies_to(self.asks) {
            return Ok(reply);
        }
        let nobody = Arc::default();
        let request = caller.as_ref().unwrap_or(&nobody);
        for hook in &self.hooks {
            if !question.applies_to(hook.points()) {
                continue;
            }
            let answer = question.call_one(&**hook, request).await;
            match answer.map_err(Error::Hook)? {
                Decision::Allow(more) => reply.merge(more),
                Decision::Deny(no) => {
                    return Err(Error::Refused(question.refused(), Box::new(no)));
                }
                Decision::Fail(what) => {
                    return Err(Error::Refused(ProblemKind::Internal, Box::new(what)));
                }
            }
        }
        Ok(reply)
    }

    /// Whether a hook may change or reject the creation of a direct upload.
    pub(crate) fn has_creation_hooks(&self) -> bool {
        self.hooks.iter().any(|hook| {
            let asks = hook.points();
            asks.on_access || (asks.before_create && hook.affects_direct_uploads())
        })
    }

    /// Whether the request may touch the upload at all.
    pub(crate) async fn check_access(
        &self,
        caller: &RequestContext,
        intent: Intent,
        id: Option<&UploadId>,
    ) -> Result<(), Error> {
        let access = Access { intent, id };
        self.call_all(caller, HookCall::Access(access)).await?;
        Ok(())
    }

    /// Whether the upload may be created, and under whose claim; lays the changes that hooks want over
    /// it.
    pub(crate) async fn call_pre_create(
        &self,
        caller: &RequestContext,
        upload: &mut Upload,
    ) -> Result<(ClientResponse, Option<Arc<dyn IdempotencyKey>>), Error> {
        let mut claim = None;
        let question = HookCall::Create(upload, &mut claim);
        let reply = self.call_all(caller, question).await?;
        if let (Some(length), Some(max)) = (upload.length, upload.max_size)
            && length > max
        {
            return Err(ProblemKind::MaxSizeExceeded
                .with_detail(format_args!("this upload may have at most {max} bytes"))
                .into());
        }
        Ok((reply, claim))
    }

    /// Whether the upload counts as complete.
    pub(crate) async fn call_pre_finish(
        &self,
        caller: &RequestContext,
        snapshot: &Snapshot,
    ) -> Result<ClientResponse, Error> {
        self.call_all(caller, HookCall::Finish(snapshot)).await
    }

    /// Whether a client may remove the upload.
    pub(crate) async fn call_pre_terminate(
        &self,
        caller: &RequestContext,
        snapshot: &Snapshot,
    ) -> Result<ClientResponse, Error> {
        self.call_all(caller, HookCall::Terminate(snapshot)).await
    }
}

/// Lays what a hook wants over the upload. A type that isn't welcome is a refusal.
fn change(upload: &mut Upload, creation: CreateDecision) -> Decision {
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
        Some(why) => Decision::Deny(ClientResponse::text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16(),
            why,
        )),
    }
}

/// Where clients say what type a file has.
const TYPE_KEYS: [&str; 3] = ["filetype", "type", "contentType"];

/// Why the type of the upload isn't one of those that are welcome, if it isn't.
fn rejected_type(upload: &Upload, welcome: &[String]) -> Option<String> {
    if welcome.is_empty() {
        return None;
    }
    let list = welcome.join(", ");
    let Some(stated) = TYPE_KEYS
        .iter()
        .find_map(|key| upload.metadata.get_text(key))
    else {
        return Some(format!(
            "the metadata must say with `filetype` what type the file has; welcome: {list}\n"
        ));
    };
    let is_welcome = welcome
        .iter()
        .any(|pattern| matches_content_type(&stated, pattern));
    (!is_welcome).then(|| format!("the type {stated:?} isn't accepted; welcome: {list}\n"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::upload::Metadata;

    fn why(stated: Option<(&str, &str)>, welcome: &[&str]) -> Option<String> {
        let mut upload = Upload::new(UploadId::random(), None);
        upload.metadata = Metadata::from_pairs(stated);
        let welcome: Vec<_> = welcome.iter().map(ToString::to_string).collect();
        rejected_type(&upload, &welcome)
    }

    #[test]
    fn types_that_are_welcome() {
        assert_eq!(why(None, &[]), None);
        assert_eq!(why(Some(("filetype", "image/PNG")), &["image/png"]), None);
        assert_eq!(why(Some(("type", "image/png; q=1")), &["image/*"]), None);
        assert_eq!(why(Some(("contentType", "x/y")), &["a/b", "*/*"]), None);
        let not = why(Some(("filetype", "text/html")), &["image/*", "text/plain"]).unwrap();
        assert!(not.contains("text/html") && not.contains("image/*, text/plain"));
        assert!(why(None, &["*/*"]).unwrap().contains("`filetype`"));
        assert!(why(Some(("filetype", "imagex/png")), &["image/*"]).is_some());
        let doubled = ("filetype", "image/png;,text/html");
        assert!(why(Some(doubled), &["image/*"]).is_some());
    }
}
