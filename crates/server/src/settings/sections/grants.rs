//! The sections about grants and the dashboard.

use super::put;
use crate::settings::arguments::Verb;
use crate::settings::table::{Kind, Section, Setting};
use crate::settings::types::GrantStyle;
use crate::settings::{grants, hooks, value};

/// The words for [`GrantStyle`].
const STYLES: &[(&str, GrantStyle)] = &[
    ("landfall", GrantStyle::Landfall),
    ("laravel", GrantStyle::Package),
];

/// Who makes use of them: who sweeps writes down what expires.
const VERBS: &[Verb] = &[Verb::Serve, Verb::Sweep];

/// What may be asked for.
pub(super) const GRANTS: Section = Section {
    title: "Grants",
    verbs: VERBS,
    settings: &[
        Setting::new(
            "grants",
            Kind::Switch,
            "false",
            "Let callers ask for uploads (POST to --grants-path), and follow those they ask for.",
            |s, v| put(&mut s.grants.enabled, value::boolean(v)),
        ),
        Setting::new(
            "require-grant",
            Kind::Switch,
            "false",
            "Refuse uploads that nobody asked for; goes with --grants, which it turns on.",
            // Comes after grants, so that it can turn it on.
            |s, v| {
                s.grants.required = value::boolean(v)?;
                s.grants.enabled |= s.grants.required;
                Ok(())
            },
        ),
        Setting::new(
            "grants-path",
            Kind::Text("PATH"),
            "/uploadjobs",
            "Path of the URL that uploads are asked for at and listed below.",
            |s, v| put(&mut s.grants.path, grants::area(v)),
        ),
        Setting::new(
            "grants-api",
            Kind::Text("landfall|laravel"),
            "landfall",
            "What the answers look like: Landfall's own, or exactly those of the Laravel package \
             laravel-tus-upload, for its front end.",
            |s, v| put(&mut s.grants.style, value::choice(v, STYLES)),
        ),
        Setting::new(
            "grants-valid-for",
            Kind::Time,
            "1h",
            "How long an upload may be begun after it was granted. What has begun isn't cut off.",
            |s, v| put(&mut s.grants.valid_for, value::some_duration(v)),
        ),
        Setting::new(
            "grants-retention",
            Kind::Time,
            "720h",
            "How long what was asked for is listed after its end.",
            |s, v| put(&mut s.grants.keep, value::some_duration(v)),
        ),
        Setting::new(
            "grants-max-size",
            Kind::Size,
            "0",
            "Largest upload that is granted; 0 is --max-size.",
            |s, v| put(&mut s.grants.limits.max_size, value::size_or_none(v)),
        )
        .protects(),
        Setting::new(
            "grants-allowed-types",
            Kind::List("TYPES"),
            "",
            "Types that are granted, such as image/* or application/pdf, with commas between them. \
             Not set: all.",
            |s, v| put(&mut s.grants.limits.types, grants::types(v)),
        )
        .protects(),
        Setting::new(
            "grants-require-size",
            Kind::Switch,
            "false",
            "Grant nothing whose size isn't known beforehand.",
            |s, v| put(&mut s.grants.limits.size_required, value::boolean(v)),
        )
        .protects(),
        Setting::new(
            "grants-max-active",
            Kind::Number("COUNT"),
            "0",
            "The most uploads of a caller that are granted or under way; 0 is without limit.",
            |s, v| put(&mut s.grants.limits.active, grants::count_or_none(v)),
        )
        .protects(),
        Setting::new(
            "grants-rate-limit",
            Kind::Text("COUNT/TIME"),
            "",
            "The most uploads that a caller may ask for in a time, such as 100/1h. Not set: without \
             limit.",
            |s, v| put(&mut s.grants.limits.rate, grants::rate(v)),
        )
        .protects(),
        Setting::new(
            "grants-quota",
            Kind::Size,
            "0",
            "The most bytes of a caller: of what is granted, under way and complete. 0 is without \
             limit.",
            |s, v| put(&mut s.grants.limits.quota, value::size_or_none(v)),
        )
        .protects(),
        Setting::new(
            "grants-quota-period",
            Kind::Time,
            "0",
            "Count quotas anew in each such time, such as 24h (from midnight, UTC); 0 never does.",
            |s, v| put(&mut s.grants.quota_period, value::duration_or_none(v)),
        ),
        Setting::new(
            "grants-enforce-type",
            Kind::Switch,
            "false",
            "Refuse uploads that say to be of another type than was granted.",
            |s, v| put(&mut s.grants.check_type, value::boolean(v)),
        )
        .protects(),
    ],
};

