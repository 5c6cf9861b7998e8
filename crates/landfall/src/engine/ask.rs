//! Asking the hooks: one after another, the first refusal ends it.

use std::sync::Arc;

use http::StatusCode;
use landfall_protocol::Fault;

use super::{Caller, Engine, Error, append::smaller};
use crate::{
    BoxError,
    hook::{Access, Answer, Asks, Claim, Creation, Hook, Intent, Reply, RequestInfo, is_of_type},
    upload::{Snapshot, Upload, UploadId},
};

/// What hooks are asked.
enum Question<'a> {
    /// Whether a request may touch an upload at all.
    Access(Access<'a>),
    /// Whether the upload may be created, and how; and whose claim is on it.
    Create(&'a mut Upload, &'a mut Option<Arc<dyn Claim>>),
    /// Whether the upload counts as complete.
    Finish(&'a Snapshot),
    /// Whether a client may remove the upload.
    Terminate(&'a Snapshot),
}

impl Question<'_> {
    fn concerns(&self, asks: Asks) -> bool {
        match self {
            Self::Access(_) => asks.on_access,
            Self::Create(..) => asks.before_create,
            Self::Finish(_) => asks.before_finish,
            Self::Terminate(_) => asks.before_terminate,
        }
    }

    /// What a refusal is.
    fn refused(&self) -> Fault {
        match self {
            Self::Access(_) => Fault::Forbidden,
            Self::Create(..) | Self::Finish(_) => Fault::Rejected,
            Self::Terminate(_) => Fault::TerminationRejected,
        }
    }

    /// Puts it to one hook; what that one wants changed is then seen by the next.
    async fn put(&mut self, hook: &dyn Hook, request: &RequestInfo) -> Result<Answer, BoxError> {
        match self {
            Self::Access(access) => hook.on_access(request, access).await,
            Self::Create(upload, claim) => {
                let mut creation = hook.before_create(request, upload).await?;
                let theirs = creation.claim.take();
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
    async fn ask(&self, caller: &Caller, mut question: Question<'_>) -> Result<Reply, Error> {
        let mut reply = Reply::default();
        if !question.concerns(self.asks) {
            return Ok(reply);
        }
        let nobody = Arc::default();
        let request = caller.as_ref().unwrap_or(&nobody);
        for hook in &self.hooks {
            if !question.concerns(hook.asks()) {
                continue;
            }
            let answer = question.put(&**hook, request).await;
            match answer.map_err(Error::Hook)? {
                Answer::Allow(more) => reply.merge(more),
                Answer::Refuse(no) => {
                    return Err(Error::Refused(question.refused(), Box::new(no)));
                }
                Answer::Fail(what) => return Err(Error::Refused(Fault::Internal, Box::new(what))),
            }
        }
        Ok(reply)
    }

    /// Whether a hook may change or reject the creation of a direct upload.
    pub(crate) fn has_creation_hooks(&self) -> bool {
        self.hooks.iter().any(|hook| {
            let asks = hook.asks();
            asks.on_access || (asks.before_create && hook.affects_direct_uploads())
        })
    }

    /// Whether the request may touch the upload at all.
    pub(crate) async fn admit(
        &self,
        caller: &Caller,
        intent: Intent,
        id: Option<&UploadId>,
    ) -> Result<(), Error> {
        let access = Access { intent, id };
        self.ask(caller, Question::Access(access)).await?;
        Ok(())
    }

    /// Whether the upload may be created, and under whose claim; lays the changes that hooks want over
    /// it.
    pub(crate) async fn ask_before_create(
        &self,
        caller: &Caller,
        upload: &mut Upload,
    ) -> Result<(Reply, Option<Arc<dyn Claim>>), Error> {
        let mut claim = None;
        let question = Question::Create(upload, &mut claim);
        let reply = self.ask(caller, question).await?;
        if let (Some(length), Some(max)) = (upload.length, upload.max_size)
            && length > max
        {
            return Err(Fault::MaxSizeExceeded
                .because(format_args!("this upload may have at most {max} bytes"))
                .into());
        }
        Ok((reply, claim))
    }

    /// Whether the upload counts as complete.
    pub(crate) async fn ask_before_finish(
        &self,
        caller: &Caller,
        snapshot: &Snapshot,
    ) -> Result<Reply, Error> {
        self.ask(caller, Question::Finish(snapshot)).await
    }

    /// Whether a client may remove the upload.
    pub(crate) async fn ask_before_terminate(
        &self,
        caller: &Caller,
        snapshot: &Snapshot,
    ) -> Result<Reply, Error> {
        self.ask(caller, Question::Terminate(snapshot)).await
    }
}

/// Lays what a hook wants over the upload. A type that isn't welcome is a refusal.
fn change(upload: &mut Upload, creation: Creation) -> Answer {
    let Answer::Allow(_) = creation.answer else {
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
    match unwelcome_type(upload, &creation.content_types) {
        None => creation.answer,
        Some(why) => Answer::Refuse(Reply::text(
            StatusCode::UNSUPPORTED_MEDIA_TYPE.as_u16(),
            why,
        )),
    }
}

/// Where clients say what type a file has.
const TYPE_KEYS: [&str; 3] = ["filetype", "type", "contentType"];

/// Why the type of the upload isn't one of those that are welcome, if it isn't.
fn unwelcome_type(upload: &Upload, welcome: &[String]) -> Option<String> {
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
    let is_welcome = welcome.iter().any(|pattern| is_of_type(&stated, pattern));
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
        unwelcome_type(&upload, &welcome)
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
