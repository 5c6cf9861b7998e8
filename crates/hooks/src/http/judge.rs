//! What an answer means, by the rules of each format.

use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use landfall::hook::ClientResponse;

use super::{hop::redirect, read::Body};
use crate::{
    Failure, HookName, Reaction,
    format::{AnswerError, Format, answer},
};

/// An answer of the endpoint.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Body,
}

/// What answers are held against.
#[derive(Debug, Clone, Copy)]
pub(super) struct Judge {
    pub(super) format: Format,
    /// The most bytes of an answer.
    pub(super) limit: usize,
    pub(super) stop_code: Option<u16>,
}

impl Judge {
    /// What an answer to `hook` means.
    pub(super) fn judge(&self, hook: HookName, answered: &Answered) -> Result<Reaction, Failure> {
        let is_stop = self.stop_code == Some(answered.status.as_u16());
        if is_stop && hook == HookName::PostReceive && self.format != Format::V2 {
            return Ok(Reaction {
                stop_upload: true,
                ..Reaction::default()
            });
        }
        let reaction = match self.format {
            Format::V2 => self.version_2(answered).map_err(Failure::for_client),
            Format::V1 => Self::version_1(hook, answered),
            Format::Auto => self.auto(hook, answered),
        };
        let may_stop = hook.is_question() || hook == HookName::PostReceive;
        match reaction {
            // Nothing hangs on what is said to an event, and whoever said 2xx has it: told again, it
            // would get the same answer.
            Err(failure) if answered.status.is_success() && !may_stop => {
                tracing::warn!(%hook, error = %failure, "an event was taken with a wrong answer");
                Ok(Reaction::default())
            }
            reaction => reaction,
        }
    }

    fn version_2(&self, answered: &Answered) -> Result<Reaction, Failure> {
        if !answered.status.is_success() {
            return Err(unexpected(answered));
        }
        if !answered.body.is_whole {
            return Err(self.too_large());
        }
        if essence(&answered.headers) != "application/json" {
            return Err(Failure::new(format!(
                "the hook endpoint must answer with the Content-Type application/json, it is {:?}",
                text_of(answered.headers.get(header::CONTENT_TYPE))
            )));
        }
        answer(&answered.body.bytes).map_err(|error| misunderstood(error, answered))
    }

    fn version_1(hook: HookName, answered: &Answered) -> Result<Reaction, Failure> {
        let status = answered.status;
        if redirect(status, &answered.headers).is_some() {
            return Err(unexpected(answered));
        }
        if status.as_u16() < 400 {
            return Ok(Reaction::default());
        }
        if !hook.is_question() {
            return progress_or_failure(hook, answered);
        }
        let mut body = answered.body.bytes.to_vec();
        body.push(b'\n');
        Ok(Reaction {
            failed: true,
            reply: ClientResponse::text(status.as_u16(), body),
            ..Reaction::default()
        })
    }

    fn auto(&self, hook: HookName, answered: &Answered) -> Result<Reaction, Failure> {
        let (status, body) = (answered.status, &answered.body);
        if status.is_success() {
            let is_object = body.bytes.trim_ascii_start().first() == Some(&b'{');
            if !is_object {
                return Ok(Reaction::default());
            }
            if !body.is_whole {
                return Err(self.too_large());
            }
            return match answer(&body.bytes) {
                Ok(reaction) => Ok(reaction),
                Err(AnswerError::NotJson(_) | AnswerError::NotObject) => Ok(Reaction::default()),
                Err(error) => Err(misunderstood(error, answered)),
            };
        }
        if !status.is_client_error() || !hook.is_question() {
            return progress_or_failure(hook, answered);
        }
        if !is_permanent(status) {
            return Err(unexpected(answered));
        }
        Ok(refusal(hook, answered))
    }

    fn too_large(&self) -> Failure {
        let limit = self.limit;
        Failure::new(format!(
            "hook response exceeded maximum size of {limit} bytes"
        ))
    }
}

/// An event that wasn't taken; progress is told again soon anyhow.
fn progress_or_failure(hook: HookName, answered: &Answered) -> Result<Reaction, Failure> {
    if hook == HookName::PostReceive && answered.status.is_client_error() {
        tracing::debug!(status = %answered.status, "the hook endpoint didn't want {hook}");
        return Ok(Reaction::default());
    }
    Err(unexpected(answered))
}

