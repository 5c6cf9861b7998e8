//! As much of tus as the checks of two protocols need: the same uploads, by other fields.

use std::io;

use super::http::{Connection, Request, Response};
use super::mutant::Mutant;
use super::reference::{Server, State, Upload};

impl Server {
    pub(super) async fn tus(
        &self,
        request: &Request,
        connection: &mut Connection,
    ) -> io::Result<Response> {
        let response = match (request.method.as_str(), self.find(&request.path)) {
            ("POST", _) => self.create_by_tus(request, connection).await?,
            (_, None) => Response::new(404),
            ("HEAD", Some(upload)) => self.inspect_by_tus(&upload.state.lock().unwrap()),
            ("PATCH", Some(upload)) => self.append_by_tus(request, connection, &upload).await?,
            ("DELETE", Some(upload)) => {
                upload.state.lock().unwrap().is_gone = true;
                Response::new(204)
            }
            _ => Response::new(405),
        };
        Ok(response.with("Tus-Resumable", "1.0.0"))
    }

    async fn create_by_tus(
        &self,
        request: &Request,
        connection: &mut Connection,
    ) -> io::Result<Response> {
        while connection.content().await?.is_some() {}
        let length = self.length(request);
        if length.is_none() && request.field("upload-defer-length").is_none() {
            return Ok(Response::new(400));
        }
        let upload = self.add(length, None, true);
        Ok(Response::new(201).with("Location", &upload.path))
    }

    fn inspect_by_tus(&self, state: &State) -> Response {
        let is_stale = state.is_complete
            && (self.has(Mutant::CompletionIsUnknownToTus)
                || !state.is_of_tus && self.has(Mutant::CompletionOfDraftIsUnknownToTus));
        let offset = if is_stale { 0 } else { state.data.len() };
        let response = Response::new(200)
            .with("Upload-Offset", offset)
            .with("Cache-Control", "no-store");
        let is_known = !state.is_complete || !self.has(Mutant::LengthStaysUnknownToTus);
        match state.length.filter(|_| is_known) {
            Some(length) => response.with("Upload-Length", length),
            None => response.with("Upload-Defer-Length", 1),
        }
    }

    async fn append_by_tus(
        &self,
        request: &Request,
        connection: &mut Connection,
        upload: &Upload,
    ) -> io::Result<Response> {
        let mut end = upload.state.lock().unwrap().data.len() as u64;
        if request.integer("upload-offset") != Some(end) {
            return Ok(Response::new(409));
        }
        if request.expects_continue() {
            connection.interim(&Response::new(100)).await?;
        }
        while let Some(piece) = connection.content().await? {
            let mut state = upload.state.lock().unwrap();
            end += piece.len() as u64;
            let is_open = self.has(Mutant::TusAppendsToComplete) && state.is_complete;
            if state.length.is_some_and(|length| end > length) && !is_open {
                return Ok(Response::new(413));
            }
            state.data.extend_from_slice(&piece);
        }
        let mut state = upload.state.lock().unwrap();
        state.is_open |= self.has(Mutant::DraftAppendsToCompleteOfTus);
        state.is_complete |= state.length == Some(end) && !self.has(Mutant::TusDoesNotComplete);
        Ok(Response::new(204).with("Upload-Offset", end))
    }
}
