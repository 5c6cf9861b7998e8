//! The table of settings of grants, of their limits and authentication, and of the dashboard.
//!
//! The limits are fields of `GrantLimits`, a type of the queue, and therefore a separate list. Values are parsed by
//! `settings::grants`; rules between settings are in `settings::check`.

use std::time::Duration;

use landfall_state::queue::GrantLimits;

use super::Settings;
use super::table::{Setting, group, settings};
use crate::settings::types::{JwtKeys, Quota, Secret};
use crate::settings::{grants, hooks, value};

const APIS: &[(&str, bool)] = &[("landfall", false), ("laravel", true)];

group! {
    /// Settings of grants.
    pub struct Grants at grants, with {
        /// Limits of every subject.
        limits: GrantLimits,
        /// Authentication by JSON web tokens.
        jwt: Jwt,
        /// Authentication by the application.
        forward_auth: ForwardAuth,
    };
    enabled: bool = value::boolean, "grants", Switch, "false"
        => "Serve the grants API at --grants-path, and track granted uploads.";
    required: bool = value::boolean, "require-grant", Switch, "false", Common
        => "Require an upload token for every upload; implies --grants.";
    path: String = grants::base_path, "grants-path", Text("PATH"), "/uploadjobs"
        => "URL path of the grants API.";
    laravel: bool = |v| value::choice(v, APIS), "grants-api", Text("landfall|laravel"), "landfall"
        => "Format of the API: Landfall's own, or that of the Laravel package laravel-tus-upload, \
            for its front end.";
    valid_for: Duration = value::some_duration, "grants-valid-for", Time, "1h"
        => "Time within which a granted upload must be created. Running uploads are not \
            interrupted.";
    quota: Quota = grants::quota, "grants-quota", Text("SIZE[/TIME]"), "0", Protects
        => "Maximum bytes per subject, of granted, running and completed uploads, such as 100GiB; 0 is unlimited. With a \
            time, all quotas restart after it: 100GiB/24h or 0/24h at midnight UTC.";
    enforce_type: bool = value::boolean, "grants-enforce-type", Switch, "false", Protects
        => "Reject uploads that declare another media type than was granted.";
    client_certificates: bool = value::boolean, "grants-client-certificates", Switch, "false"
        => "Authenticate by client certificates (--tls-client-ca): the subject is the common name, or else the first \
            URI, e-mail address or host name of the certificate.";
    allowed_origins: Vec<String> = grants::origins,
        "grants-allowed-origins", List("ORIGINS"), "", MayBeEmpty
        => "Other origins whose pages may send requests with cookies and read responses, \
            comma-separated, such as https://app.example.com. Empty: pages of --cors-allow-origin \
            may send requests, without cookies. The server's own origin is always allowed.";
}

fn limits(settings: &mut Settings) -> &mut GrantLimits {
    &mut settings.grants.limits
}

pub(super) const GRANT_LIMITS: &[Setting] = settings! {
    limits;
    max_size = value::size_or_none, "grants-max-size", Size, "0", Protects
        => "Maximum size of a granted upload; 0 is --max-size.";
    allowed_types = grants::types, "grants-allowed-types", List("TYPES"), "", Protects
        => "Media types that are granted, comma-separated, such as image/* or application/pdf. Not \
            set: all.";
    require_size = value::boolean, "grants-require-size", Switch, "false", Protects
        => "Reject grants for uploads of unknown size.";
    max_active = value::number_or_none,
        "grants-max-active", Number("COUNT"), "0", Protects
        => "Maximum granted and running uploads per subject; 0 is unlimited.";
    rate_limit = grants::rate,
        "grants-rate-limit", Text("COUNT/TIME"), "", Protects
        => "Maximum grants per subject and time, such as 100/1h. Not set: unlimited.";
};

group! {
    /// Settings of JSON web tokens.
    pub struct Jwt at grants.jwt;
    keys: Option<JwtKeys> = grants::jwt_keys,
        "grants-jwt-keys", Text("URL|FILE"), "", SecretInUrl, Protects, Reloads
        => "Authenticate by JSON web tokens signed with these keys: the URL or file of a key set \
            (JWKS), or a PEM file with a public key. The claim landfall has limits of the subject: an object with \
            max_size, allowed_types, max_active, rate_limit, quota and admin. API keys (landfall keys) are always \
            accepted.";
    issuers: Vec<String> = grants::claims, "grants-jwt-issuer", List("ISSUERS"), "", Protects, Reloads
        => "Accepted iss values, comma-separated. Empty: not checked. This or \
            --grants-jwt-audience is required.";
    audiences: Vec<String> = grants::claims, "grants-jwt-audience", List("AUDIENCES"), "", Protects, Reloads
        => "Accepted aud values, comma-separated. Empty: not checked. This or --grants-jwt-issuer \
            is required.";
    subject: String = grants::claim, "grants-jwt-subject", Text("CLAIM"), "sub", Reloads
        => "Claim with the subject.";
    algorithms: Vec<String> = grants::algorithms, "grants-jwt-algorithms", List("NAMES"),
        "RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,EdDSA", Protects, Reloads
        => "Accepted signature algorithms, comma-separated. HS256, HS384 and HS512 need their \
            shared key (oct) in a file.";
}

group! {
    /// Settings of forward auth.
    pub struct ForwardAuth at grants.forward_auth;
    url: Option<Secret> = hooks::endpoint,
        "grants-forward-auth-url", Text("URL"), "", SecretInUrl, Protects
        => "Authenticate by the application (forward auth): GET to this URL with the client's \
            Cookie and Authorization. It responds 200 with the subject (JSON, or the header \
            X-Landfall-Subject), 401 or 403. Responses are cached for 5s.";
}

group! {
    /// Settings of the dashboard.
    pub struct Admin at admin;
    key: Option<Secret> = grants::key, "admin-key", Text("KEY"), "", Common, Secret, Reloads
        => "Enable the dashboard with this key of at least 16 characters. Prefer the \
            variable, or LANDFALL_ADMIN_KEY_FILE with a file that has it: command lines are visible to other users.";
    path: String = grants::base_path, "admin-path", Text("PATH"), "/admin"
        => "Path of the dashboard.";
}

impl Admin {
    /// Returns whether the dashboard is enabled.
    pub fn is_on(&self) -> bool {
        self.key.is_some()
    }
}
