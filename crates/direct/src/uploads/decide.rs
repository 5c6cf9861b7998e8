//! What to do about an upload, from its record and what S3 has of it. Without side effects.

use std::time::{Duration, SystemTime};

use landfall::{
    event::{EventKind, TerminationReason},
    hook::matches_content_type,
};
use landfall_grants::queue;
use landfall_s3::client::ObjectHead;

use super::{
    COMPLETES, PARTS, TYPES,
    observe::Observed,
    part_set::{PartSet, ranges},
};
use crate::{DirectError, Record, Standing, Way};

/// How long a service may take to complete a multipart upload.
const MAX_COMPLETION_DURATION: Duration = Duration::from_secs(60);

/// Why an upload is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RemovalReason {
    /// Its client, the application or a hook does not want it.
    Unwanted(TerminationReason),
    /// More bytes arrived than were granted.
    TooLarge { stored: u64, most: u64 },
    /// The object is not what was granted.
    Invalid(String),
    /// Its multipart upload or its object is no longer in S3.
    Vanished(&'static str),
    /// Its client was inactive for too long.
    Expired,
}

impl RemovalReason {
    /// The event of the removal, and its cause.
    pub(super) const fn event(&self) -> (EventKind, Option<TerminationReason>) {
        match self {
            Self::Unwanted(removal) => (EventKind::Terminated, Some(*removal)),
            Self::TooLarge { .. } | Self::Invalid(_) | Self::Vanished(_) => {
                (EventKind::Terminated, Some(TerminationReason::Application))
            }
            Self::Expired => (EventKind::Expired, None),
        }
    }

    /// Whether the job has failed, for a reason that only this reports.
    pub(super) const fn is_failure(&self) -> bool {
        matches!(
            self,
            Self::TooLarge { .. } | Self::Invalid(_) | Self::Vanished(_)
        )
    }

    /// The end of the job.
    pub(super) fn job_end(&self) -> queue::End {
        match self {
            Self::Unwanted(TerminationReason::Hook) => {
                queue::End::Failed("refused or stopped by a hook".into())
            }
            Self::Unwanted(TerminationReason::Client) => {
                queue::End::Cancelled("by its client".into())
            }
            Self::Unwanted(_) => queue::End::Cancelled("by the application".into()),
            Self::TooLarge { stored, most } => queue::End::Failed(format!(
                "{stored} bytes arrived, and at most {most} were granted"
            )),
            Self::Invalid(why) => queue::End::Failed(why.clone()),
            Self::Vanished(why) => queue::End::Failed((*why).into()),
            Self::Expired => queue::End::Expired,
        }
    }

    /// The error for a client that wants the upload completed.
    pub(super) fn error(&self) -> DirectError {
        match self {
            Self::TooLarge { stored, most } => DirectError::TooLarge {
                stored: *stored,
                most: *most,
            },
            Self::Invalid(why) => DirectError::Conflict {
                gone: true,
                message: format!("the file is removed: {why}"),
            },
            Self::Unwanted(_) | Self::Vanished(_) | Self::Expired => DirectError::gone(),
        }
    }
}

/// What to do about an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    /// Nothing yet: S3 has these bytes of it.
    Wait { stored: u64 },
    /// Nothing: the client has to name or send other parts.
    Reject(String),
    /// Let the client send parts again.
    Reopen(String),
    /// Make the object of these parts.
    Assemble(PartSet),
    /// Complete it: the object is right.
    Finish(ObjectHead),
    /// Remove it.
    Remove(RemovalReason),
}

/// On what a decision depends beside what S3 has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    /// The upload, open or being completed.
    pub(super) record: &'a Record,
    /// The most bytes that it may have.
    pub(super) most: u64,
    /// The parts that its client names, if it completes it now.
    pub(super) named: Option<&'a [(u32, String)]>,
    /// After how long without activity it expires; `None` where it must not.
    pub(super) idle_timeout: Option<Duration>,
    pub(super) now: SystemTime,
}

/// Decides what to do about an upload of which S3 has this.
pub(super) fn decide(facts: &Facts<'_>, observation: Observed) -> Decision {
    let record = facts.record;
    let is_completing = record.standing == Standing::Finishing;
    match observation {
        Observed::Object(head) => match unfit(facts, &head) {
            Some(reason) => Decision::Remove(reason),
            None => Decision::Finish(head),
        },
        Observed::Parts(listed) if is_completing => {
            let recorded = record.upload.storage.get(PARTS).map(String::as_str);
            let set = PartSet::recorded(recorded, &listed);
            if set.size == record.stored {
                return Decision::Assemble(set);
            }
            let why = "the parts have changed while they were put together: complete it again";
            Decision::Reopen(why.into())
        }
        Observed::Parts(listed) => {
            let stored = listed.iter().map(|part| part.size).sum();
            let Some(named) = facts.named else {
                return match stored > facts.most {
                    true => too_large(facts, stored),
                    false => wait(facts, stored),
                };
            };
            match PartSet::named(named, &listed) {
                Err(why) => Decision::Reject(why),
                Ok(set) if set.size > facts.most => too_large(facts, set.size),
                Ok(set) => match record.upload.length.filter(|length| set.size < *length) {
                    None => Decision::Assemble(set),
                    Some(length) => Decision::Reject(format!(
                        "the parts have {} bytes together, and the file has {length}; S3 has the \
                         parts {}",
                        set.size,
                        ranges(listed.iter().map(|part| part.number))
                    )),
                },
            }
        }
        Observed::Nothing if is_completing => {
            Decision::Remove(RemovalReason::Vanished("it is gone from S3"))
        }
        Observed::Nothing if record.multipart.is_some() => {
            Decision::Remove(match record.way {
                // Not every service shows the object at once when the multipart upload has ended.
                Way::SignedMultipart if is_in_completion(facts) => {
                    return Decision::Wait {
                        stored: record.stored,
                    };
                }
                // Its client has aborted it by a signed request.
                Way::SignedMultipart => RemovalReason::Unwanted(TerminationReason::Client),
                _ => RemovalReason::Vanished("its multipart upload is gone from S3"),
            })
        }
        Observed::Nothing => wait(facts, record.stored),
    }
}

const fn too_large(facts: &Facts<'_>, stored: u64) -> Decision {
    let most = facts.most;
    Decision::Remove(RemovalReason::TooLarge { stored, most })
}

/// Whether the client may just be completing the upload in S3, by a signed request.
fn is_in_completion(facts: &Facts<'_>) -> bool {
    let record = facts.record;
    record.upload.storage.contains_key(COMPLETES)
        && facts.now < record.active_at + MAX_COMPLETION_DURATION
}

fn wait(facts: &Facts<'_>, stored: u64) -> Decision {
    let record = facts.record;
    let is_active = stored > record.stored;
    let is_idle = |timeout| !is_active && record.active_at + timeout <= facts.now;
    match facts.idle_timeout {
        Some(timeout) if is_idle(timeout) => Decision::Remove(RemovalReason::Expired),
        _ => Decision::Wait { stored },
    }
}

/// Why an object is not what was granted, if it is not.
fn unfit(facts: &Facts<'_>, head: &ObjectHead) -> Option<RemovalReason> {
    let (record, size) = (facts.record, head.size);
    if size > facts.most {
        return Some(RemovalReason::TooLarge {
            stored: size,
            most: facts.most,
        });
    }
    // Parts were measured before they were put together.
    let is_assembled = record.standing == Standing::Finishing && record.multipart.is_some();
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
        let why = format!("the type {sent:?} isn't accepted; welcome: {accepted}");
        RemovalReason::Invalid(why)
    })
}

#[cfg(test)]
mod tests;
