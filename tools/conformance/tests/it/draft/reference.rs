//! A reference server of the draft, interop versions 6 to 10 by the rules of 8: in memory, for tests alone.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex as StateMutex};
use std::time::{Duration, Instant};

use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Mutex, watch};

use super::content::inconsistent;
use super::http::{Connection, Request, Response};
use super::mutant::Mutant;

pub(super) const VERSION: &str = "upload-draft-interop-version";
const PARTIAL_UPLOAD: &str = "application/partial-upload";
const LIFETIME: u64 = 3600;
const WINDOW: u32 = 1 << 20;
/// The first bytes of a connection of HTTP/2.
const PREFACE: [u8; 14] = *b"PRI * HTTP/2.0";

/// The limits of sizes, in bytes; 0 is none.
#[derive(Clone, Copy, Default)]
pub(super) struct Sizes {
    pub(super) max_size: u64,
    pub(super) max_append: u64,
    pub(super) min_append: u64,
}

pub(super) struct State {
    pub(super) data: Vec<u8>,
    pub(super) length: Option<u64>,
    pub(super) is_complete: bool,
    pub(super) is_gone: bool,
    pub(super) digest: Option<String>,
    pub(super) created: Instant,
    pub(super) is_of_tus: bool,
    /// Complete, and still appended to.
    pub(super) is_open: bool,
}

pub(super) struct Upload {
    pub(super) path: String,
    pub(super) state: StateMutex<State>,
    /// Held while content is stored.
    pub(super) writer: Mutex<()>,
    /// Changes when a newer request ends the writer.
    pub(super) newest: watch::Sender<u64>,
}

pub(super) struct Server {
    uploads: StateMutex<HashMap<String, Arc<Upload>>>,
    pub(super) sizes: Sizes,
    mutant: Option<Mutant>,
}

/// The content of a creation or an append.
pub(super) struct Content {
    pub(super) upload: Arc<Upload>,
    pub(super) offset: u64,
    pub(super) is_last: bool,
    pub(super) is_creation: bool,
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

    pub(super) fn has(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) -> io::Result<()> {
        stream.set_nodelay(true)?;
        let mut start = [0; PREFACE.len()];
        stream.peek(&mut start).await?;
        if start != PREFACE {
            return self.respond_to_all(Connection::new(stream)).await;
        }
        let mut builder = h2::server::Builder::new();
        builder.initial_window_size(WINDOW);
        builder.initial_connection_window_size(WINDOW);
        let streams = builder.handshake(stream).await;
        let mut streams = streams.map_err(io::Error::other)?;
        while let Some(accepted) = streams.accept().await {
            let (request, response) = accepted.map_err(io::Error::other)?;
            let server = Arc::clone(&self);
            let connection = Connection::of_stream(request, response);
            tokio::spawn(async move { server.respond_to_all(connection).await });
        }
        Ok(())
    }

    async fn respond_to_all(&self, mut connection: Connection) -> io::Result<()> {
        loop {
            let request = connection.request().await?;
            let mut response = self.handle(&request, &mut connection).await?;
            if self.has(Mutant::TellsNoLimit) {
                response = response.without("Upload-Limit");
            }
            if !connection.respond(response).await? {
                return Ok(());
            }
            if self.has(Mutant::InterimAfterTheResponse) {
                connection.interim(&self.interim(&request)).await?;
            }
        }
    }

    async fn handle(&self, request: &Request, connection: &mut Connection) -> io::Result<Response> {
        if request.field("tus-resumable").is_some() && request.method != "OPTIONS" {
            return self.tus(request, connection).await;
        }
        let is_collection = request.path == "/files/";
        match (request.method.as_str(), is_collection) {
            ("OPTIONS", _) => Ok(self.options()),
            ("POST" | "PUT", true) => self.create(request, connection).await,
            ("GET", false) if request.field(VERSION).is_none() => Ok(self.download(request)),
            ("HEAD" | "GET", false) => Ok(self.inspect(request).await),
            ("PATCH", false) => self.append(request, connection).await,
            ("DELETE", false) => Ok(self.cancel(request).await),
            _ => Ok(Response::new(405)),
        }
    }

