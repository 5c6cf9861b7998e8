//! TLS, with certificates of both sides.

use std::{fs, path::PathBuf, sync::Arc};

use landfall_hooks::Transport;
use landfall_hooks::grpc::{Grpc, GrpcSettings};
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd,
};
use tempfile::TempDir;
use tokio_rustls::rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::WebPkiClientVerifier,
};

use super::{generated::HookResponse, message, server::Server, settings};

fn stop() -> HookResponse {
    HookResponse {
        stop_upload: true,
        ..HookResponse::default()
    }
}

/// A CA and its certificates, as files.
pub(super) struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    pub(super) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        // Names differ: otherwise only the signature would.
        let name = folder.path().to_string_lossy();
        params
            .distinguished_name
            .push(DnType::CommonName, name.as_ref());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        fs::write(folder.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { folder, issuer }
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Creates a certificate for `host`, as `NAME.pem` and `NAME.key`.
    pub(super) fn sign(&self, name: &str, host: &str) {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new([host.to_owned()]).unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.path(&format!("{name}.pem")), certificate.pem()).unwrap();
        fs::write(self.path(&format!("{name}.key")), key.serialize_pem()).unwrap();
    }

    fn server(&self, name: &str, clients: bool) -> ServerConfig {
        server(
            &self.path(&format!("{name}.pem")),
            &self.path(&format!("{name}.key")),
            clients.then(|| self.issuer.der().clone()),
        )
    }
}

fn server(
    certificate: &std::path::Path,
    key: &std::path::Path,
    clients_of: Option<CertificateDer<'static>>,
) -> ServerConfig {
    let provider = Arc::new(ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match clients_of {
        None => config.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority).unwrap();
            let verifier =
                WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
            config.with_client_cert_verifier(verifier.unwrap())
        }
    };
    let chain = vec![CertificateDer::from_pem_file(certificate).unwrap()];
    let key = PrivateKeyDer::from_pem_file(key).unwrap();
    let mut config = config.with_single_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    config
}

fn secure(server: &Server, host: &str, ca: PathBuf) -> GrpcSettings {
    let mut settings = settings(format!("{host}:{}", server.port));
    settings.secure = true;
    settings.server_ca = Some(ca);
    settings.attempts = 1;
    settings
}

async fn why_not(settings: GrpcSettings) -> String {
    let grpc = Grpc::new(settings).unwrap();
    assert!(grpc.check().await.is_err());
    let failure = grpc.deliver(&message()).await.unwrap_err();
    assert!(failure.message.starts_with("gRPC Unavailable"), "{failure}");
    failure.message
}

#[tokio::test]
async fn trusted_certificate_is_accepted() {
    let ca = Authority::new();
    for (name, host) in [("name", "localhost"), ("address", "127.0.0.1")] {
        ca.sign(name, host);
        let server = Server::tls(ca.server(name, false), stop()).await;
        let mut settings = secure(&server, host, ca.path("ca.pem"));
        let grpc = Grpc::new(settings.clone()).unwrap();
        assert!(grpc.deliver(&message()).await.unwrap().stop_upload);
        grpc.check().await.unwrap();
        settings.secure = false;
        settings.target = format!("https://{}", settings.target);
        let grpc = Grpc::new(settings).unwrap();
        assert!(grpc.deliver(&message()).await.unwrap().stop_upload);
    }
}

#[tokio::test]
async fn untrusted_certificate_is_rejected() {
    let ca = Authority::new();
    ca.sign("other", "elsewhere.example");
    ca.sign("right", "localhost");
    let server = Server::tls(ca.server("other", false), stop()).await;
    let why = why_not(secure(&server, "localhost", ca.path("ca.pem"))).await;
    assert!(why.contains("not valid for name"), "{why}");
    let server = Server::tls(ca.server("right", false), stop()).await;
    let stranger = Authority::new();
    let why = why_not(secure(&server, "localhost", stranger.path("ca.pem"))).await;
    assert!(why.contains("UnknownIssuer"), "{why}");
    assert!(server.calls().is_empty());
}

