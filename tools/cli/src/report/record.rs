//! The events of `--json`.

use serde::Serialize;

/// An event, a line of JSON with the field `event`.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub(crate) enum Record<'a> {
    Created {
        file: &'a str,
        url: &'a str,
    },
    Resumed {
        file: &'a str,
        url: &'a str,
        offset: u64,
    },
    Progress {
        file: &'a str,
        bytes: u64,
        acknowledged: u64,
        total: Option<u64>,
        /// In bytes per second.
        rate: f64,
        /// In seconds.
        remaining: Option<f64>,
    },
    Retrying {
        file: &'a str,
        attempt: u32,
        /// In seconds.
        delay: f64,
        error: &'a str,
    },
    #[serde(rename = "chunk-size-reduced")]
    ChunkSizeReduced {
        file: &'a str,
        bytes: u64,
    },
    StartedAnew {
        file: &'a str,
        reason: &'a str,
    },
    Completed {
        file: &'a str,
        url: &'a str,
        length: u64,
        /// The bytes transferred in this run.
        bytes: u64,
        #[serde(skip_serializing_if = "Option::is_none")]
        resumed_from: Option<u64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        verified: Option<bool>,
    },
    /// An earlier run of the command has transferred the file.
    Skipped {
        file: &'a str,
        url: &'a str,
    },
    Failed {
        #[serde(skip_serializing_if = "Option::is_none")]
        file: Option<&'a str>,
        error: &'a str,
        class: &'static str,
        /// The status of the response.
        #[serde(skip_serializing_if = "Option::is_none")]
        status: Option<u16>,
    },
    /// The source was deleted after the upload.
    Deleted {
        file: &'a str,
    },
    Unfinished {
        file: &'a str,
        url: Option<&'a str>,
        endpoint: &'a str,
        offset: Option<u64>,
        length: u64,
        /// In seconds.
        age: u64,
    },
    Terminated {
        url: &'a str,
    },
    Summary {
        files: usize,
        completed: usize,
        skipped: usize,
        failed: usize,
        bytes: u64,
        seconds: f64,
    },
}
