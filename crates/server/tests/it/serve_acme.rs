//! Certificates from Pebble, a real ACME authority.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use landfall_test_services::{Pebble, free_port};
use rustix::process::Signal;
use rustls::pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::serve_harness::{
    Client, Landfall, MIB, Request, TIMEOUT, content, eventually, program, run,
};
use crate::serve_tls::client_config_with;

type HttpsClient = Client<StreamOwned<ClientConnection, TcpStream>>;

/// In seconds.
pub(crate) const YEAR: u32 = 365 * 24 * 3600;

/// Longer than the interval at which servers look for a new certificate.
pub(crate) const SETTLED: Duration = Duration::from_secs(3);

/// The ports of a server.
#[derive(Clone, Copy)]
pub(crate) struct Ports {
    http: u16,
    https: u16,
}

impl Ports {
    pub(crate) fn new() -> Self {
        let [http, https] = [(); 2].map(|()| free_port());
        Self { http, https }
    }

    pub(crate) fn https(self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.https).into()
    }

    fn plain(self) -> Client {
        Client::connect((Ipv4Addr::LOCALHOST, self.http).into())
    }
}

/// An authority and the settings of a server.
pub(crate) struct Site {
    pub(crate) pebble: Pebble,
    pub(crate) directory: String,
    pub(crate) ports: Ports,
    pub(crate) dir: tempfile::TempDir,
}

impl Site {
    /// Certificates are valid for some seconds.
    pub(crate) fn new(validity: u32) -> Self {
        let ports = Ports::new();
        let pebble = Pebble::start(ports.http, ports.https, validity);
        Self {
            directory: pebble.directory(),
            pebble,
            ports,
            dir: tempfile::tempdir().unwrap(),
        }
    }

    /// Starts a server with HTTP, for HTTP-01.
    pub(crate) fn start(&self, args: &[&str]) -> Landfall {
        let redirect = format!("-redirect-http={}", self.ports.http);
        let args: Vec<_> = args.iter().copied().chain([&*redirect]).collect();
        self.start_with(self.ports, self.dir.path(), "landfall.test", &args)
    }

    /// Starts a server and waits for its certificate. Returns the authority's roots, a client and the certificate,
    /// too.
    fn start_certified(
        &self,
    ) -> (
        Landfall,
        Vec<CertificateDer<'static>>,
        HttpsClient,
        CertificateDer<'static>,
    ) {
        let server = self.start(&[]);
        server.says("certificate in use");
        let roots = self.roots();
        let (client, first) = connect(self.ports.https(), "landfall.test", &roots).unwrap();
        (server, roots, client, first)
    }

    pub(crate) fn start_with(
        &self,
        ports: Ports,
        dir: &Path,
        names: &str,
        args: &[&str],
    ) -> Landfall {
        let mut command = program();
        command.arg("-upload-dir").arg(dir).args(args);
        self.spawn(command, ports, dir, names)
    }

    /// Starts a server of another command.
    pub(crate) fn spawn(
        &self,
        mut command: Command,
        ports: Ports,
        dir: &Path,
        names: &str,
    ) -> Landfall {
        command.args(["-host=127.0.0.1", "-port", &ports.https.to_string()]);
        command.args(self.flags(names));
        command.env("SSL_CERT_FILE", self.pebble.authority());
        Landfall::spawn(command, dir)
    }

    fn flags(&self, names: &str) -> [String; 2] {
        [
            format!("-acme-domain={names}"),
            format!("-acme-directory={}", self.directory),
        ]
    }

    /// The file that a server stores.
    fn certificate(&self) -> PathBuf {
        let acme = self.dir.path().join(".landfall/acme");
        let authority = fs::read_dir(acme).unwrap().next().unwrap().unwrap();
        authority.path().join("certificate.pem")
    }

    /// The authority of all certificates, until Pebble is restarted.
    pub(crate) fn roots(&self) -> Vec<CertificateDer<'static>> {
        let own = CertificateDer::from_pem_file(self.pebble.authority()).unwrap();
        let management = (Ipv4Addr::LOCALHOST, self.pebble.management_port()).into();
        let (mut client, _) = connect(management, "localhost", &[own]).unwrap();
        let pem = client.ask(Request::get("/roots/0")).body;
        CertificateDer::pem_slice_iter(&pem)
            .map(Result::unwrap)
            .collect()
    }
}

