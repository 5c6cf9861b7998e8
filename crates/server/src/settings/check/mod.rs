//! Rules between settings, checked after each has been parsed.

mod clouds;
mod direct;
mod grants;
mod hooks;
mod s3;
mod tls;

use super::layers::Layers;
use super::problem::Problem;
use super::sections::Settings;
use super::sections::table::{Property, Subcommand};
use super::sections::{is_used_by, setting};

const BUILT_IN_PAGES: &[&str] = &["/healthz", "/readyz"];

/// Select the uploads and the database that a command works on.
const TARGETS: [&str; 8] = [
    "s3-bucket",
    "s3-endpoint",
    "gcs-bucket",
    "gcs-endpoint",
    "azure-storage",
    "azure-endpoint",
    "lease",
    "database",
];

/// Origins that no configuration intends: an expression that matches one of them matches any.
const FOREIGN_ORIGINS: [&str; 3] = [
    "https://landfall-probe.invalid",
    "http://landfall-probe.invalid",
    // The origin of a sandboxed frame, which every page can create.
    "null",
];

pub(super) struct Findings<'a> {
    layers: &'a Layers,
    pub(super) subcommand: Subcommand,
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

    fn place_of(&self, name: &'static str, other: &'static str) -> &'static str {
        if self.is_given(name) { name } else { other }
    }

    fn text(&self, name: &str) -> Option<&'a str> {
        self.layers.explicit(name).map(|given| given.text())
    }

    /// Other commands use settings, such as `--database`, that a server uses only with others.
    pub(super) fn is_for_server(&self) -> bool {
        matches!(
            self.subcommand,
            Subcommand::Serve | Subcommand::ConfigCheck | Subcommand::ConfigShow
        )
    }

    /// Maybe by another user than the server's.
    pub(super) fn is_only_check(&self) -> bool {
        self.subcommand == Subcommand::ConfigCheck
    }

    fn is_given(&self, name: &str) -> bool {
        self.layers.explicit(name).is_some()
    }

    /// An error, or a warning if a command other than the server can work.
    ///
    /// Such a command may have only a part of the server's settings: in a container, secrets are variables,
    /// which it gets, too, and features are arguments of the server.
    pub(super) fn problem(&mut self, name: &str, reason: impl std::fmt::Display) {
        let is_target = TARGETS.contains(&name) && is_used_by(name, self.subcommand);
        match self.is_for_server() || is_target {
            true => self.problems.push(Problem::new(self.place(name), reason)),
            false => self.warning(name, reason),
        }
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

    /// An error of the server if a setting limits or protects, because a user relies on it, and otherwise a
    /// warning. Defaults are not reported.
    pub(super) fn without_effect(&mut self, names: &[&str], reason: &str) {
        for name in names {
            let (Some(given), Some(setting)) = (self.layers.explicit(name), setting(name)) else {
                continue;
            };
            if given.text() == setting.default {
                continue;
            }
            let reason = format!("has no effect {reason}");
            match setting.has(Property::Protects) {
                true => self.problem(name, reason),
                false => self.warning(name, reason),
            }
        }
    }

    fn without_effect_if(&mut self, condition: bool, names: &[&str], reason: &str) {
        if condition {
            self.without_effect(names, reason);
        }
    }

    fn problem_if(&mut self, condition: bool, name: &str, reason: impl std::fmt::Display) {
        if condition {
            self.problem(name, reason);
        }
    }
}

pub(super) fn check_subcommand(subcommand: Subcommand, settings: &Settings) -> Option<Problem> {
    let has_bucket = settings.s3.bucket.is_some();
    let sentence = match subcommand {
        Subcommand::DoctorS3 if !has_bucket => {
            "doctor s3 requires a bucket; write --s3-bucket NAME".to_owned()
        }
        Subcommand::DoctorGcs if settings.gcs.bucket.is_none() => {
            "doctor gcs requires a bucket; write --gcs-bucket NAME".to_owned()
        }
        Subcommand::DoctorAzure if settings.azure.container.is_none() => {
            "doctor azure requires a container; write --azure-storage NAME".to_owned()
        }
        Subcommand::DoctorTls if !settings.tls.is_on() => {
            "doctor tls requires a certificate; write --tls-certificate FILE --tls-key FILE, or --acme-domain NAME"
                .to_owned()
        }
        Subcommand::SetCors if !has_bucket => {
            "s3 set-cors requires a bucket; write --s3-bucket NAME".to_owned()
        }
        Subcommand::DoctorFiles if !settings.uses_directory() => {
            let (flag, doctor) = match (&settings.s3.bucket, &settings.gcs.bucket) {
                (Some(_), _) => ("--s3-bucket", "s3"),
                (None, Some(_)) => ("--gcs-bucket", "gcs"),
                (None, None) => ("--azure-storage", "azure"),
            };
            format!(
                "doctor files checks an upload directory, but {flag} is set; run landfall doctor {doctor}"
            )
        }
        _ => return None,
    };
    Some(Problem::whole(sentence))
}

