use bytes::Bytes;
use http_body::Body;

use crate::BoxError;

/// A request body: every [`Body`] of [`Bytes`].
pub trait RequestBody: Body<Data = Bytes, Error: Into<BoxError>> + Send {}

impl<B: Body<Data = Bytes, Error: Into<BoxError>> + Send> RequestBody for B {}
