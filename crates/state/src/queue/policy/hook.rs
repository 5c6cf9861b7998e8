//! The policy that calls the application's `pre-grant` hook: its response denies or restricts the grant.
//!
//! It can only restrict the limits, but may replace name, type and metadata. The request's credentials reach only the
//! transports that name them. The failure mode of the hooks decides about a call that fails.

use std::time::Duration;

use async_trait::async_trait;
use http::{StatusCode, header, request::Parts};
use landfall::hook::{ClientResponse, RequestInfo};
use landfall_hooks::{BlockingHooks, HookName, JobData, RequestData, UploadChanges};
use serde_json::Value;

use super::{Policy, PolicyDenial};
use crate::queue::{GrantLimits, NewJob, Principal};

const MAX_MESSAGE_LEN: usize = 2000;

/// Calls the hook `pre-grant`, which must allow, if [`HookName::PreGrant`] is enabled.
#[async_trait]
impl Policy for BlockingHooks {
    async fn decide(
        &self,
        _principal: &Principal,
        ask: &mut NewJob,
        request: &Parts,
    ) -> Result<(), PolicyDenial> {
        let job = request_data(ask);
        let upload = job.upload(None);
        let called = self.before_grant(job, upload, redacted_request(request));
        let response = called.await.map_err(|error| {
            let hook = HookName::PreGrant;
            tracing::warn!(%hook, %error, "failed to call hook");
            PolicyDenial::unavailable("the application is temporarily unavailable")
        })?;
        let reply = &response.client_response;
        if response.failed {
            return Err(denial(reply, StatusCode::SERVICE_UNAVAILABLE));
        }
        if response.reject_upload {
            return Err(denial(reply, StatusCode::FORBIDDEN));
        }
        restrict(ask, response.changes);
        Ok(())
    }
}

fn request_data(ask: &NewJob) -> JobData {
    JobData {
        subject: Some(ask.subject.clone()),
        request_id: ask.request_id.clone(),
        filename: Some(ask.filename.clone()),
        filetype: ask.filetype.clone(),
        size: ask.size,
        metadata: ask.metadata.clone().into_iter().collect(),
        ..JobData::default()
    }
}

/// Landfall's secrets are not in it. Those of the application are only sent over transports that forward them.
fn redacted_request(request: &Parts) -> RequestData {
    RequestData::new(&RequestInfo::from_parts(request, None)).redact(&[
        header::AUTHORIZATION.as_str(),
        header::COOKIE.as_str(),
        header::PROXY_AUTHORIZATION.as_str(),
    ])
}

fn denial(reply: &ClientResponse, usual: StatusCode) -> PolicyDenial {
    let status = reply.status.filter(StatusCode::is_client_error);
    let body = reply.body.as_deref().unwrap_or_default();
    let message = match serde_json::from_slice::<Value>(body) {
        Ok(Value::Object(fields)) => match fields.get("message") {
            Some(Value::String(message)) => message.clone(),
            _ => String::new(),
        },
        _ => String::from_utf8_lossy(body).into_owned(),
    };
    let message: String = message.trim().chars().take(MAX_MESSAGE_LEN).collect();
    let message = match (message.is_empty(), usual) {
        (false, _) => message,
        (true, StatusCode::FORBIDDEN) => "upload denied by the application".to_owned(),
        (true, _) => "the application is temporarily unavailable".to_owned(),
    };
    let stated = reply.headers.get(header::RETRY_AFTER);
    let seconds = stated.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    PolicyDenial {
        retry_after: seconds.map(Duration::from_secs),
        ..PolicyDenial::new(status.unwrap_or(usual), message)
    }
}

fn restrict(ask: &mut NewJob, changes: UploadChanges) {
    ask.limits = ask.limits.intersect(&GrantLimits {
        max_size: changes.max_size,
        allowed_types: changes.content_types,
        ..GrantLimits::default()
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
