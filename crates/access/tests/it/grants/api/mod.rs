//! The grant API over real sockets, on both databases.

mod cancel;
mod cors;
mod events;
mod grant;
mod harness;
mod laravel;
mod links;
mod list;
mod secrets;
mod urls;
