//! The uploads that responses have named.

use std::collections::HashMap;

use parking_lot::Mutex;
use url::Url;

use super::Request;
use crate::requirement::Protocol;

/// The field of a request that names its version of the IETF draft.
pub(crate) const INTEROP_VERSION: &str = "Upload-Draft-Interop-Version";

/// The uploads created so far, with the protocols of the requests that created them.
#[derive(Debug, Default)]
pub(crate) struct CreatedUploads(Mutex<HashMap<Url, Creator>>);

/// The protocol of the request that created an upload.
#[derive(Clone, Debug)]
pub(crate) struct Creator {
    pub(crate) protocol: Protocol,
    pub(crate) interop_version: Option<String>,
}

impl CreatedUploads {
    pub(super) fn record(&self, url: Url, request: &Request) {
        let creator = Creator {
            protocol: match request.has("Tus-Resumable") {
                true => Protocol::Tus,
                false => Protocol::Draft,
            },
            interop_version: request.value(INTEROP_VERSION).map(str::to_owned),
        };
        // A later request may name no version.
        self.0.lock().entry(url).or_insert(creator);
    }

    pub(crate) fn drain(&self) -> Vec<(Url, Creator)> {
        self.0.lock().drain().collect()
    }
}
