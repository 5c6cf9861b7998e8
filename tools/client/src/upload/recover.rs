//! The reactions to failed requests: older versions, smaller requests, new uploads, delays.

use http::HeaderMap;
use url::Url;

use super::transfer::{Transfer, Transferred};
use crate::{Error, Event, http::Response, source::Content};

/// The number of times that an upload that is gone is created anew.
const MAX_RESTARTS: u32 = 3;

impl Transfer {
    /// Tries an older version of the draft if the server does not accept this one.
    pub(super) fn creation_failed(
        &mut self,
        headers: HeaderMap,
        error: Error,
    ) -> Result<Option<Transferred>, Error> {
        let status = error
            .rejection()
            .map_or(0, |rejection| rejection.status.as_u16());
        let may_be_version = matches!(status, 400 | 412 | 415 | 501);
        if may_be_version
            && !self.dialect.is_final(&headers)
            && let Some(older) = self.dialect.fallback(&headers)
        {
            self.dialect = older;
            self.creates_empty = false;
            return Ok(None);
        }
        Err(match error {
            // There is no upload yet that could be gone or have another offset.
            Error::Gone(rejection) => Error::Rejected(rejection),
            Error::Unavailable(rejection) if status == 409 => Error::Rejected(rejection),
            other => other,
        })
    }

    /// Sends less in one request if the last one failed and nothing of it arrived.
    pub(super) fn reduce_chunk(&mut self, url: &Url, offset: u64) {
        let Some(failed) = self.failed_request.take() else {
            return;
        };
        if offset <= failed.offset && failed.sent > 0 {
            self.reduce_to_half(url, failed.length.min(failed.sent), false);
        }
    }

    fn reduce_to_half(&self, url: &Url, bytes: u64, is_rejected: bool) -> bool {
        let reduced = self.job.client.hosts.reduce(url, bytes, is_rejected);
        if let Some(bytes) = reduced {
            self.job
                .sender
                .session
                .meter
                .emit(|| Event::ChunkSizeReduced { bytes });
        }
        reduced.is_some()
    }

    pub(super) async fn append_failed(
        &mut self,
        url: &Url,
        length: u64,
        response: Response,
    ) -> Result<Option<Transferred>, Error> {
        let is_final = self.dialect.is_final(&response.headers);
        let error = response.into_error().await;
        let status = error
            .rejection()
            .map_or(0, |rejection| rejection.status.as_u16());
        if status == 413 && !is_final && self.reduce_to_half(url, length, true) {
            self.failed_request = None;
            return Ok(None);
        }
        // A checksum that differs or an outdated offset says nothing about the size.
        if matches!(status, 400..=499) && status != 408 {
            self.failed_request = None;
        }
        Err(match error {
            Error::Unavailable(rejection) | Error::Gone(rejection) if is_final => {
                Error::Rejected(rejection)
            }
            other => other,
        })
    }

    /// Waits until the next attempt.
    ///
    /// # Errors
    /// The error, if there is none.
    pub(super) async fn recover(&mut self, error: Error) -> Result<(), Error> {
        self.offset = None;
        let session = self.job.sender.session.clone();
        // Never appends a source to an upload of another one.
        let is_other = matches!(error, Error::SourceChanged(_)) && self.url.is_some();
        let is_gone = matches!(error, Error::Gone(_)) || is_other && self.is_resumed;
        if is_gone && self.can_restart() {
            self.restarts += 1;
            self.url = None;
            self.is_resumed = false;
            session.meter.acknowledge(self.acknowledged, 0);
            self.acknowledged = 0;
            self.forget_sent();
            self.record(None).await?;
            session.meter.emit(|| Event::StartedAnew {
                reason: error.to_string(),
            });
            return Ok(());
        }
        session.wait_after(error, &mut self.backoff).await
    }

    fn can_restart(&self) -> bool {
        let has_start = match &self.content {
            Content::Stream(stream) => stream.has_start(),
            Content::Bytes(_) | Content::File(_) => true,
        };
        has_start && self.job.settings.url.is_none() && self.restarts < MAX_RESTARTS
    }
}
