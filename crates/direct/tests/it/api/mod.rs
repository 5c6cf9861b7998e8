//! The routes, over HTTP, as their clients use them.

mod away;
mod companion;
mod docs;
mod edge;
mod grants;
mod notices;
mod secrets;
mod seed;
mod signer;
mod site;
mod told;
