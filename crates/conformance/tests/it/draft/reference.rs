//! A reference server of the draft, interop versions 8 to 10: in memory, for tests alone.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex as StateMutex};
use std::time::{Duration, Instant};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sha2::{Digest as _, Sha256};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};

use super::http::{Connection, Request, Response};
use super::mutant::Mutant;

const VERSION: &str = "upload-draft-interop-version";
const PARTIAL_UPLOAD: &str = "application/partial-upload";
const LIFETIME: u64 = 3600;
/// A 104 reports progress after as many bytes.
const PROGRESS: u64 = 1 << 20;

/// The limits of sizes, in bytes; 0 is none.
#[derive(Clone, Copy, Default)]
pub(super) struct Sizes {
    pub(super) max_size: u64,
    pub(super) max_append: u64,
    pub(super) min_append: u64,
}

struct State {
    data: Vec<u8>,
    length: Option<u64>,
    is_complete: bool,
    is_gone: bool,
    digest: Option<String>,
    created: Instant,
}

struct Upload {
    path: String,
    state: StateMutex<State>,
    /// Held while content is stored.
    writer: Mutex<()>,
    /// Changes when a newer request ends the writer.
    newest: watch::Sender<u64>,
}

pub(super) struct Server {
    uploads: StateMutex<HashMap<String, Arc<Upload>>>,
    sizes: Sizes,
    mutant: Option<Mutant>,
}

/// The content of a creation or an append.
struct Content {
    upload: Arc<Upload>,
    offset: u64,
    is_last: bool,
    is_creation: bool,
}

