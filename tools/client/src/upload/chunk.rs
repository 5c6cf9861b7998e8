//! Sends the content of one request, with its checksum.

use std::sync::Arc;

use http::{HeaderValue, header};
use landfall_protocol::{Algorithm, Checksum};

use crate::{
    Error,
    http::{ContentBody, ContentTrailer, Request, Response, Session, checksum},
    progress::RequestBytes,
    rate_limit::RateLimiter,
    source::Content,
};

/// The settings that the requests with content of one upload share.
#[derive(Debug, Clone)]
pub(crate) struct ChunkSender {
    pub(crate) session: Arc<Session>,
    pub(crate) limiters: Vec<Arc<RateLimiter>>,
    pub(crate) checksum: Option<Algorithm>,
    pub(crate) uses_trailer: bool,
}

impl ChunkSender {
    /// Returns the checksum of a range, to be sent in the head.
    ///
    /// # Errors
    /// [`Error::Source`], [`Error::SourceChanged`].
    pub(crate) async fn head_checksum(
        &self,
        content: &Content,
        offset: u64,
        length: u64,
    ) -> Result<Option<Checksum>, Error> {
        let Some(algorithm) = self.checksum.filter(|_| !self.uses_trailer) else {
            return Ok(None);
        };
        let mut hasher = algorithm.hasher();
        let mut reader = content.range(offset, length).reader();
        while let Some(block) = reader.next().await {
            hasher.update(&block.map_err(Error::from_source)?);
        }
        Ok(Some(checksum(algorithm, hasher)))
    }

    /// Sends a request with a prepared range as its body. Up to `read_ahead` bytes of a stream are read meanwhile.
    ///
    /// Returns the response and the bytes that were sent, which are also known after an error.
    ///
    /// # Cancel safety
    /// Cancel safe; the request is closed.
    pub(crate) async fn send(
        &self,
        mut request: Request,
        content: &mut Content,
        offset: u64,
        length: u64,
        read_ahead: u64,
    ) -> (Result<Response, Error>, u64) {
        let bytes = Arc::new(RequestBytes::new(self.session.meter.clone()));
        let trailer = self.checksum.filter(|_| self.uses_trailer);
        if trailer.is_some() {
            let name = HeaderValue::from_static("Upload-Checksum");
            request.headers.insert(header::TRAILER, name);
        }
        let range = content.range(offset, length);
        let body = || {
            let body = ContentBody::new(range.reader(), length, bytes.clone());
            let trailer = trailer.map(ContentTrailer::new);
            Some(body.limited(&self.limiters).with_trailer(trailer))
        };
        let response = tokio::select! {
            biased;
            response = self.session.send_with(request, body) => response,
            never = content.read_ahead(read_ahead) => match never {},
        };
        let sent = bytes.count();
        (response, sent)
    }
}
