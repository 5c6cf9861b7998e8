//! The upload page at `/`: its static files, compiled into the program, and its settings.
//!
//! The page is plain HTML, CSS and ES modules in `crates/server/page/`; there is no build step. It
//! refers to its files by relative URLs (`./_landfall/NAME`), so it works below a prefix that a proxy
//! strips.

use crate::asset::{Asset, CSS, JAVASCRIPT, JSON, SVG, TEXT, assets, fill};

/// Path prefix of the files of [`asset`].
pub const ASSET_PREFIX: &str = "/_landfall/";

/// The `Content-Security-Policy` of the page.
pub const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; \
     style-src 'self'; img-src 'self' data:; connect-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'none'";

/// The settings of the page.
#[derive(Debug, Clone, Copy, Default)]
pub struct PageSettings<'a> {
    /// The creation URL: the base path (`/files/`) or an absolute URL.
    ///
    /// A path is made relative to the page, to keep a prefix that a proxy stripped.
    pub endpoint: &'a str,
    /// Maximum upload size in bytes; `None` is unlimited.
    pub max_size: Option<u64>,
    /// The version of the program.
    pub version: &'a str,
    /// True if completed uploads can be downloaded.
    pub download: bool,
    /// The path for grants, if there is one: with an upload link, the page requests upload tokens there.
    pub grants: Option<&'a str>,
    /// The path for grants, if uploads require a token.
    ///
    /// Without an upload link, the page cannot request one: it shows a notice, and neither a drop zone nor buttons.
    pub token_endpoint: Option<&'a str>,
    /// The heading, and the title of the window; by default `Landfall`.
    pub title: Option<&'a str>,
    /// The text below the heading; by default a translated one.
    pub text: Option<&'a str>,
    /// The URL of the logo; by default that of Landfall.
    ///
    /// [`CONTENT_SECURITY_POLICY`] allows images of the same origin and `data:` URLs.
    pub logo: Option<&'a str>,
}

/// Renders the page as HTML (`text/html; charset=utf-8`).
pub fn index(settings: &PageSettings<'_>) -> String {
    let endpoint = relative(settings.endpoint);
    let grants = settings.grants.map(relative).unwrap_or_default();
    let max_size = settings.max_size.map(|size| size.to_string());
    fill(INDEX, |name| match name {
        "endpoint" => Some(&endpoint),
        "max_size" => Some(max_size.as_deref().unwrap_or_default()),
        "version" => Some(settings.version),
        "grants" => Some(&grants),
        "token_endpoint" => Some(settings.token_endpoint.unwrap_or_default()),
        "title" => Some(settings.title.unwrap_or("Landfall")),
        "text" => Some(settings.text.unwrap_or_default()),
        "logo" => Some(settings.logo.unwrap_or("./_landfall/icon.svg")),
        "download" => Some(if settings.download { "true" } else { "false" }),
        _ => None,
    })
}

/// Returns a file of the page; `name` is the request path without [`ASSET_PREFIX`].
///
/// Names do not change with the content, so clients must revalidate (`Cache-Control: no-cache`) and get
/// a 304 response if their `ETag` is current.
pub fn asset(name: &str) -> Option<Asset> {
    let (_, asset) = ASSETS.iter().find(|(known, _)| *known == name)?;
    Some(*asset)
}

const INDEX: &str = include_str!("../page/index.html");

const ASSETS: &[(&str, Asset)] = assets! { "page":
    "app.js": JAVASCRIPT,
    "cut.js": JAVASCRIPT,
    "files.js": JAVASCRIPT,
    "format.js": JAVASCRIPT,
    "http.js": JAVASCRIPT,
    "i18n.js": JAVASCRIPT,
    "icon.svg": SVG,
    "item.js": JAVASCRIPT,
    "lang/de.json": JSON, "lang/en.json": JSON,
    "lang/es.json": JSON,
    "lang/fr.json": JSON,
    "lang/ja.json": JSON,
    "lang/pt.json": JSON,
    "link.js": JAVASCRIPT,
    "list.js": JAVASCRIPT,
    "overall.js": JAVASCRIPT,
    "queue.js": JAVASCRIPT,
    "store.js": JAVASCRIPT,
    "style.css": CSS,
    "upload.js": JAVASCRIPT,
    "vendor/tus.min.js": JAVASCRIPT,
    "vendor/tus.min.js.LICENSE.txt": TEXT,
    "view.js": JAVASCRIPT,
    "wake-lock.js": JAVASCRIPT,
};

