//! The examples run as their users run them: a process, a port, real requests.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::PathBuf,
    process::{Child, ChildStdout, Command, Stdio},
    sync::Once,
    time::{Duration, Instant},
};

use tempfile::TempDir;

/// Returns the folder of the example binaries. Builds them first, because some test runners do not.
fn folder() -> PathBuf {
    static BUILT: Once = Once::new();
    let test = std::env::current_exe().unwrap();
    let profile = test.parent().unwrap().parent().unwrap();
    BUILT.call_once(|| {
        let built = Command::new(env!("CARGO"))
            .args([
                "build",
                "--quiet",
                "--locked",
                "--examples",
                "--package",
                "landfall",
                "--all-features",
            ])
            .arg("--target-dir")
            .arg(profile.parent().unwrap())
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .status()
            .unwrap();
        assert!(built.success(), "the examples don't build");
    });
    profile.join("examples")
}

/// A running example; killed when dropped.
struct Example {
    child: Child,
    out: BufReader<ChildStdout>,
    address: String,
    /// Path of the creation URL.
    path: String,
    dir: TempDir,
}

impl Example {
    fn start(name: &str) -> Self {
        Self::start_with(name, &[])
    }

    fn start_with(name: &str, args: &[&str]) -> Self {
        let program = folder().join(name);
        let dir = tempfile::tempdir().unwrap();
        let mut child = Command::new(&program)
            .arg("0")
            .arg(dir.path())
            .args(args)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        out.read_line(&mut line).unwrap();
        let url = line
            .trim()
            .strip_prefix("listening on http://")
            .expect(&line);
        let (address, path) = url.split_at(url.find('/').unwrap());
        let (address, path) = (address.to_owned(), path.to_owned());
        Self {
            child,
            out,
            address,
            path,
            dir,
        }
    }

    /// Returns the next line that it prints.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    /// Sends a request on a new connection; returns status, head and body of the response.
    fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nTus-Resumable: 1.0.0\r\n\
             Content-Length: {}\r\n{headers}\r\n",
            self.address,
            body.len(),
        )
        .unwrap();
        stream.write_all(body).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let end = answer.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
        let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        (status, head, answer[end + 4..].to_vec())
    }

    /// Creates an upload with its first bytes; the path of its URL.
    fn create(&self, headers: &str, body: &[u8]) -> String {
        let headers = format!(
            "Content-Type: application/offset+octet-stream\r\nUpload-Length: 10\r\n{headers}"
        );
        let (status, head, _) = self.send("POST", &self.path, &headers, body);
        assert_eq!(status, 201, "{head}");
        let location = field(&head, "location");
        location
            .strip_prefix(&format!("http://{}", self.address))
            .unwrap_or(&location)
            .to_owned()
    }

    /// The whole life of an upload.
    fn carries_an_upload(&self, headers: &str) -> String {
        let path = self.create(headers, b"01234");
        let (status, head, _) = self.send("HEAD", &path, headers, b"");
        assert_eq!((status, field(&head, "upload-offset").as_str()), (200, "5"));
        let patch = format!(
            "Content-Type: application/offset+octet-stream\r\nUpload-Offset: 5\r\n{headers}"
        );
        let (status, head, _) = self.send("PATCH", &path, &patch, b"56789");
        assert_eq!(
            (status, field(&head, "upload-offset").as_str()),
            (204, "10"),
            "{head}"
        );
        let (status, _, body) = self.send("GET", &path, headers, b"");
        assert_eq!((status, body.as_slice()), (200, b"0123456789".as_slice()));
        path
    }
}

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn field(head: &str, name: &str) -> String {
    let lead = format!("\r\n{name}: ");
    let at = head
        .find(&lead)
        .unwrap_or_else(|| panic!("no {name} in {head}"))
        + lead.len();
    head[at..].split("\r\n").next().unwrap().to_owned()
}

