//! The grant API of Landfall, and the hook that enforces grants.
//!
//! ```text
//! POST /uploadjobs ─▶ api ─▶ Authenticator ─▶ policies ─▶ Queue::grant ──▶ upload token
//! tus POST, token ──▶ engine ─ calls ─▶ GrantHook ─▶ Queue::start          one upload
//! tus PATCH ────────▶ engine ─ emits ─▶ JobTracker ─▶ Queue::report, Queue::finish
//! DELETE ───────────▶ tracking::cancel ─▶ Queue::finish, then Handler::remove
//! ```
//!
//! An application requests a grant for an upload in [`api`] and gives the upload token to a client.
//! [`enforce`] verifies the token when the client creates the upload. The jobs are in
//! `landfall-state`.
//!
//! One grant makes one upload: its creation runs under a lease of the grant's idempotency key and
//! stores the upload id in the queue before the store has the upload. A repeated creation finds it there: an
//! upload that exists is answered again, a missing one is created. Tokens are removed from a request before
//! hooks, events, descriptions or logs see it.
//!
//! Start reading at `api/grant.rs` and `enforce/mod.rs`.

pub mod api;
pub mod enforce;
