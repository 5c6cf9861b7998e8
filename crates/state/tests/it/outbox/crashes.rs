//! Processes that are killed at random moments: no event is lost, and none is invented.
//!
//! The child uploads to its own handler with a file store, and its outbox delivers to the parent.
//! Over the same connection it reports what it is about to do and which responses it got.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::Full;
use landfall::{
    Composer, Config, Handler, LocationStyle,
    event::EventKind,
    service::ResponseBody,
    store::{
        Enumerate,
        file::{FileOptions, FileStore},
    },
};
use landfall_hooks::{DeliveryError, HookName, HookResponse, Message, Route, Transport};
use landfall_state::outbox::{Events, Outbox, OutboxSettings};
use landfall_state::sql::Database;
use landfall_test_services::{kill_loop::KillLoop, until};

use super::harness::{ALL, TestDatabase, assert_in_order, in_any_state};

const FOLDER: &str = "LANDFALL_TEST_OUTBOX_FOLDER";
const DATABASE: &str = "LANDFALL_TEST_OUTBOX_DATABASE";
const PARENT: &str = "LANDFALL_TEST_OUTBOX_PARENT";
/// The child only resolves events and starts no uploads.
const IDLE: &str = "LANDFALL_TEST_OUTBOX_IDLE";

/// The reports received by the parent.
#[derive(Debug, Default)]
struct Reports {
    events: Vec<Message>,
    /// Reported operations and responses, by upload path.
    said: BTreeMap<&'static str, BTreeSet<String>>,
}

const REPORTS: [&str; 4] = ["created", "finishing", "finished", "deleted"];

/// A connection to the parent: one line each way.
#[derive(Debug)]
struct Line(SocketAddr);

impl Line {
    fn report(&self, line: &str) -> std::io::Result<()> {
        let mut stream = TcpStream::connect(self.0)?;
        stream.write_all(format!("{line}\n").as_bytes())?;
        let mut back = String::new();
        BufReader::new(stream).read_line(&mut back)?;
        if back == "ok\n" {
            Ok(())
        } else {
            Err(std::io::ErrorKind::UnexpectedEof.into())
        }
    }
}

#[async_trait]
impl Transport for Line {
    fn name(&self) -> &str {
        "http"
    }

    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        let json = serde_json::to_string(message).unwrap();
        self.report(&json)
            .map(|()| HookResponse::default())
            .map_err(|error| DeliveryError::with_source("the parent does not respond", error))
    }
}

/// Receives reports until the test ends.
fn listen() -> (SocketAddr, Arc<Mutex<Reports>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let reports = Arc::new(Mutex::new(Reports::default()));
    let ours = reports.clone();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let stream = stream.unwrap();
            let mut line = String::new();
            // A partial line is from a killed child.
            if BufReader::new(&stream).read_line(&mut line).is_err() || !line.ends_with('\n') {
                continue;
            }
            let mut reports = ours.lock().unwrap();
            if line.starts_with('{') {
                reports.events.push(serde_json::from_str(&line).unwrap());
            } else {
                let (word, path) = line.trim_end().split_once(' ').unwrap();
                let word = REPORTS.into_iter().find(|known| *known == word).unwrap();
                reports
                    .said
                    .entry(word)
                    .or_default()
                    .insert(path.to_owned());
            }
            drop(reports);
            let _ = (&stream).write_all(b"ok\n");
        }
    });
    (address, reports)
}

/// In a child process, uploads forever. In the test process it does nothing.
fn run_as_child() {
    let Some(folder) = env::var_os(FOLDER) else {
        return;
    };
    let parent = env::var(PARENT).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(4)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(run_node(PathBuf::from(folder), parent));
}

async fn run_node(folder: PathBuf, parent: SocketAddr) {
    let database = match env::var(DATABASE) {
        #[cfg(feature = "postgres")]
        Ok(url) => Database::Postgres(url),
        _ => Database::Sqlite(folder.join("events.db")),
    };
    let mut settings = OutboxSettings::new(database);
    settings.presence_dir = Some(folder.join("nodes"));
    settings.retry.min_backoff = Duration::from_millis(20);
    // Long enough for a busy machine.
    settings.write_timeout = Duration::from_secs(60);
    let route = Route {
        transport: Arc::new(Line(parent)),
        names: ALL,
    };
    let outbox = Outbox::open(settings, vec![route]).await.unwrap();
    let store = FileStore::open(folder.join("uploads"), FileOptions::default()).unwrap();
    let mut config = Config::new(Composer::join(store)).sink(outbox.clone());
    config.location = LocationStyle::Relative;
    let handler = Handler::new(config).unwrap();
    tokio::spawn(outbox.run(handler.clone()));
    if env::var_os(IDLE).is_none() {
        for one in 0..6 {
            tokio::spawn(upload_forever(handler.clone(), Arc::new(Line(parent)), one));
        }
    }
    std::future::pending().await
}