/// Returns the server's certificate, too.
pub(crate) fn connect(
    address: SocketAddr,
    name: &'static str,
    roots: &[CertificateDer<'static>],
) -> std::io::Result<(HttpsClient, CertificateDer<'static>)> {
    connect_with(address, name, roots, &["http/1.1"])
}

fn connect_with(
    address: SocketAddr,
    name: &'static str,
    roots: &[CertificateDer<'static>],
    protocols: &[&str],
) -> std::io::Result<(HttpsClient, CertificateDer<'static>)> {
    let mut store = RootCertStore::empty();
    store.add_parsable_certificates(roots.iter().cloned());
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
    config.alpn_protocols = protocols.collect();
    let name = ServerName::try_from(name).unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), name).unwrap();
    let mut tcp = TcpStream::connect(address)?;
    tcp.set_read_timeout(Some(TIMEOUT))?;
    tls.complete_io(&mut tcp)?;
    let certificate = tls.peer_certificates().unwrap()[0].clone().into_owned();
    Ok((Client::new(StreamOwned::new(tls, tcp)), certificate))
}

fn doctor(site: &Site) -> (Option<i32>, String) {
    let mut command = program();
    command
        .args(["doctor", "tls", "-state-dir"])
        .arg(site.dir.path().join(".landfall"));
    let (code, output, error) = run(command
        .args(site.flags("landfall.test"))
        .env("SSL_CERT_FILE", site.pebble.authority()));
    assert_eq!(error, "", "{output}");
    (code, output)
}

#[test]
fn http_01_obtains_a_certificate() {
    let site = Site::new(YEAR);
    let (code, output) = doctor(&site);
    assert_eq!(code, Some(0), "{output}");
    assert!(
        output.contains("not obtained yet for landfall.test"),
        "{output}"
    );

    let server = site.start(&[]);
    server.says("no certificate yet; TLS handshakes fail until one is obtained");
    server.says("method=HTTP-01");
    server.says("certificate in use");
    let (mut client, _) = connect(site.ports.https(), "landfall.test", &site.roots()).unwrap();
    let bytes = content(1, MIB);
    let path = client.create(MIB);
    client.resumes_to(&path, &bytes);
    let metrics = client.ask(Request::get("/metrics")).text();
    assert!(
        metrics.contains("landfall_acme_last_success_timestamp_seconds 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("landfall_acme_last_failure_timestamp_seconds 0"),
        "{}",
        server.log()
    );

    // Unlike other paths, those of validations are not redirected.
    let challenge = Request::get("/.well-known/acme-challenge/unknown");
    assert_eq!(site.ports.plain().ask(challenge).status, 404);
    assert_eq!(site.ports.plain().ask(Request::get("/files/a")).status, 308);

    let mode = fs::metadata(site.certificate())
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);
    let (code, output) = doctor(&site);
    assert_eq!(code, Some(0), "{output}");
    assert!(
        output.contains("certificate.pem: landfall.test; expires "),
        "{output}"
    );

    // A reload of the settings keeps the certificate.
    server.signal(Signal::HUP);
    server.says("settings reloaded");
    connect(site.ports.https(), "landfall.test", &site.roots()).unwrap();
    server.stop();
}

#[test]
fn tls_alpn_01_obtains_a_certificate_without_a_plain_port() {
    let mut site = Site::new(YEAR);
    // Each request is repeated twice, so that one order in a thousand fails, and is repeated.
    site.pebble.reject_nonces(5);
    let names = "landfall.test,uploads.landfall.test";
    let server = site.start_with(site.ports, site.dir.path(), names, &["-http3"]);
    server.says("method=TLS-ALPN-01");
    server.says("certificate in use");
    let roots = site.roots();
    for name in ["landfall.test", "uploads.landfall.test"] {
        let (mut client, _) = connect(site.ports.https(), name, &roots).unwrap();
        assert_eq!(client.ask(Request::get("/healthz")).status, 200);
    }
    // Only while a name is validated.
    let validation = connect_with(site.ports.https(), "landfall.test", &roots, &["acme-tls/1"]);
    assert!(validation.is_err());
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let endpoint = crate::serve_http3::endpoint(client_config_with(&roots[0], b"h3"));
        let connection = endpoint.connect(site.ports.https(), "landfall.test");
        connection.unwrap().await.unwrap();
    });
    server.stop();
}

#[test]
fn another_challenge_type_is_tried() {
    let mut site = Site::new(YEAR);
    // Where nothing listens.
    site.ports.http = free_port();
    let server = site.start(&[]);
    server.says("HTTP-01 of landfall.test failed");
    server.says("method=TLS-ALPN-01");
    server.says("certificate in use");
    connect(site.ports.https(), "landfall.test", &site.roots()).unwrap();
    server.stop();
}

#[test]
fn rejected_nonces_do_not_delay_a_certificate() {
    let mut site = Site::new(YEAR);
    site.pebble.reject_nonces(99);
    let server = site.start(&[]);
    let line = server.says("badNonce");
    assert!(line.ends_with(" next_attempt_seconds=1"), "{line}");
    server.stop();
}

