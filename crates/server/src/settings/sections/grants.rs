//! The sections about grants and the dashboard.

use super::assign;
use crate::settings::cli::Subcommand;
use crate::settings::table::{Kind, Section, Setting};
use crate::settings::types::GrantsApi;
use crate::settings::{grants, hooks, value};

const APIS: &[(&str, GrantsApi)] = &[
    ("landfall", GrantsApi::Landfall),
    ("laravel", GrantsApi::Laravel),
];

/// A sweep records expired jobs.
const SUBCOMMANDS: &[Subcommand] = &[Subcommand::Serve, Subcommand::Sweep];

pub(super) const GRANTS: Section = Section {
    title: "Grants",
    subcommands: SUBCOMMANDS,
    settings: &[
        Setting::new(
            "grants",
            Kind::Switch,
            "false",
            "Serve the grants API at --grants-path, and track granted uploads.",
            |s, v| assign(&mut s.grants.enabled, value::boolean(v)),
        ),
        Setting::new(
            "require-grant",
            Kind::Switch,
            "false",
            "Require an upload token for every upload; implies --grants.",
            // Applied after grants.
            |s, v| {
                s.grants.required = value::boolean(v)?;
                s.grants.enabled |= s.grants.required;
                Ok(())
            },
        )
        .common(),
        Setting::new(
            "grants-path",
            Kind::Text("PATH"),
            "/uploadjobs",
            "URL path of the grants API.",
            |s, v| assign(&mut s.grants.path, grants::base_path(v)),
        ),
        Setting::new(
            "grants-api",
            Kind::Text("landfall|laravel"),
            "landfall",
            "Format of the API: Landfall's own, or that of the Laravel package \
             laravel-tus-upload, for its front end.",
            |s, v| assign(&mut s.grants.api, value::choice(v, APIS)),
        ),
        Setting::new(
            "grants-valid-for",
            Kind::Time,
            "1h",
            "Time within which a granted upload must be created. Running uploads are not \
             interrupted.",
            |s, v| assign(&mut s.grants.valid_for, value::some_duration(v)),
        ),
        Setting::new(
            "grants-retention",
            Kind::Time,
            "720h",
            "Time for which finished jobs are listed.",
            |s, v| assign(&mut s.grants.retention, value::some_duration(v)),
        ),
        Setting::new(
            "grants-max-size",
            Kind::Size,
            "0",
            "Maximum size of a granted upload; 0 is --max-size.",
            |s, v| assign(&mut s.grants.limits.max_size, value::size_or_none(v)),
        )
        .protects(),
        Setting::new(
            "grants-allowed-types",
            Kind::List("TYPES"),
            "",
            "Media types that are granted, comma-separated, such as image/* or application/pdf. \
             Not set: all.",
            |s, v| assign(&mut s.grants.limits.allowed_types, grants::types(v)),
        )
        .protects(),
        Setting::new(
            "grants-require-size",
            Kind::Switch,
            "false",
            "Reject grants for uploads of unknown size.",
            |s, v| assign(&mut s.grants.limits.require_size, value::boolean(v)),
        )
        .protects(),
        Setting::new(
            "grants-max-active",
            Kind::Number("COUNT"),
            "0",
            "Maximum granted and running uploads per subject; 0 is unlimited.",
            |s, v| assign(&mut s.grants.limits.max_active, grants::count_or_none(v)),
        )
        .protects(),
        Setting::new(
            "grants-rate-limit",
            Kind::Text("COUNT/TIME"),
            "",
            "Maximum grants per subject and time, such as 100/1h. Not set: unlimited.",
            |s, v| assign(&mut s.grants.limits.rate_limit, grants::rate(v)),
        )
        .protects(),
        Setting::new(
            "grants-quota",
            Kind::Size,
            "0",
            "Maximum bytes per subject, of granted, running and completed uploads; 0 is unlimited.",
            |s, v| assign(&mut s.grants.limits.quota, value::size_or_none(v)),
        )
        .protects(),
        Setting::new(
            "grants-quota-period",
            Kind::Time,
            "0",
            "Restart quotas after this time, such as 24h (at midnight UTC); 0 never does.",
            |s, v| assign(&mut s.grants.quota_period, value::duration_or_none(v)),
        ),
        Setting::new(
            "grants-enforce-type",
            Kind::Switch,
            "false",
            "Reject uploads that declare another media type than was granted.",
            |s, v| assign(&mut s.grants.enforce_type, value::boolean(v)),
        )
        .protects(),
    ],
};

