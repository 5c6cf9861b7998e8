//! A short name for the bounds on request bodies, which the service and the engine repeat in many signatures.

use bytes::Bytes;
use http_body::Body;

use crate::BoxError;

/// A request body: every [`Body`] of [`Bytes`].
pub trait RequestBody: Body<Data = Bytes, Error: Into<BoxError>> + Send {}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Send> RequestBody for B {}
