//! HTTPS by the flags of tusd, the redirect from HTTP, and certificates that are replaced.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, CertifiedKey, KeyPair, generate_simple_self_signed};
use rustix::process::Signal;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::serve_harness::{
    Client, Landfall, MIB, Request, TIMEOUT, content, eventually, program, run,
};

type HttpsClient = Client<StreamOwned<ClientConnection, TcpStream>>;

/// Replaces `cert.pem` and `key.pem`.
fn issue(dir: &Path) -> CertificateDer<'static> {
    let names = ["landfall.test".to_owned()];
    let CertifiedKey { cert, signing_key } = generate_simple_self_signed(names).unwrap();
    fs::write(dir.join("cert.pem"), cert.pem()).unwrap();
    fs::write(dir.join("key.pem"), signing_key.serialize_pem()).unwrap();
    cert.der().clone()
}

/// With a certificate of the client and its key (PEM).
fn client_config(certificate: &CertificateDer<'static>, own: Option<(&str, &str)>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots);
    match own {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => {
            let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
            let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
            config.with_client_auth_cert(chain, key).unwrap()
        }
    }
}

/// Trusts this certificate.
pub(crate) fn client_config_with(
    certificate: &CertificateDer<'static>,
    alpn: &[u8],
) -> ClientConfig {
    let mut config = client_config(certificate, None);
    config.alpn_protocols = vec![alpn.to_vec()];
    config
}

fn connect(
    address: SocketAddr,
    certificate: &CertificateDer<'static>,
) -> std::io::Result<HttpsClient> {
    connect_with(address, certificate, None)
}

fn connect_with(
    address: SocketAddr,
    certificate: &CertificateDer<'static>,
    own: Option<(&str, &str)>,
) -> std::io::Result<HttpsClient> {
    let name = ServerName::try_from("landfall.test").unwrap();
    let config = Arc::new(client_config(certificate, own));
    let mut tls = ClientConnection::new(config, name).unwrap();
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(TIMEOUT))?;
    tls.complete_io(&mut tcp)?;
    Ok(Client::new(StreamOwned::new(tls, tcp)))
}

pub(crate) struct Https {
    pub(crate) server: Landfall,
    certificate: CertificateDer<'static>,
    dir: tempfile::TempDir,
}

impl Https {
    pub(crate) fn start(args: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let certificate = issue(dir.path());
        let flag = |name: &str, file: &str| format!("-{name}={}", Self::path(&dir, file).display());
        let files = [
            flag("tls-certificate", "cert.pem"),
            flag("tls-key", "key.pem"),
        ];
        let files = files.iter().map(String::as_str);
        let args: Vec<_> = args.iter().copied().chain(files).collect();
        Self {
            server: Landfall::start(&args),
            certificate,
            dir,
        }
    }

    fn path(dir: &tempfile::TempDir, file: &str) -> PathBuf {
        dir.path().join(file)
    }

    /// The certificate (PEM) of `landfall.test`.
    pub(crate) fn certificate_file(&self) -> PathBuf {
        Self::path(&self.dir, "cert.pem")
    }

    /// Of a client that speaks this protocol.
    pub(crate) fn client_config(&self, alpn: &[u8]) -> ClientConfig {
        client_config_with(&self.certificate, alpn)
    }

    /// A client with a certificate and its key (PEM).
    pub(crate) fn client_with(&self, certificate: &str, key: &str) -> HttpsClient {
        let own = Some((certificate, key));
        connect_with(self.server.address(), &self.certificate, own).unwrap()
    }

    pub(crate) fn client(&self) -> HttpsClient {
        connect(self.server.address(), &self.certificate).unwrap()
    }
}

/// Issues `NAME.pem` and `NAME.key`, valid for these days from now.
fn issue_for(dir: &Path, name: &str, (starts, ends): (i64, i64)) {
    let at = |days: i64| {
        let span = Duration::from_secs(days.unsigned_abs() * 24 * 3600);
        match days < 0 {
            true => SystemTime::now() - span,
            false => SystemTime::now() + span,
        }
    };
    let names = [format!("{name}.example"), "192.0.2.1".to_owned()];
    let mut params = CertificateParams::new(names).unwrap();
    params.not_before = at(starts).into();
    params.not_after = at(ends).into();
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    fs::write(dir.join(format!("{name}.pem")), certificate.pem()).unwrap();
    fs::write(dir.join(format!("{name}.key")), key.serialize_pem()).unwrap();
}