impl Server {
    /// Starts a server and returns its endpoint. It ends with the runtime of the test.
    pub(super) async fn start(sizes: Sizes, mutant: Option<Mutant>) -> url::Url {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Arc::new(Self {
            uploads: StateMutex::default(),
            sizes,
            mutant,
        });
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let server = Arc::clone(&server);
                // An error is the end of the connection.
                tokio::spawn(async move { server.serve(stream).await });
            }
        });
        format!("http://{address}/files/").parse().unwrap()
    }

    fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    async fn serve(&self, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut connection = Connection::new(stream);
        loop {
            let request = connection.request().await?;
            let response = self.handle(&request, &mut connection).await?;
            if !connection.respond(response).await? {
                return Ok(());
            }
        }
    }

    async fn handle(&self, request: &Request, connection: &mut Connection) -> io::Result<Response> {
        let is_collection = request.path == "/files/";
        match (request.method.as_str(), is_collection) {
            ("OPTIONS", _) => Ok(self.options()),
            ("POST" | "PUT", true) => self.create(request, connection).await,
            ("HEAD" | "GET", false) => Ok(self.inspect(request)),
            ("PATCH", false) => self.append(request, connection).await,
            ("DELETE", false) => Ok(self.cancel(request).await),
            _ => Ok(Response::new(405)),
        }
    }

    fn limits(&self, age: Duration) -> String {
        let Sizes {
            max_size,
            max_append,
            min_append,
        } = self.sizes;
        let mut limits = format!("min-size=0, max-age={}", LIFETIME - age.as_secs());
        let sizes = [
            ("max-size", max_size),
            ("max-append-size", max_append),
            ("min-append-size", min_append),
        ];
        for (key, size) in sizes.iter().filter(|(_, size)| *size > 0) {
            limits.push_str(&format!(", {key}={size}"));
        }
        limits
    }

    fn options(&self) -> Response {
        let response = Response::new(200).field("Accept-Patch", PARTIAL_UPLOAD);
        match self.mutant {
            Some(Mutant::OptionsWithoutLimits) => response,
            Some(Mutant::LimitIsANumber) => response.field("Upload-Limit", 107_374_182_400_u64),
            _ => response.field("Upload-Limit", self.limits(Duration::ZERO)),
        }
    }

    fn find(&self, path: &str) -> Option<Arc<Upload>> {
        let upload = self.uploads.lock().unwrap().get(path).map(Arc::clone)?;
        let is_gone = upload.state.lock().unwrap().is_gone;
        (!is_gone).then_some(upload)
    }

    fn length(&self, request: &Request) -> Option<u64> {
        request.integer("upload-length")
    }

    /// Checks the size of the content of one request.
    fn check_append(&self, size: Option<u64>, is_last: bool) -> Result<(), Response> {
        let Some(size) = size else { return Ok(()) };
        let Sizes {
            max_append,
            min_append,
            ..
        } = self.sizes;
        let is_exempt = (is_last && !self.has(Mutant::SmallLastContentIsRejected)) || size == 0;
        let status = match () {
            () if max_append > 0 && size > max_append => 413,
            () if size < min_append && !is_exempt => 400,
            () => return Ok(()),
        };
        let response = problem(status, "about:blank", "");
        Err(response.field("Upload-Limit", self.limits(Duration::ZERO)))
    }

    async fn create(&self, request: &Request, connection: &mut Connection) -> io::Result<Response> {
        let version = request.field(VERSION);
        let named = request
            .integer(VERSION)
            .filter(|version| (8..=10).contains(version));
        let is_last = request.boolean("upload-complete");
        let is_unknown = version.is_some() && named.is_none();
        let Some(is_last) = is_last.filter(|is_last| !is_unknown || !is_last) else {
            // A conventional request.
            while connection.content().await?.is_some() {}
            let response = Response::new(201);
            return Ok(match is_last {
                Some(_) => response.field("Upload-Complete", "?1"),
                None => response,
            });
        };
        if is_unknown {
            return Ok(problem(400, "about:blank", ""));
        }
        let declared = self.length(request);
        if self.has(Mutant::MalformedLengthIsRejected)
            && request.field("upload-length").is_some()
            && declared.is_none()
        {
            return Ok(problem(400, "about:blank", ""));
        }
        let size = request.content_length();
        let whole = size.filter(|_| is_last);
        let length = declared.or(whole);
        if whole.is_some_and(|whole| Some(whole) != length)
            || length.is_some_and(|l| size > Some(l))
        {
            return Ok(inconsistent());
        }
        if let (Some(length), max @ 1..) = (length, self.sizes.max_size)
            && length > max
            && !self.has(Mutant::MaxSizeIsNotEnforced)
        {
            let response = problem(413, "about:blank", "");
            return Ok(response.field("Upload-Limit", self.limits(Duration::ZERO)));
        }
        if let Err(response) = self.check_append(size, is_last) {
            return Ok(response);
        }
        let upload = Arc::new(Upload {
            path: format!("/files/{:032x}", rand::random::<u128>()),
            state: StateMutex::new(State {
                data: Vec::new(),
                length,
                is_complete: false,
                is_gone: false,
                digest: request.field("repr-digest"),
                created: Instant::now(),
            }),
            writer: Mutex::new(()),
            newest: watch::Sender::new(0),
        });
        let path = upload.path.clone();
        self.uploads
            .lock()
            .unwrap()
            .insert(path.clone(), Arc::clone(&upload));
        let announced = named.is_some() || self.has(Mutant::InterimForEveryClient);
        if announced && !request.is_http_1_0 && size != Some(0) {
            let interim = self.interim(request).field("Location", &path);
            let interim = interim.field("Upload-Limit", self.limits(Duration::ZERO));
            connection.interim(&interim).await?;
        }
        let content = Content {
            upload,
            offset: 0,
            is_last,
            is_creation: true,
        };
        let response = self.receive(request, connection, content).await?;
        Ok(response)
    }

    fn interim(&self, request: &Request) -> Response {
        let response = Response::new(104);
        let version = request.field(VERSION).unwrap_or_default();
        match self.mutant {
            Some(Mutant::InterimWithoutVersion) => response,
            Some(Mutant::InterimWithContentLength) => {
                response.field(VERSION, version).field("Content-Length", 0)
            }
            _ => response.field(VERSION, version),
        }
    }

    fn inspect(&self, request: &Request) -> Response {
        let Some(upload) = self.find(&request.path) else {
            return match self.has(Mutant::HeadOfUnknownSucceeds) {
                true => Response::new(204).field("Upload-Offset", 0),
                false => problem(404, "about:blank", ""),
            };
        };
        let state = upload.state.lock().unwrap();
        let mut response = Response::new(204)
            .field("Upload-Offset", state.data.len())
            .field("Upload-Complete", flag(state.is_complete))
            .field("Upload-Limit", self.limits(state.created.elapsed()))
            .field("Cache-Control", "no-store");
        if let Some(length) = state.length {
            response = response.field("Upload-Length", length);
        }
        match self.mutant {
            Some(Mutant::HeadWithoutOffset) => response.without("Upload-Offset"),
            Some(Mutant::HeadCanBeCached) => response.without("Cache-Control"),
            _ => response,
        }
    }

    async fn cancel(&self, request: &Request) -> Response {
        let Some(upload) = self.find(&request.path) else {
            return problem(404, "about:blank", "");
        };
        if !self.has(Mutant::DeleteLeavesTheAppend) {
            upload.newest.send_modify(|newest| *newest += 1);
            let _writer = upload.writer.lock().await;
        }
        upload.state.lock().unwrap().is_gone = !self.has(Mutant::DeleteKeepsTheUpload);
        Response::new(204)
    }

    async fn append(&self, request: &Request, connection: &mut Connection) -> io::Result<Response> {
        let Some(upload) = self.find(&request.path) else {
            return Ok(problem(404, "about:blank", ""));
        };
        let media_type = request.field("content-type").unwrap_or_default();
        let essence = media_type.split(';').next().unwrap_or_default().trim();
        if !essence.eq_ignore_ascii_case(PARTIAL_UPLOAD) && !self.has(Mutant::AnyMediaType) {
            let response = problem(415, "about:blank", "");
            return Ok(response.field("Accept-Patch", PARTIAL_UPLOAD));
        }
        let mut offset = request.integer("upload-offset");
        if self.has(Mutant::DecimalOffsetIsAccepted) {
            let number = request
                .field("upload-offset")
                .and_then(|text| text.parse::<f64>().ok());
            offset = number.map(|number| number as u64);
        }
        let (Some(offset), Some(is_last)) = (offset, request.boolean("upload-complete")) else {
            return Ok(problem(400, "about:blank", ""));
        };
        if let Err(response) = self.check_append(request.content_length(), is_last) {
            return Ok(response);
        }
        let content = Content {
            upload,
            offset,
            is_last,
            is_creation: false,
        };
        self.receive(request, connection, content).await
    }

    /// Checks an append against the state of the upload.
    fn check_state(&self, request: &Request, content: &Content) -> Result<(), Response> {
        let mut state = content.upload.state.lock().unwrap();
        let size = request.content_length();
        let current = state.data.len() as u64;
        if state.is_gone {
            return Err(problem(404, "about:blank", ""));
        }
        if content.offset != current && !self.has(Mutant::OtherOffsetIsAccepted) {
            let (mut expected, mut provided) = (current, content.offset);
            if self.has(Mutant::ConflictMembersAreSwapped) {
                (expected, provided) = (provided, expected);
            }
            let members =
                format!(", \"expected-offset\": {expected}, \"provided-offset\": {provided}");
            let response = problem(409, &registered("mismatching-upload-offset"), &members);
            return Err(match self.has(Mutant::ConflictWithoutOffset) {
                true => response,
                false => response.field("Upload-Offset", current),
            });
        }
        if state.is_complete {
            return Err(match (size, content.is_last) {
                (Some(0), true) => self.completed(request, &state),
                _ => problem(400, "about:blank", ""),
            });
        }
        let declared = self.length(request);
        let end = size.map(|size| current + size);
        let last = end.filter(|_| content.is_last);
        if declared.is_some_and(|length| state.length.is_some_and(|known| known != length)) {
            return Err(inconsistent());
        }
        let length = state.length.or(declared);
        if let (Some(length), false) = (length, self.has(Mutant::ExceedsTheLength)) {
            if end.is_some_and(|end| end > length) {
                state.is_gone = !self.has(Mutant::ValidAfterExceedingTheLength);
                return Err(inconsistent());
            }
            if last.is_some_and(|last| last != length) {
                return Err(inconsistent());
            }
        }
        state.length = length;
        Ok(())
    }

    async fn receive(
        &self,
        request: &Request,
        connection: &mut Connection,
        content: Content,
    ) -> io::Result<Response> {
        let upload = &content.upload;
        upload.newest.send_modify(|newest| *newest += 1);
        let mut newest = upload.newest.subscribe();
        let writer = match self.has(Mutant::WritesAtTheSameTime) {
            true => None,
            false => Some(upload.writer.lock().await),
        };
        if !content.is_creation
            && let Err(response) = self.check_state(request, &content)
        {
            return Ok(response);
        }
        if writer.is_none() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        if request.expects_continue() {
            connection.interim(&Response::new(100)).await?;
        }
        if self.has(Mutant::SucceedsEarly) {
            return Ok(Response::new(204).field("Upload-Complete", flag(content.is_last)));
        }
        let start = upload.state.lock().unwrap().data.len();
        let mut reported = 0;
        loop {
            let piece = tokio::select! {
                biased;
                _ = newest.changed(), if writer.is_some() => return Ok(self.conflict(upload)),
                piece = connection.content() => piece,
            };
            let piece = match piece {
                Ok(Some(piece)) => piece,
                Ok(None) => break,
                Err(error) => {
                    self.cut(upload, start);
                    return Err(error);
                }
            };
            if let Err(response) = self.store(upload, &piece, request.content_length().is_none()) {
                return Ok(response);
            }
            let stored = upload.state.lock().unwrap().data.len() as u64;
            let is_reported = request.integer(VERSION).is_some() && !request.is_http_1_0;
            if is_reported && stored - reported >= PROGRESS {
                reported = stored;
                let is_ahead = self.has(Mutant::InterimOffsetIsAhead);
                let offset = stored + if is_ahead { 2 * PROGRESS } else { 0 };
                let mut interim = self.interim(request).field("Upload-Offset", offset);
                if content.is_creation || self.has(Mutant::InterimOnAppendHasLocation) {
                    interim = interim.field("Location", &upload.path);
                }
                connection.interim(&interim).await?;
            }
        }
        Ok(self.finish(request, &content, start))
    }

    fn conflict(&self, upload: &Upload) -> Response {
        let offset = upload.state.lock().unwrap().data.len();
        problem(409, "about:blank", "").field("Upload-Offset", offset)
    }

    fn store(&self, upload: &Upload, piece: &[u8], is_chunked: bool) -> Result<(), Response> {
        let mut state = upload.state.lock().unwrap();
        let end = (state.data.len() + piece.len()) as u64;
        let is_too_long = state.length.is_some_and(|length| end > length);
        if is_too_long && !self.has(Mutant::ExceedsTheLength) {
            state.is_gone = !self.has(Mutant::ValidAfterExceedingTheLength);
            return Err(inconsistent());
        }
        if self.sizes.max_size > 0 && end > self.sizes.max_size {
            state.is_gone = true;
            let response = problem(413, "about:blank", "");
            return Err(response.field("Upload-Limit", self.limits(Duration::ZERO)));
        }
        state.data.extend_from_slice(piece);
        if is_chunked && self.has(Mutant::ChunksCount) {
            state.data.extend_from_slice(b"\r\n");
        }
        Ok(())
    }

    fn cut(&self, upload: &Upload, start: usize) {
        let mut state = upload.state.lock().unwrap();
        if self.has(Mutant::LosesBytesWhenCut) {
            state.data.truncate(start);
        }
        state.is_complete |= self.has(Mutant::CompletesWhenCut);
    }

    /// Responds to content that has arrived in full.
    fn finish(&self, request: &Request, content: &Content, start: usize) -> Response {
        let mut state = content.upload.state.lock().unwrap();
        let digest = request.field("content-digest");
        if digest.is_some_and(|digest| contradicts(&digest, &state.data[start..])) {
            state.data.truncate(start);
            let response = problem(400, "about:blank", "");
            return response.field("Upload-Offset", start);
        }
        if self.has(Mutant::PartIsNotStored) && content.is_creation && !content.is_last {
            state.data.clear();
        }
        let stored = state.data.len() as u64;
        if content.is_last {
            if state.length.is_some_and(|length| length != stored)
                && !self.has(Mutant::ExceedsTheLength)
            {
                return inconsistent();
            }
            state.length = Some(stored);
            let digest = state
                .digest
                .clone()
                .or_else(|| request.field("repr-digest"));
            if digest.is_some_and(|digest| contradicts(&digest, &state.data)) {
                state.is_gone = true;
                let response = problem(400, "about:blank", "").without("Upload-Complete");
                return response.field("Upload-Complete", "?1");
            }
            state.is_complete = true;
            return self.completed(request, &state);
        }
        if self.has(Mutant::CompletesAtTheLength) && state.length == Some(stored) {
            state.is_complete = true;
        }
        let response = Response::new(if content.is_creation { 201 } else { 204 })
            .field("Upload-Complete", "?0")
            .field("Upload-Offset", stored);
        if !content.is_creation {
            return response;
        }
        let is_other = self.has(Mutant::FinalLocationDiffers) && stored > 0;
        let location = format!("{}{}", content.upload.path, if is_other { "/" } else { "" });
        let response = response.field("Upload-Limit", self.limits(Duration::ZERO));
        let response = response.field("Location", location);
        match request.integer(VERSION) {
            Some(version) => response.field(VERSION, version),
            None => response,
        }
    }

    /// Returns the response of the target resource.
    fn completed(&self, request: &Request, state: &State) -> Response {
        let mut response = Response::new(201);
        if !self.has(Mutant::LastWithoutFlag) {
            response = response.field("Upload-Complete", "?1");
        }
        if request.field("want-repr-digest").is_some() {
            let data = match self.has(Mutant::DigestIsThatOfNothing) {
                true => &[],
                false => state.data.as_slice(),
            };
            response = response.field("Repr-Digest", digest(data));
        }
        response
    }
}

fn flag(is_complete: bool) -> &'static str {
    if is_complete { "?1" } else { "?0" }
}

fn registered(name: &str) -> String {
    format!("https://iana.org/assignments/http-problem-types#{name}")
}

fn problem(status: u16, kind: &str, members: &str) -> Response {
    let mut response = Response::new(status)
        .field("Content-Type", "application/problem+json")
        .field("Upload-Complete", "?0");
    response.body = format!("{{\"type\": \"{kind}\", \"status\": {status}{members}}}");
    response
}

fn inconsistent() -> Response {
    problem(400, &registered("inconsistent-upload-length"), "")
}

fn digest(data: &[u8]) -> String {
    format!("sha-256=:{}:", STANDARD.encode(Sha256::digest(data)))
}

/// Returns whether a digest of a known algorithm is not that of the data.
fn contradicts(value: &str, data: &[u8]) -> bool {
    value.starts_with("sha-256=") && value != digest(data)
}
