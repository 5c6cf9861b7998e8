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

/// Unique across databases, in hexadecimal.
fn id(event: &NewEvent) -> String {
    let created = event.job.created_at.duration_since(UNIX_EPOCH);
    let mut hash = Sha256::new();
    hash.update(created.unwrap_or_default().as_nanos().to_be_bytes());
    hash.update(event.job.id.0.to_be_bytes());
    hash.update(event.number.to_be_bytes());
    hex::encode(&hash.finalize()[..16])
}

fn facts(job: &Job) -> JobData {
    let job = job.clone();
    JobData {
        id: job.id.to_string(),
        subject: job.subject,
        request_id: job.request_id,
        state: job.state.to_string(),
        reason: job.reason,
        filename: job.filename,
        filetype: job.filetype,
        size: job.size,
        offset: job.offset,
        etag: job.etag,
        metadata: job.metadata.into_iter().collect(),
        created: Some(job.created_at),
        expires: Some(job.expires_at),
        started: job.started_at,
        updated: Some(job.updated_at),
        ended: job.ended_at,
    }
}
