//! What has to hold between settings, once each of them is read.

mod cors;
mod direct;
mod grants;
mod hooks;
mod s3;

use super::arguments::Verb;
use super::layers::Layers;
use super::problem::Problem;
use super::table::setting;
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

/// Says that a setting needs a feature that this build hasn't got.
pub(super) fn not_compiled_in(what: &str, feature: &str) -> String {
    format!("{what} is not compiled in; rebuild with `--features {feature}`")
}

/// What is found to be wrong, or worth a warning, each at its setting.
pub(super) struct Findings<'a> {
    layers: &'a Layers,
    verb: Verb,
    problems: &'a mut Vec<Problem>,
    warnings: &'a mut Vec<String>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(
        layers: &'a Layers,
        verb: Verb,
        problems: &'a mut Vec<Problem>,
        warnings: &'a mut Vec<String>,
    ) -> Self {
        Self {
            layers,
            verb,
            problems,
            warnings,
        }
    }

    /// Where a setting was given, or its name.
    fn place(&self, name: &str) -> String {
        match self.layers.get(name) {
            Some(given) => given.source.to_string(),
            None => name.to_owned(),
        }
    }

    /// The settings that somebody gave.
    fn given(&self) -> Vec<&'static str> {
        self.layers.names().collect()
    }

    /// What was written for a setting, if anything.
    fn text(&self, name: &str) -> Option<&'a str> {
        self.layers.get(name).map(|given| given.text.as_str())
    }

    /// Whether a server is to run with the settings. Other commands use some of them without what
    /// makes a server use them.
    pub(super) fn is_for_server(&self) -> bool {
        matches!(self.verb, Verb::Serve | Verb::ConfigCheck)
    }

    /// Whether the settings are only checked, maybe by another user than the server's.
    pub(super) fn is_only_check(&self) -> bool {
        self.verb == Verb::ConfigCheck
    }

    fn is_given(&self, name: &str) -> bool {
        self.layers.get(name).is_some()
    }

    /// A setting that cannot work.
    pub(super) fn problem(&mut self, name: &str, reason: impl std::fmt::Display) {
        self.problems.push(Problem::new(self.place(name), reason));
    }

    /// A setting that cannot work on this machine as it is now: the program then ends with 1.
    pub(super) fn problem_at_start(&mut self, name: &str, reason: impl std::fmt::Display) {
        let problem = Problem::new(self.place(name), reason).at_start();
        self.problems.push(problem);
    }

    /// A setting that is allowed but may not be meant.
    pub(super) fn warning(&mut self, name: &str, reason: impl std::fmt::Display) {
        self.warnings
            .push(format!("{}: {reason}", self.place(name)));
    }

    /// A setting that does nothing. Whoever set one that limits or protects relies on it, so it is an
    /// error; any other is worth a warning, and one that says what holds anyway isn't.
    pub(super) fn without_effect(&mut self, name: &str, reason: &str) {
        let (Some(given), Some(setting)) = (self.layers.get(name), setting(name)) else {
            return;
        };
        if given.text == setting.default {
            return;
        }
        let reason = format!("has no effect {reason}");
        match setting.protects {
            true => self.problem(name, reason),
            false => self.warning(name, reason),
        }
    }
}

/// Looks for settings that don't go together, and for those that have no effect.
pub(super) fn check(settings: &mut Settings, findings: &mut Findings<'_>) {
    s3::check(settings, findings);
    hooks::check(settings, findings);
    grants::check(settings, findings);
    direct::check(settings, findings);
    grants::check_paths(settings, findings);
    cors::check(settings, findings);

    if settings.listen.unix_sock.is_some() {
        for name in ["host", "port"] {
            findings.without_effect(name, "beside unix-sock");
        }
    }
    let urls = &settings.urls;
    if !urls.behind_proxy {
        findings.without_effect("trusted-proxies", "without behind-proxy");
    } else if urls.trusted_proxies.is_empty() && settings.listen.unix_sock.is_none() {
        findings.without_effect(
            "behind-proxy",
            "with trusted-proxies empty, which trusts nobody",
        );
    }
    if settings.listen.unix_sock.is_some() {
        findings.without_effect(
            "max-connections-per-address",
            "beside unix-sock, whose connections have no address",
        );
        if !urls.behind_proxy {
            for name in ["max-requests-per-address", "max-uploads-per-address"] {
                findings.without_effect(name, "beside unix-sock without behind-proxy");
            }
        }
    }
    if settings.protocol.disable_download {
        findings.without_effect("disable-unfinished-download", "with disable-download");
    }
    if !settings.monitoring.expose_metrics {
        findings.without_effect("metrics-path", "with expose-metrics false");
    }
    if settings.timeouts.network.is_none() {
        findings.without_effect(
            "min-rate",
            "with network-timeout 0, over which it is averaged",
        );
        settings.limits.min_rate = None;
    }

    if settings.urls.relative_location && settings.urls.public_url.is_some() {
        findings.problem(
            "public-url",
            "can't go with relative-location: upload URLs begin with the one or have no beginning",
        );
    }
    let base = &settings.urls.base_path;
    if let Some(url) = &settings.urls.public_url
        && base != "/"
        && url.matches('/').count() == 3
    {
        findings.warning(
            "public-url",
            format!(
                "uploads will be announced at {url}ID; if the proxy passes paths on as they are, \
                 write {}{base}",
                url.trim_end_matches('/'),
            ),
        );
    }
    let base_page = base.trim_end_matches('/');
    if OWN_PAGES.contains(&base_page) {
        findings.problem(
            "base-path",
            format!("{base_page} is the page for health checks; choose another path"),
        );
    }
    let metrics = settings.monitoring.metrics_path.as_str();
    if settings.monitoring.expose_metrics
        && (metrics == "/" || OWN_PAGES.contains(&metrics) || [base_page, base].contains(&metrics))
    {
        let name = match findings.is_given("metrics-path") {
            true => "metrics-path",
            false => "base-path",
        };
        findings.problem(
            name,
            format!("metrics can't be at {metrics}, where another page is; choose another path"),
        );
    }
}
