//! One event on the wire.

use std::{sync::OnceLock, time::SystemTime};

use bytes::Bytes;
use serde_json::json;

use super::super::{Style, row};
use crate::{
    job::{JobEvent, JobEventKind},
    queue::Page,
};

/// An event for many listeners, encoded at most once for owners and once for admins.
#[derive(Debug)]
pub(super) struct EventFrame {
    event: JobEvent,
    style: Style,
    plain: OnceLock<Bytes>,
    with_subject: OnceLock<Bytes>,
}

impl EventFrame {
    pub(super) fn new(event: JobEvent, style: Style) -> Self {
        Self {
            event,
            style,
            plain: OnceLock::new(),
            with_subject: OnceLock::new(),
        }
    }

    pub(super) fn subject(&self) -> Option<&str> {
        self.event.job.subject.as_deref()
    }

    /// Whether a client that has received the events up to a number lacks this one.
    pub(super) fn is_after(&self, number: i64) -> bool {
        self.event.number > number || (self.is_progress() && self.event.number == number)
    }

    /// The number that a client has received with it.
    pub(super) fn number(&self) -> i64 {
        self.event.number
    }

    fn is_progress(&self) -> bool {
        self.event.kind == JobEventKind::UploadProgress
    }

    /// As it goes out.
    pub(super) fn frame(&self, with_subject: bool) -> Bytes {
        let written = if with_subject {
            &self.with_subject
        } else {
            &self.plain
        };
        written
            .get_or_init(|| write(&self.event, self.style, with_subject).into())
            .clone()
    }
}

/// Writes the event that tells a client to replace what it knows by these uploads.
pub(super) fn reset(
    number: i64,
    at: SystemTime,
    page: &Page,
    style: Style,
    with_subject: bool,
) -> String {
    let rows = page.jobs.iter();
    let rows: Vec<_> = rows.map(|job| row::row(job, style, with_subject)).collect();
    let data = json!({
        "type": "reset",
        "at": row::rfc3339(at),
        "uploads": rows,
        "has_more": page.has_more,
    });
    format!("id: {number}\nevent: reset\ndata: {data}\n\n")
}

/// JSON has no line breaks of its own, so `data` is one line.
pub(super) fn write(event: &JobEvent, style: Style, with_subject: bool) -> String {
    let name = event.kind.as_str();
    let data = json!({
        "type": name,
        "at": row::rfc3339(event.at),
        "upload": row::row(&event.job, style, with_subject),
    });
    // Progress cannot be read again, so it is no place to continue from.
    let id = match event.kind {
        JobEventKind::UploadProgress => String::new(),
        _ => format!("id: {}\n", event.number),
    };
    format!("{id}event: {name}\ndata: {data}\n\n")
}
