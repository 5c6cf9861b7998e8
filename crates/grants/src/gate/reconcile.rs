//! What the queue missed because a process died, found out by a look at the store.

use std::time::SystemTime;

use landfall::{BoxError, Handler, upload::Snapshot};

use super::follow::job_of;
use crate::{
    Job, JobId, JobState, Queue,
    queue::{End, QueueError, Report, Silence, Unheard},
};

/// Jobs that are read at a time.
const PAGE: usize = 256;

/// What was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Reconciled {
    /// Jobs that were looked at.
    pub seen: u64,
    /// Jobs that had ended and weren't known to have.
    pub ended: u64,
    /// Jobs of which nothing could be found out now.
    pub failed: u64,
}

/// Compares jobs that haven't ended and have been silent for a while with the store: notes how far their uploads are, and how they ended.
///
/// # Errors
/// Those of the queue. What the store can't tell is counted and logged.
///
/// # Cancel safety
/// May be dropped; the next one does the rest.
pub async fn reconcile(
    queue: &Queue,
    handler: &Handler,
    silence: Silence,
) -> Result<Reconciled, QueueError> {
    let mut summary = Reconciled::default();
    let mut after = JobId(0);
    loop {
        let page = queue.unheard_of(silence, after, PAGE).await?;
        let Some(last) = page.last() else {
            return Ok(summary);
        };
        after = last.job.id;
        for Unheard {
            job,
            finishing,
            uploads,
        } in page
        {
            summary.seen += 1;
            let mut standing = None;
            let mut failed = None;
            for id in &uploads {
                match handler.look(id).await {
                    Ok(None) => {}
                    Ok(Some(found)) => {
                        let is_whole = job.upload_id.as_deref() == Some(id.as_str());
                        standing = Some(stands(&job, found, is_whole, standing));
                    }
                    Err(error) => failed = Some(error),
                }
            }
            if let Some(error) = failed {
                summary.failed += 1;
                unknown(&job, &error);
                continue;
            }
            match verdict(&job, finishing, standing, queue.now()) {
                Verdict::Wait => {}
                Verdict::Reports(reports) => reports.into_iter().for_each(|one| queue.report(one)),
                Verdict::End(end) => summary.ended += u64::from(queue.end(job.id, end).await?),
            }
        }
    }
}

fn unknown(job: &Job, error: &BoxError) {
    let id = job.upload_id.as_deref().unwrap_or_default();
    tracing::warn!(id, job = %job.id, %error, "it can't be found out how an upload gets on");
}

/// What the store has of a job.
#[derive(Debug)]
enum Standing {
    /// Its upload, complete.
    Complete(u64),
    /// Its upload or parts of it.
    Under(Vec<Report>),
    /// An upload of somebody else's with its id.
    Other,
}

fn stands(job: &Job, found: Snapshot, is_whole: bool, so_far: Option<Standing>) -> Standing {
    let upload = &found.upload;
    if job_of(upload).is_some_and(|theirs| theirs != job.id) {
        return so_far.unwrap_or(Standing::Other);
    }
    if is_whole && found.is_complete() && (upload.finished || !upload.awaited) {
        return Standing::Complete(found.offset);
    }
    let mut reports = match so_far {
        Some(Standing::Under(reports)) => reports,
        Some(complete @ Standing::Complete(_)) => return complete,
        _ => Vec::new(),
    };
    reports.push(Report {
        job: job.id,
        part: (!is_whole).then(|| upload.id.clone()),
        offset: found.offset,
        length: upload.length,
    });
    Standing::Under(reports)
}

#[derive(Debug)]
enum Verdict {
    Wait,
    Reports(Vec<Report>),
    End(End),
}

fn verdict(job: &Job, finishing: bool, standing: Option<Standing>, now: SystemTime) -> Verdict {
    match standing {
        Some(Standing::Complete(length)) => Verdict::End(End::Completed(length)),
        Some(Standing::Under(reports)) => Verdict::Reports(reports),
        // It was complete, and is gone: the application has moved it away.
        None | Some(Standing::Other) if finishing && job.state != JobState::Started => {
            Verdict::End(End::Completed(job.size.unwrap_or(job.offset)))
        }
        // Its creation came to nothing; its client may try again.
        None | Some(Standing::Other) if job.offset == 0 && now < job.expires_at => Verdict::Wait,
        None | Some(Standing::Other) if job.offset == 0 => Verdict::End(End::Expired),
        None | Some(Standing::Other) => {
            Verdict::End(End::Failed("its upload is gone from the store".into()))
        }
    }
}