fn relative(endpoint: &str) -> String {
    match endpoint.strip_prefix('/') {
        // `//host/…` names another host.
        Some(rest) if !rest.starts_with('/') => format!("./{rest}"),
        _ => endpoint.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use super::*;

    const SETTINGS: PageSettings<'_> = PageSettings {
        endpoint: "/files/",
        max_size: None,
        version: "1.2.3",
        download: true,
        grants: None,
        token_endpoint: None,
        title: None,
        text: None,
        logo: None,
    };

    fn meta(html: &str, name: &str) -> String {
        let start = format!("<meta name=\"landfall-{name}\" content=\"");
        let (_, rest) = html
            .split_once(&start)
            .unwrap_or_else(|| panic!("no meta {name}"));
        rest.split_once('"').unwrap().0.to_owned()
    }

    #[test]
    fn the_page_names_the_path_for_grants() {
        let settings = PageSettings {
            grants: Some("/uploadjobs"),
            token_endpoint: Some("/uploadjobs"),
            ..SETTINGS
        };
        let html = index(&settings);
        assert!(html.contains("data-token-endpoint=\"/uploadjobs\""));
        assert_eq!(meta(&html, "grants"), "./uploadjobs");
        // Hidden by the style sheet.
        assert!(index(&SETTINGS).contains("data-token-endpoint=\"\""));
        let style = asset("style.css").unwrap();
        let style = std::str::from_utf8(style.bytes).unwrap();
        assert!(style.contains("[data-token-endpoint=\"\"] .token-notice { display: none; }"));
    }

    #[test]
    fn the_page_contains_the_settings() {
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
    fn the_page_shows_the_title_text_and_logo_of_the_operator() {
        let html = index(&SETTINGS);
        assert!(html.contains("<title>Landfall</title>") && html.contains("<h1>Landfall</h1>"));
        assert!(html.contains("<p id=\"tagline\" tabindex=\"-1\"></p>"));
        assert!(html.contains("<img id=\"logo\" src=\"./_landfall/icon.svg\""));
        let html = index(&PageSettings {
            title: Some("Files & Co."),
            text: Some("For our customers"),
            logo: Some("./logo.png"),
            ..SETTINGS
        });
        assert!(html.contains("<title>Files &amp; Co.</title>"));
        assert!(html.contains("<h1>Files &amp; Co.</h1>"));
        assert!(html.contains("<p id=\"tagline\" tabindex=\"-1\">For our customers</p>"));
        assert!(html.contains("<img id=\"logo\" src=\"./logo.png\""));
        assert!(html.contains("<link rel=\"icon\" href=\"./logo.png\""));
    }

    #[test]
    fn all_files_are_served() {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("page");
        let mut folders = vec![root.clone()];
        let mut there = BTreeSet::new();
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    there.insert(
                        path.strip_prefix(&root)
                            .unwrap()
                            .to_str()
                            .unwrap()
                            .to_owned(),
                    );
                }
            }
        }
        assert!(there.remove("index.html"));
        let served: BTreeSet<String> = ASSETS.iter().map(|(name, _)| (*name).to_owned()).collect();
        assert_eq!(served, there);
    }

    #[test]
    fn all_referenced_files_are_served() {
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
    fn the_page_has_no_inline_scripts_or_styles() {
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
    fn etags_are_unique() {
        let all: BTreeSet<String> = ASSETS.iter().map(|(_, asset)| asset.etag()).collect();
        assert_eq!(all.len(), ASSETS.len());
    }
}
