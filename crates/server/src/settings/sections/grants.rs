//! The sections about grants and the dashboard.

use crate::settings::table::{Section, section};
use crate::settings::types::GrantsApi;
use crate::settings::{grants, hooks, value};

const APIS: &[(&str, GrantsApi)] = &[
    ("landfall", GrantsApi::Landfall),
    ("laravel", GrantsApi::Laravel),
];

pub(super) const GRANTS: Section = section! { "Grants", [Serve, Sweep];
    "grants", Switch, "false", grants.enabled = value::boolean
        => "Serve the grants API at --grants-path, and track granted uploads.";
    "require-grant", Switch, "false",
        grants.required = value::boolean, Common
        => "Require an upload token for every upload; implies --grants.";
    "grants-path", Text("PATH"), "/uploadjobs", grants.path = grants::base_path
        => "URL path of the grants API.";
    "grants-api", Text("landfall|laravel"), "landfall", grants.api = |v| value::choice(v, APIS)
        => "Format of the API: Landfall's own, or that of the Laravel package laravel-tus-upload, \
            for its front end.";
    "grants-valid-for", Time, "1h", grants.valid_for = value::some_duration
        => "Time within which a granted upload must be created. Running uploads are not \
            interrupted.";
    "grants-retention", Time, "720h", grants.retention = value::some_duration
        => "Time for which finished jobs are listed.";
    "grants-max-size", Size, "0", grants.limits.max_size = value::size_or_none, Protects
        => "Maximum size of a granted upload; 0 is --max-size.";
    "grants-allowed-types", List("TYPES"), "", grants.limits.allowed_types = grants::types, Protects
        => "Media types that are granted, comma-separated, such as image/* or application/pdf. Not \
            set: all.";
    "grants-require-size", Switch, "false", grants.limits.require_size = value::boolean, Protects
        => "Reject grants for uploads of unknown size.";
    "grants-max-active", Number("COUNT"), "0",
        grants.limits.max_active = value::number_or_none, Protects
        => "Maximum granted and running uploads per subject; 0 is unlimited.";
    "grants-rate-limit", Text("COUNT/TIME"), "", grants.limits.rate_limit = grants::rate, Protects
        => "Maximum grants per subject and time, such as 100/1h. Not set: unlimited.";
    "grants-quota", Size, "0", grants.limits.quota = value::size_or_none, Protects
        => "Maximum bytes per subject, of granted, running and completed uploads; 0 is unlimited.";
    "grants-quota-period", Time, "0", grants.quota_period = value::duration_or_none
        => "Restart quotas after this time, such as 24h (at midnight UTC); 0 never does.";
    "grants-enforce-type", Switch, "false", grants.enforce_type = value::boolean, Protects
        => "Reject uploads that declare another media type than was granted.";
};

pub(super) const AUTHENTICATION: Section = section! { "Grants: authentication", [Serve];
    "grants-jwt-keys", Text("URL|FILE"), "",
        grants.jwt.keys = grants::jwt_keys, SecretInUrl, Protects
        => "Authenticate by JSON web tokens signed with these keys: the URL or file of a key set \
            (JWKS), or a PEM file with a public key. API keys (landfall keys) are always accepted.";
    "grants-jwt-issuer", List("ISSUERS"), "", grants.jwt.issuers = grants::claims, Protects
        => "Accepted iss values, comma-separated. Empty: not checked. This or \
            --grants-jwt-audience is required.";
    "grants-jwt-audience", List("AUDIENCES"), "", grants.jwt.audiences = grants::claims, Protects
        => "Accepted aud values, comma-separated. Empty: not checked. This or --grants-jwt-issuer \
            is required.";
    "grants-jwt-subject", Text("CLAIM"), "sub", grants.jwt.subject = grants::claim
        => "Claim with the subject.";
    "grants-jwt-algorithms", List("NAMES"), "RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,EdDSA",
        grants.jwt.algorithms = grants::algorithms, Protects
        => "Accepted signature algorithms, comma-separated. HS256, HS384 and HS512 need their \
            shared key (oct) in a file.";
    "grants-jwt-limits", Text("CLAIM"), "landfall", grants.jwt.limits = grants::claim
        => "Claim with limits of the subject: an object with max_size, allowed_types, max_active, \
            rate_limit, quota and admin.";
    "grants-forward-auth-url", Text("URL"), "",
        grants.forward_auth.url = hooks::endpoint, SecretInUrl, Protects
        => "Authenticate by the application (forward auth): GET to this URL with the client's \
            Cookie and Authorization. It responds 200 with the subject (JSON, or the header \
            X-Landfall-Subject), 401 or 403.";
    "grants-forward-auth-cache", Time, "5s", grants.forward_auth.cache = value::duration
        => "Time for which a forward-auth response is cached; 0 disables the cache.";
    "grants-allowed-origins", List("ORIGINS"), "",
        grants.allowed_origins = grants::origins, MayBeEmpty
        => "Other origins whose pages may send requests with cookies and read responses, \
            comma-separated, such as https://app.example.com. Empty: pages of --cors-allow-origin \
            may send requests, without cookies. The server's own origin is always allowed.";
};

pub(super) const ADMIN: Section = section! { "Dashboard", [Serve];
    "admin-key", Text("KEY"), "", admin.key = grants::key, Secret
        => "Enable the dashboard; log in with this key of at least 16 characters. Prefer the \
            variable or the file: command lines are visible to other users.";
    "admin-key-file", Text("FILE"), "", admin.key_file = value::path_or_none, Common
        => "Enable the dashboard with the key in this file of one line.";
    "admin-path", Text("PATH"), "/admin", admin.path = grants::base_path
        => "Path of the dashboard.";
};
