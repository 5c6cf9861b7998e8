//! Certificates: at start, and when their files are replaced.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use http::{HeaderValue, Request, header, uri::Authority};
use landfall_acme::Acme;
use landfall_console::{Finding, Report};
use landfall_http::{CertificateFiles, CertificateSummary, Listener, Tls, TlsConfig};
use landfall_http::{ChallengeCertificates, Shutdown, TlsFiles};

use crate::settings::{Loaded, Settings};

const RELOAD_INTERVAL: Duration = Duration::from_secs(10);

/// A certificate that is not renewed by then will likely expire.
const EXPIRES_SOON: Duration = Duration::from_secs(7 * 24 * 3600);

/// `landfall doctor tls` warns earlier than the log, since it may run once a week.
const RENEWAL_IS_DUE: Duration = Duration::from_secs(14 * 24 * 3600);

/// `landfall doctor tls`: checks certificates, keys and authorities of clients.
pub fn doctor_tls(loaded: &Loaded, is_json: bool) -> ExitCode {
    loaded.print_warnings();
    let mut report = Report::new("checking certificates", is_json);
    let (settings, tls, now) = (&loaded.settings, &loaded.settings.tls, SystemTime::now());
    if let Some(files) = settings.tls_files() {
        for certificate in &files.certificates {
            report.add(match tls.acme.is_on() {
                true => check_obtained(certificate, &tls.acme.domains, now),
                false => check_certificate(certificate, now),
            });
        }
        if let Some(authorities) = files.client_authorities.clone() {
            let shown = authorities.display().to_string();
            let check = "client authorities";
            report.add(match TlsConfig::load(files, tls.mode) {
                Err(error) if error.path == authorities => Finding::fail(check, error.to_string()),
                Err(_) => Finding::info(
                    check,
                    format!("{shown} is checked once certificates are valid"),
                ),
                Ok(_) => Finding::ok(check, shown),
            });
        }
    }
    report.finish(serde_json::json!({}))
}

/// The certificate of `--acme-domain`, as of the last time that this machine's server had it.
fn check_obtained(files: &CertificateFiles, domains: &[String], now: SystemTime) -> Finding {
    let file = files.chain.display();
    match files.chain.try_exists() {
        Ok(true) => {}
        Ok(false) => {
            let text = format!("{file}: not obtained yet for {}", domains.join(", "));
            return Finding::warn("certificate", text)
                .advise("start the server with these settings, and read its log if it runs");
        }
        Err(error) => {
            let text = format!("{file} cannot be read: {error}");
            return Finding::fail("certificate", text).advise("run this as the user of the server");
        }
    }
    let names = files.inspect().map(|summary| summary.names);
    let missing = names.map(|names| {
        let mut wanted = domains.iter();
        wanted
            .find(|name| !names.iter().any(|known| known.eq_ignore_ascii_case(name)))
            .cloned()
    });
    match missing {
        Ok(Some(name)) => Finding::warn("certificate", format!("{file}: not for {name}"))
            .advise("the server orders another one; read its log if it runs"),
        _ => check_certificate(files, now),
    }
}

fn check_certificate(files: &CertificateFiles, now: SystemTime) -> Finding {
    let check = "certificate";
    let CertificateSummary {
        names,
        starts,
        expires,
        ..
    } = match files.inspect() {
        Ok(summary) => summary,
        Err(error) => return Finding::fail(check, error.to_string()),
    };
    let names = match names.is_empty() {
        true => "no name".to_owned(),
        false => names.join(", "),
    };
    let date = httpdate::fmt_http_date;
    let text = format!("{}: {names}", files.chain.display());
    match expires.duration_since(now) {
        Err(_) => {
            Finding::fail(check, format!("{text}; expired {}", date(expires))).advise("renew it")
        }
        Ok(_) if starts > now => {
            let text = format!("{text}; not valid before {}", date(starts));
            Finding::fail(check, text).advise("check the clock of this machine")
        }
        Ok(left) if left < RENEWAL_IS_DUE => {
            Finding::warn(check, format!("{text}; expires {}", date(expires))).advise("renew it")
        }
        Ok(_) => Finding::ok(check, format!("{text}; expires {}", date(expires))),
    }
}

/// `None` without TLS.
pub(super) fn load(
    settings: &Settings,
    challenges: ChallengeCertificates,
) -> anyhow::Result<Option<TlsConfig>> {
    let tls = &settings.tls;
    let files = settings.tls_files();
    if tls.acme.is_on() {
        let config = files.map(|files| load_obtained(files, tls, challenges));
        return config.transpose();
    }
    let config = files.map(|files| TlsConfig::load(files, tls.mode));
    let config = config.transpose().context("TLS")?;
    if let Some(config) = &config {
        warn_about_expiry(config);
    }
    Ok(config)
}

