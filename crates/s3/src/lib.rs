//! S3 for Landfall: the client that talks to a bucket, and the store on top of it.

pub mod client;
