//! Keys at a URL: they change, and the URL is away.

use std::time::Duration;

use landfall_access::auth::{AuthError, Jwt, JwtKeys, JwtSettings};
use serde_json::json;

use super::{
    fake_server::{FakeServer, answer},
    known,
    signers::{Signer, claims, jwks, settings_of},
    unknown,
};
use crate::harness::until;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

async fn provider(content: String) -> FakeServer {
    FakeServer::start(move |_| answer(200, JSON, content.clone())).await
}

fn settings(provider: &FakeServer) -> JwtSettings {
    settings_of(JwtKeys::Url(provider.url.clone()))
}

#[tokio::test]
async fn an_unknown_key_is_asked_for_once_in_a_while() {
    let (old, new) = (Signer::p256(), Signer::ed25519());
    let provider = provider(jwks(&[old.named("old", json!({}))])).await;
    let mut settings = settings(&provider);
    settings.min_refresh_interval = Duration::from_secs(3);
    let jwt = Jwt::open(settings).await.unwrap();
    assert!(
        known(&jwt, &old.sign_as(Some("old"), &claims()))
            .await
            .is_ok()
    );
    assert_eq!(provider.asked(), 1);
    let token = new.sign_as(Some("new"), &claims());
    // It was just there: many who come with a key that isn't known ask nothing.
    for _ in 0..20 {
        assert!(unknown(known(&jwt, &token).await.unwrap_err()).1);
    }
    assert_eq!(provider.asked(), 1);
    let both = jwks(&[old.named("old", json!({})), new.named("new", json!({}))]);
    provider.now(move |_| answer(200, JSON, both.clone()));
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    // Those who come at the same time share one question.
    let all = futures_util::future::join_all((0..20).map(|_| known(&jwt, &token))).await;
    assert!(all.iter().all(Result::is_ok), "{all:?}");
    assert_eq!(provider.asked(), 2);
    let secret = provider.seen().pop().unwrap();
    assert_eq!(secret.uri.query(), Some("secret=1"));
    assert!(
        known(&jwt, &old.sign_as(Some("old"), &claims()))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn a_key_that_is_withdrawn_is_refused_after_a_refresh() {
    let (old, new) = (Signer::p256(), Signer::p256());
    let provider = provider(jwks(&[old.named("1", json!({}))])).await;
    let mut settings = settings(&provider);
    settings.refresh = Duration::from_millis(100);
    settings.min_refresh_interval = Duration::from_millis(50);
    let jwt = Jwt::open(settings).await.unwrap();
    let token = old.sign_as(Some("1"), &claims());
    assert!(known(&jwt, &token).await.is_ok());
    let withdrawn = jwks(&[new.named("1", json!({}))]);
    provider.now(move |_| answer(200, JSON, withdrawn.clone()));
    until(async || known(&jwt, &token).await.is_err()).await;
    assert!(
        known(&jwt, &new.sign_as(Some("1"), &claims()))
            .await
            .is_ok()
    );
}

#[tokio::test]
async fn old_keys_do_while_the_url_is_away() {
    let signer = Signer::p256();
    let provider = provider(jwks(&[signer.named("1", json!({}))])).await;
    let mut settings = settings(&provider);
    settings.refresh = Duration::from_millis(20);
    settings.min_refresh_interval = Duration::from_millis(20);
    let jwt = Jwt::open(settings).await.unwrap();
    let token = signer.sign_as(Some("1"), &claims());
    for broken in [
        answer(500, &[], "{}"),
        answer(302, &[("location", "/elsewhere")], ""),
        answer(200, JSON, "<html>"),
        answer(200, JSON, jwks(&[])),
        answer(200, JSON, " ".repeat((1 << 20) + 1)),
    ] {
        let broken = std::sync::Mutex::new(Some(broken));
        provider.now(move |_| {
            broken
                .lock()
                .unwrap()
                .take()
                .unwrap_or(answer(500, &[], ""))
        });
        let asked = provider.asked();
        until(async || {
            assert!(known(&jwt, &token).await.is_ok());
            provider.asked() > asked + 1
        })
        .await;
    }
    // A redirect wasn't followed.
    assert!(
        provider
            .seen()
            .iter()
            .all(|seen| seen.uri.path() == "/there")
    );
    // A refresh without response does not block requests.
    provider.be_silent();
    let asked = provider.asked();
    until(async || {
        let begun = std::time::Instant::now();
        assert!(known(&jwt, &token).await.is_ok());
        assert!(begun.elapsed() < Duration::from_secs(2));
        provider.asked() > asked
    })
    .await;
    drop(provider);
    assert!(known(&jwt, &token).await.is_ok());
}

#[tokio::test]
async fn old_keys_do_not_do_for_ever() {
    let signer = Signer::p256();
    let set = jwks(&[signer.named("1", json!({}))]);
    for broken in ["<html>".to_owned(), jwks(&[])] {
        let provider = provider(set.clone()).await;
        let mut settings = settings(&provider);
        settings.refresh = Duration::from_millis(20);
        settings.min_refresh_interval = Duration::from_millis(20);
        settings.max_age = Duration::from_secs(2);
        let jwt = Jwt::open(settings).await.unwrap();
        let token = signer.sign_as(Some("1"), &claims());
        provider.now(move |_| answer(200, JSON, broken.clone()));
        assert!(known(&jwt, &token).await.is_ok());
        until(async || known(&jwt, &token).await == Err(AuthError::Unavailable)).await;
        let set = set.clone();
        provider.now(move |_| answer(200, JSON, set.clone()));
        until(async || known(&jwt, &token).await.is_ok()).await;
    }
}

#[tokio::test]
async fn without_keys_nobody_can_tell() {
    let signer = Signer::p256();
    let provider = FakeServer::start(|_| answer(503, &[], "")).await;
    let jwt = Jwt::open(settings(&provider)).await.unwrap();
    let token = signer.sign(&claims());
    for _ in 0..10 {
        assert_eq!(known(&jwt, &token).await, Err(AuthError::Unavailable));
    }
    assert_eq!(provider.asked(), 1);
    let set = jwks(std::slice::from_ref(&signer.jwk));
    provider.now(move |_| answer(200, JSON, set.clone()));
    // As long as there are none it is asked every five seconds.
    tokio::time::sleep(Duration::from_millis(5_100)).await;
    assert!(known(&jwt, &token).await.is_ok());
}

#[tokio::test]
async fn shared_secrets_at_a_url_are_none() {
    let oct = json!({"kty": "oct", "k": super::signers::spelled([7; 64])});
    let spare = Signer::p256();
    let provider = provider(jwks(&[oct, spare.jwk.clone()])).await;
    let mut settings = settings(&provider);
    settings.algorithms.push(jsonwebtoken::Algorithm::HS256);
    let jwt = Jwt::open(settings).await.unwrap();
    let key = jsonwebtoken::EncodingKey::from_secret(&[7; 64]);
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS256);
    let token = jsonwebtoken::encode(&header, &claims(), &key).unwrap();
    assert!(unknown(known(&jwt, &token).await.unwrap_err()).1);
    assert!(known(&jwt, &spare.sign(&claims())).await.is_ok());
}

#[tokio::test]
async fn urls_that_are_none() {
    for url in ["", "keys.json", "ftp://a/b", "https://user:password@a/"] {
        let settings = settings_of(JwtKeys::Url(url.into()));
        let error = Jwt::open(settings).await.unwrap_err().to_string();
        assert!(!error.contains("password@"), "{error}");
    }
}