#[test]
fn renewal_leaves_uploads_alone() {
    let site = Site::new(10);
    let (server, roots, mut running, first) = site.start_certified();
    let bytes = content(2, MIB);
    let path = running.create(MIB);
    running.begin(Request::patch(&path, 0), MIB);
    let mut sent = 0;
    let end = std::time::Instant::now() + TIMEOUT;
    loop {
        let (_, current) = connect(site.ports.https(), "landfall.test", &roots).unwrap();
        if current != first {
            break;
        }
        assert!(std::time::Instant::now() < end, "{}", server.log());
        running.send(&bytes[sent..sent + 100]);
        sent += 100;
        thread::sleep(Duration::from_millis(100));
    }
    running.send(&bytes[sent..]);
    assert_eq!(running.answer().status, 204);
    let (mut client, _) = connect(site.ports.https(), "landfall.test", &roots).unwrap();
    client.holds(&path, &bytes);
    server.stop();
}

#[test]
fn a_restart_does_not_order_again_and_needs_no_authority() {
    let mut site = Site::new(YEAR);
    let (server, roots, _, first) = site.start_certified();
    server.stop();

    let server = site.start(&[]);
    thread::sleep(SETTLED);
    let (_, current) = connect(site.ports.https(), "landfall.test", &roots).unwrap();
    assert_eq!(current, first);
    assert!(
        !server.log().contains("ordering a certificate"),
        "{}",
        server.log()
    );
    server.stop();

    site.pebble.stop();
    let server = site.start(&[]);
    let (_, current) = connect(site.ports.https(), "landfall.test", &roots).unwrap();
    assert_eq!(current, first);
    server.says("the authority cannot be asked when to renew; the certificate stays in force");
    server.stop();

    // Another name needs the authority; until then, the old certificate is better than none.
    let redirect = format!("-redirect-http={}", site.ports.http);
    let server = site.start_with(site.ports, site.dir.path(), "other.test", &[&redirect]);
    let line = server.says("certificate not renewed; the earlier one stays in force");
    assert!(line.contains("cannot reach localhost:"), "{line}");
    assert!(line.contains("next_attempt_seconds="), "{line}");
    let (_, current) = connect(site.ports.https(), "landfall.test", &roots).unwrap();
    assert_eq!(current, first);
    server.stop();
}

#[test]
fn a_name_that_leads_elsewhere_leaves_the_certificate_in_force() {
    let site = Site::new(YEAR);
    let (server, roots, _, first) = site.start_certified();
    server.stop();

    site.pebble
        .resolve("wrong.test", Ipv4Addr::new(127, 0, 0, 9));
    let names = "landfall.test,wrong.test";
    let server = site.start_with(site.ports, site.dir.path(), names, &[]);
    let line = server.says("certificate not renewed; the earlier one stays in force");
    for part in [
        "TLS-ALPN-01 of wrong.test failed",
        "check that the DNS records of wrong.test lead to this server",
        "port 443",
    ] {
        assert!(line.contains(part), "{line}");
    }
    let (mut client, current) = connect(site.ports.https(), "landfall.test", &roots).unwrap();
    assert_eq!(current, first);
    let metrics = client.ask(Request::get("/metrics")).text();
    assert!(
        metrics.contains("landfall_acme_last_failure_timestamp_seconds 1"),
        "{metrics}"
    );
    server.stop();
}

#[test]
fn a_torn_certificate_and_a_lost_account_are_replaced() {
    let mut site = Site::new(YEAR);
    let server = site.start(&[]);
    server.says("certificate in use");
    server.stop();
    let file = site.certificate();
    let whole = fs::read(&file).unwrap();
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    // It forgets the account.
    site.pebble.restart();

    let server = site.start(&[]);
    server.says("the stored certificate cannot be used");
    server.says("the authority does not know the ACME account; creating another one");
    server.says("certificate in use");
    let roots = site.roots();
    connect(site.ports.https(), "landfall.test", &roots).unwrap();

    // A running server keeps what it has, and orders another one.
    fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    server.says("certificate not used; the earlier one stays in force");
    connect(site.ports.https(), "landfall.test", &roots).unwrap();
    eventually("the damaged file stays", || {
        CertificateDer::from_pem_file(&file).is_ok()
    });
    server.stop();
}

#[test]
fn processes_with_one_state_directory_order_once() {
    let site = Site::new(YEAR);
    let first = site.start(&[]);
    first.says("ordering a certificate");
    let (ports, dir) = (Ports::new(), tempfile::tempdir().unwrap());
    let state = format!("-state-dir={}", site.dir.path().join(".landfall").display());
    let second = site.start_with(ports, dir.path(), "landfall.test", &[&state]);
    for ports in [site.ports, ports] {
        let roots = site.roots();
        eventually("there is no certificate", || {
            connect(ports.https(), "landfall.test", &roots).is_ok()
        });
    }
    thread::sleep(SETTLED);
    assert!(
        !second.log().contains("ordering a certificate"),
        "{}",
        second.log()
    );
    first.stop();
    second.stop();
}
