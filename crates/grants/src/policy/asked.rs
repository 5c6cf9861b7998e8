//! The application decides, when it is asked over its hooks.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use http::{HeaderMap, StatusCode, header, request::Parts};
use landfall::{
    hook::{ClientResponse, RequestInfo, UploadToken},
    service::Peer,
};
use landfall_hooks::{
    Asker, Changes, HookName,
    message::{JobFacts, RequestFacts},
};
use serde_json::Value;

use super::{Ask, No, Policy};
use crate::{Caller, Limits, caller::KeySecret};

/// Characters of what the application says that are passed on.
const LONGEST: usize = 2000;

/// Asks the application whether it agrees (`pre-grant`), over each way after another: all must.
#[derive(Debug)]
pub struct Asked {
    askers: Vec<Arc<Asker>>,
}

impl Asked {
    /// Asks over these ways, as far as [`HookName::PreGrant`] is among their names.
    #[must_use]
    pub fn new(askers: Vec<Arc<Asker>>) -> Self {
        Self { askers }
    }
}

#[async_trait]
impl Policy for Asked {
    async fn decide(&self, caller: &Caller, ask: &mut Ask, request: &Parts) -> Result<(), No> {
        for asker in &self.askers {
            let job = facts(caller, ask);
            let upload = job.upload(None);
            let reaction = asker.before_grant(job, upload, seen(request)).await;
            let reaction = reaction.map_err(|error| {
                let hook = HookName::PreGrant;
                tracing::warn!(%hook, %error, "a grant can't be asked about");
                No::unavailable("the application can't be asked now")
            })?;
            if reaction.failed {
                return Err(refusal(&reaction.reply, StatusCode::SERVICE_UNAVAILABLE));
            }
            if reaction.reject_upload {
                return Err(refusal(&reaction.reply, StatusCode::FORBIDDEN));
            }
            narrow(ask, reaction.changes);
            // Who is asked next isn't bothered with what is too much already.
            ask.check()?;
        }
        Ok(())
    }
}

fn facts(caller: &Caller, ask: &Ask) -> JobFacts {
    let mut facts = JobFacts::default();
    facts.subject = Some(caller.subject.clone());
    facts.request_id.clone_from(&ask.id);
    facts.filename = Some(ask.filename.clone());
    facts.filetype.clone_from(&ask.filetype);
    facts.size = ask.filesize;
    facts.metadata = ask.metadata.clone().into_iter().collect();
    facts
}

/// The request without secrets that are Landfall's, and with those of the application only for ways
/// that forward them.
fn seen(request: &Parts) -> RequestFacts {
    let peer = request.extensions.get::<Peer>();
    let info = RequestInfo {
        method: request.method.clone(),
        uri: request.uri.clone(),
        remote: peer.map_or_else(String::new, Peer::text),
        headers: without_keys(&request.headers),
        ..RequestInfo::default()
    };
    RequestFacts::new(&info).withhold(&[
        header::AUTHORIZATION.as_str(),
        header::COOKIE.as_str(),
        header::PROXY_AUTHORIZATION.as_str(),
    ])
}

fn without_keys(headers: &HeaderMap) -> HeaderMap {
    let is_secret = |value: &http::HeaderValue| {
        let text = String::from_utf8_lossy(value.as_bytes());
        [KeySecret::PREFIX, UploadToken::PREFIX]
            .iter()
            .any(|prefix| text.contains(prefix))
    };
    let harmless = headers.iter().filter(|(_, value)| !is_secret(value));
    let mut left = HeaderMap::with_capacity(headers.len());
    for (name, value) in harmless {
        left.append(name, value.clone());
    }
    left
}

/// What the application said, as far as it is a refusal's to say.
fn refusal(reply: &ClientResponse, usual: StatusCode) -> No {
    let status = reply.status.filter(StatusCode::is_client_error);
    let body = reply.body.as_deref().unwrap_or_default();
    let said = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => match fields.get("message") {
            Some(Value::String(message)) => message.clone(),
            _ => String::new(),
        },
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    let said: String = said.trim().chars().take(LONGEST).collect();
    let message = match (said.is_empty(), usual) {
        (false, _) => said,
        (true, StatusCode::FORBIDDEN) => "the application doesn't allow this upload".to_owned(),
        (true, _) => "the application has no answer now".to_owned(),
    };
    let stated = reply.headers.get(header::RETRY_AFTER);
    let seconds = stated.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    No {
        retry_after: seconds.map(Duration::from_secs),
        ..No::new(status.unwrap_or(usual), message)
    }
}

fn narrow(ask: &mut Ask, changes: Changes) {
    ask.limits = ask.limits.and(&Limits {
        max_size: changes.max_size,
        content_types: changes.content_types,
        ..Limits::default()
    });
    let Some(metadata) = changes.metadata else {
        return;
    };
    ask.metadata.clear();
    for (key, value) in metadata {
        match key.as_str() {
            "filename" if !value.is_empty() => ask.filename = value.replace('\0', "\u{fffd}"),
            "filetype" if !value.is_empty() => ask.filetype = Some(value),
            "filename" | "filetype" => {}
            _ => {
                ask.metadata.insert(key, Value::String(value));
            }
        }
    }
}
