//! Interim responses of the IETF draft (sections 4.2.2 and 4.4.2): where the upload of a running request is,
//! and how much of it is stored.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use http::{HeaderMap, HeaderValue, Response, StatusCode, header, request::Parts};
use landfall_protocol::{
    headers, number_value,
    rufh::{DraftRequest, INTEROP_VERSION, InteropVersion, UPLOAD_LIMIT},
};
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    Handler,
    forwarded::{Forwarded, has_forwarded_headers},
};
use crate::{
    config::{Config, InterimResponses},
    engine::{BoxedObserver, TransferObserver},
    upload::Upload,
};

/// 104 (Upload Resumption Supported).
const UPLOAD_RESUMPTION_SUPPORTED: u16 = 104;

/// Some clients and proxies accept only a few interim responses to a request, so both must have passed
/// since the last one.
const MIN_INTERVAL: Duration = Duration::from_secs(1);
const MIN_STEP: u64 = 8 << 20;

/// Sends interim responses (1xx) to the client of a request.
///
/// A server that can send them puts an `Arc<dyn InterimSender>` into the request's extensions. Otherwise
/// clients of the IETF draft get none, as the draft allows.
pub trait InterimSender: fmt::Debug + Send + Sync {
    /// Sends an interim response soon, or never.
    ///
    /// It must not block, and nothing may be sent after the final response. While a response waits for the
    /// client, a newer one may replace it, but no response with `Location` may be lost to one without.
    fn send(&self, response: Response<()>);
}

/// Sends the interim responses of one request.
pub(super) struct InterimProgress<'a> {
    sender: &'a dyn InterimSender,
    handler: &'a Handler,
    parts: &'a Parts,
    version: InteropVersion,
    last: Mutex<LastInterim>,
}

struct LastInterim {
    at: Instant,
    offset: u64,
    /// For all responses to a creation.
    location: Option<HeaderValue>,
}

impl<'a> InterimProgress<'a> {
    /// Returns `None` if the client gets no interim responses. `offset` is where the content begins.
    pub(super) fn observer(
        handler: &'a Handler,
        parts: &'a Parts,
        draft: Option<DraftRequest>,
        offset: u64,
    ) -> Option<BoxedObserver<'a>> {
        let version = draft?.named()?;
        let sender: &Arc<dyn InterimSender> = parts.extensions.get()?;
        is_allowed(&handler.0.engine.config, &parts.headers).then(|| {
            let last = LastInterim {
                at: Instant::now(),
                offset,
                location: None,
            };
            Box::new(Self {
                sender: &**sender,
                handler,
                parts,
                version,
                last: Mutex::new(last),
            }) as BoxedObserver<'a>
        })
    }

    fn send(&self, mut fields: HeaderMap) {
        let Ok(status) = StatusCode::from_u16(UPLOAD_RESUMPTION_SUPPORTED) else {
            return;
        };
        fields.insert(INTEROP_VERSION, u16::from(self.version.number()).into());
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = fields;
        self.sender.send(response);
    }
}

impl TransferObserver for InterimProgress<'_> {
    fn created(&self, upload: &Upload) {
        let inner = &*self.handler.0;
        let location = inner.urls.location(self.parts, &upload.id);
        let Ok(location) = HeaderValue::try_from(location) else {
            return;
        };
        let expires = inner.engine.expiry(upload, 0, SystemTime::now());
        let limits = self.handler.upload_limits(upload, expires);
        let mut fields = HeaderMap::new();
        if let Ok(value) = HeaderValue::try_from(limits.to_field(self.version)) {
            fields.insert(UPLOAD_LIMIT, value);
        }
        if self.version.repeats_location() {
            self.last.lock().location = Some(location.clone());
        }
        fields.insert(header::LOCATION, location);
        self.send(fields);
    }

    fn stored(&self, offset: u64) {
        if !self.version.reports_progress() {
            return;
        }
        let mut fields = HeaderMap::new();
        {
            let mut last = self.last.lock();
            let step = offset.saturating_sub(last.offset);
            if step < MIN_STEP || last.at.elapsed() < MIN_INTERVAL {
                return;
            }
            (last.offset, last.at) = (offset, Instant::now());
            if let Some(location) = &last.location {
                fields.insert(header::LOCATION, location.clone());
            }
        }
        fields.insert(headers::UPLOAD_OFFSET, number_value(offset));
        self.send(fields);
    }
}

fn is_allowed(config: &Config, fields: &HeaderMap) -> bool {
    match config.interim_responses {
        InterimResponses::On => true,
        InterimResponses::Off => false,
        InterimResponses::Auto => {
            matches!(config.forwarded, Forwarded::Ignore)
                && !has_forwarded_headers(fields)
                && !fields.contains_key(header::VIA)
        }
    }
}