pub(super) fn check(settings: &mut Settings, findings: &mut Findings<'_>) {
    clouds::check(settings, findings);
    s3::check(settings, findings);
    hooks::check(settings, findings);
    grants::check(settings, findings);
    direct::check(settings, findings);
    grants::check_paths(settings, findings);
    check_cors(settings, findings);
    tls::check(settings, findings);

    let has_socket = settings.listen.unix_sock.is_some();
    findings.without_effect_if(has_socket, &["host", "port"], "with --unix-sock");
    let urls = &settings.urls;
    let has_proxy = urls.behind_proxy;
    let expects_proxy = has_proxy || settings.listen.proxy_protocol;
    let reason = "without --behind-proxy or --proxy-protocol";
    findings.without_effect_if(!expects_proxy, &["trusted-proxies"], reason);
    let trusts_none = has_proxy && urls.trusted_proxies.is_empty() && !has_socket;
    let reason = "with an empty --trusted-proxies: no proxy is trusted";
    findings.without_effect_if(trusts_none, &["behind-proxy"], reason);
    if has_socket {
        findings.without_effect(&["proxy-protocol"], "with --unix-sock");
    } else if settings.listen.proxy_protocol {
        let reason = "requires the addresses of your proxies; write --trusted-proxies 192.0.2.10";
        let trusts_all = urls
            .trusted_proxies
            .iter()
            .any(|range| range.prefix_len() == 0);
        let is_default = !findings.is_given("trusted-proxies");
        let is_unset = urls.trusted_proxies.is_empty() || (trusts_all && is_default);
        findings.problem_if(is_unset, "proxy-protocol", reason);
    }
    let names = ["max-connections-per-address", "max-requests-per-address"];
    let reason = "with --unix-sock and without --behind-proxy";
    findings.without_effect_if(has_socket && !has_proxy, &names, reason);
    let is_off = settings.protocol.interop_versions.is_off();
    findings.without_effect_if(is_off, &["rufh-104"], "with --rufh off");
    let monitoring = &settings.monitoring;
    let reason = "with --expose-metrics=false";
    findings.without_effect_if(!monitoring.expose_metrics, &["metrics-path"], reason);
    let names = ["page-title", "page-text", "page-logo"];
    let reason = "with --show-greeting=false or --base-path /";
    findings.without_effect_if(!settings.has_page(), &names, reason);
    if settings.timeouts.network.is_none() {
        let reason = "with --network-timeout 0, over which it is averaged";
        findings.without_effect(&["min-rate"], reason);
        settings.limits.min_rate = None;
    }

    let base = &urls.base_path;
    if let Some(url) = urls.public_url()
        && base != "/"
        && url.matches('/').count() == 3
    {
        let host = url.trim_end_matches('/');
        let fix = format!("if the proxy keeps paths unchanged, write {host}{base}");
        findings.warning("public-url", format!("upload URLs will be {url}ID; {fix}"));
    }
    let base_page = base.trim_end_matches('/');
    let reason = format!("{base_page} is the path of health checks; choose another path");
    findings.problem_if(BUILT_IN_PAGES.contains(&base_page), "base-path", reason);
    let metrics = monitoring.metrics_path.as_str();
    let is_taken = ["/", base_page, base].contains(&metrics) || BUILT_IN_PAGES.contains(&metrics);
    let name = findings.place_of("metrics-path", "base-path");
    let reason = "is used by another page; choose another path";
    let reason = format!("the metrics path {metrics} {reason}");
    findings.problem_if(monitoring.expose_metrics && is_taken, name, reason);
}

fn check_cors(settings: &Settings, findings: &mut Findings<'_>) {
    let cors = &settings.cors;
    if cors.disable {
        return findings.without_effect(&findings.given("cors-"), "with --disable-cors");
    }
    let mut origins = FOREIGN_ORIGINS.into_iter();
    let matched = origins.find(|origin| cors.allow_origin.matches(origin));
    if let Some(origin) = matched.filter(|_| cors.allow_credentials) {
        findings.problem(
            "cors-allow-credentials",
            format!(
                "would let pages of any origin use the cookies of their visitors: \
                 --cors-allow-origin {:?} matches {origin}; write an expression that matches your \
                 origins only, such as ^https://app\\.example\\.com$",
                cors.allow_origin.pattern()
            ),
        );
    }
}
