//! Messages for events of the queue.

use std::time::UNIX_EPOCH;

use landfall_database::from_unix_millis;
use landfall_messages::{JobData, Message, MessageId};
use sha2::{Digest as _, Sha256};

use super::unit_of_work::NewEvent;
use crate::Job;

pub(super) fn message(event: &NewEvent, now: i64) -> Message {
    let facts = facts(&event.job);
    let upload = facts.upload(event.job.upload_id.as_deref());
    let number = MessageId {
        id: id(event),
        sequence: u64::try_from(event.number).unwrap_or_default(),
    };
    Message::about_job(
        event.kind.hook(),
        from_unix_millis(now),
        facts,
        upload,
        number,
    )
}

/// Returns an id of the event that is unique across databases, in hexadecimal.
fn id(event: &NewEvent) -> String {
    let created = event.job.created_at.duration_since(UNIX_EPOCH);
    let mut hash = Sha256::new();
    hash.update(created.unwrap_or_default().as_nanos().to_be_bytes());
    hash.update(event.job.id.0.to_be_bytes());
    hash.update(event.number.to_be_bytes());
    hex::encode(&hash.finalize()[..16])
}

fn facts(job: &Job) -> JobData {
    let mut facts = JobData::default();
    facts.id = job.id.to_string();
    facts.subject.clone_from(&job.subject);
    facts.request_id.clone_from(&job.request_id);
    facts.state = job.state.to_string();
    facts.reason.clone_from(&job.reason);
    facts.filename.clone_from(&job.filename);
    facts.filetype.clone_from(&job.filetype);
    facts.size = job.size;
    facts.offset = job.offset;
    facts.etag.clone_from(&job.etag);
    facts.metadata = job.metadata.clone().into_iter().collect();
    facts.created = Some(job.created_at);
    facts.expires = Some(job.expires_at);
    facts.started = job.started_at;
    facts.updated = Some(job.updated_at);
    facts.ended = job.ended_at;
    facts
}
