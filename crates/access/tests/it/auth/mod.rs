//! Authentication, with generated tokens and local servers.

mod authenticator;
mod client_certificates;
mod fake_server;
mod forward_auth;
mod jwt;
mod keys;
mod rotation;
mod signers;

use std::net::IpAddr;

use http::{Request, request::Parts};
use landfall_access::auth::{AuthError, AuthMethod};
use landfall_state::queue::Principal;

/// The client's address.
const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 7));

/// A request to the grant API.
fn request(method: &str, headers: &[(&str, &str)]) -> Parts {
    let mut request = Request::builder()
        .method(method)
        .uri("/uploadjobs?x=1")
        .header("host", "up.example");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap().into_parts().0
}

/// One with a bearer token.
fn bearing(token: &str) -> Parts {
    request("POST", &[("authorization", &format!("Bearer {token}"))])
}

/// Authenticates a bearer token, which must be of the method's kind.
async fn known(way: &dyn AuthMethod, token: &str) -> Result<Principal, AuthError> {
    let found = way.authenticate(&bearing(token), Some(CLIENT)).await;
    found.map(|principal| principal.expect("it is a token of this kind"))
}

/// Returns the challenge, and whether the request counts as a guess.
fn unknown(denied: AuthError) -> (String, bool) {
    match denied {
        AuthError::Unauthenticated {
            challenge,
            is_guess,
        } => (challenge.to_str().unwrap().to_owned(), is_guess),
        other => panic!("{other:?}"),
    }
}
