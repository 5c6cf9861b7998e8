//! Checksums of the reference server.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::Digest as _;

pub(super) const NAMES: &str = "sha1,md5,sha256,sha512,crc32";

/// The result of a verification.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Match,
    Mismatch,
    Invalid,
    Unknown,
}

fn digest(name: &str, data: &[u8]) -> Option<Vec<u8>> {
    Some(match name {
        "sha1" => sha1::Sha1::digest(data).to_vec(),
        "md5" => md5::Md5::digest(data).to_vec(),
        "sha256" => sha2::Sha256::digest(data).to_vec(),
        "sha512" => sha2::Sha512::digest(data).to_vec(),
        "crc32" => crc32(data).to_be_bytes().to_vec(),
        _ => return None,
    })
}

fn crc32(data: &[u8]) -> u32 {
    !data.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            (crc >> 1) ^ (0xedb8_8320 * (crc & 1))
        })
    })
}

pub(super) fn verify(value: &str, data: &[u8]) -> Verdict {
    let Some((name, expected)) = value.split_once(' ') else {
        return Verdict::Invalid;
    };
    let Some(digest) = digest(name, data) else {
        return Verdict::Unknown;
    };
    match STANDARD.decode(expected) {
        Ok(expected) if expected == digest => Verdict::Match,
        Ok(expected) if expected.len() == digest.len() => Verdict::Mismatch,
        _ => Verdict::Invalid,
    }
}
