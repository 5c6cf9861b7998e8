//! The Rust samples of the documentation: each one compiles.

#[cfg(doctest)]
#[doc = include_str!("../../../../README.md")]
pub mod readme {}

#[cfg(doctest)]
#[doc = include_str!("../../../../docs/embedding.md")]
pub mod embedding {}

#[cfg(doctest)]
#[doc = include_str!("../../../../tools/client/README.md")]
pub mod client {}