#[test]
fn doctor_tls_reports_what_cannot_be_used_and_what_expires() {
    let dir = tempfile::tempdir().unwrap();
    for (name, days) in [
        ("good", (-1, 90)),
        ("soon", (-1, 13)),
        ("old", (-9, -1)),
        ("early", (2, 90)),
    ] {
        issue_for(dir.path(), name, days);
    }
    let doctor = |pairs: &[(&str, &str)], more: &[&str]| {
        let list = |files: Vec<String>| files.join(",");
        let certificates = list(
            pairs
                .iter()
                .map(|(name, _)| format!("{name}.pem"))
                .collect(),
        );
        let keys = list(
            pairs
                .iter()
                .map(|(_, name)| format!("{name}.key"))
                .collect(),
        );
        let mut command = program();
        command.current_dir(dir.path()).args(["doctor", "tls"]);
        command.args(["-tls-certificate", &certificates, "-tls-key", &keys]);
        let (code, output, error) = run(command.args(more));
        assert_eq!(error, "", "{output}");
        (code, output)
    };
    let (code, output) = doctor(
        &[("good", "good"), ("soon", "soon")],
        &["-tls-client-ca=old.pem"],
    );
    assert_eq!(code, Some(0), "{output}");
    let lines: Vec<_> = output.lines().collect();
    assert_eq!(lines.len(), 4, "{output}");
    for (line, begin) in [
        (
            lines[0],
            "ok    certificate            good.pem: good.example, 192.0.2.1; expires ",
        ),
        (
            lines[1],
            "warn  certificate            soon.pem: soon.example, 192.0.2.1; expires ",
        ),
        (lines[2], "ok    client authorities     old.pem"),
        (lines[3], "uploads will work; 1 to check"),
    ] {
        assert!(line.starts_with(begin), "{output}");
    }
    for (pair, reason) in [
        (("old", "old"), "old.pem: old.example, 192.0.2.1; expired "),
        (
            ("early", "early"),
            "early.pem: early.example, 192.0.2.1; not valid before ",
        ),
        (
            ("good", "soon"),
            "soon.key: not the private key of good.pem",
        ),
        (("none", "good"), "none.pem: there is no such file"),
    ] {
        let (code, output) = doctor(&[pair], &[]);
        assert_eq!(code, Some(1), "{output}");
        assert!(
            output.starts_with("FAIL  certificate ") && output.contains(reason),
            "{output}"
        );
    }
    let (code, output) = doctor(&[("good", "good")], &["-tls-client-ca=good.key", "-json"]);
    assert_eq!(code, Some(1), "{output}");
    let report: serde_json::Value = serde_json::from_str(&output).unwrap();
    assert_eq!(report["ok"], false);
    assert_eq!(report["findings"][1]["check"], "client authorities");
    assert_eq!(report["findings"][1]["severity"], "fail");
}

#[test]
fn http_is_redirected() {
    // A free port: the next one that the system hands out may be another program's.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let https = Https::start(&[&format!("-redirect-http={port}"), "-hsts=365d"]);
    let mut plain = Client::connect(([127, 0, 0, 1], port).into());
    for request in [Request::get("/files/a?b=c"), Request::post()] {
        let answer = plain.ask(request);
        assert_eq!(answer.status, 308);
        let location = answer.header("Location").unwrap().to_owned();
        let own = format!(
            "https://landfall.test:{}/files/",
            https.server.address().port()
        );
        assert!(location.starts_with(&own), "{location}");
        assert_eq!(answer.header("Strict-Transport-Security"), None);
    }
    // The server as a whole has no other place.
    for (method, status) in [("OPTIONS", 204), ("GET", 400)] {
        let request = Request::new(method, "*");
        let answers = [plain.ask(request.clone()), https.client().ask(request)];
        for answer in answers {
            assert_eq!(answer.status, status, "{answer:?}");
            assert_eq!(answer.header("Location"), None);
        }
    }
    let mut client = https.client();
    for request in [
        Request::get("/"),
        Request::post().with("Upload-Length", 1),
        Request::get("/files/"),
    ] {
        let answer = client.ask(request);
        let value = answer.header("Strict-Transport-Security");
        assert_eq!(value, Some("max-age=31536000"), "{answer:?}");
    }
    https.server.stop();
}

