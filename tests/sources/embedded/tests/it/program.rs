//! A running program, and requests of a client.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Command, Stdio},
    time::{Duration, Instant},
};

pub(crate) struct Program {
    child: Child,
    pub(crate) out: BufReader<ChildStdout>,
    pub(crate) address: String,
    stderr: PathBuf,
}

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (field, value) = line.split_once(':')?;
            field.eq_ignore_ascii_case(name).then_some(value.trim())
        })
    }

    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        self
    }

    /// The path of `Location`.
    pub(crate) fn path(&self) -> String {
        let url = self.field("location").expect("no Location");
        url[url.find("/files/").expect(url)..].to_owned()
    }
}

impl Program {
    pub(crate) fn start(name: &str, dir: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_embedded"))
            .args([name, "0"])
            .arg(dir)
            .stdout(Stdio::piped())
            .stderr(std::fs::File::create(dir.join("stderr")).unwrap())
            .spawn()
            .unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let address = loop {
            let mut line = String::new();
            assert!(out.read_line(&mut line).unwrap() > 0, "{name} has ended");
            if let Some(address) = line.strip_prefix("listening on ") {
                break address.trim().to_owned();
            }
        };
        Self {
            child,
            out,
            address,
            stderr: dir.join("stderr"),
        }
    }

    pub(crate) fn stderr(&self) -> String {
        std::fs::read_to_string(&self.stderr).unwrap_or_default()
    }

    /// kill -9.
    pub(crate) fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Sends a request on a connection of its own.
    pub(crate) fn send(&self, head: &str, content: &[u8]) -> Answer {
        let mut stream = self.open(head, content.len());
        stream.write_all(content).unwrap();
        read(stream)
    }

    /// Sends the head of a request.
    pub(crate) fn open(&self, head: &str, length: usize) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        let (line, fields) = head.split_once('\n').unwrap_or((head, ""));
        let mut text = format!(
            "{line} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\nTus-Resumable: 1.0.0\r\n",
            self.address
        );
        for field in fields.lines() {
            text += &format!("{field}\r\n");
        }
        if !fields.contains("Transfer-Encoding") {
            text += &format!("Content-Length: {length}\r\n");
        }
        stream.write_all(format!("{text}\r\n").as_bytes()).unwrap();
        stream
    }

    pub(crate) fn create(&self, length: usize, fields: &str) -> String {
        let head = format!("POST /files/\nUpload-Length: {length}\n{fields}");
        self.send(&head, b"").expect(201).path()
    }

    pub(crate) fn patch(&self, path: &str, offset: usize, content: &[u8]) -> Answer {
        self.send(&patch(path, offset), content)
    }

    pub(crate) fn head(&self, path: &str) -> Answer {
        self.send(&format!("HEAD {path}"), b"")
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("{}", self.stderr());
        }
    }
}

pub(crate) fn patch(path: &str, offset: usize) -> String {
    format!("PATCH {path}\nUpload-Offset: {offset}\nContent-Type: application/offset+octet-stream")
}

pub(crate) fn read(mut stream: TcpStream) -> Answer {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").expect("no response");
    Answer {
        status: head.split(' ').nth(1).unwrap().parse().unwrap(),
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

pub(crate) fn id_of(path: &str) -> String {
    path.rsplit('/').next().unwrap().to_owned()
}

/// Polls, because files tell no one that they have changed.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < end, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

pub(crate) fn lines(path: PathBuf) -> Vec<String> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.lines().map(str::to_owned).collect()
}

/// Returns whether the description of an upload in the store contains `text`.
pub(crate) fn describes(dir: &Path, text: &str) -> bool {
    let entries = std::fs::read_dir(dir.join("uploads")).unwrap();
    let mut paths = entries.map(|entry| entry.unwrap().path());
    paths.any(|path| {
        let is_info = path
            .extension()
            .is_some_and(|extension| extension == "info");
        is_info && std::fs::read_to_string(path).is_ok_and(|info| info.contains(text))
    })
}
