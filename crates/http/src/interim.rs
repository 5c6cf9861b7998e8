//! Interim responses to one request (RFC 9110 section 15.2) that wait until they can be sent.

use std::mem;

use http::{Response, StatusCode, header};

/// The newest interim response, before the final one.
#[derive(Debug, Default)]
pub(crate) struct InterimQueue {
    /// 100 (Continue) is due.
    continues: bool,
    /// One with `Location` is not replaced by one without.
    waiting: Option<Box<Response<()>>>,
    pub(crate) is_closed: bool,
}

impl InterimQueue {
    /// Returns whether the response was taken.
    pub(crate) fn push(&mut self, response: Response<()>) -> bool {
        let is_important = self.waiting.as_deref().is_some_and(has_location);
        let is_taken = !self.is_closed
            && response.status().is_informational()
            && (has_location(&response) || !is_important);
        if is_taken {
            self.waiting = Some(Box::new(response));
        }
        is_taken
    }

    pub(crate) fn push_continue(&mut self) {
        self.continues = !self.is_closed;
    }

    pub(crate) fn next(&mut self) -> Option<Response<()>> {
        if mem::take(&mut self.continues) {
            let mut response = Response::new(());
            *response.status_mut() = StatusCode::CONTINUE;
            return Some(response);
        }
        self.waiting.take().map(|response| *response)
    }

    /// The final response follows: only those remain that must not be lost.
    pub(crate) fn close(&mut self) {
        self.continues = false;
        self.waiting = self
            .waiting
            .take()
            .filter(|response| has_location(response));
        self.is_closed = true;
    }
}

fn has_location(response: &Response<()>) -> bool {
    response.headers().contains_key(header::LOCATION)
}