#[test]
fn proxy_headers_precede_tls_and_redirects() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let https = Https::start(&[&format!("-redirect-http={port}"), "-proxy-protocol"]);
    let mut plain = Client::connect(([127, 0, 0, 1], port).into());
    plain.send("PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n");
    assert_eq!(plain.ask(Request::get("/files/a")).status, 308);

    let flag = |name: &str, file| format!("-{name}={}", Https::path(&https.dir, file).display());
    let key = flag("tls-key", "key.pem");
    let certificate = flag("tls-certificate", "cert.pem");
    let port = https.server.address().port().to_string();
    let args = ["-host=127.0.0.1", "-port", &port, &key, &certificate];
    let health = |more: &[&str]| run(program().arg("health").args(args).args(more));
    let (code, output, error) = health(&["-proxy-protocol"]);
    assert_eq!((code, &*output), (Some(0), "ok\n"), "{error}");
    assert_eq!(health(&[]).0, Some(1));
    https.server.stop();
}

#[test]
fn certificates_are_replaced_by_sighup_and_by_themselves() {
    let mut https = Https::start(&[]);
    let bytes = content(2, MIB);
    let mut running = https.client();
    let path = running.create(MIB);
    running.begin(Request::patch(&path, 0), MIB);
    running.send(&bytes[..1000]);
    let is_in_force = |address, certificate: &CertificateDer<'static>| {
        eventually("the certificate is not in force", || {
            connect(address, certificate).is_ok()
        });
    };
    https.certificate = issue(https.dir.path());
    https.server.signal(Signal::HUP);
    is_in_force(https.server.address(), &https.certificate);

    // A key that is not of the certificate: the earlier ones stay in force.
    fs::write(Https::path(&https.dir, "key.pem"), "no key").unwrap();
    https.server.signal(Signal::HUP);
    https.server.says("there is no private key");
    https.client();

    let renewed = issue(https.dir.path());
    https.server.says("certificates reloaded");
    is_in_force(https.server.address(), &renewed);
    running.send(&bytes[1000..]);
    assert_eq!(running.answer().status, 204);
    https.server.stop();
}

#[test]
fn a_certificate_that_cannot_be_used_is_named_before_the_start() {
    let dir = tempfile::tempdir().unwrap();
    issue(dir.path());
    fs::write(dir.path().join("key.pem"), "no key").unwrap();
    let mut command = program();
    command.arg("-port=0").arg("-upload-dir").arg(dir.path());
    command
        .arg("-tls-certificate")
        .arg(dir.path().join("cert.pem"));
    command.arg("-tls-key").arg(dir.path().join("key.pem"));
    let (code, _, error) = run(&mut command);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("key.pem: there is no private key"),
        "{error}"
    );
}

#[test]
fn health_says_that_it_has_no_certificate_of_a_client() {
    let dir = tempfile::tempdir().unwrap();
    issue(dir.path());
    let health = |more: &[&str]| {
        let mut command = program();
        command.args(["health", "-port=1"]).args(more);
        for (flag, file) in [
            ("-tls-certificate", "cert.pem"),
            ("-tls-key", "key.pem"),
            ("-tls-client-ca", "cert.pem"),
        ] {
            command.arg(flag).arg(dir.path().join(file));
        }
        run(&mut command)
    };
    let (code, _, error) = health(&[]);
    assert_eq!(code, Some(1));
    assert!(
        error.contains("--tls-client-ca accepts only clients with a certificate"),
        "{error}"
    );
    let (_, _, error) = health(&["-tls-client-auth=optional"]);
    assert!(
        error.contains("no response from 127.0.0.1:1: Connection refused"),
        "{error}"
    );
}