    pub(super) fn limits(&self, age: Duration) -> String {
        let Sizes {
            max_size,
            max_append,
            min_append,
        } = self.sizes;
        let mut limits = format!("min-size=0, max-age={}", self.lifetime(age));
        let sizes = [
            ("max-size", max_size),
            ("max-append-size", max_append),
            ("min-append-size", min_append),
        ];
        let is_hidden = |key| key == "max-size" && self.has(Mutant::SizeLimitIsNotReported);
        let sizes = sizes.iter().filter(|(key, _)| !is_hidden(*key));
        for (key, size) in sizes.filter(|(_, size)| *size > 0) {
            limits.push_str(&format!(", {key}={size}"));
        }
        limits
    }

    fn lifetime(&self, age: Duration) -> u64 {
        LIFETIME
            - age.as_secs()
                * if self.has(Mutant::LifetimeIsShortened) {
                    60
                } else {
                    1
                }
    }

    /// The limits of an upload, as one kind of response reports them.
    pub(super) fn limits_of_upload(&self, age: Duration, hidden_by: Mutant) -> String {
        match self.has(hidden_by) {
            true => "min-size=0".to_owned(),
            false => self.limits(age),
        }
    }

    fn options(&self) -> Response {
        let response = Response::new(200)
            .with("Accept-Patch", PARTIAL_UPLOAD)
            .with("Tus-Version", "1.0.0")
            .with(
                "Tus-Extension",
                "creation,creation-defer-length,termination",
            );
        match self.mutant {
            Some(Mutant::OptionsWithoutLimits) => response,
            Some(Mutant::LimitIsANumber) => response.with("Upload-Limit", 107_374_182_400_u64),
            _ => response.with("Upload-Limit", self.limits(Duration::ZERO)),
        }
    }

    pub(super) fn find(&self, path: &str) -> Option<Arc<Upload>> {
        let upload = self.uploads.lock().unwrap().get(path).map(Arc::clone)?;
        let is_gone = upload.state.lock().unwrap().is_gone;
        (!is_gone).then_some(upload)
    }

