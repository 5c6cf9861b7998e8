//! Rules of HTTPS, HTTP/3, the redirect and ACME.
//!
//! With a UNIX socket, none of them has an effect: a proxy terminates TLS. Certificates come from files or from an
//! authority, never both. Files are not read here.

use landfall_http::TlsMode;

use super::Findings;
use crate::settings::sections::Settings;

pub(super) fn check(settings: &Settings, findings: &mut Findings<'_>) {
    let tls = &settings.tls;
    let names = ["tls-certificate", "tls-key"];
    if settings.listen.unix_sock.is_some() {
        let reason = "with --unix-sock: terminate TLS in the proxy";
        findings.without_effect(&findings.given("tls-"), reason);
        findings.without_effect(&findings.given("acme-"), reason);
        findings.without_effect(&["redirect-http", "http3", "hsts"], "with --unix-sock");
        return;
    }
    check_acme(settings, findings);
    if tls.certificates.len() != tls.keys.len() {
        let missing = usize::from(tls.certificates.len() > tls.keys.len());
        let (given, missing) = (names[1 - missing], names[missing]);
        let counts = (tls.certificates.len(), tls.keys.len());
        findings.problem(
            given,
            match counts {
                (0, _) | (_, 0) => format!("requires --{missing}"),
                (chains, keys) => format!(
                    "needs one key for each certificate; there are {chains} certificates and {keys} keys"
                ),
            },
        );
    } else if tls.is_on() {
        let source = match tls.acme.is_on() {
            true => "acme-domain",
            false => "tls-certificate",
        };
        let reason = format!("conflicts with --{source}: over TLS, clients choose HTTP/2 by ALPN");
        findings.problem_if(settings.listen.h2c, "enable-h2c", reason);
        let port = settings.listen.port;
        let reason = "is the port of HTTPS (--port); choose another one";
        findings.problem_if(tls.redirect_http == Some(port), "redirect-http", reason);
        let has_no_tls_1_3 = tls.http3 && tls.mode == TlsMode::Tls12Strong;
        let reason = "needs TLS 1.3, which --tls-mode=tls12-strong excludes";
        findings.problem_if(has_no_tls_1_3, "http3", reason);
        let reason = "conflicts with --proxy-protocol: TCP proxies do not forward UDP";
        findings.problem_if(tls.http3 && settings.listen.proxy_protocol, "http3", reason);
        let is_unset = tls.client_authorities.is_none();
        let reason = "without --tls-client-ca";
        findings.without_effect_if(is_unset, &["tls-client-auth"], reason);
    } else {
        let names = [
            "tls-mode",
            "tls-client-ca",
            "tls-client-auth",
            "redirect-http",
            "http3",
            "hsts",
        ];
        findings.without_effect(&names, "without --tls-certificate or --acme-domain");
    }
}

fn check_acme(settings: &Settings, findings: &mut Findings<'_>) {
    let tls = &settings.tls;
    if !tls.acme.is_on() {
        return findings.without_effect(&findings.given("acme-"), "without --acme-domain");
    }
    let reason = "conflicts with --tls-certificate: remove one of them; certificates come from files, or from \
                  an authority";
    let has_files = !tls.certificates.is_empty() || !tls.keys.is_empty();
    findings.problem_if(has_files, "acme-domain", reason);
    let reason = "requires --redirect-http 80 with --tls-client-ca: the authority has no client certificate, so \
                  it cannot check the names over TLS";
    let is_unreachable = tls.needs_client_certificate() && tls.redirect_http.is_none();
    findings.problem_if(is_unreachable, "acme-domain", reason);
}
