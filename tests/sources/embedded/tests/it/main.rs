//! The programs of `src/`, killed, cut and repeated.

mod composer;
mod crashes;
mod layers;
mod program;
mod taken;
