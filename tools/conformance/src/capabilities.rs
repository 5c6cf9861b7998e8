//! The capabilities of a server, as its response to OPTIONS reports them.

use std::collections::BTreeSet;

use crate::client::Response;
use crate::requirement::{Capability, Protocol};

/// The capabilities of the server, according to its response to OPTIONS.
#[derive(Clone, Debug, Default)]
pub struct Capabilities {
    /// The protocols that it speaks.
    pub protocols: BTreeSet<Protocol>,
    /// Extensions of tus, and limits.
    pub capabilities: BTreeSet<Capability>,
    /// `Tus-Max-Size` in bytes.
    pub max_size: Option<u64>,
    /// `Tus-Checksum-Algorithm`.
    pub checksum_algorithms: Vec<String>,
    /// `Server`, if it is sent.
    pub software: Option<String>,
}

impl Capabilities {
    pub(crate) fn from_options(response: &Response) -> Self {
        let mut found = Self {
            checksum_algorithms: response.list("Tus-Checksum-Algorithm"),
            max_size: response.number("Tus-Max-Size").ok(),
            software: response.field("Server").map(str::to_owned),
            ..Self::default()
        };
        if response.field("Tus-Version").is_some() {
            found.protocols.insert(Protocol::Tus);
        }
        if response.field("Upload-Limit").is_some() {
            found.protocols.insert(Protocol::Draft);
        }
        let extensions = response.list("Tus-Extension");
        let named =
            |capability: &Capability| extensions.iter().any(|name| name == capability.name());
        let offered = Capability::EXTENSIONS.into_iter().filter(named);
        found.capabilities.extend(offered);
        if found.max_size.is_some() {
            found.capabilities.insert(Capability::MaxSize);
        }
        found
    }

    /// Returns whether the server offers a capability.
    #[must_use]
    pub fn has(&self, capability: Capability) -> bool {
        self.capabilities.contains(&capability)
    }
}