#[test]
fn axum_carries_uploads_below_a_path_and_shuts_down() {
    let mut example = Example::start("axum");
    let path = example.carries_an_upload("");
    assert!(path.starts_with("/files/"), "{path}");
    assert_eq!(example.send("GET", "/", "", b"").0, 200);
    assert_eq!(example.send("DELETE", &path, "", b"").0, 204);
    assert_eq!(example.send("HEAD", &path, "", b"").0, 404);

    // The base path without its slash.
    let path = example.path.trim_end_matches('/').to_owned();
    let (status, ..) = example.send("POST", &path, "Upload-Length: 10\r\n", b"");
    assert_eq!(status, 201);

    // A transfer whose client is silent ends when the server shuts down.
    let mut stream = TcpStream::connect(&example.address).unwrap();
    write!(
        stream,
        "POST /files/ HTTP/1.1\r\nHost: h\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 10\r\n\
         Content-Type: application/offset+octet-stream\r\nContent-Length: 10\r\n\r\n01234"
    )
    .unwrap();
    std::thread::sleep(Duration::from_millis(500));
    let pid = nix::unistd::Pid::from_raw(example.child.id().try_into().unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGINT).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(example.line(), "stopped");
}

#[test]
fn finished_files_are_moved() {
    let mut example = Example::start("finished");
    let path = example.create("", b"01234");
    let rest = "Content-Type: application/offset+octet-stream\r\nUpload-Offset: 5\r\n";
    assert_eq!(example.send("PATCH", &path, rest, b"56789").0, 204);
    let id = path.strip_prefix("/files/").unwrap();
    assert_eq!(example.line(), format!("finished {id}"));
    let file = std::fs::read(example.dir.path().join("finished").join(id));
    assert_eq!(file.unwrap(), b"0123456789");
    assert_eq!(example.send("HEAD", &path, "", b"").0, 200);
    assert_eq!(example.send("GET", &path, "", b"").0, 410);
}

#[test]
fn a_sink_gets_completions_and_one_origin_is_allowed() {
    let example = Example::start("sink");
    let path = example.carries_an_upload("Origin: https://app.example.org\r\n");
    let id = path.strip_prefix("/files/").unwrap();
    let journal = std::fs::read_to_string(example.dir.path().join("completed"));
    assert_eq!(journal.unwrap(), format!("{id}\n"));
    let other = "Origin: https://other.example.org\r\n";
    assert_eq!(example.send("HEAD", &path, other, b"").0, 403);
}

#[test]
fn own_parts_carry_uploads() {
    for name in ["store", "locker"] {
        let example = Example::start(name);
        let path = example.carries_an_upload("");
        assert_eq!(example.send("DELETE", &path, "", b"").0, 204);
    }
}

#[test]
fn users_own_their_uploads_and_browsers_can_read_denials() {
    let mut example = Example::start("identity");
    assert_eq!(example.path, "/api/files/");
    let page = "Origin: https://page.example\r\n";
    let (status, head, _) = example.send("OPTIONS", &example.path, page, b"");
    assert_eq!(status, 200);
    assert!(field(&head, "access-control-allow-headers").contains("authorization"));
    let headers = format!("Upload-Length: 10\r\n{page}");
    let (status, head, _) = example.send("POST", &example.path, &headers, b"");
    assert_eq!(status, 401);
    let origin = field(&head, "access-control-allow-origin");
    assert_eq!(origin, "https://page.example");

    let ada = "Authorization: Bearer ada\r\n";
    let path = example.carries_an_upload(ada);
    assert!(path.starts_with("/api/files/"), "{path}");
    let line = example.line();
    let known = "ada creates at /api/files/ from 127.0.0.1:";
    assert!(line.starts_with(known), "{line}");
    let bob = "Authorization: Bearer bob\r\n";
    for method in ["HEAD", "GET", "PATCH", "DELETE"] {
        assert_eq!(example.send(method, &path, bob, b"").0, 403, "{method}");
    }
    assert_eq!(example.send("HEAD", "/api/files/unknown", bob, b"").0, 404);
    assert_eq!(example.send("DELETE", &path, ada, b"").0, 204);
}