pub(super) const AUTHENTICATION: Section = Section {
    title: "Grants: authentication",
    subcommands: &[Subcommand::Serve],
    settings: &[
        Setting::new(
            "grants-jwt-keys",
            Kind::Text("URL|FILE"),
            "",
            "Authenticate by JSON web tokens signed with these keys: the URL or file of a key \
             set (JWKS), or a PEM file with a public key. API keys (landfall keys) are always \
             accepted.",
            |s, v| assign(&mut s.grants.jwt.keys, grants::jwt_keys(v)),
        )
        .secret_in_url()
        .protects(),
        Setting::new(
            "grants-jwt-issuer",
            Kind::List("ISSUERS"),
            "",
            "Accepted iss values, comma-separated. Empty: not checked. This or \
             --grants-jwt-audience is required.",
            |s, v| assign(&mut s.grants.jwt.issuers, grants::claims(v)),
        )
        .protects(),
        Setting::new(
            "grants-jwt-audience",
            Kind::List("AUDIENCES"),
            "",
            "Accepted aud values, comma-separated. Empty: not checked. This or \
             --grants-jwt-issuer is required.",
            |s, v| assign(&mut s.grants.jwt.audiences, grants::claims(v)),
        )
        .protects(),
        Setting::new(
            "grants-jwt-subject",
            Kind::Text("CLAIM"),
            "sub",
            "Claim with the subject.",
            |s, v| assign(&mut s.grants.jwt.subject, grants::claim(v)),
        ),
        Setting::new(
            "grants-jwt-algorithms",
            Kind::List("NAMES"),
            "RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,EdDSA",
            "Accepted signature algorithms, comma-separated. HS256, HS384 and HS512 need their \
             shared key (oct) in a file.",
            |s, v| assign(&mut s.grants.jwt.algorithms, grants::algorithms(v)),
        )
        .protects(),
        Setting::new(
            "grants-jwt-limits",
            Kind::Text("CLAIM"),
            "landfall",
            "Claim with limits of the subject: an object with max_size, allowed_types, \
             max_active, rate_limit, quota and admin.",
            |s, v| assign(&mut s.grants.jwt.limits, grants::claim(v)),
        ),
        Setting::new(
            "grants-forward-auth-url",
            Kind::Text("URL"),
            "",
            "Authenticate by the application (forward auth): GET to this URL with the client's \
             Cookie and Authorization. It responds 200 with the subject (JSON, or the header \
             X-Landfall-Subject), 401 or 403.",
            |s, v| assign(&mut s.grants.forward_auth.url, hooks::endpoint(v)),
        )
        .secret_in_url()
        .protects(),
        Setting::new(
            "grants-forward-auth-cache",
            Kind::Time,
            "5s",
            "Time for which a forward-auth response is cached; 0 disables the cache.",
            |s, v| assign(&mut s.grants.forward_auth.cache, value::duration(v)),
        ),
        Setting::new(
            "grants-allowed-origins",
            Kind::List("ORIGINS"),
            "",
            "Other origins whose pages may send requests with cookies and read responses, \
             comma-separated, such as https://app.example.com. Empty: pages of \
             --cors-allow-origin may send requests, without cookies. The server's own origin is \
             always allowed.",
            |s, v| assign(&mut s.grants.allowed_origins, grants::origins(v)),
        )
        .may_be_empty(),
    ],
};

pub(super) const ADMIN: Section = Section {
    title: "Dashboard",
    subcommands: &[Subcommand::Serve],
    settings: &[
        Setting::new(
            "admin-key",
            Kind::Text("KEY"),
            "",
            "Enable the dashboard; log in with this key of at least 16 characters. Prefer the \
             variable or the file: command lines are visible to other users.",
            |s, v| assign(&mut s.admin.key, grants::admin_key(v)),
        )
        .secret(),
        Setting::new(
            "admin-key-file",
            Kind::Text("FILE"),
            "",
            "Enable the dashboard with the key in this file of one line.",
            |s, v| assign(&mut s.admin.key_file, value::path_or_none(v)),
        )
        .common(),
        Setting::new(
            "admin-path",
            Kind::Text("PATH"),
            "/admin",
            "Path of the dashboard.",
            |s, v| assign(&mut s.admin.path, grants::base_path(v)),
        ),
    ],
};
