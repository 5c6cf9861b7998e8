//! The algorithms that the specification does not demand.

use crc_fast::CrcAlgorithm::{Crc32Iscsi, Crc32IsoHdlc};

use super::algorithm::{Algorithm, State, cryptographic};

pub(super) const LIST: &str = "sha1,md5,sha256,sha512,crc32,crc32c,blake3,xxh3";

pub(super) const ALL: &[Algorithm] = &[
    Algorithm::SHA1,
    Algorithm {
        name: "md5",
        lengths: &[16],
        start: cryptographic::<md5::Md5>,
    },
    Algorithm {
        name: "sha256",
        lengths: &[32],
        start: cryptographic::<sha2::Sha256>,
    },
    Algorithm {
        name: "sha512",
        lengths: &[64],
        start: cryptographic::<sha2::Sha512>,
    },
    // As in zip and gzip.
    Algorithm {
        name: "crc32",
        lengths: &[4],
        start: || Box::new(crc_fast::Digest::new(Crc32IsoHdlc)),
    },
    // Castagnoli.
    Algorithm {
        name: "crc32c",
        lengths: &[4],
        start: || Box::new(crc_fast::Digest::new(Crc32Iscsi)),
    },
    Algorithm {
        name: "blake3",
        lengths: &[32],
        start: || Box::new(blake3::Hasher::new()),
    },
    Algorithm {
        name: "xxh3",
        lengths: &[8, 16],
        start: || Box::new(xxhash_rust::xxh3::Xxh3::new()),
    },
];

impl State for crc_fast::Digest {
    fn update(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }

    fn digest(self: Box<Self>, _: usize) -> Vec<u8> {
        self.finalize().to_be_bytes()[4..].to_vec()
    }
}

impl State for blake3::Hasher {
    fn update(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }

    fn digest(self: Box<Self>, _: usize) -> Vec<u8> {
        self.finalize().as_bytes().to_vec()
    }
}

impl State for xxhash_rust::xxh3::Xxh3 {
    fn update(&mut self, bytes: &[u8]) {
        self.update(bytes);
    }

    fn digest(self: Box<Self>, bytes: usize) -> Vec<u8> {
        if bytes == 16 {
            self.digest128().to_be_bytes().to_vec()
        } else {
            (*self).digest().to_be_bytes().to_vec()
        }
    }
}
