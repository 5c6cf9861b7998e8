//! External authentication: by JWT, by forward auth and by client certificates.

use std::fs;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use rustix::process::Signal;
use serde_json::json;

use crate::{
    grants_harness::{Caller, add_key, json as parsed},
    hooks_endpoint::{Endpoint, unused_address},
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
fn tokens_of_an_identity_provider() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("keys.json");
    fs::write(&file, KEYS).unwrap();
    let keys = format!("-grants-jwt-keys={}", file.display());
    let all = [
        "-grants",
        &keys,
        "-grants-jwt-algorithms=HS256",
        "-grants-jwt-issuer=https://login.example/",
        "-grants-jwt-audience=uploads",
        "-grants-jwt-subject=email",
        "-grants-jwt-limits=limits",
    ];
    let server = Landfall::start(&all);
    server.says(&format!("JSON web tokens (keys in '{}')", file.display()));
    let ann = Caller::new(&server, ANN);
    let (status, _) = ann.grant(&json!({"id": "1", "filename": "a", "filesize": 10}));
    assert_eq!(status, 201);
    let (status, told) = ann.grant(&json!({"id": "2", "filename": "a", "filesize": 11}));
    assert_eq!(
        (status, told["errors"]["filesize"].is_array()),
        (422, true),
        "{told}"
    );
    for stranger in [OF_OTHERS, &ANN[..ANN.len() - 4]] {
        let answer = Caller::new(&server, stranger).ask("GET", "/uploadjobs");
        assert_eq!(answer.status, 401);
        assert!(
            answer
                .header("WWW-Authenticate")
                .unwrap()
                .starts_with("Bearer")
        );
    }
    // Unlisted algorithms are rejected: a shared key is none of the defaults.
    let usual = Landfall::start(&["-grants", &keys, "-grants-jwt-audience=uploads"]);
    assert_eq!(
        Caller::new(&usual, ANN).ask("GET", "/uploadjobs").status,
        401
    );
}

#[test]
fn forward_auth_identifies_principals() {
    let application = Endpoint::answering(|call| match call.header("cookie") {
        Some("session=ann") => (200, r#"{"subject":"ann","max_active":1}"#.into()),
        _ => (401, String::new()),
    });
    let url = format!("-grants-forward-auth-url={}", application.url());
    let origins = "-grants-allowed-origins=https://app.example";
    let server = Landfall::start(&["-require-grant", &url, origins]);
    let ask = |session: &str, origin: &str, id: &str| {
        let body = json!({"id": id, "filename": "a", "filesize": 3}).to_string();
        let request = Request::new("POST", "/uploadjobs")
            .with("Cookie", format!("session={session}"))
            .with("Origin", origin)
            .with("Content-Type", "application/json")
            .body(body.as_bytes());
        server.client().ask(request)
    };
    let granted = ask("ann", "http://landfall.test", "1");
    assert_eq!(granted.status, 201, "{}", granted.text());
    let limited = ask("ann", "https://app.example", "2");
    assert_eq!(limited.status, 429, "{}", limited.text());
    let allowed = limited.header("Access-Control-Allow-Credentials");
    assert_eq!(allowed, Some("true"));
    let foreign = ask("ann", "https://evil.example", "1");
    assert_eq!(foreign.status, 403, "{}", foreign.text());
    assert_eq!(parsed(&foreign)["status"], 403);
    assert_eq!(ask("eve", "http://landfall.test", "1").status, 401);
    let asked = application.calls();
    let shown = |name: &str| asked[0].header(name).map(str::to_owned);
    assert_eq!(shown("X-Original-URI").as_deref(), Some("/uploadjobs"));
    assert_eq!(shown("X-Forwarded-Host").as_deref(), Some("landfall.test"));

    let away = format!("-grants-forward-auth-url=http://{}/", unused_address());
    let server = Landfall::start(&["-require-grant", &away]);
    let request = Request::get("/uploadjobs").with("Cookie", "session=ann");
    assert_eq!(server.client().ask(request).status, 503);
    // An unreachable authentication service does not affect readiness.
    assert_eq!(server.client().ask(Request::get("/readyz")).status, 200);
}

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
