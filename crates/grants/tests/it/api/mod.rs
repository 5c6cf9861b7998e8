//! The grant API over real sockets, on both databases.

mod asking;
mod cancelling;
mod edge;
mod events;
mod listing;
mod package;
mod secrets;
mod site;
mod urls;
