//! API keys, on each database.

use std::time::{Duration, Instant};

use landfall_access::auth::{ApiKeys, AuthError, AuthMethod as _};
use landfall_state::queue::{GrantLimits, NewKey, Token};

use super::{CLIENT, known, request, unknown};
use crate::harness::{everywhere, until};

fn new(secret: &Token, subject: &str) -> NewKey {
    NewKey {
        hash: secret.hash(),
        name: format!("key of {subject}"),
        subject: subject.into(),
        limits: GrantLimits::default(),
        is_admin: false,
        expires_at: None,
    }
}

#[tokio::test]
async fn keys_say_who_asks_and_for_what() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let keys = ApiKeys::new(queue.clone());
        let (ann, ops, missing_credentials) =
            (Token::api_key(), Token::api_key(), Token::api_key());
        let mut of_ann = new(&ann, "ann");
        of_ann.limits = GrantLimits {
            max_size: Some(10),
            allowed_types: vec!["image/*".into()],
            max_active: Some(2),
            rate_limit: Some("100/1h".parse().unwrap()),
            quota: Some(u64::from(u32::MAX) * 1000),
            require_size: true,
        };
        queue.add_key(of_ann.clone()).await.unwrap();
        let mut of_ops = new(&ops, "ops");
        of_ops.is_admin = true;
        queue.add_key(of_ops).await.unwrap();
        for _ in 0..2 {
            let principal = known(&keys, ann.reveal()).await.unwrap();
            assert_eq!(
                (principal.subject.as_str(), principal.is_admin),
                ("ann", false)
            );
            assert_eq!(principal.limits, of_ann.limits);
            assert!(!principal.by_cookie);
            assert!(known(&keys, ops.reveal()).await.unwrap().is_admin);
            let (why, is_guess) = unknown(
                known(&keys, missing_credentials.reveal())
                    .await
                    .unwrap_err(),
            );
            assert!(why.contains("unknown API key") && is_guess, "{why}");
        }
        for near in [
            ann.reveal()[..46].to_owned(),
            format!("{}x", ann.reveal()),
            ann.reveal().to_uppercase().replacen("LFK", "lfk", 1),
            "lfk_".into(),
            format!("lfk_{}", ann.hash().as_str()),
        ] {
            assert!(unknown(known(&keys, &near).await.unwrap_err()).1, "{near}");
        }
        for header in [
            "Bearer a.b.c",
            "Bearer lft_x",
            "Basic lfk_x",
            "lfk_x",
            "Bearer",
        ] {
            let found = keys
                .authenticate(&request("GET", &[("authorization", header)]), None)
                .await;
            assert_eq!(found, Ok(None), "{header}");
        }
        // Many at once.
        let all = (0..50).map(|_| known(&keys, ann.reveal()));
        let all = futures_util::future::join_all(all).await;
        assert!(all.iter().all(Result::is_ok));
        queue.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_key_that_is_revoked_is_refused_within_five_seconds() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let keys = ApiKeys::new(queue.clone());
        let secret = Token::api_key();
        queue.add_key(new(&secret, "ann")).await.unwrap();
        assert!(known(&keys, secret.reveal()).await.is_ok());
        assert_eq!(queue.revoke_key("key of ann").await.unwrap(), 1);
        let revoked = Instant::now();
        until(async || known(&keys, secret.reveal()).await.is_err()).await;
        let passed = revoked.elapsed();
        assert!(passed < Duration::from_secs(6), "{passed:?}");
        // One that is added works at once, though it was refused before.
        let later = Token::api_key();
        assert!(known(&keys, later.reveal()).await.is_err());
        queue.add_key(new(&later, "bob")).await.unwrap();
        assert_eq!(known(&keys, later.reveal()).await.unwrap().subject, "bob");
        queue.close().await;
    })
    .await;
}

#[tokio::test]
async fn a_key_is_none_from_the_very_moment_its_time_is_over() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let keys = ApiKeys::new(queue.clone());
        let (seen, unseen) = (Token::api_key(), Token::api_key());
        for (secret, subject) in [(&seen, "seen"), (&unseen, "unseen")] {
            let mut key = new(secret, subject);
            key.expires_at = Some(place.hands.now() + Duration::from_secs(3600));
            queue.add_key(key).await.unwrap();
        }
        place.hands.go(Duration::from_millis(3_599_999));
        assert!(known(&keys, seen.reveal()).await.is_ok());
        place.hands.go(Duration::from_millis(1));
        // Remembered or not.
        for secret in [&seen, &unseen] {
            unknown(known(&keys, secret.reveal()).await.unwrap_err());
        }
        queue.close().await;
    })
    .await;
}

#[tokio::test]
async fn without_the_database_nobody_can_tell() {
    everywhere(async |place| {
        let queue = place.queue().await;
        let keys = ApiKeys::new(queue.clone());
        let (before, after) = (Token::api_key(), Token::api_key());
        queue.add_key(new(&before, "ann")).await.unwrap();
        assert!(known(&keys, before.reveal()).await.is_ok());
        queue.close().await;
        assert_eq!(
            known(&keys, after.reveal()).await,
            Err(AuthError::Unavailable)
        );
        assert!(!format!("{keys:?}").contains(&before.reveal()[4..]));
        let found = keys.authenticate(&request("GET", &[]), Some(CLIENT)).await;
        assert_eq!(found, Ok(None));
    })
    .await;
}