/// Who may ask.
pub(super) const CALLERS: Section = Section {
    title: "Grants: who may ask",
    verbs: &[Verb::Serve],
    settings: &[
        Setting::new(
            "grants-jwt-keys",
            Kind::Text("URL|FILE"),
            "",
            "Know callers by JSON web tokens that these keys have signed: a key set (JWKS) at a \
             URL or in a file, or a public key in a PEM file. Beside it, and without it, there are \
             the keys of landfall keys.",
            |s, v| put(&mut s.grants.jwt.keys, grants::jwt_keys(v)),
        )
        .secret_in_url()
        .protects(),
        Setting::new(
            "grants-jwt-issuer",
            Kind::List("ISSUERS"),
            "",
            "Who must have issued them (iss): one of these, with commas between them. This or \
             --grants-jwt-audience is required.",
            |s, v| put(&mut s.grants.jwt.issuers, grants::claims(v)),
        )
        .protects(),
        Setting::new(
            "grants-jwt-audience",
            Kind::List("AUDIENCES"),
            "",
            "Whom they must be meant for (aud): one of these, with commas between them. This or \
             --grants-jwt-issuer is required.",
            |s, v| put(&mut s.grants.jwt.audiences, grants::claims(v)),
        )
        .protects(),
        Setting::new(
            "grants-jwt-subject",
            Kind::Text("CLAIM"),
            "sub",
            "The claim that says who the caller is.",
            |s, v| put(&mut s.grants.jwt.subject, grants::claim(v)),
        ),
        Setting::new(
            "grants-jwt-algorithms",
            Kind::List("NAMES"),
            "RS256,RS384,RS512,PS256,PS384,PS512,ES256,ES384,EdDSA",
            "The signatures that are taken, with commas between them. HS256, HS384 and HS512 need \
             their shared key (oct) in a file.",
            |s, v| put(&mut s.grants.jwt.algorithms, grants::algorithms(v)),
        )
        .protects(),
        Setting::new(
            "grants-jwt-limits",
            Kind::Text("CLAIM"),
            "landfall",
            "The claim with limits of the caller's own: an object that may have max_size, types, \
             active, rate, quota and admin.",
            |s, v| put(&mut s.grants.jwt.limits, grants::claim(v)),
        ),
        Setting::new(
            "grants-forward-auth-url",
            Kind::Text("URL"),
            "",
            "Ask the application who a caller is: GET to this URL with the caller's Cookie and \
             Authorization, answered with 200 and who that is (JSON with a subject, or the header \
             X-Landfall-Subject), or with 401 or 403.",
            |s, v| put(&mut s.grants.authorize.url, hooks::endpoint(v)),
        )
        .secret_in_url()
        .protects(),
        Setting::new(
            "grants-forward-auth-cache",
            Kind::Time,
            "5s",
            "How long such an answer counts for the same cookies; 0 asks every time.",
            |s, v| put(&mut s.grants.authorize.cache, value::duration(v)),
        ),
        Setting::new(
            "grants-allowed-origins",
            Kind::List("ORIGINS"),
            "",
            "Other origins, such as https://app.example.com, whose pages may ask with a cookie and read \
             the answers, with commas between them. Empty: those of --cors-allow-origin may ask, but \
             without cookies. A page of the server's own origin always may.",
            |s, v| put(&mut s.grants.origins, grants::origins(v)),
        )
        .may_be_empty(),
    ],
};

/// The dashboard.
pub(super) const ADMIN: Section = Section {
    title: "Dashboard",
    verbs: &[Verb::Serve],
    settings: &[
        Setting::new(
            "admin-key",
            Kind::Text("KEY"),
            "",
            "Serve the dashboard to whoever has this key of at least 16 characters. Better given as \
             the variable or in a file, which other users of the machine don't see.",
            |s, v| put(&mut s.admin.key, grants::admin_key(v)),
        )
        .secret(),
        Setting::new(
            "admin-key-file",
            Kind::Text("FILE"),
            "",
            "The same, with the key in a file of one line.",
            |s, v| put(&mut s.admin.key_file, value::path_or_none(v)),
        ),
        Setting::new(
            "admin-path",
            Kind::Text("PATH"),
            "/admin",
            "Path of the dashboard.",
            |s, v| put(&mut s.admin.path, grants::area(v)),
        ),
    ],
};
