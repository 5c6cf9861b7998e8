//! The greeting page served at `/`: its files, built into the program, and the filling-in of its
//! settings.
//!
//! The page lives in `crates/server/page/` as plain HTML, CSS and ES modules; there is no build
//! step. It asks for its files relative to itself, as `./_landfall/NAME`, so it works below a
//! prefix that a proxy strips.

use crate::asset::{Asset, CSS, JAVASCRIPT, SVG, assets, fill};

/// Path below which the files of [`asset`] are served.
pub const ASSET_PREFIX: &str = "/_landfall/";

/// `Content-Security-Policy` that the page needs, and nothing beyond it.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// What the page has to know about the server.
#[derive(Debug, Clone, Copy)]
pub struct PageSettings<'a> {
    /// Where uploads are created: the base path (`/files/`) or an absolute URL.
    ///
    /// A path is made relative to the page, which is served at `/`, so that a prefix added by a
    /// proxy stays in front of it.
    pub endpoint: &'a str,
    /// Largest upload that is accepted, in bytes; `None` is no limit.
    pub max_size: Option<u64>,
    /// Version of the program.
    pub version: &'a str,
    /// Whether finished uploads can be downloaded.
    pub download: bool,
    /// Where uploads have to be asked for first, if they have to: the page, which can't do that, says
    /// so.
    pub ask_at: Option<&'a str>,
}

/// The page as HTML (`text/html; charset=utf-8`) with the settings filled in.
pub fn index(settings: &PageSettings<'_>) -> String {
    let endpoint = relative(settings.endpoint);
    let max_size = settings.max_size.map(|size| size.to_string());
    fill(INDEX, |name| match name {
        "endpoint" => Some(&endpoint),
        "max_size" => Some(max_size.as_deref().unwrap_or_default()),
        "version" => Some(settings.version),
        "ask_at" => Some(settings.ask_at.unwrap_or_default()),
        "download" => Some(if settings.download { "true" } else { "false" }),
        _ => None,
    })
}

/// The file of the page called `name`, which is the request's path without [`ASSET_PREFIX`].
///
/// Names never change with their content, so clients should ask again each time
/// (`Cache-Control: no-cache`) and be answered 304 when the `ETag` is still right.
pub fn asset(name: &str) -> Option<Asset> {
    ASSETS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, asset)| *asset)
}

const INDEX: &str = include_str!("../page/index.html");

const ASSETS: &[(&str, Asset)] = assets! { "page":
    "app.js": JAVASCRIPT,
    "awake.js": JAVASCRIPT,
    "files.js": JAVASCRIPT,
    "format.js": JAVASCRIPT,
    "icon.svg": SVG,
    "item.js": JAVASCRIPT,
    "queue.js": JAVASCRIPT,
    "request.js": JAVASCRIPT,
    "store.js": JAVASCRIPT,
    "style.css": CSS,
    "tus.js": JAVASCRIPT,
    "view.js": JAVASCRIPT,
};