/// A refusal by status: it, its body and (if harmless) the body's type reach the client. A version 2
/// answer in it is obeyed.
fn refusal(hook: HookName, answered: &Answered) -> Reaction {
    let mut reaction = stated_refusal(hook, answered).unwrap_or_else(|| Reaction {
        reply: plain_reply(answered),
        ..Reaction::default()
    });
    reaction.reply.status.get_or_insert(answered.status);
    match hook {
        HookName::PreTerminate => reaction.reject_termination = true,
        HookName::PreAccess => reaction.reject_access = true,
        // A refused completion removes what was uploaded. That must be said of the upload; these
        // say only that the call was wrong, as after a change at the endpoint.
        HookName::PreFinish
            if !reaction.reject_upload
                && matches!(
                    answered.status.as_u16(),
                    401 | 404 | 405 | 407 | 413..=415 | 431
                ) =>
        {
            reaction.failed = true;
        }
        _ => reaction.reject_upload = true,
    }
    reaction
}

fn stated_refusal(hook: HookName, answered: &Answered) -> Option<Reaction> {
    let reaction = answer(&answered.body.bytes).ok()?;
    let is_refusal = match hook {
        HookName::PreTerminate => reaction.reject_termination,
        HookName::PreAccess => reaction.reject_access,
        _ => reaction.reject_upload,
    };
    // Receivers that answer all questions alike say RejectUpload.
    (is_refusal || reaction.reject_upload).then_some(reaction)
}

fn plain_reply(answered: &Answered) -> ClientResponse {
    let Body { bytes, is_whole } = &answered.body;
    let mut reply = ClientResponse::default();
    if !is_whole {
        tracing::warn!(status = %answered.status, "a refusal's body is too large for the client");
    } else if !bytes.is_empty() {
        reply.body = Some(Bytes::clone(bytes));
        let essence = essence(&answered.headers);
        let is_welcome = essence.starts_with("text/")
            || matches!(
                essence.as_str(),
                "application/json" | "application/problem+json"
            );
        let stated = answered.headers.get(header::CONTENT_TYPE);
        if let Some(kind) = stated.filter(|_| is_welcome) {
            reply.headers.insert(header::CONTENT_TYPE, kind.clone());
        }
    }
    reply
}

/// A status that is no answer.
pub(super) fn unexpected(answered: &Answered) -> Failure {
    let status = answered.status.as_u16();
    let text = if answered.status.is_redirection() {
        format!(
            "unexpected response code from hook endpoint ({status}): redirects aren't followed, see \
             --hooks-http-follow-redirects"
        )
    } else {
        format!(
            "unexpected response code from hook endpoint ({status}): {}",
            excerpt(&answered.body.bytes)
        )
    };
    Failure::new(text)
        .retry_after(retry_after(&answered.headers))
        .permanent(is_permanent(answered.status))
}

/// Whether a status rejects the message itself, and not the moment: every client error but three,
/// which say that the same request may succeed later.
fn is_permanent(status: StatusCode) -> bool {
    let is_temporary = matches!(
        status,
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_EARLY | StatusCode::TOO_MANY_REQUESTS
    );
    status.is_client_error() && !is_temporary
}

fn misunderstood(error: AnswerError, answered: &Answered) -> Failure {
    let said = excerpt(&answered.body.bytes);
    let text = format!("failed to parse hook response: {error}, response was: {said}");
    Failure::because(text, error)
}

/// As much of a body as a log line can bear.
fn excerpt(body: &[u8]) -> String {
    const MOST: usize = 500;
    let cut = &body[..body.len().min(MOST)];
    let dots = if cut.len() < body.len() { "…" } else { "" };
    format!("{}{dots}", String::from_utf8_lossy(cut).trim_end())
}

fn essence(headers: &HeaderMap) -> String {
    let stated = text_of(headers.get(header::CONTENT_TYPE));
    let essence = stated.split(';').next().unwrap_or_default();
    essence.trim().to_ascii_lowercase()
}

fn text_of(value: Option<&HeaderValue>) -> &str {
    value
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}

/// `Retry-After`: seconds or a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let stated = text_of(headers.get(header::RETRY_AFTER)).trim();
    if let Ok(seconds) = stated.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(stated).ok()?;
    date.duration_since(SystemTime::now()).ok()
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
