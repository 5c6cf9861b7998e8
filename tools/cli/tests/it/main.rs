//! The program `landfall-cli`, with a server in this process.
#![cfg(unix)]
#![allow(clippy::unwrap_used)]

mod download;
mod exit_codes;
mod files;
mod interrupt;
mod output;
mod program;
mod server;
mod target;
mod unfinished;
mod upload;
