//! All methods together: their order, CSRF, failed attempts.

use std::{io::Write as _, sync::Arc};

use landfall_access::auth::{
    AuthError, AuthMethod, Authenticator, CsrfPolicy, FailedAttempt, FailedAttempts, ForwardAuth,
    ForwardAuthSettings, Jwt, JwtKeys,
};
use serde_json::json;

use super::{
    CLIENT, bearing,
    fake_server::{FakeServer, answer},
    request,
    signers::{ISSUER, Signer, claims, seconds, settings_of},
    unknown,
};

/// JWTs of this signer, then forward auth.
async fn authenticator(
    signer: &Signer,
    failed_attempts: FailedAttempts,
) -> (Authenticator, FakeServer) {
    let there = FakeServer::start(|_| answer(200, &[("remote-user", "bob")], "")).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(signer.pem.as_bytes()).unwrap();
    let keys = JwtKeys::File(file.path().to_owned());
    let jwt = Jwt::open(settings_of(keys)).await.unwrap();
    let application = ForwardAuth::new(ForwardAuthSettings::new(&there.url)).unwrap();
    let ways: Vec<Arc<dyn AuthMethod>> = vec![Arc::new(jwt), Arc::new(application)];
    let pages = CsrfPolicy::new()
        .allow_origins(["https://app.example"])
        .unwrap();
    (Authenticator::new(ways, failed_attempts, pages), there)
}

#[tokio::test]
async fn the_first_way_that_has_something_to_go_by_decides() {
    let signer = Signer::p256();
    let (authenticator, there) = authenticator(&signer, FailedAttempts::default()).await;
    let who = async |parts| authenticator.authenticate(&parts, Some(CLIENT)).await;
    let (challenge, is_guess) = unknown(who(request("GET", &[])).await.unwrap_err());
    assert_eq!((challenge.as_str(), is_guess), ("Bearer", false));
    let token = format!("Bearer {}", signer.sign(&claims()));
    let both = [("authorization", &*token), ("cookie", "session=1")];
    // With a bearer token, the origin does not matter.
    let principal = who(request("POST", &both)).await.unwrap();
    assert_eq!(
        (principal.subject.as_str(), principal.by_cookie),
        ("ann", false)
    );
    // A bad token isn't made good by a cookie.
    let both = [("authorization", "Bearer a.b.c"), ("cookie", "session=1")];
    assert!(unknown(who(request("GET", &both)).await.unwrap_err()).1);
    assert_eq!(there.asked(), 0);
    let opaque = bearing("opaque");
    assert_eq!(who(opaque).await.unwrap().subject, "bob");
    let two = [("authorization", &*token), ("authorization", "Basic YTpi")];
    assert!(!unknown(who(request("GET", &two)).await.unwrap_err()).1);
}

#[tokio::test]
async fn foreign_pages_change_nothing() {
    let (authenticator, there) = authenticator(&Signer::p256(), FailedAttempts::default()).await;
    let cookie = ("cookie", "session=1");
    let who = async |method, headers: &[(&str, &str)]| {
        authenticator
            .authenticate(&request(method, headers), Some(CLIENT))
            .await
    };
    let evil = ("origin", "https://evil.example");
    for method in ["POST", "DELETE"] {
        assert_eq!(who(method, &[cookie]).await, Err(AuthError::CrossSite));
        assert_eq!(
            who(method, &[cookie, evil]).await,
            Err(AuthError::CrossSite)
        );
        let password = ("authorization", "Basic YTpi");
        assert_eq!(
            who(method, &[password, evil]).await,
            Err(AuthError::CrossSite)
        );
        let friend = ("origin", "https://app.example");
        assert!(who(method, &[cookie, friend]).await.is_ok());
        assert!(
            who(method, &[cookie, ("origin", "http://up.example")])
                .await
                .is_ok()
        );
        assert!(who(method, &[cookie, ("x-xsrf-token", "1")]).await.is_ok());
        let script = ("authorization", "Bearer opaque");
        assert!(who(method, &[script, evil]).await.is_ok());
        // Another header next to the cookie does not vouch for the page.
        assert_eq!(
            who(method, &[cookie, script, evil]).await,
            Err(AuthError::CrossSite)
        );
        assert!(who(method, &[cookie, script, friend]).await.is_ok());
        assert!(who(method, &[cookie, script]).await.is_ok());
    }
    assert!(who("GET", &[cookie, evil]).await.is_ok());
    assert!(there.asked() > 0);
}

#[tokio::test]
async fn failed_attempts_are_limited_and_valid_tokens_always_pass() {
    let signer = Signer::p256();
    let attempts = FailedAttempts::default();
    let (authenticator, _there) = authenticator(&signer, attempts.clone()).await;
    let good = bearing(&signer.sign(&claims()));
    let late = json!({"sub": "ann", "iss": ISSUER, "exp": seconds(-100)});
    let late = bearing(&signer.sign(&late));
    // Successes and expired credentials do not count.
    for _ in 0..30 {
        assert!(
            authenticator
                .authenticate(&good, Some(CLIENT))
                .await
                .is_ok()
        );
        assert!(
            !unknown(
                authenticator
                    .authenticate(&late, Some(CLIENT))
                    .await
                    .unwrap_err()
            )
            .1
        );
    }
    let bad = bearing(&Signer::p256().sign(&claims()));
    for _ in 0..10 {
        assert!(
            unknown(
                authenticator
                    .authenticate(&bad, Some(CLIENT))
                    .await
                    .unwrap_err()
            )
            .1
        );
    }
    match authenticator.authenticate(&bad, Some(CLIENT)).await {
        Err(AuthError::TooManyFailures { retry_after }) => {
            let seconds = retry_after.as_secs_f64();
            assert!((0.0..=6.0).contains(&seconds), "{retry_after:?}");
        }
        other => panic!("{other:?}"),
    }
    // Others behind the same address are not locked out.
    assert!(
        authenticator
            .authenticate(&good, Some(CLIENT))
            .await
            .is_ok()
    );
    // The limit is one for all that share it, and another address has its own.
    let attempt = |client: &str| FailedAttempt {
        client: client.parse().ok(),
        ..FailedAttempt::default()
    };
    assert!(attempts.record(&attempt("192.0.2.7")).is_err());
    assert!(attempts.record(&attempt("192.0.2.8")).is_ok());
    // Attempts without an address do not count.
    for _ in 0..20 {
        assert!(unknown(authenticator.authenticate(&bad, None).await.unwrap_err()).1);
    }
}

#[tokio::test]
async fn requests_that_other_sites_cause_do_not_use_up_the_limit() {
    let (authenticator, _there) = authenticator(&Signer::p256(), FailedAttempts::default()).await;
    let bad = format!("Bearer {}", Signer::p256().sign(&claims()));
    let from = |more: (&str, &str)| request("GET", &[("authorization", &*bad), more]);
    for foreign in [
        from(("sec-fetch-site", "cross-site")),
        from(("sec-fetch-site", "same-site")),
        from(("origin", "https://evil.example")),
    ] {
        for _ in 0..15 {
            assert!(
                authenticator
                    .authenticate(&foreign, Some(CLIENT))
                    .await
                    .is_err()
            );
        }
        let own = from(("sec-fetch-site", "same-origin"));
        let denied = authenticator
            .authenticate(&own, Some(CLIENT))
            .await
            .unwrap_err();
        assert!(unknown(denied).1);
    }
}
