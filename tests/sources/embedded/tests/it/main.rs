//! The programs of `src/`, killed, cut and repeated.

#![allow(clippy::unwrap_used)]

mod composer;
mod crashes;
mod failures;
mod layers;
mod manifests;
mod program;
mod taken;
