//! The dashboard's static files, compiled into the program.
//!
//! They are plain HTML, CSS and ES modules in `crates/server/dashboard/`; there is no build step. All
//! URLs are relative to the page, so it works below a prefix that a proxy strips.

use axum::{
    extract::{Path, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderValue, StatusCode, Uri, header, request::Parts};

use super::Admin;
use crate::asset::{Asset, CSS, JAVASCRIPT, SVG, assets, fill};

const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; \
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
    "links.js": JAVASCRIPT,
    "detail.js": JAVASCRIPT,
    "event-stream.js": JAVASCRIPT,
    "row.js": JAVASCRIPT,
    "selection.js": JAVASCRIPT,
    "style.css": CSS,
    "system.js": JAVASCRIPT,
    "actions.js": JAVASCRIPT,
    "active.js": JAVASCRIPT,
};
const SHARED: &[(&str, Asset)] = assets! { "page": "cut.js": JAVASCRIPT, "icon.svg": SVG };

pub(super) async fn index(State(admin): State<Admin>, parts: Parts) -> Response {
    match admin.session(&parts).await {
        Ok(Some(_)) => {
            let version = env!("CARGO_PKG_VERSION");
            let html = fill(DASHBOARD, |name| match name {
                "version" => Some(version),
                "node" => Some(admin.0.parts.node.as_str()),
                _ => None,
            });
            html_response(StatusCode::OK, html)
        }
        Ok(None) => login(StatusCode::OK, ""),
        Err(problem) => login(problem.status(), problem.detail()),
    }
}

pub(super) fn login(status: StatusCode, message: &str) -> Response {
    let html = fill(LOGIN, |name| match name {
        "message" => Some(message),
        _ => None,
    });
    html_response(status, html)
}

fn html_response(status: StatusCode, html: String) -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    (status, headers, html).into_response()
}

/// The page's URLs are relative to its path with a slash.
pub(super) async fn redirect_with_slash(uri: Uri) -> Response {
    let name = uri.path().rsplit('/').next().unwrap_or_default();
    let Ok(location) = HeaderValue::try_from(format!("{name}/")) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let headers = [(header::LOCATION, location)];
    (StatusCode::PERMANENT_REDIRECT, headers).into_response()
}

pub(super) async fn redirect_to_page() -> Response {
    (StatusCode::SEE_OTHER, [(header::LOCATION, "./")]).into_response()
}

pub(super) async fn asset(Path(name): Path<String>, headers: HeaderMap) -> Response {
    match find(&name) {
        Some(asset) => asset.respond(&headers).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

fn find(name: &str) -> Option<&'static Asset> {
    let all = ASSETS.iter().chain(SHARED);
    let found = all.into_iter().find(|(known, _)| *known == name);
    found.map(|(_, asset)| asset)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn all_files_are_served() {
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
    fn all_referenced_files_are_served() {
        let mut wanted: Vec<&str> = Vec::new();
        for html in [DASHBOARD, LOGIN] {
            let referenced = html.split("\"./assets/").skip(1);
            wanted.extend(referenced.map(|rest| rest.split_once('"').unwrap().0));
        }
        for (_, asset) in ASSETS.iter().filter(|(name, _)| name.ends_with(".js")) {
            let code = std::str::from_utf8(asset.bytes).unwrap();
            let referenced = code.split("from './").skip(1);
            wanted.extend(referenced.map(|rest| rest.split_once('\'').unwrap().0));
        }
        assert!(wanted.len() > 10, "found only {wanted:?}");
        for name in wanted {
            assert!(find(name).is_some(), "{name} is not served");
        }
    }

    #[test]
    fn pages_have_no_inline_scripts_or_styles() {
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
    fn the_login_message_is_escaped() {
        let html = fill(LOGIN, |name| (name == "message").then_some("<b>&"));
        assert!(html.contains("&lt;b&gt;&amp;") && !html.contains("{{"));
    }
}
