use landfall_access::auth::{
    AuthError, AuthMethod, Authenticator, ClientCertificates, CsrfPolicy, FailedAttempts,
};
use std::sync::Arc;

use super::{CLIENT, request};

/// The name of the certificate is that in a header.
fn method() -> ClientCertificates {
    ClientCertificates::new(|request| {
        let name = request.headers.get("certificate")?;
        Some(String::from_utf8_lossy(name.as_bytes()).into_owned())
    })
}

#[tokio::test]
async fn the_name_of_the_certificate_is_the_subject() {
    let subject = async |headers: &[(&str, &str)]| {
        let found = method()
            .authenticate(&request("POST", headers), Some(CLIENT))
            .await?;
        Ok::<_, AuthError>(found.map(|principal| principal.subject))
    };
    assert_eq!(subject(&[]).await, Ok(None));
    let backend = Ok(Some("backend".to_owned()));
    assert_eq!(subject(&[("certificate", "backend")]).await, backend);
    for name in ["", "tab\tin it", &*"x".repeat(256)] {
        let denied = subject(&[("certificate", name)]).await;
        assert!(matches!(denied, Err(AuthError::Forbidden(_))), "{denied:?}");
    }
}

#[tokio::test]
async fn pages_of_other_sites_cannot_use_the_certificate_of_a_browser() {
    let methods: Vec<Arc<dyn AuthMethod>> = vec![Arc::new(method())];
    let authenticator = Authenticator::new(methods, FailedAttempts::default(), CsrfPolicy::new());
    let subject = async |verb, header: Option<(&str, &str)>| {
        let headers: Vec<_> = header.into_iter().chain([("certificate", "ann")]).collect();
        let found = authenticator
            .authenticate(&request(verb, &headers), None)
            .await;
        found.map(|principal| principal.subject)
    };
    let own = ("origin", "http://up.example");
    for header in [None, Some(own), Some(("sec-fetch-site", "same-origin"))] {
        assert_eq!(
            subject("DELETE", header).await,
            Ok("ann".to_owned()),
            "{header:?}"
        );
    }
    for header in [
        ("origin", "https://evil.example"),
        ("sec-fetch-site", "cross-site"),
    ] {
        assert_eq!(
            subject("DELETE", Some(header)).await,
            Err(AuthError::CrossSite),
            "{header:?}"
        );
    }
}
