//! `rediss://` with a certificate that only this test trusts.

use std::{env, path::Path, process::Command};

use landfall_leases::{LeaseSettings, RedisLocker};

use crate::server::{Server, quick};

const ADDRESS: &str = "LANDFALL_TEST_REDIS_TLS";

/// Creates a certificate authority and a certificate of `localhost` in `dir`.
fn certificates(dir: &Path) {
    let made = Command::new("/bin/sh")
        .current_dir(dir)
        .args(["-ec", MAKE])
        .output()
        .expect("a shell");
    assert!(
        made.status.success(),
        "openssl is needed: {}",
        String::from_utf8_lossy(&made.stderr)
    );
}

const MAKE: &str = r#"
openssl req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test \
  -addext basicConstraints=critical,CA:TRUE
openssl req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=localhost
printf 'subjectAltName=DNS:localhost\nextendedKeyUsage=serverAuth\n' >extensions
openssl x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
  -extfile extensions -out cert.pem
"#;

async fn check(address: &str, settings: LeaseSettings) -> Result<(), String> {
    let locker = RedisLocker::new(address, settings).map_err(|error| error.to_string())?;
    let found = locker.check().await;
    found.map(drop).map_err(|error| error.to_string())
}

/// Runs itself again with another environment, which defines the trusted certificates.
#[tokio::test(flavor = "multi_thread")]
async fn only_a_trusted_certificate_is_accepted() {
    let mut settings = quick();
    settings.timeout = settings.ttl * 2;
    if let Ok(address) = env::var(ADDRESS) {
        check(&address, settings).await.unwrap();
        return;
    }
    let server = Server::start();
    let port = server.listen_with_tls(certificates);
    let address = format!("rediss://localhost:{port}/");
    let error = check(&address, settings).await.unwrap_err();
    assert!(error.contains("certificate"), "{error}");

    let again = |trusted: &Path| {
        Command::new(env::current_exe().unwrap())
            .args(["tls::only_a_trusted_certificate_is_accepted", "--exact"])
            .env(ADDRESS, &address)
            .env("SSL_CERT_FILE", trusted)
            .output()
            .unwrap()
    };
    let trusting = again(&server.path("ca.pem"));
    let output = String::from_utf8_lossy(&trusting.stdout);
    assert!(trusting.status.success(), "{output}");
    assert!(output.contains("1 passed"), "{output}");
    let other = tempfile::tempdir().unwrap();
    certificates(other.path());
    assert!(!again(&other.path().join("ca.pem")).status.success());
}
