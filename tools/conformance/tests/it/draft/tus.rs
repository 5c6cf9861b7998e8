//! As much of tus as the checks of two protocols need: the same uploads, by other fields.

use std::io;

use super::http::{Connection, Request, Response};
use super::mutant::Mutant;
use super::reference::{Server, State};

impl Server {
    pub(super) async fn tus(
        &self,
        request: &Request,
        connection: &mut Connection,
    ) -> io::Result<Response> {
        let response = match request.method.as_str() {
            "POST" => self.create_by_tus(request, connection).await?,
            _ => match self.find(&request.path) {
                None => Response::new(404),
                Some(upload) => {
                    let content = read(connection).await?;
                    let mut state = upload.state.lock().unwrap();
                    match request.method.as_str() {
                        "HEAD" => self.inspect_by_tus(&state),
                        "PATCH" => self.append_by_tus(request, &mut state, &content),
                        "DELETE" => {
                            state.is_gone = true;
                            Response::new(204)
                        }
                        _ => Response::new(405),
                    }
                }
            },
        };
        Ok(response.with("Tus-Resumable", "1.0.0"))
    }

    async fn create_by_tus(
        &self,
        request: &Request,
        connection: &mut Connection,
    ) -> io::Result<Response> {
        read(connection).await?;
        let length = self.length(request);
        if length.is_none() {
            return Ok(Response::new(400));
        }
        let upload = self.add(length, None, true);
        Ok(Response::new(201).with("Location", &upload.path))
    }

    fn inspect_by_tus(&self, state: &State) -> Response {
        let is_stale = state.is_complete && self.has(Mutant::CompletionIsUnknownToTus);
        let offset = if is_stale { 0 } else { state.data.len() };
        let response = Response::new(200)
            .with("Upload-Offset", offset)
            .with("Cache-Control", "no-store");
        match state.length {
            Some(length) => response.with("Upload-Length", length),
            None => response.with("Upload-Defer-Length", 1),
        }
    }

    fn append_by_tus(&self, request: &Request, state: &mut State, content: &[u8]) -> Response {
        let offset = state.data.len() as u64;
        if request.integer("upload-offset") != Some(offset) {
            return Response::new(409);
        }
        let end = offset + content.len() as u64;
        if state.length.is_some_and(|length| end > length) {
            return Response::new(413);
        }
        state.data.extend_from_slice(content);
        state.is_complete |= state.length == Some(end) && !self.has(Mutant::TusDoesNotComplete);
        Response::new(204).with("Upload-Offset", end)
    }
}

async fn read(connection: &mut Connection) -> io::Result<Vec<u8>> {
    let mut content = Vec::new();
    while let Some(piece) = connection.content().await? {
        content.extend(piece);
    }
    Ok(content)
}
