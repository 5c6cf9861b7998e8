//! tus 1.0.0 without IO.
mod metadata;
pub use metadata::{InvalidMetadata, Metadata};
