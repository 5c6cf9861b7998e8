//! External authentication: by JWT, by forward auth and by client certificates.

use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use rustix::process::Signal;

use crate::{
    grants_harness::{Caller, add_key},
    serve_harness::{Landfall, Request, eventually},
    serve_tls::Https,
};

/// A key set with the key `0123456789abcdef0123456789abcdef`.
const KEYS: &str = r#"{"keys":[{"kty":"oct","alg":"HS256",
    "k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}"#;

/// Signed with it: `{"iss":"https://login.example/","aud":"uploads","email":"ann@example",
/// "exp":4102444800,"limits":{"max_size":10}}`.
const ANN: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL2xvZ2luLmV4YW1wbGUvIiwi\
    YXVkIjoidXBsb2FkcyIsImVtYWlsIjoiYW5uQGV4YW1wbGUiLCJleHAiOjQxMDI0NDQ4MDAsImxpbWl0cyI6eyJtYXhf\
    c2l6ZSI6MTB9fQ.xvL49khUCSkdXiH3oNN2k4mgw31cYp4tXzVE6LKwUyI";

/// The same of `https://other.example/`.
const OF_OTHERS: &str = "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9.eyJpc3MiOiJodHRwczovL290aGVyLmV4YW1wbGU\
    vIiwiYXVkIjoidXBsb2FkcyIsImVtYWlsIjoiYW5uQGV4YW1wbGUiLCJleHAiOjQxMDI0NDQ4MDB9.TMjHDRBGDTt17SB\
    v5zzjlsNYUi6YAPdTDLMviMwSUFE";

#[test]
fn sighup_changes_keys_and_issuers_of_tokens() {
    let dir = tempfile::tempdir().unwrap();
    let [file, config] = ["keys.json", "landfall.toml"].map(|name| dir.path().join(name));
    let issuer = |host: &str| {
        let line = format!("grants-jwt-issuer = \"https://{host}.example/\"");
        fs::write(&config, line).unwrap();
    };
    fs::write(&file, KEYS).unwrap();
    issuer("login");
    let server = Landfall::start(&[
        "-grants",
        &format!("-grants-jwt-keys={}", file.display()),
        "-grants-jwt-algorithms=HS256",
        "-grants-jwt-audience=uploads",
        "-grants-jwt-subject=email",
        &format!("-config={}", config.display()),
    ]);
    let statuses = || {
        [ANN, OF_OTHERS].map(|token| Caller::new(&server, token).ask("GET", "/uploadjobs").status)
    };
    let reload = |line: &str, count: usize| {
        server.signal(Signal::HUP);
        eventually("it does not reload", || {
            let log = server.log();
            log.matches(line).count() == count
        });
    };
    assert_eq!(statuses(), [200, 401]);
    issuer("other");
    reload("\"settings reloaded\"", 1);
    assert_eq!(statuses(), [401, 200]);
    fs::write(&file, "{}").unwrap();
    issuer("login");
    reload("settings not reloaded", 1);
    assert_eq!(statuses(), [401, 200]);
    // Only the file has changed.
    issuer("other");
    fs::write(&file, KEYS.replace("MDEy", "MDEz")).unwrap();
    reload("\"settings reloaded\"", 2);
    assert_eq!(statuses(), [401, 401]);
}

#[test]
fn client_certificates_authenticate_for_grants() {
    let dir = tempfile::tempdir().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let file = dir.path().join("clients.pem");
    fs::write(&file, authority.pem()).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::CommonName, "backend");
    let key = KeyPair::generate().unwrap();
    let own = params.signed_by(&key, &authority).unwrap();
    let (own, key) = (own.pem(), key.serialize_pem());

    let https = Https::start(&[
        "-grants",
        "-grants-client-certificates",
        "-tls-client-auth=optional",
        &format!("-tls-client-ca={}", file.display()),
    ]);
    https.server.says("client certificates (--tls-client-ca)");
    assert_eq!(https.client().ask(Request::get("/readyz")).status, 200);
    let log = https.server.log();
    assert!(!log.contains("cannot be requested"), "{log}");
    let grant = || {
        let body = br#"{"id": "1", "filename": "a", "filesize": 10}"#;
        Request::new("POST", "/uploadjobs")
            .with("Content-Type", "application/json")
            .body(body)
    };
    assert_eq!(https.client().ask(grant()).status, 401);
    let mut backend = https.client_with(&own, &key);
    let granted = backend.ask(grant());
    assert_eq!(granted.status, 201, "{}", granted.text());
    let key = add_key(https.server.dir(), &["backend", "--subject=backend"]);
    let list = Request::get("/uploadjobs").with("Authorization", format!("Bearer {key}"));
    let jobs = https.client().ask(list);
    assert!(
        jobs.text().contains(r#""request_id":"1""#),
        "{}",
        jobs.text()
    );
    let foreign = backend.ask(grant().with("Origin", "https://evil.example"));
    assert_eq!(foreign.status, 403, "{}", foreign.text());
    https.server.stop();
}