#[test]
fn progress_is_streamed() {
    let example = Example::start("progress");
    let mut stream = TcpStream::connect(&example.address).unwrap();
    write!(stream, "GET /progress HTTP/1.1\r\nHost: h\r\n\r\n").unwrap();
    let mut events = BufReader::new(stream).lines().map(Result::unwrap);
    events.find(String::is_empty).unwrap();
    let path = example.carries_an_upload("");
    let id = path.strip_prefix("/files/").unwrap();
    events.find(|line| line == "event: completed").unwrap();
    let data = events.next().unwrap();
    let expected = format!(r#"data: {{"id":"{id}","length":10,"offset":10}}"#);
    assert_eq!(data, expected);
}

#[test]
fn bare_hyper_carries_uploads() {
    let example = Example::start("hyper");
    let path = example.carries_an_upload("");
    assert_eq!(example.send("DELETE", &path, "", b"").0, 204);
    assert_eq!(example.send("GET", "/elsewhere", "", b"").0, 404);
}

#[test]
fn expired_uploads_are_swept() {
    let example = Example::start_with("expiry", &["1"]);
    example.create("", b"01234");
    let files = || {
        let entries = std::fs::read_dir(example.dir.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name());
        names.filter(|name| name != ".landfall").count()
    };
    let deadline = Instant::now() + Duration::from_secs(30);
    while files() > 0 {
        assert!(Instant::now() < deadline, "{} files stay", files());
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn single_handlers_are_routed_by_the_program() {
    let example = Example::start("handlers");
    let path = example.carries_an_upload("");
    assert!(path.starts_with("/videos/by-id/"), "{path}");
    let (status, head, _) = example.send("OPTIONS", &path, "", b"");
    assert_eq!(
        (status, field(&head, "tus-version").as_str()),
        (200, "1.0.0")
    );
    let watched = path.replace("/videos/by-id/", "/watch/");
    let (status, _, body) = example.send("GET", &watched, "", b"");
    assert_eq!((status, body.as_slice()), (200, b"0123456789".as_slice()));
    let delete = "X-HTTP-Method-Override: DELETE\r\n";
    assert_eq!(example.send("POST", &path, delete, b"").0, 204);
    assert_eq!(example.send("HEAD", &path, "", b"").0, 404);
    assert_eq!(example.send("PUT", &path, "", b"").0, 405);
    assert_eq!(example.send("GET", "/videos/elsewhere", "", b"").0, 404);
}

#[test]
fn hooks_authorize_validate_and_set_the_path() {
    let example = Example::start("hooks");
    let octets = "Content-Type: application/offset+octet-stream\r\nUpload-Length: 10\r\n";
    assert_eq!(example.send("POST", &example.path, octets, b"").0, 401);
    let sesame = "Authorization: Bearer sesame\r\n";
    let large = format!("{sesame}Upload-Length: 1048577\r\n");
    assert_eq!(example.send("POST", &example.path, &large, b"").0, 413);

    // filetype image/png, secret x
    let with_metadata = format!("{sesame}Upload-Metadata: filetype aW1hZ2UvcG5n,secret eA==\r\n");
    let path = example.carries_an_upload(&with_metadata);
    assert!(path.starts_with("/files/images/"), "{path}");
    let (_, head, _) = example.send("HEAD", &path, "", b"");
    assert_eq!(field(&head, "upload-metadata"), "filetype aw1hz2uvcg5n");
    let stored: Vec<_> = std::fs::read_dir(example.dir.path().join("images"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".bin"))
        .collect();
    assert_eq!(stored.len(), 1, "{stored:?}");

    let (status, _, body) = example.send("DELETE", &path, sesame, b"");
    assert_eq!(
        (status, body.as_slice()),
        (409, b"complete files cannot be deleted\n".as_slice())
    );
    let (status, head, _) = example.send(
        "POST",
        &example.path,
        &format!("{sesame}{octets}"),
        b"0123456789",
    );
    assert_eq!(
        (status, field(&head, "x-stored-bytes").as_str()),
        (201, "10")
    );
}

#[test]
fn events_come_in_order_and_can_stop_an_upload() {
    let mut example = Example::start("events");
    let path = example.carries_an_upload("");
    assert_eq!(example.send("DELETE", &path, "", b"").0, 204);
    let mut kinds = Vec::<String>::new();
    while kinds.last().is_none_or(|kind| kind != "terminated") {
        kinds.push(example.line().split(' ').next().unwrap().to_owned());
    }
    // The number of progress events depends on timing.
    kinds.dedup();
    assert_eq!(kinds, ["created", "progress", "completed", "terminated"]);

    // filename x.exe; the body is sent slowly, so that progress is emitted.
    let mut stream = TcpStream::connect(&example.address).unwrap();
    write!(
        stream,
        "POST {} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nTus-Resumable: 1.0.0\r\n\
         Content-Type: application/offset+octet-stream\r\nUpload-Length: 100000\r\n\
         Content-Length: 100000\r\nUpload-Metadata: filename eC5leGU=\r\n\r\n",
        example.path
    )
    .unwrap();
    let mut sender = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        for _ in 0..1000 {
            if sender.write_all(&[b'x'; 100]).is_err() {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    });
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 415 "), "{answer}");
    assert!(answer.ends_with("programs are not allowed\n"), "{answer}");
    drop(stream);
    sending.join().unwrap();
}
