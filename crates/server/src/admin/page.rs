//! The page: its files, built into the program.
//!
//! They live in `crates/server/dashboard/` as plain HTML, CSS and ES modules; there is no build step.
//! All of them are asked for relative to the page, which works below a prefix that a proxy strips.

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header};

use super::Admin;
use crate::asset::{Asset, CSS, JAVASCRIPT, SVG, assets, fill};

/// What the page needs, and nothing beyond it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
     connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const DASHBOARD: &str = include_str!("../../dashboard/index.html");
const LOGIN: &str = include_str!("../../dashboard/login.html");

const ASSETS: &[(&str, Asset)] = assets! { "dashboard":
    "announce.js": JAVASCRIPT,
    "api.js": JAVASCRIPT,
    "app.js": JAVASCRIPT,
    "chart.js": JAVASCRIPT,
    "confirm.js": JAVASCRIPT,
    "events.js": JAVASCRIPT,
    "format.js": JAVASCRIPT,
    "history.js": JAVASCRIPT,
    "news.js": JAVASCRIPT,
    "row.js": JAVASCRIPT,
    "style.css": CSS,
    "system.js": JAVASCRIPT,
    "under-way.js": JAVASCRIPT,
};
/// The one picture of both pages.
const ICON: &[(&str, Asset)] = assets! { "page": "icon.svg": SVG };

/// `GET /admin/`: the dashboard, or the form for the key.
pub(super) async fn index(State(admin): State<Admin>, headers: HeaderMap) -> Response {
    match admin.has_session(&headers).await {
        Ok(true) => {
            let version = env!("CARGO_PKG_VERSION");
            let html = fill(DASHBOARD, |name| match name {
                "version" => Some(version),
                "node" => Some(admin.0.node.as_str()),
                _ => None,
            });
            shown(StatusCode::OK, html)
        }
        Ok(false) => login(StatusCode::OK, ""),
        Err(problem) => login(problem.status, &problem.message),
    }
}

/// The form for the key, with a word about the last one.
pub(super) fn login(status: StatusCode, message: &str) -> Response {
    let html = fill(LOGIN, |name| match name {
        "message" => Some(message),
        _ => None,
    });
    shown(status, html)
}

fn shown(status: StatusCode, html: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, html).into_response()
}

/// `GET /admin`: the page is below, where what it asks for is found.
pub(super) async fn with_slash(uri: Uri) -> Response {
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    // Relative, so that a prefix that a proxy stripped stays before it.
    let Ok(location) = HeaderValue::try_from(format!("{name}/")) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    (
        StatusCode::PERMANENT_REDIRECT,
        [(header::LOCATION, location)],
    )
        .into_response()
}

/// `GET /admin/login`, which a browser asks for when somebody comes back to the form by its address.
pub(super) async fn back() -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, "./")]).into_response()
}

/// `GET /admin/assets/NAME`. Nothing in them is secret.
pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match find(&name) {
        Some(asset) => asset.answer(&headers).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn find(name: &str) -> Option<&'static Asset> {
    let all = ASSETS.iter().chain(ICON);
    all.into_iter()
        .find(|(known, _)| *known == name)
        .map(|(_, asset)| asset)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboard");
        let there: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| !name.ends_with(".html"))
            .collect();
        let served: BTreeSet<String> = ASSETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(served, there);
    }

    #[test]
    fn everything_the_pages_ask_for_is_served() {
        let mut wanted: Vec<&str> = Vec::new();
        for html in [DASHBOARD, LOGIN] {
            let asked = html.split("\"./assets/").skip(1);
            wanted.extend(asked.map(|rest| rest.split_once('"').unwrap().0));
        }
        for (_, asset) in ASSETS.iter().filter(|(name, _)| name.ends_with(".js")) {
            let code = std::str::from_utf8(asset.bytes).unwrap();
            let asked = code.split("from './").skip(1);
            wanted.extend(asked.map(|rest| rest.split_once('\'').unwrap().0));
        }
        assert!(wanted.len() > 10, "found only {wanted:?}");
        for name in wanted {
            assert!(find(name).is_some(), "{name} is not served");
        }
    }

    #[test]
    fn nothing_is_inline_so_that_the_policy_can_be_strict() {
        for html in [DASHBOARD, LOGIN] {
            assert!(!html.contains("<style") && !html.contains(" style="));
            assert!(!html.contains(" onclick=") && !html.contains(" onload="));
            for script in html.split("<script").skip(1) {
                assert!(
                    script.contains("src=\"") && script.contains("></script>"),
                    "{script}"
                );
            }
        }
    }

    #[test]
    fn what_is_said_on_the_form_is_escaped() {
        let html = fill(LOGIN, |name| (name == "message").then_some("<b>&"));
        assert!(html.contains("&lt;b&gt;&amp;") && !html.contains("{{"));
    }
}