    pub(super) fn length(&self, request: &Request) -> Option<u64> {
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
            () if size > 1000 && self.has(Mutant::AppendLimitIsNotReported) => 413,
            () if size < min_append && !is_exempt => 400,
            () => return Ok(()),
        };
        let response = problem(status, "about:blank", "");
        Err(response.with("Upload-Limit", self.limits(Duration::ZERO)))
    }

    async fn create(&self, request: &Request, connection: &mut Connection) -> io::Result<Response> {
        let version = request.field(VERSION);
        let named = request
            .integer(VERSION)
            .filter(|version| (6..=10).contains(version));
        let is_last = request.boolean("upload-complete");
        let is_unknown = version.is_some() && named.is_none();
        let Some(is_last) = is_last.filter(|is_last| !is_unknown || !is_last) else {
            // A conventional request.
            while connection.content().await?.is_some() {}
            let response = Response::new(201);
            return Ok(match is_last {
                Some(_) => response.with("Upload-Complete", "?1"),
                None => response,
            });
        };
        if is_unknown && self.has(Mutant::FragmentOfUnknownVersionIsWhole) {
            while connection.content().await?.is_some() {}
            return Ok(Response::new(201));
        }
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
            return Ok(response.with("Upload-Limit", self.limits(Duration::ZERO)));
        }
        if let Err(response) = self.check_append(size, is_last) {
            return Ok(response);
        }
        let upload = self.add(length, request.field("repr-digest"), false);
        let path = upload.path.clone();
        let announced = named.is_some() || self.has(Mutant::InterimForEveryClient);
        if announced && !request.is_http_1_0 && size != Some(0) {
            let interim = self.interim(request).with("Location", &path);
            let limits = self.limits_of_upload(Duration::ZERO, Mutant::InterimHidesLimits);
            let interim = match self.has(Mutant::TellsNoLimit) {
                true => interim,
                false => interim.with("Upload-Limit", limits),
            };
            let is_left_out = match self.mutant {
                Some(Mutant::NoInterimOverHttp2) => connection.is_http2(),
                Some(Mutant::NoInterimThroughProxies) => request.field("via").is_some(),
                Some(Mutant::NoInterim) => true,
                _ => false,
            };
            if !is_left_out {
                connection.interim(&interim).await?;
            }
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

    /// Adds an upload without data.
    pub(super) fn add(
        &self,
        length: Option<u64>,
        digest: Option<String>,
        is_of_tus: bool,
    ) -> Arc<Upload> {
        let upload = Arc::new(Upload {
            path: format!("/files/{:032x}", rand::random::<u128>()),
            state: StateMutex::new(State {
                data: Vec::new(),
                length,
                is_complete: false,
                is_gone: false,
                digest,
                created: Instant::now(),
                is_of_tus,
                is_open: false,
            }),
            writer: Mutex::new(()),
            newest: watch::Sender::new(0),
        });
        let mut uploads = self.uploads.lock().unwrap();
        uploads.insert(upload.path.clone(), Arc::clone(&upload));
        upload
    }

    pub(super) fn interim(&self, request: &Request) -> Response {
        let response = Response::new(104);
        let version = request.field(VERSION).unwrap_or_default();
        match self.mutant {
            Some(Mutant::InterimHasAnotherVersion) => response.with(VERSION, 7),
            Some(Mutant::InterimWithoutVersion) => response,
            Some(Mutant::InterimWithContentLength) => {
                response.with(VERSION, version).with("Content-Length", 0)
            }
            _ => response.with(VERSION, version),
        }
    }

    async fn inspect(&self, request: &Request) -> Response {
        let Some(upload) = self.find(&request.path) else {
            return match self.has(Mutant::HeadOfUnknownSucceeds) {
                true => Response::new(204).with("Upload-Offset", 0),
                false => problem(404, "about:blank", ""),
            };
        };
        if self.has(Mutant::LosesBytesWhenCut) || self.has(Mutant::HeadWaitsForAppends) {
            // Otherwise it would report the bytes that it is about to lose, if it does not know yet of the cut.
            drop(upload.writer.lock().await);
        }
        let state = upload.state.lock().unwrap();
        let limits = self.limits_of_upload(state.created.elapsed(), Mutant::HeadHidesLimits);
        let mut response = Response::new(204)
            .with("Upload-Offset", state.data.len())
            .with("Upload-Complete", flag(state.is_complete))
            .with("Upload-Limit", limits)
            .with("Cache-Control", "no-store");
        if let Some(length) = state.length {
            response = response.with("Upload-Length", length);
        }
        match self.mutant {
            Some(Mutant::CompleteHasNoOffset) if state.is_complete => {
                response.without("Upload-Offset")
            }
            Some(Mutant::HeadWithoutOffset) => response.without("Upload-Offset"),
            Some(Mutant::HeadCanBeCached) => response.without("Cache-Control"),
            _ => response,
        }
    }

    /// GET without a version, which is no part of the draft.
    fn download(&self, request: &Request) -> Response {
        let upload = self.find(&request.path);
        let data = upload.and_then(|upload| {
            let state = upload.state.lock().unwrap();
            state.is_complete.then(|| state.data.clone())
        });
        match data {
            Some(data) => {
                let mut response = Response::new(200);
                response.body = data;
                response
            }
            None => Response::new(404),
        }
    }

    async fn cancel(&self, request: &Request) -> Response {
        let Some(upload) = self.find(&request.path) else {
            return match self.has(Mutant::DeleteOfUnknownSucceeds) {
                true => Response::new(204),
                false => problem(404, "about:blank", ""),
            };
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
            if self.has(Mutant::RejectionForgetsBytes) {
                upload.state.lock().unwrap().data.clear();
            }
            let response = problem(415, "about:blank", "");
            return Ok(response.with("Accept-Patch", PARTIAL_UPLOAD));
        }
        let mut offset = request.integer("upload-offset");
        if self.has(Mutant::DecimalOffsetIsAccepted) {
            let number = request
                .field("upload-offset")
                .and_then(|text| text.parse::<f64>().ok());
            offset = number.map(|number| number as u64);
        }
        let has_flag = request.field("upload-complete").is_some();
        let assumed = (!has_flag && self.has(Mutant::MissingFlagCompletes)).then_some(true);
        let is_last = request.boolean("upload-complete").or(assumed);
        let (Some(offset), Some(is_last)) = (offset, is_last) else {
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
}

pub(super) fn flag(is_complete: bool) -> &'static str {
    if is_complete { "?1" } else { "?0" }
}

pub(super) fn registered(name: &str) -> String {
    format!("https://iana.org/assignments/http-problem-types#{name}")
}

pub(super) fn problem(status: u16, kind: &str, members: &str) -> Response {
    let mut response = Response::new(status)
        .with("Content-Type", "application/problem+json")
        .with("Upload-Complete", "?0");
    response.body = format!("{{\"type\": \"{kind}\", \"status\": {status}{members}}}").into_bytes();
    response
}
