//! Rules between settings, checked after each has been parsed.

mod cors;
mod direct;
mod grants;
mod hooks;
mod s3;

use super::layers::Layers;
use super::problem::Problem;
use super::sections::Settings;
use super::sections::setting;
use super::sections::table::{Property, Subcommand};

const BUILT_IN_PAGES: &[&str] = &["/healthz", "/readyz"];

#[cfg(test)]
pub(super) fn missing_feature(name: &str) -> Option<&'static str> {
    hooks::missing_feature(name)
        .or_else(|| grants::missing_feature(name))
        .or_else(|| direct::missing_feature(name))
}

pub(super) fn not_compiled_in(what: &str, feature: &str) -> String {
    format!("{what} is not compiled in; rebuild with `--features {feature}`")
}

pub(super) struct Findings<'a> {
    layers: &'a Layers,
    subcommand: Subcommand,
    problems: &'a mut Vec<Problem>,
    warnings: &'a mut Vec<String>,
}

impl<'a> Findings<'a> {
    pub(super) fn new(
        layers: &'a Layers,
        subcommand: Subcommand,
        problems: &'a mut Vec<Problem>,
        warnings: &'a mut Vec<String>,
    ) -> Self {
        Self {
            layers,
            subcommand,
            problems,
            warnings,
        }
    }

    fn place(&self, name: &str) -> String {
        match self.layers.get(name) {
            Some(given) => given.source.to_string(),
            None => format!("--{name}"),
        }
    }

    fn given(&self, prefix: &str) -> Vec<&'static str> {
        let names = self.layers.names();
        names.filter(|name| name.starts_with(prefix)).collect()
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.layers.get(name).map(|given| given.text.as_str())
    }

    /// Other commands use settings, such as `--database`, that a server uses only with others.
    pub(super) fn is_for_server(&self) -> bool {
        matches!(self.subcommand, Subcommand::Serve | Subcommand::ConfigCheck)
    }

    /// Maybe by another user than the server's.
    pub(super) fn is_only_check(&self) -> bool {
        self.subcommand == Subcommand::ConfigCheck
    }

    fn is_given(&self, name: &str) -> bool {
        self.layers.get(name).is_some()
    }

    pub(super) fn problem(&mut self, name: &str, reason: impl std::fmt::Display) {
        self.problems.push(Problem::new(self.place(name), reason));
    }

    /// The exit code is then 1.
    pub(super) fn problem_at_start(&mut self, name: &str, reason: impl std::fmt::Display) {
        let problem = Problem::new(self.place(name), reason).at_start();
        self.problems.push(problem);
    }

    pub(super) fn warning(&mut self, name: &str, reason: impl std::fmt::Display) {
        let place = self.place(name);
        self.warnings.push(format!("{place}: {reason}"));
    }

    /// An error if a setting limits or protects, because a user relies on it, and otherwise a warning.
    /// Defaults are not reported.
    pub(super) fn without_effect(&mut self, names: &[&str], reason: &str) {
        for name in names {
            let (Some(given), Some(setting)) = (self.layers.get(name), setting(name)) else {
                continue;
            };
            if given.text == setting.default {
                continue;
            }
            let reason = format!("has no effect {reason}");
            match setting.has(Property::Protects) {
                true => self.problem(name, reason),
                false => self.warning(name, reason),
            }
        }
    }
}

pub(super) fn check_subcommand(subcommand: Subcommand, settings: &Settings) -> Option<Problem> {
    let has_bucket = settings.s3.bucket.is_some();
    let sentence = match subcommand {
        Subcommand::DoctorS3 if !has_bucket => {
            "doctor s3 requires a bucket; write --s3-bucket NAME".to_owned()
        }
        Subcommand::SetCors if !has_bucket => {
            "s3 set-cors requires a bucket; write --s3-bucket NAME".to_owned()
        }
        Subcommand::DoctorFiles if has_bucket => {
            "doctor files checks an upload directory, but --s3-bucket is set; run landfall doctor s3"
                .to_owned()
        }
        Subcommand::Keys if !cfg!(feature = "grants") => not_compiled_in("grants support", "grants"),
        _ => return None,
    };
    Some(Problem::whole(sentence))
}

pub(super) fn check(settings: &mut Settings, findings: &mut Findings<'_>) {
    s3::check(settings, findings);
    hooks::check(settings, findings);
    grants::check(settings, findings);
    direct::check(settings, findings);
    grants::check_paths(settings, findings);
    cors::check(settings, findings);

    if settings.listen.unix_sock.is_some() {
        findings.without_effect(&["host", "port"], "with --unix-sock");
    }
    let urls = &settings.urls;
    if !urls.behind_proxy {
        findings.without_effect(&["trusted-proxies"], "without --behind-proxy");
    } else if urls.trusted_proxies.is_empty() && settings.listen.unix_sock.is_none() {
        let reason = "with an empty --trusted-proxies: no proxy is trusted";
        findings.without_effect(&["behind-proxy"], reason);
    }
    if settings.listen.unix_sock.is_some() {
        let reason = "with --unix-sock: its connections have no address";
        findings.without_effect(&["max-connections-per-address"], reason);
        if !urls.behind_proxy {
            let names = ["max-requests-per-address", "max-uploads-per-address"];
            findings.without_effect(&names, "with --unix-sock and without --behind-proxy");
        }
    }
    if settings.protocol.disable_download {
        findings.without_effect(&["disable-unfinished-download"], "with --disable-download");
    }
    if !settings.monitoring.expose_metrics {
        findings.without_effect(&["metrics-path"], "with --expose-metrics=false");
    }
    if settings.timeouts.network.is_none() {
        let reason = "with --network-timeout 0, over which it is averaged";
        findings.without_effect(&["min-rate"], reason);
        settings.limits.min_rate = None;
    }

    if settings.urls.relative_location && settings.urls.public_url.is_some() {
        findings.problem("public-url", "conflicts with --relative-location");
    }
    let base = &settings.urls.base_path;
    if let Some(url) = &settings.urls.public_url
        && base != "/"
        && url.matches('/').count() == 3
    {
        findings.warning(
            "public-url",
            format!(
                "upload URLs will be {url}ID; if the proxy keeps paths unchanged, write {}{base}",
                url.trim_end_matches('/'),
            ),
        );
    }
    let base_page = base.trim_end_matches('/');
    if BUILT_IN_PAGES.contains(&base_page) {
        let reason = format!("{base_page} is the path of health checks; choose another path");
        findings.problem("base-path", reason);
    }
    let metrics = settings.monitoring.metrics_path.as_str();
    if settings.monitoring.expose_metrics
        && (metrics == "/"
            || BUILT_IN_PAGES.contains(&metrics)
            || [base_page, base].contains(&metrics))
    {
        let name = match findings.is_given("metrics-path") {
            true => "metrics-path",
            false => "base-path",
        };
        let reason = "is used by another page; choose another path";
        findings.problem(name, format!("the metrics path {metrics} {reason}"));
    }
}
