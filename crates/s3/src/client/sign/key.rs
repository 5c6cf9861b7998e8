use std::cell::RefCell;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// Cached keys per thread: enough for two clients and their token service at the change of day.
const CACHE_CAPACITY: usize = 8;

/// Secret, date, region and service.
type Scope<T> = [T; 4];

thread_local! {
    /// Deriving a key costs as much as the rest of signing. The cache is per thread, so that
    /// threads do not contend, and in order of last use.
    static DERIVED: RefCell<Vec<(Scope<String>, Hmac<Sha256>)>> = const { RefCell::new(Vec::new()) };
}

pub(super) fn sign(secret: &str, date: &str, region: &str, service: &str, text: &str) -> [u8; 32] {
    let scope = [secret, date, region, service];
    let mut mac = DERIVED.with_borrow_mut(|derived| {
        match derived.iter().position(|(other, _)| *other == scope) {
            Some(position) => derived[..=position].rotate_right(1),
            None => {
                derived.truncate(CACHE_CAPACITY - 1);
                derived.insert(0, (scope.map(str::to_owned), derive(scope)));
            }
        }
        derived[0].1.clone()
    });
    mac.update(text.as_bytes());
    mac.finalize().into_bytes().into()
}

fn derive([secret, date, region, service]: Scope<&str>) -> Hmac<Sha256> {
    let mut mac = keyed(format!("AWS4{secret}").as_bytes());
    for word in [date, region, service, "aws4_request"] {
        mac.update(word.as_bytes());
        mac = keyed(&mac.finalize().into_bytes());
    }
    mac
}

fn keyed(key: &[u8]) -> Hmac<Sha256> {
    Hmac::new_from_slice(key).expect("HMAC takes credentials of every length")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cached_keys_match_derived_keys() {
        for round in 0..3 {
            for day in 0..2 * CACHE_CAPACITY {
                let date = format!("202601{day:02}");
                for (secret, region, service) in [
                    ("s", "r", "s3"),
                    ("s", "r", "sts"),
                    ("s", "q", "s3"),
                    ("t", "r", "s3"),
                ] {
                    let mut mac = derive([secret, &date, region, service]);
                    mac.update(b"text");
                    let wanted: [u8; 32] = mac.finalize().into_bytes().into();
                    let got = sign(secret, &date, region, service, "text");
                    assert_eq!(got, wanted, "{round} {date} {secret} {region} {service}");
                }
            }
            let count = DERIVED.with_borrow(Vec::len);
            assert_eq!(count, CACHE_CAPACITY);
        }
    }
}
