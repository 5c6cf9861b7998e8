//! Events of a transfer.

use std::time::Duration;

use url::Url;

/// An event of an upload or a download.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Event {
    /// An upload was created. Partial uploads have one event each.
    Created {
        /// Its URL.
        url: Url,
    },
    /// An earlier transfer is continued.
    Resumed {
        /// The URL.
        url: Url,
        /// The bytes that are already transferred.
        offset: u64,
    },
    /// Bytes were transferred. Sent at most ten times a second, and at the end.
    Progress(Progress),
    /// An attempt failed, and another follows.
    Retrying {
        /// The number of attempts without progress, from 1.
        attempt: u32,
        /// The time until the next attempt.
        delay: Duration,
        /// The error.
        error: String,
    },
    /// The content of one request was reduced because a server or proxy does not accept more.
    ChunkSizeReduced {
        /// The new size in bytes.
        bytes: u64,
    },
    /// An earlier upload could not be resumed: the source changed, or the upload is gone.
    StartedAnew {
        /// The reason.
        reason: String,
    },
    /// [`Control::pause`](crate::Control::pause) was called.
    Paused,
    /// [`Control::resume`](crate::Control::resume) was called.
    Continued,
}

/// The progress of a transfer.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub struct Progress {
    /// The bytes sent or received so far, with those of earlier runs. Decreases when sent bytes were lost.
    pub bytes: u64,
    /// The bytes that the server has acknowledged, of an upload; the bytes written, of a download.
    pub acknowledged: u64,
    /// The bytes in all, if that is known.
    pub total: Option<u64>,
    /// The mean rate of the last seconds in bytes per second. It starts anew after an outage or a pause.
    pub rate: f64,
    /// The remaining time at this rate, once a second is measured.
    pub remaining: Option<Duration>,
}