#[tokio::test]
async fn plain_and_tls_do_not_mix() {
    let ca = Authority::new();
    ca.sign("right", "localhost");
    let plain = Server::answering(stop()).await;
    why_not(secure(&plain, "localhost", ca.path("ca.pem"))).await;
    let tls = Server::tls(ca.server("right", false), stop()).await;
    let mut settings = secure(&tls, "localhost", ca.path("ca.pem"));
    settings.secure = false;
    let grpc = Grpc::new(settings).unwrap();
    assert!(grpc.deliver(&message()).await.is_err());
}

/// A self-signed CA certificate, as created by `openssl req -x509`.
#[tokio::test]
async fn servers_own_certificate_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let write = |year, name: &str| {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(year, 1, 1);
        let certificate = params.self_signed(&key).unwrap();
        let (pem, key_pem) = (folder.path().join(name), folder.path().join("key"));
        fs::write(&pem, certificate.pem()).unwrap();
        fs::write(&key_pem, key.serialize_pem()).unwrap();
        (server(&pem, &key_pem, None), pem)
    };
    let (config, pem) = write(4000, "good.pem");
    let server = Server::tls(config, stop()).await;
    let grpc = Grpc::new(secure(&server, "localhost", pem.clone())).unwrap();
    assert!(grpc.deliver(&message()).await.unwrap().stop_upload);
    let why = why_not(secure(&server, "127.0.0.1", pem)).await;
    assert!(why.contains("not valid for name"), "{why}");

    let (_, stranger) = write(4000, "stranger.pem");
    let why = why_not(secure(&server, "localhost", stranger)).await;
    assert!(why.contains("invalid peer certificate"), "{why}");

    let (config, pem) = write(2001, "old.pem");
    let server = Server::tls(config, stop()).await;
    let why = why_not(secure(&server, "localhost", pem)).await;
    assert!(why.contains("expired"), "{why}");
}

#[tokio::test]
async fn client_certificate_is_sent() {
    let ca = Authority::new();
    let stranger = Authority::new();
    ca.sign("server", "localhost");
    ca.sign("client", "landfall");
    stranger.sign("client", "landfall");
    let server = Server::tls(ca.server("server", true), stop()).await;
    let settings = secure(&server, "localhost", ca.path("ca.pem"));
    let shown = |by: &Authority| {
        let mut settings = settings.clone();
        settings.client_certificate = Some(by.path("client.pem"));
        settings.client_key = Some(by.path("client.key"));
        Grpc::new(settings).unwrap()
    };
    let known = shown(&ca).deliver(&message()).await.unwrap();
    assert!(known.stop_upload);
    assert_eq!(server.calls().len(), 1);
    // In TLS 1.3 the client notices with the first data.
    assert!(shown(&stranger).deliver(&message()).await.is_err());
    let nobody = Grpc::new(settings.clone()).unwrap();
    assert!(nobody.deliver(&message()).await.is_err());
    assert_eq!(server.calls().len(), 1);
}

#[test]
fn invalid_settings_are_rejected() {
    let ca = Authority::new();
    ca.sign("client", "landfall");
    let mut tls = GrpcSettings::new("localhost:1");
    tls.secure = true;
    let error = Grpc::new(tls.clone()).unwrap_err().to_string();
    assert!(
        error.contains("needs a file with the CA certificates"),
        "{error}"
    );
    tls.server_ca = Some(ca.path("ca.pem"));
    Grpc::new(tls.clone()).unwrap();

    let mut half = tls.clone();
    half.client_key = Some(ca.path("client.key"));
    let error = Grpc::new(half).unwrap_err().to_string();
    assert!(error.contains("needs its key"), "{error}");

    for (certificate, key, wrong) in [
        ("client.pem", "ca.pem", "the private key"),
        ("client.key", "client.key", "the certificates"),
        ("absent.pem", "client.key", "absent.pem"),
        ("ca.pem", "client.key", "the private key"),
    ] {
        let mut settings = tls.clone();
        settings.client_certificate = Some(ca.path(certificate));
        settings.client_key = Some(ca.path(key));
        let error = Grpc::new(settings).unwrap_err().to_string();
        assert!(error.contains(wrong), "{certificate}, {key}: {error}");
    }

    tls.server_ca = Some(ca.path("client.key"));
    let error = Grpc::new(tls).unwrap_err().to_string();
    assert!(error.contains("it contains none"), "{error}");
}