async fn upload_forever(handler: Handler, line: Arc<Line>, mut one: u32) {
    let send = async |method, path: &str, headers: &[(&str, &str)], body: &'static str| {
        let mut request = Request::builder()
            .method(method)
            .uri(path)
            .header("Tus-Resumable", "1.0.0");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body: Full<Bytes> = Full::from(body);
        let response: Response<ResponseBody> = handler.handle(request.body(body).unwrap()).await;
        response
    };
    let data = ("Content-Type", "application/offset+octet-stream");
    loop {
        one += 1;
        let created = send(Method::POST, "/files/", &[("Upload-Length", "6")], "").await;
        assert_eq!(created.status(), 201);
        let path = created.headers()["location"].to_str().unwrap().to_owned();
        let say = |word: &str| line.report(&format!("{word} {path}")).unwrap();
        say("created");
        let first = [data, ("Upload-Offset", "0")];
        assert_eq!(
            send(Method::PATCH, &path, &first, "abc").await.status(),
            204
        );
        if !one.is_multiple_of(3) {
            say("finishing");
            let rest = [data, ("Upload-Offset", "3")];
            assert_eq!(send(Method::PATCH, &path, &rest, "def").await.status(), 204);
            say("finished");
        }
        if one % 4 > 1 {
            assert_eq!(send(Method::DELETE, &path, &[], "").await.status(), 204);
            say("deleted");
        }
    }
}

fn url(database: &Database) -> Option<String> {
    match database {
        #[cfg(feature = "postgres")]
        Database::Postgres(url) => Some(url.clone()),
        _ => None,
    }
}

/// Kills nodes repeatedly, lets one resolve the rest, and checks the reports.
fn kill(test: &str, database: &TestDatabase, nodes: usize, lives: usize) {
    let folder = tempfile::tempdir().unwrap();
    let url = url(&database.database);
    let database = match &url {
        Some(_) => database.database.clone(),
        None => Database::Sqlite(folder.path().join("events.db")),
    };
    let (parent, reports) = listen();
    let mut variables = vec![
        (FOLDER, folder.path().into()),
        (PARENT, parent.to_string().into()),
    ];
    variables.extend(url.map(|url| (DATABASE, url.into())));
    let mut kills = KillLoop {
        test,
        variables,
        nodes,
        kills: lives,
        most_progress: 120,
    };
    // Its reports are responses, too, so they have connections of their own.
    kills.run(
        |_| {},
        || {
            let reports = reports.lock().unwrap();
            reports.events.len() + reports.said.values().map(BTreeSet::len).sum::<usize>()
        },
    );
    kills.variables.push((IDLE, "yes".into()));
    let _last = kills.node(|_| {});
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(until_empty(&database));
    runtime.block_on(check_events(
        &folder.path().join("uploads"),
        &reports.lock().unwrap(),
    ));
}

/// Waits until an outbox is empty.
async fn until_empty(database: &Database) {
    let (events, all) = (Events::open(database).await.unwrap(), in_any_state());
    until(async || events.list(&all).await.unwrap().is_empty()).await;
}

async fn check_events(uploads: &Path, reports: &Reports) {
    assert_in_order(&reports.events);
    let mut events: BTreeMap<HookName, BTreeSet<&str>> = BTreeMap::new();
    for message in &reports.events {
        let id = message.upload.id.as_str();
        events.entry(message.hook).or_default().insert(id);
    }
    let of = |hook| events.get(&hook).cloned().unwrap_or_default();
    let said = |word| -> BTreeSet<&str> {
        let paths = reports.said.get(word).into_iter().flatten();
        paths.filter_map(|path| path.rsplit('/').next()).collect()
    };
    let (created, finished) = (of(HookName::PostCreate), of(HookName::PostFinish));
    let removed = of(HookName::PostTerminate);
    let missing = |happened: &BTreeSet<&str>, told: &BTreeSet<&str>, what| {
        let missing_events: Vec<_> = happened.difference(told).collect();
        assert!(
            missing_events.is_empty(),
            "{what}, but not told: {missing_events:?}"
        );
    };
    missing(&said("created"), &created, "created");
    missing(&said("finished"), &finished, "finished");
    missing(&said("deleted"), &removed, "deleted");
    missing(
        &finished,
        &said("finishing"),
        "told to be finished, and never was",
    );
    missing(&finished, &created, "finished uploads were created");
    missing(&removed, &created, "removed uploads were created");

    // The events must also match the store.
    let store = FileStore::open(uploads, FileOptions::default()).unwrap();
    let mut cursor = None;
    let mut there = BTreeSet::new();
    loop {
        let page = store.page(cursor, 1000).await.unwrap();
        for snapshot in &page.uploads {
            let id = snapshot.upload.id.as_str().to_owned();
            assert!(
                created.contains(id.as_str()),
                "{id} is there missing_events"
            );
            assert_eq!(
                snapshot.is_complete() && snapshot.upload.completion.is_done(),
                finished.contains(id.as_str()),
                "{id} is complete, or told to be"
            );
            there.insert(id);
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    for id in &created {
        assert_ne!(
            there.contains(*id),
            removed.contains(id),
            "{id} is gone, or told to be"
        );
    }
    let kinds = [
        EventKind::Created,
        EventKind::Completed,
        EventKind::Terminated,
    ];
    println!(
        "{kinds:?}: {} {} {}",
        created.len(),
        finished.len(),
        removed.len()
    );
    assert!(
        !finished.is_empty() && !removed.is_empty(),
        "too little happened"
    );
}

#[test]
fn killed_process_loses_no_event() {
    run_as_child();
    let test = "outbox::crashes::killed_process_loses_no_event";
    kill(test, &TestDatabase::sqlite(), 1, 60);
}

#[test]
fn killed_processes_on_one_file_lose_no_event() {
    run_as_child();
    let test = "outbox::crashes::killed_processes_on_one_file_lose_no_event";
    kill(test, &TestDatabase::sqlite(), 2, 25);
}

#[cfg(feature = "postgres")]
#[test]
fn killed_nodes_on_postgres_lose_no_event() {
    run_as_child();
    let test = "outbox::crashes::killed_nodes_on_postgres_lose_no_event";
    kill(test, &TestDatabase::postgres(), 3, 40);
}