/// The server starts without a certificate, so that the authority can validate the names.
fn load_obtained(
    files: TlsFiles,
    tls: &crate::settings::Tls,
    challenges: ChallengeCertificates,
) -> anyhow::Result<TlsConfig> {
    let names = tls.acme.domains.join(",");
    for certificate in &files.certificates {
        let Err(error) = certificate.inspect() else {
            continue;
        };
        match certificate.chain.exists() {
            true => tracing::error!(%error, names, "the stored certificate cannot be used"),
            false => tracing::warn!(
                names,
                "no certificate yet; TLS handshakes fail until one is obtained"
            ),
        }
    }
    let config = TlsConfig::load_obtained(files, tls.mode, challenges).context("TLS")?;
    warn_about_expiry(&config);
    Ok(config)
}

/// Reads changed files, or obtains and renews the certificate until the server stops.
pub(super) async fn maintain(tls: Tls, acme: Option<Acme>, shutdown: Shutdown) {
    match acme {
        None => reload_changed_files(tls).await,
        // Another process may renew while this one finishes its uploads.
        Some(acme) => tokio::select! {
            () = acme.run(tls) => {}
            () = shutdown.started() => {}
        },
    }
}

/// The value of `Strict-Transport-Security`.
pub(super) fn hsts(max_age: Duration) -> HeaderValue {
    let value = HeaderValue::try_from(format!("max-age={}", max_age.as_secs()));
    value.expect("digits are valid in a header")
}

/// A file that cannot be used leaves the current certificates in force.
pub(super) async fn reload_changed_files(tls: Tls) {
    loop {
        tokio::time::sleep(RELOAD_INTERVAL).await;
        let reloaded = tokio::task::spawn_blocking({
            let tls = tls.clone();
            move || tls.reload_changed_files()
        });
        match reloaded.await {
            Ok(Ok(true)) => {
                tracing::info!("certificates reloaded");
                warn_about_expiry(&tls.config());
            }
            Ok(Err(error)) => {
                tracing::error!(%error, "certificates not reloaded; the earlier ones stay in force");
            }
            Ok(Ok(false)) | Err(_) => {}
        }
    }
}

/// `--redirect-http`.
#[derive(Debug)]
pub(super) struct HttpsRedirect {
    /// Of `--public-url`; without it, the host of the request and this server's port.
    public: Option<String>,
    port: u16,
}

impl HttpsRedirect {
    pub(super) fn new(settings: &Settings, listeners: &[Listener]) -> Option<Self> {
        let public = settings.urls.public_url();
        let public = public.and_then(|url| url.strip_prefix("https://"));
        let public = public.map(|rest| rest.split('/').next().unwrap_or(rest).to_owned());
        let mut listeners = listeners.iter().filter(|listener| listener.has_tls());
        let address = listeners.find_map(Listener::local_addr)?;
        settings.tls.redirect_http.map(|_| Self {
            public,
            port: address.port(),
        })
    }

    /// Returns the URL of the request with https, or `None` if it has no valid host.
    pub(super) fn location<B>(&self, request: &Request<B>) -> Option<HeaderValue> {
        let path = request.uri().path_and_query();
        let path = path.map_or("/", |path| path.as_str());
        HeaderValue::try_from(format!("https://{}{path}", self.authority(request)?)).ok()
    }

    fn authority<B>(&self, request: &Request<B>) -> Option<String> {
        if let Some(public) = &self.public {
            return Some(public.clone());
        }
        let host = request.headers().get(header::HOST);
        let host = match host {
            Some(host) => host.to_str().ok()?.parse::<Authority>().ok()?,
            None => request.uri().authority()?.clone(),
        };
        Some(match self.port {
            443 => host.host().to_owned(),
            port => format!("{}:{port}", host.host()),
        })
    }
}

fn warn_about_expiry(config: &TlsConfig) {
    let Some(expires) = config.expires() else {
        return;
    };
    let now = SystemTime::now();
    let date = httpdate::fmt_http_date(expires);
    match expires.duration_since(now) {
        Err(_) => tracing::warn!(date, "a TLS certificate has expired"),
        Ok(left) if left < EXPIRES_SOON => tracing::warn!(date, "a TLS certificate expires soon"),
        Ok(_) => {}
    }
}
