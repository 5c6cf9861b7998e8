//! Authentication: responses to forward auth, key sets and tokens.

use std::{fs, sync::LazyLock};

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use landfall_access::auth::{Algorithm, AuthError, AuthMethod, Jwt, JwtKeys, JwtSettings, fuzzing};
use landfall_state::queue::{Principal, is_subject};

/// The key of the tokens in the seeds.
const KEYS: &str = r#"{"keys":[{"kty":"oct","k":"MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY"}]}"#;

static JWT: LazyLock<Jwt> = LazyLock::new(|| {
    let file = std::env::temp_dir().join(format!("landfall-fuzz-{}.jwks", std::process::id()));
    fs::write(&file, KEYS).expect("a file for the keys");
    let mut settings = JwtSettings::new(JwtKeys::File(file.clone()));
    settings.algorithms = vec![Algorithm::HS256, Algorithm::RS256];
    settings.issuers = vec!["https://login.example/".to_owned()];
    let jwt = run(Jwt::open(settings)).expect("keys");
    fs::remove_file(file).expect("the file");
    jwt
});

fn run<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
        .block_on(work)
}

/// The first byte selects the input: a forward-auth response, a key set, or a token.
///
/// A principal has a valid name, an error is one clean sentence, and an invalid response never
/// authenticates.
pub fn authentication(data: &[u8]) {
    let [kind, rest @ ..] = data else {
        return;
    };
    match kind % 4 {
        0 => application(rest),
        1 => keys(rest, true),
        2 => keys(rest, false),
        _ => token(rest),
    }
}

fn application(data: &[u8]) {
    let [status, flags, body @ ..] = data else {
        return;
    };
    let Ok(status) = StatusCode::from_u16(200 + u16::from(*status) * 2) else {
        return;
    };
    let (subject, body) = match body.iter().position(|byte| *byte == b'\n') {
        Some(end) if flags & 1 == 1 => (Some(&body[..end]), &body[end + 1..]),
        _ => (None, body),
    };
    let mut response = Response::builder().status(status);
    if let Some(subject) = subject {
        response = response.header("x-landfall-subject", subject);
    }
    if flags & 2 == 2 {
        response = response.header(header::WWW_AUTHENTICATE, "Cookie realm=\"x\"");
    }
    let Ok(response) = response.body(Bytes::copy_from_slice(body)) else {
        return;
    };
    match fuzzing::read(&response) {
        Ok(Ok(caller)) => {
            assert!(status.is_success(), "{status} authenticates");
            named(&caller);
        }
        Ok(Err(AuthError::Forbidden(reason))) => {
            assert_eq!(status, StatusCode::FORBIDDEN);
            sentence(&reason);
        }
        Ok(Err(AuthError::Unauthenticated { challenge, .. })) => {
            assert_eq!(status, StatusCode::UNAUTHORIZED);
            assert!(!challenge.is_empty());
        }
        Ok(Err(other)) => panic!("{other}"),
        Err(why) => sentence(&why),
    }
}

fn keys(data: &[u8], from_url: bool) {
    if let Err(why) = fuzzing::keys(data, from_url) {
        sentence(&why);
    }
}

fn token(data: &[u8]) {
    let value = [b"Bearer ", data].concat();
    let Ok(request) = Request::builder()
        .header(header::AUTHORIZATION, value)
        .body(())
    else {
        return;
    };
    let (parts, ()) = request.into_parts();
    match run(JWT.authenticate(&parts, None)) {
        Ok(None) => {}
        Ok(Some(caller)) => {
            named(&caller);
            assert_eq!(
                data.iter().filter(|byte| **byte == b'.').count(),
                2,
                "an unsigned token"
            );
        }
        Err(AuthError::Unauthenticated { challenge, .. }) => assert!(challenge.to_str().is_ok()),
        Err(denied) => sentence(&denied.to_string()),
    }
}

fn named(caller: &Principal) {
    assert!(is_subject(&caller.subject), "{:?}", caller.subject);
}

fn sentence(text: &str) {
    assert!(
        !text.is_empty() && !text.contains(char::is_control),
        "{text:?}"
    );
}
