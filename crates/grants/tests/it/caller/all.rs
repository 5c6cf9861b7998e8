//! All ways together: their order, foreign pages, guesses.

use std::{io::Write as _, sync::Arc};

use landfall_grants::caller::{
    Application, ApplicationSettings, Callers, CrossSite, Denied, Guesses, Identify, Jwt, JwtKeys,
    JwtSettings,
};
use serde_json::json;

use super::{
    CLIENT, bearing,
    elsewhere::{Elsewhere, answer},
    request,
    signers::{Signer, claims, seconds},
    unknown,
};

/// JWTs of this signer, then whoever has a cookie or another authorization.
async fn callers(signer: &Signer, guesses: Guesses) -> (Callers, Elsewhere) {
    let there = Elsewhere::start(|_| answer(200, &[("remote-user", "bob")], "")).await;
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(signer.pem.as_bytes()).unwrap();
    let keys = JwtKeys::File(file.path().to_owned());
    let jwt = Jwt::open(JwtSettings::new(keys)).await.unwrap();
    let application = Application::new(ApplicationSettings::new(&there.url)).unwrap();
    let ways: Vec<Arc<dyn Identify>> = vec![Arc::new(jwt), Arc::new(application)];
    let pages = CrossSite::new().and_from(["https://app.example"]).unwrap();
    (Callers::new(ways, guesses, pages), there)
}

#[tokio::test]
async fn the_first_way_that_has_something_to_go_by_decides() {
    let signer = Signer::p256();
    let (callers, there) = callers(&signer, Guesses::default()).await;
    let who = async |parts| callers.identify(&parts, Some(CLIENT)).await;
    let (challenge, is_guess) = unknown(who(request("GET", &[])).await.unwrap_err());
    assert_eq!((challenge.as_str(), is_guess), ("Bearer", false));
    let token = format!("Bearer {}", signer.sign(&claims()));
    let both = [("authorization", &*token), ("cookie", "session=1")];
    // With a token that no foreign page has it doesn't matter whose page asks.
    let caller = who(request("POST", &both)).await.unwrap();
    assert_eq!((caller.subject.as_str(), caller.by_cookie), ("ann", false));
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
    let (callers, there) = callers(&Signer::p256(), Guesses::default()).await;
    let cookie = ("cookie", "session=1");
    let who = async |method, headers: &[(&str, &str)]| {
        callers
            .identify(&request(method, headers), Some(CLIENT))
            .await
    };
    let evil = ("origin", "https://evil.example");
    for method in ["POST", "DELETE"] {
        assert_eq!(who(method, &[cookie]).await, Err(Denied::CrossSite));
        assert_eq!(who(method, &[cookie, evil]).await, Err(Denied::CrossSite));
        let password = ("authorization", "Basic YTpi");
        assert_eq!(who(method, &[password, evil]).await, Err(Denied::CrossSite));
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
    }
    assert!(who("GET", &[cookie, evil]).await.is_ok());
    assert!(there.asked() > 0);
}

#[tokio::test]
async fn a_flood_of_guesses_ends_in_waiting() {
    let signer = Signer::p256();
    let guesses = Guesses::default();
    let (callers, _there) = callers(&signer, guesses.clone()).await;
    let good = bearing(&signer.sign(&claims()));
    let late = bearing(&signer.sign(&json!({"sub": "ann", "exp": seconds(-100)})));
    // Neither success nor what was good once counts.
    for _ in 0..30 {
        assert!(callers.identify(&good, Some(CLIENT)).await.is_ok());
        assert!(!unknown(callers.identify(&late, Some(CLIENT)).await.unwrap_err()).1);
    }
    let bad = bearing(&Signer::p256().sign(&claims()));
    for _ in 0..10 {
        assert!(unknown(callers.identify(&bad, Some(CLIENT)).await.unwrap_err()).1);
    }
    for request in [&bad, &good] {
        match callers.identify(request, Some(CLIENT)).await {
            Err(Denied::TooMany { retry_after }) => {
                assert!(
                    (1..=6).contains(&(retry_after.as_secs() + 1)),
                    "{retry_after:?}"
                );
            }
            other => panic!("{other:?}"),
        }
    }
    // The same address at the gate, another one here.
    assert!(guesses.check(Some(CLIENT)).is_err());
    let other = "192.0.2.8".parse().ok();
    assert!(callers.identify(&good, other).await.is_ok());
    // Where nobody knows where a request comes from, no one is locked out.
    for _ in 0..20 {
        assert!(unknown(callers.identify(&bad, None).await.unwrap_err()).1);
    }
    assert!(callers.identify(&good, None).await.is_ok());
}
