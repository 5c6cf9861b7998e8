//! The client with Azurite.
