use bytes::Bytes;
use http_body::Body;
use http_body_util::{
    BodyExt as _, Either,
    combinators::{MapErr, UnsyncBoxBody},
};
use landfall::{
    service::{RequestBodyError, ResponseBody},
    store::BoxError,
};

use crate::net::{self, BodyError};

pub(super) type UploadBody = MapErr<net::Body, fn(BodyError) -> RequestBodyError>;

pub(super) fn upload_body(body: net::Body) -> UploadBody {
    body.map_err(|error| match error {
        BodyError::Timeout | BodyError::TooSlow => RequestBodyError::Timeout,
        BodyError::Reset => RequestBodyError::Reset,
        BodyError::ShuttingDown => RequestBodyError::ShuttingDown,
        BodyError::Malformed(_) => RequestBodyError::Malformed,
        _ => RequestBodyError::UnexpectedEnd,
    })
}

pub(super) type AppBody = Either<ResponseBody, UnsyncBoxBody<Bytes, BoxError>>;

pub(super) fn other_body<B>(body: B) -> AppBody
where
    B: Body<Data = Bytes, Error: Into<BoxError>> + Send + 'static,
{
    Either::Right(body.map_err(Into::into).boxed_unsync())
}
