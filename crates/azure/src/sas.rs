//! Shared access signatures of one blob, signed with the key of the account. They are secrets: a holder has
//! their rights.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit as _, Mac as _};
use jiff::Timestamp;
use landfall_objects::{ObjectRef, segment};
use sha2::Sha256;

/// The version of the string to sign.
const VERSION: &str = "2020-12-06";

/// The rights of a signature.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BlobSas<'a> {
    pub(crate) account: &'a str,
    /// In base64.
    pub(crate) key: &'a str,
    pub(crate) object: &'a ObjectRef,
    /// `r`, `c` to create, or `cw` to create and write, in the order of the service.
    pub(crate) permissions: &'a str,
    pub(crate) expires: Timestamp,
    pub(crate) https_only: bool,
    /// Headers of the response, or nothing.
    pub(crate) content_type: &'a str,
    pub(crate) content_disposition: &'a str,
}

impl BlobSas<'_> {
    /// Returns the query; `None`: the key is not base64.
    pub(crate) fn query(&self) -> Option<String> {
        let expires = self.expires.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
        let protocol = if self.https_only {
            "https"
        } else {
            "https,http"
        };
        let ObjectRef { bucket, key } = self.object;
        let resource = format!("/blob/{}/{bucket}/{key}", self.account);
        let (disposition, content_type) = (self.content_disposition, self.content_type);
        let lines = [
            // Rights, start, end, resource, policy, addresses, protocol, version, kind, snapshot, scope, and headers:
            // Cache-Control, Content-Disposition, Content-Encoding, Content-Language, Content-Type.
            self.permissions,
            "",
            &expires,
            &resource,
            "",
            "",
            protocol,
            VERSION,
            "b",
            "",
            "",
            "",
            disposition,
            "",
            "",
            content_type,
        ];
        let key = STANDARD.decode(self.key).ok()?;
        let mut mac = Hmac::<Sha256>::new_from_slice(&key).ok()?;
        mac.update(lines.join("\n").as_bytes());
        let signature = STANDARD.encode(mac.finalize().into_bytes());
        let mut query = String::new();
        for (name, value) in [
            ("sv", VERSION),
            ("se", &expires),
            ("sr", "b"),
            ("sp", self.permissions),
            ("spr", protocol),
            ("rscd", disposition),
            ("rsct", content_type),
            ("sig", &signature),
        ] {
            if !value.is_empty() {
                let and = if query.is_empty() { "" } else { "&" };
                query.push_str(&format!("{and}{name}={}", segment(value)));
            }
        }
        Some(query)
    }
}
