//! Decides what to do about an upload, from its record and its state in S3, without side effects.

use std::time::{Duration, SystemTime};

use landfall::{
    event::{EventKind, TerminationReason},
    hook::matches_content_type,
};
use landfall_s3::client::ObjectHead;

use super::{
    COMPLETES, PARTS, TYPES,
    observe::Observed,
    part_set::{PartSet, ranges},
};
use crate::{DirectError, Record, Status, TransferMode};

const MAX_COMPLETION_DURATION: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RemovalReason {
    Unwanted(TerminationReason),
    TooLarge { stored: u64, limit: u64 },
    Invalid(String),
    Vanished(&'static str),
    Expired,
}

impl RemovalReason {
    pub(super) const fn event(&self) -> (EventKind, Option<TerminationReason>) {
        match self {
            Self::Unwanted(removal) => (EventKind::Terminated, Some(*removal)),
            Self::TooLarge { .. } | Self::Invalid(_) | Self::Vanished(_) => {
                (EventKind::Terminated, Some(TerminationReason::Application))
            }
            Self::Expired => (EventKind::Expired, None),
        }
    }

    /// For a reason that no sink knows.
    pub(super) const fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. } | Self::Invalid(_) | Self::Vanished(_)
        )
    }

    pub(super) fn job_end(&self) -> landfall_queue::JobEnd {
        match self {
            Self::Unwanted(TerminationReason::Hook) => {
                landfall_queue::JobEnd::Failed("denied or stopped by a hook".into())
            }
            Self::Unwanted(TerminationReason::Client) => {
                landfall_queue::JobEnd::Cancelled("by the client".into())
            }
            Self::Unwanted(_) => landfall_queue::JobEnd::Cancelled("by the application".into()),
            Self::TooLarge { stored, limit } => landfall_queue::JobEnd::Failed(format!(
                "{stored} bytes arrived, but at most {limit} were granted"
            )),
            Self::Invalid(why) => landfall_queue::JobEnd::Failed(why.clone()),
            Self::Vanished(why) => landfall_queue::JobEnd::Failed((*why).into()),
            Self::Expired => landfall_queue::JobEnd::Expired,
        }
    }

    pub(super) fn error(&self) -> DirectError {
        match self {
            Self::TooLarge { stored, limit } => DirectError::TooLarge {
                stored: *stored,
                limit: *limit,
            },
            Self::Invalid(why) => DirectError::ended(format!("the file was removed: {why}")),
            Self::Unwanted(_) | Self::Vanished(_) | Self::Expired => DirectError::gone(),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    Wait {
        stored: u64,
    },
    /// The client has to list or send other parts.
    Reject(String),
    /// The client has to send parts again.
    Reopen(String),
    Assemble(PartSet),
    Finish(ObjectHead),
    Remove(RemovalReason),
}

#[derive(Debug, Clone, Copy)]
pub(super) struct DecisionInput<'a> {
    pub(super) record: &'a Record,
    pub(super) size_limit: u64,
    pub(super) named: Option<&'a [(u32, String)]>,
    /// `None` if the upload must not expire now.
    pub(super) idle_timeout: Option<Duration>,
    pub(super) now: SystemTime,
}

pub(super) fn decide(input: &DecisionInput<'_>, observation: Observed) -> Decision {
    let record = input.record;
    let is_completing = record.status == Status::Completing;
    match observation {
        Observed::Object(head) => match mismatch(input, &head) {
            Some(reason) => Decision::Remove(reason),
            None => Decision::Finish(head),
        },
        Observed::Parts(listed) if is_completing => {
            let recorded = record.upload.storage.get(PARTS).map(String::as_str);
            let set = PartSet::recorded(recorded, &listed);
            if set.size == record.stored {
                return Decision::Assemble(set);
            }
            let why = "the parts have changed during the completion; complete it again";
            Decision::Reopen(why.into())
        }
        Observed::Parts(listed) => {
            let stored = listed.iter().map(|part| part.size).sum();
            let Some(named) = input.named else {
                return match stored > input.size_limit {
                    true => too_large(input, stored),
                    false => wait(input, stored),
                };
            };
            match PartSet::named(named, &listed) {
                Err(why) => Decision::Reject(why),
                Ok(set) if set.size > input.size_limit => too_large(input, set.size),
                Ok(set) => match record.upload.length.filter(|length| set.size < *length) {
                    None => Decision::Assemble(set),
                    Some(length) => Decision::Reject(format!(
                        "the parts have {} bytes in total, but the file has {length}; S3 has the \
                         parts {}",
                        set.size,
                        ranges(listed.iter().map(|part| part.number))
                    )),
                },
            }
        }
        Observed::Nothing if is_completing => {
            Decision::Remove(RemovalReason::Vanished("the object is missing in S3"))
        }
        Observed::Nothing if record.multipart.is_some() => {
            Decision::Remove(match record.mode {
                // Some services show the object a while after the multipart upload is gone.
                TransferMode::SignedMultipart if is_in_completion(input) => {
                    return Decision::Wait {
                        stored: record.stored,
                    };
                }
                // The client has aborted it by a signed request.
                TransferMode::SignedMultipart => RemovalReason::Unwanted(TerminationReason::Client),
                _ => RemovalReason::Vanished("the multipart upload is missing in S3"),
            })
        }
        Observed::Nothing => wait(input, record.stored),
    }
}

const fn too_large(input: &DecisionInput<'_>, stored: u64) -> Decision {
    let limit = input.size_limit;
    Decision::Remove(RemovalReason::TooLarge { stored, limit })
}

/// True while the client may be completing the upload in S3.
fn is_in_completion(input: &DecisionInput<'_>) -> bool {
    let record = input.record;
    record.upload.storage.contains_key(COMPLETES)
        && input.now < record.active_at + MAX_COMPLETION_DURATION
}

fn wait(input: &DecisionInput<'_>, stored: u64) -> Decision {
    let record = input.record;
    let is_active = stored > record.stored;
    let is_idle = |timeout| !is_active && record.active_at + timeout <= input.now;
    match input.idle_timeout {
        Some(timeout) if is_idle(timeout) => Decision::Remove(RemovalReason::Expired),
        _ => Decision::Wait { stored },
    }
}

fn mismatch(input: &DecisionInput<'_>, head: &ObjectHead) -> Option<RemovalReason> {
    let (record, size) = (input.record, head.size);
    if size > input.size_limit {
        return Some(RemovalReason::TooLarge {
            stored: size,
            limit: input.size_limit,
        });
    }
    // The parts were measured before they were assembled.
    let is_assembled = record.status == Status::Completing && record.multipart.is_some();
    let expected = match is_assembled {
        true => Some(record.stored).filter(|stored| size != *stored),
        false => record.upload.length.filter(|length| size < *length),
    };
    if let Some(expected) = expected {
        let why = format!("it has {size} bytes instead of {expected}");
        return Some(RemovalReason::Invalid(why));
    }
    let accepted = record.upload.storage.get(TYPES)?;
    let sent = head.content_type.as_deref().unwrap_or_default();
    let is_accepted = accepted
        .split(',')
        .any(|one| matches_content_type(sent, one));
    (!is_accepted).then(|| {
        let why = format!("the type {sent:?} is not accepted; accepted: {accepted}");
        RemovalReason::Invalid(why)
    })
}

#[cfg(test)]
mod tests;
