//! The client with a scripted transport.
