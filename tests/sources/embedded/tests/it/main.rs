//! The programs of `src/`, killed, cut and repeated.

mod composer;
mod crashes;
mod failures;
mod layers;
mod manifests;
mod program;
mod taken;
