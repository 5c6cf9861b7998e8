//! A small server of tus 1.0.0 in memory, written for these tests, which can have a [`Mutant`].

mod checksum;
mod concat;
pub(crate) mod http;
mod mutant;
mod operations;

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use tokio::net::TcpListener;
use tokio::task::JoinSet;
use url::Url;

use self::http::{Head, Http, Reply};
pub(crate) use self::mutant::Mutant;

/// Large enough for all checks, small enough to be reached.
const MAX_SIZE: u64 = 10 << 20;
const EXTENSIONS: &str = "creation,creation-with-upload,creation-defer-length,expiration,checksum,\
                          checksum-trailer,termination,concatenation,concatenation-unfinished";

#[derive(Debug, Default)]
struct Upload {
    data: Vec<u8>,
    length: Option<u64>,
    metadata: Option<String>,
    concat: Option<String>,
    /// The parts of a final upload.
    parts: Option<Vec<String>>,
    /// The newest request that writes.
    writer: u64,
    expires: Option<SystemTime>,
}

impl Upload {
    fn is_complete(&self) -> bool {
        self.length == Some(self.data.len() as u64)
    }
}

#[derive(Debug)]
struct State {
    mutant: Option<Mutant>,
    lifetime: Duration,
    uploads: Mutex<HashMap<String, Upload>>,
}

impl State {
    fn is(&self, mutant: Mutant) -> bool {
        self.mutant == Some(mutant)
    }

    fn with<T>(&self, work: impl FnOnce(&mut HashMap<String, Upload>) -> T) -> T {
        work(&mut self.uploads.lock().unwrap())
    }
}

/// A running server. It stops when it is dropped.
#[derive(Debug)]
pub(crate) struct Reference {
    pub(crate) url: Url,
    state: Arc<State>,
    _task: JoinSet<()>,
}

impl Reference {
    pub(crate) async fn start(mutant: Option<Mutant>, lifetime: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            mutant,
            lifetime,
            uploads: Mutex::default(),
        });
        let mut task = JoinSet::new();
        let served = Arc::clone(&state);
        task.spawn(async move {
            let mut connections = JoinSet::new();
            loop {
                if let Ok((stream, _)) = listener.accept().await {
                    connections.spawn(serve(Http::new(stream), Arc::clone(&served)));
                }
                while connections.try_join_next().is_some() {}
            }
        });
        let url = Url::parse(&format!("http://{address}/files/")).unwrap();
        Self {
            url,
            state,
            _task: task,
        }
    }

    /// The number of uploads that exist.
    pub(crate) fn uploads(&self) -> usize {
        self.state.with(|uploads| uploads.len())
    }
}

async fn serve(mut http: Http, state: Arc<State>) {
    loop {
        let head = match http.head().await {
            Ok(head) => head,
            Err(error) => {
                if error.kind() == std::io::ErrorKind::InvalidData {
                    let _ = http.reply(&Reply::new(400), false).await;
                }
                return;
            }
        };
        let method = method(&state, &head);
        let Some(reply) = respond(&state, &mut http, &head, &method).await else {
            return;
        };
        let reply = common_fields(&state, &head, reply);
        if state.is(Mutant::InterimForTus) && method == "PATCH" && http.announce().await.is_err() {
            return;
        }
        let is_head = head.method == "HEAD" || method == "HEAD";
        match http.reply(&reply, head.method == "HEAD").await {
            Ok(true) if !is_head || reply.body.is_empty() => {}
            _ => return,
        }
    }
}

fn method(state: &State, head: &Head) -> String {
    match head.field("X-HTTP-Method-Override") {
        Some(_) if state.is(Mutant::OverrideOfPostAlone) && head.method != "POST" => {
            head.method.clone()
        }
        Some(method) if !state.is(Mutant::OverrideIsIgnored) => method.to_owned(),
        _ => head.method.clone(),
    }
}

async fn respond(state: &State, http: &mut Http, head: &Head, method: &str) -> Option<Reply> {
    if method == "OPTIONS" {
        return Some(options(state, head));
    }
    let id = head
        .path
        .strip_prefix("/files/")
        .unwrap_or_default()
        .to_owned();
    state.with(|uploads| {
        let keeps = state.is(Mutant::ExpiredUploadsStay);
        uploads.retain(|_, upload| {
            keeps || upload.expires.is_none_or(|time| time > SystemTime::now())
        });
    });
    let is_supported = match head.field("Tus-Resumable") {
        Some(version) => version == "1.0.0",
        None => matches!(method, "GET" | "HEAD"),
    };
    if !is_supported && !state.is(Mutant::AnyVersion) {
        if method == "DELETE" && state.is(Mutant::DeletesInOtherVersions) {
            state.with(|uploads| uploads.remove(&id));
        }
        let reply = Reply::new(412);
        return Some(match state.is(Mutant::RejectionWithoutVersions) {
            true => reply,
            false => reply.with("Tus-Version", "1.0.0"),
        });
    }
    if method == "POST" && state.is(Mutant::NeedsNameAndToken) {
        let metadata = head.field("Upload-Metadata").unwrap_or_default();
        if head.field("Authorization").is_none() || !metadata.contains("name YSBi") {
            return Some(Reply::new(403));
        }
    }
    match method {
        "POST" => operations::create(state, http, head).await,
        "HEAD" => Some(operations::inspect(state, &id)),
        "PATCH" => operations::append(state, http, head, &id).await,
        "DELETE" => Some(operations::terminate(state, &id)),
        "GET" => Some(operations::download(state, head, &id)),
        _ => Some(Reply::new(405).with("Allow", "POST, HEAD, PATCH, DELETE, GET, OPTIONS")),
    }
}

fn options(state: &State, head: &Head) -> Reply {
    if state.is(Mutant::OptionsIsNotFound) {
        return Reply::new(404)
            .with("Tus-Version", "1.0.0")
            .with("Tus-Extension", EXTENSIONS);
    }
    let version = head.field("Tus-Resumable");
    if state.is(Mutant::OptionsChecksVersion) && version.is_some_and(|version| version != "1.0.0") {
        return Reply::new(412);
    }
    if state.is(Mutant::OptionsWithoutExtensions) {
        return Reply::new(204).with("Tus-Version", "1.0.0");
    }
    let reply = Reply::new(204)
        .with("Tus-Extension", EXTENSIONS)
        .with("Tus-Checksum-Algorithm", checksum::NAMES)
        .with(
            "Access-Control-Allow-Methods",
            "POST, HEAD, PATCH, DELETE, GET",
        )
        .with(
            "Access-Control-Allow-Headers",
            "Tus-Resumable, Upload-Offset, Content-Type",
        );
    let reply = match state.is(Mutant::MaxSizeIsNotReported) {
        true => reply,
        false => reply.with("Tus-Max-Size", MAX_SIZE),
    };
    match state.is(Mutant::OptionsWithoutVersion) {
        true => reply,
        false => reply.with("Tus-Version", "1.0.0"),
    }
}

fn common_fields(state: &State, head: &Head, reply: Reply) -> Reply {
    let lacks_version = state.is(Mutant::ErrorsWithoutTusResumable) && reply.status >= 400;
    let reply = match lacks_version {
        true => reply,
        false => reply.with("Tus-Resumable", "1.0.0"),
    };
    match head.field("Origin") {
        Some(_) => reply.with("Access-Control-Allow-Origin", "*").with(
            "Access-Control-Expose-Headers",
            "Location, Upload-Offset, Upload-Length",
        ),
        None => reply,
    }
}