/// `/files/` → `./files/`; an absolute URL stays as it is.
fn relative(endpoint: &str) -> String {
    match endpoint.strip_prefix('/') {
        // `//host/…` names another host.
        Some(rest) if !rest.starts_with('/') => format!("./{rest}"),
        _ => endpoint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const SETTINGS: PageSettings<'_> = PageSettings {
        endpoint: "/files/",
        max_size: None,
        version: "1.2.3",
        download: true,
        ask_at: None,
    };

    fn meta(html: &str, name: &str) -> String {
        let start = format!("<meta name=\"landfall-{name}\" content=\"");
        let (_, rest) = html
            .split_once(&start)
            .unwrap_or_else(|| panic!("no meta {name}"));
        rest.split_once('"').unwrap().0.to_owned()
    }

    #[test]
    fn the_page_says_when_uploads_must_be_asked_for() {
        let asked = PageSettings {
            ask_at: Some("/uploadjobs"),
            ..SETTINGS
        };
        let html = index(&asked);
        assert!(html.contains("data-ask-at=\"/uploadjobs\"") && html.contains("POST /uploadjobs"));
        // Hidden by the style sheet.
        assert!(index(&SETTINGS).contains("data-ask-at=\"\""));
        let style = asset("style.css").unwrap();
        let style = std::str::from_utf8(style.bytes).unwrap();
        assert!(style.contains(".notice[data-ask-at=\"\"] { display: none; }"));
    }

    #[test]
    fn index_tells_the_page_the_settings() {
        let html = index(&PageSettings {
            max_size: Some(5_000_000_000),
            ..SETTINGS
        });
        assert_eq!(meta(&html, "endpoint"), "./files/");
        assert_eq!(meta(&html, "max-size"), "5000000000");
        assert_eq!(meta(&html, "version"), "1.2.3");
        assert_eq!(meta(&html, "download"), "true");
        assert!(!html.contains("{{"), "a placeholder was left");
    }

    #[test]
    fn no_limit_is_an_empty_value_and_no_download_is_false() {
        let html = index(&PageSettings {
            download: false,
            ..SETTINGS
        });
        assert_eq!(meta(&html, "max-size"), "");
        assert_eq!(meta(&html, "download"), "false");
    }

    #[test]
    fn an_absolute_endpoint_stays_absolute() {
        for endpoint in ["https://up.example/files/", "//up.example/files/"] {
            assert_eq!(
                meta(
                    &index(&PageSettings {
                        endpoint,
                        ..SETTINGS
                    }),
                    "endpoint"
                ),
                endpoint
            );
        }
        assert_eq!(
            meta(
                &index(&PageSettings {
                    endpoint: "/",
                    ..SETTINGS
                }),
                "endpoint"
            ),
            "./"
        );
    }

    #[test]
    fn values_are_escaped_and_never_taken_for_placeholders() {
        let version = "{{endpoint}}\"'><script>&";
        let html = index(&PageSettings {
            version,
            ..SETTINGS
        });
        let escaped = "{{endpoint}}&quot;&#39;&gt;&lt;script&gt;&amp;";
        assert_eq!(meta(&html, "version"), escaped);
        assert!(
            html.contains(&format!("Landfall {escaped} ")),
            "the footer is not escaped"
        );
    }

    #[test]
    fn every_file_of_the_folder_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/page");
        let there: BTreeSet<String> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .filter(|name| name != "index.html")
            .collect();
        let served: BTreeSet<String> = ASSETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(served, there);
    }

    #[test]
    fn everything_the_page_asks_for_is_served() {
        let mut wanted: Vec<&str> = INDEX
            .split("\"./_landfall/")
            .skip(1)
            .map(|rest| rest.split_once('"').unwrap().0)
            .collect();
        for (_, asset) in ASSETS
            .iter()
            .filter(|(_, asset)| asset.content_type == JAVASCRIPT)
        {
            let code = std::str::from_utf8(asset.bytes).unwrap();
            wanted.extend(
                code.split("from './")
                    .skip(1)
                    .map(|rest| rest.split_once('\'').unwrap().0),
            );
        }
        assert!(wanted.len() > 10, "found only {wanted:?}");
        for name in wanted {
            assert!(asset(name).is_some(), "{name} is not served");
        }
    }

    #[test]
    fn nothing_is_inline_so_that_the_policy_can_be_strict() {
        assert!(!INDEX.contains("<style") && !INDEX.contains(" style="));
        assert!(!INDEX.contains(" onclick=") && !INDEX.contains(" onload="));
        for script in INDEX.split("<script").skip(1) {
            assert!(
                script.contains("src=\"") && script.contains("></script>"),
                "{script}"
            );
        }
    }

    #[test]
    fn unknown_names_are_not_found() {
        for name in ["", "index.html", "../src/page.rs", "app.js/", "APP.JS"] {
            assert!(asset(name).is_none(), "{name}");
        }
    }

    #[test]
    fn no_two_files_have_one_etag() {
        let all: BTreeSet<&str> = ASSETS.iter().map(|(_, asset)| asset.etag()).collect();
        assert_eq!(all.len(), ASSETS.len());
    }
}
