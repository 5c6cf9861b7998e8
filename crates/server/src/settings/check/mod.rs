//! What has to hold between settings, once each of them is read.

mod direct;
mod grants;
mod hooks;
mod s3;

use super::layers::Layers;
use super::problem::Problem;
use super::types::Settings;

/// The pages that are always there.
const OWN_PAGES: &[&str] = &["/healthz", "/readyz"];

/// The feature that this build needs for a setting and hasn't got.
#[cfg(test)]
pub(super) fn missing_feature(name: &str) -> Option<&'static str> {
    hooks::missing_feature(name)
        .or_else(|| grants::missing_feature(name))
        .or_else(|| direct::missing_feature(name))
}

/// Looks for settings that don't go together, and for those that have no effect.
pub(super) fn check(
    settings: &mut Settings,
    layers: &Layers,
    problems: &mut Vec<Problem>,
    warnings: &mut Vec<String>,
) {
    s3::check(settings, layers, problems, warnings);
    hooks::check(settings, layers, problems, warnings);
    grants::check(settings, layers, problems, warnings);
    direct::check(settings, layers, problems, warnings);
    grants::check_paths(settings, layers, problems);
    let place = |name: &str| match layers.get(name) {
        Some(given) => given.source.to_string(),
        None => name.to_owned(),
    };
    let mut without_effect = |name: &str, reason: &str| {
        if let Some(given) = layers.get(name) {
            warnings.push(format!("{}: has no effect {reason}", given.source));
        }
    };

    if settings.listen.unix_sock.is_some() {
        for name in ["host", "port"] {
            without_effect(name, "beside unix-sock");
        }
    }
    if !settings.urls.behind_proxy {
        without_effect("trusted-proxies", "without behind-proxy");
    }
    if settings.cors.disable {
        for name in [
            "cors-allow-origin",
            "cors-allow-credentials",
            "cors-allow-methods",
            "cors-allow-headers",
            "cors-expose-headers",
            "cors-max-age",
        ] {
            without_effect(name, "with disable-cors");
        }
    }
    if settings.timeouts.network.is_none() {
        without_effect(
            "min-rate",
            "with network-timeout 0, over which it is averaged",
        );
        settings.limits.min_rate = None;
    }

    if settings.urls.relative_location && settings.urls.public_url.is_some() {
        problems.push(Problem::new(
            place("public-url"),
            "can't go with relative-location: upload URLs begin with the one or have no beginning",
        ));
    }
    let base = &settings.urls.base_path;
    if let Some(url) = &settings.urls.public_url
        && base != "/"
        && url.matches('/').count() == 3
    {
        warnings.push(format!(
            "{}: uploads will be announced at {url}ID; if the proxy passes paths on as they are, \
             write {}{base}",
            place("public-url"),
            url.trim_end_matches('/'),
        ));
    }
    let base_page = base.trim_end_matches('/');
    if OWN_PAGES.contains(&base_page) {
        problems.push(Problem::new(
            place("base-path"),
            format!("{base_page} is the page for health checks; choose another path"),
        ));
    }
    let metrics = settings.monitoring.metrics_path.as_str();
    if settings.monitoring.expose_metrics
        && (metrics == "/" || OWN_PAGES.contains(&metrics) || [base_page, base].contains(&metrics))
    {
        let name = if layers.get("metrics-path").is_some() {
            "metrics-path"
        } else {
            "base-path"
        };
        problems.push(Problem::new(
            place(name),
            format!("metrics can't be at {metrics}, where another page is; choose another path"),
        ));
    }
}
