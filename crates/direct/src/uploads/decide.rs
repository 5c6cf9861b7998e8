//! Decides what to do about an upload, from its record and its state in S3, without side effects.

use std::time::{Duration, SystemTime};

use landfall::{
    event::{EventKind, TerminationReason},
    hook::MediaType,
};
use landfall_objects::ObjectHead;

use super::{
    COMPLETES, PARTS, TYPES,
    observe::Observed,
    part_set::{PartSet, ranges},
};
use crate::{DirectError, DirectSettings, Record, Status, TransferMode};

const MAX_COMPLETION_DURATION: Duration = Duration::from_secs(60);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RemovalReason {
    Unwanted(TerminationReason),
    /// By a hook, with the status and the text that the client receives.
    Denied(String),
    TooLarge {
        stored: u64,
        limit: u64,
    },
    Invalid(String),
    Vanished(&'static str),
    Expired,
}

impl RemovalReason {
    pub(super) const fn event(&self) -> (EventKind, Option<TerminationReason>) {
        match self {
            Self::Unwanted(removal) => (EventKind::Terminated, Some(*removal)),
            Self::Denied(_) => (EventKind::Terminated, Some(TerminationReason::Hook)),
            Self::TooLarge { .. } | Self::Invalid(_) | Self::Vanished(_) => {
                (EventKind::Terminated, Some(TerminationReason::Application))
            }
            Self::Expired => (EventKind::Expired, None),
        }
    }

    /// Returns the reason of a failure, which no sink knows.
    pub(super) fn failure(&self) -> Option<String> {
        match self {
            Self::TooLarge { stored, limit } => Some(format!(
                "{stored} bytes arrived, but at most {limit} were granted"
            )),
            Self::Invalid(why) => Some(why.clone()),
            Self::Denied(response) => Some(format!("denied or stopped by a hook: {response}")),
            Self::Vanished(why) => Some((*why).into()),
            Self::Unwanted(_) | Self::Expired => None,
        }
    }

    pub(super) fn error(&self) -> DirectError {
        match self {
            Self::TooLarge { stored, limit } => DirectError::TooLarge {
                stored: *stored,
                limit: *limit,
            },
            Self::Invalid(why) => DirectError::ended(format!("the file was removed: {why}")),
            Self::Unwanted(_) | Self::Denied(_) | Self::Vanished(_) | Self::Expired => {
                DirectError::gone()
            }
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
        Observed::Nothing if is_completing => Decision::Remove(RemovalReason::Vanished(
            "the object is missing in the bucket",
        )),
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
                _ => RemovalReason::Vanished("the multipart upload is missing in the bucket"),
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
    let limit = input.size_limit;
    if size > limit {
        return Some(RemovalReason::TooLarge {
            stored: size,
            limit,
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
    let mut types = accepted.split(',');
    let is_accepted = types.any(|one| MediaType::is_match(sent, one));
    // A client may state something else than a media type.
    let is_accepted = is_accepted || MediaType::is_same(sent, accepted);
    (!is_accepted).then(|| {
        let why = format!("the type {sent:?} is not accepted; accepted: {accepted}");
        RemovalReason::Invalid(why)
    })
}

/// Divides the check interval for the first check if no one reports the completion: most files are small.
const FIRST_DELAYS: u32 = 12;
/// A longer check interval overrides this.
const MAX_DELAY: Duration = Duration::from_secs(5 * 60);

pub(super) fn first_delay(settings: &DirectSettings) -> Duration {
    settings.check_interval / FIRST_DELAYS
}

/// Less often while the upload is inactive, and at its expiry.
pub(super) fn schedule(settings: &DirectSettings, record: &mut Record, now: SystemTime) {
    let silent = now.duration_since(record.active_at).unwrap_or_default();
    let base = first_interval(settings, record);
    let doublings = match is_reported(settings, record) && silent < 2 * base {
        true => 0,
        false => record.check_count.min(16),
    };
    let delay = base
        .saturating_mul(1 << doublings)
        .min(MAX_DELAY.max(settings.check_interval));
    record.check_count = doublings + 1;
    record.next_check_at = Some((now + delay).min(record.active_at + settings.idle_timeout));
}

/// The client reports here, or the bucket by notifications.
const fn is_reported(settings: &DirectSettings, record: &Record) -> bool {
    settings.has_notifications || matches!(record.mode, TransferMode::Multipart)
}

pub(super) fn first_interval(settings: &DirectSettings, record: &Record) -> Duration {
    match is_reported(settings, record) {
        true => settings.check_interval,
        false => first_delay(settings),
    }
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod schedule_tests {
    use std::time::UNIX_EPOCH;

    use landfall::upload::{Upload, UploadId};
    use landfall_objects::ObjectRef;
    use landfall_s3::client::{Client, ClientSettings, CredentialSource, Credentials};
    use landfall_state::queue::JobId;

    use super::*;
    use crate::S3Bucket;

    /// Returns the check times of an upload that was opened at 0 and receives bytes until `active`,
    /// in seconds.
    async fn checks(
        mode: TransferMode,
        has_notifications: bool,
        active: u64,
        until: u64,
    ) -> Vec<u64> {
        let client = ClientSettings {
            endpoint: Some("http://localhost:1".into()),
            credentials: CredentialSource::Static(Credentials::new("a", "b")),
            ..ClientSettings::default()
        };
        let bucket = S3Bucket::new(Client::new(client).unwrap());
        let mut settings = DirectSettings::new(std::sync::Arc::new(bucket), "b");
        settings.has_notifications = has_notifications;
        let upload = Upload::new(UploadId::new("direct-1").unwrap(), None);
        let object = ObjectRef::new("b", "k");
        let mut record = Record::new(upload, JobId(1), "ann", mode, object, UNIX_EPOCH);
        let mut at = UNIX_EPOCH + first_interval(&settings, &record);
        let mut times = Vec::new();
        // At its expiry it is removed.
        let over = |record: &Record| record.active_at + settings.idle_timeout;
        while at <= UNIX_EPOCH + Duration::from_secs(until) && times.len() < 1000 {
            let second = at.duration_since(UNIX_EPOCH).unwrap().as_secs();
            times.push(second);
            if at >= over(&record) {
                break;
            }
            if second <= active {
                record.active_at = at;
                record.check_count = 0;
            }
            schedule(&settings, &mut record, at);
            at = record.next_check_at.unwrap();
        }
        times
    }

    #[tokio::test]
    async fn checks_become_rarer() {
        let of = async |mode, has_notifications, active| {
            checks(mode, has_notifications, active, 1200).await
        };
        let parts = of(TransferMode::Multipart, false, 180).await;
        assert_eq!(parts, [60, 120, 180, 240, 300, 420, 660, 960]);
        let whole = [5, 10, 20, 40, 80, 160, 320, 620, 920];
        assert_eq!(of(TransferMode::Put, false, 0).await, whole);
        assert_eq!(of(TransferMode::Post, false, 0).await, whole);
        let notified = of(TransferMode::Put, true, 0).await;
        assert_eq!(notified, [60, 120, 240, 480, 780, 1080]);
        // The last check is at its expiry.
        let day = 24 * 60 * 60;
        assert_eq!(
            checks(TransferMode::Put, true, 0, day).await.last(),
            Some(&day)
        );
    }
}
