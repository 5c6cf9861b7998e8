//! The real program with direct uploads, API keys, and clients that send presigned requests to S3.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    grants_harness::json as parsed,
    s3_harness::Bucket,
    serve_harness::{Answer, Client, Landfall, Request, eventually, program, run},
};

/// A bucket, and the state directory of the servers on it.
pub(crate) struct Place {
    pub(crate) bucket: Bucket,
    state: tempfile::TempDir,
}

impl Place {
    pub(crate) fn on_garage() -> Self {
        Self::new(Bucket::on_garage())
    }

    pub(crate) fn new(bucket: Bucket) -> Self {
        Self {
            bucket,
            state: tempfile::tempdir().unwrap(),
        }
    }

    pub(crate) fn state(&self) -> &Path {
        self.state.path()
    }

    pub(crate) fn database(&self) -> PathBuf {
        self.state().join("landfall.db")
    }

    /// Starts a server on the bucket with direct uploads and frequent checks.
    pub(crate) fn server(&self, args: &[&str]) -> Landfall {
        let state = self.state().to_str().unwrap();
        let own = ["-direct", "-state-dir", state, "-sweep-interval=2s"];
        self.bucket.server(&[&own, args].concat())
    }

    /// Creates a key, in `-database` or in the state directory.
    pub(crate) fn key(&self, words: &[&str]) -> String {
        let mut command = program();
        command.args(["keys", "add"]).args(words);
        command.arg("-state-dir").arg(self.state());
        let (code, key, told) = run(&mut command);
        assert_eq!(code, Some(0), "{told}");
        key.trim_end().to_owned()
    }
}

/// A client with a key or an upload token.
pub(crate) struct App<'a> {
    server: &'a Landfall,
    key: String,
}

impl<'a> App<'a> {
    pub(crate) fn new(server: &'a Landfall, key: &str) -> Self {
        Self {
            server,
            key: key.to_owned(),
        }
    }

    pub(crate) fn ask(&self, method: &'static str, path: &str, body: Option<Value>) -> Answer {
        let mut request =
            Request::new(method, path).with("Authorization", format!("Bearer {}", self.key));
        if let Some(body) = body {
            request = request
                .with("Content-Type", "application/json")
                .body(body.to_string().as_bytes());
        }
        self.server.client().ask(request)
    }

    /// Returns the JSON of a response that must have this status.
    #[track_caller]
    pub(crate) fn gets(
        &self,
        status: u16,
        method: &'static str,
        path: &str,
        body: Option<Value>,
    ) -> Value {
        let answer = self.ask(method, path, body);
        assert_eq!(answer.status, status, "{method} {path}: {}", answer.text());
        parsed(&answer)
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Value {
        self.gets(200, "GET", path, None)
    }

    #[track_caller]
    pub(crate) fn post(&self, path: &str, body: Value) -> Value {
        self.gets(200, "POST", path, Some(body))
    }

    /// Its only upload, as the queue has it.
    #[track_caller]
    pub(crate) fn job(&self) -> Value {
        let list = self.get("/uploadjobs");
        let jobs = list.as_array();
        let jobs = jobs.unwrap_or_else(|| panic!("{list}"));
        assert_eq!(jobs.len(), 1, "{list}");
        jobs[0].clone()
    }

    /// Waits until its only upload is in this state.
    #[track_caller]
    pub(crate) fn reaches(&self, state: &str) -> Value {
        eventually(&format!("it isn't {state} but {}", self.job()), || {
            std::thread::sleep(Duration::from_millis(20));
            self.job()["state"] == state
        });
        self.job()
    }

    /// Begins a multipart upload as Uppy does.
    #[track_caller]
    pub(crate) fn begin(&self, name: &str, metadata: Value) -> Multipart<'_> {
        let ask = json!({"filename": name, "type": "video/mp4", "metadata": metadata});
        let begun = self.post("/s3/multipart", ask);
        Multipart {
            app: self,
            id: begun["uploadId"].as_str().unwrap().to_owned(),
            key: begun["key"].as_str().unwrap().to_owned(),
        }
    }
}

/// A multipart upload as its client knows it.
pub(crate) struct Multipart<'a> {
    pub(crate) app: &'a App<'a>,
    pub(crate) id: String,
    pub(crate) key: String,
}

impl<'a> Multipart<'a> {
    pub(crate) fn path(&self, what: &str) -> String {
        let (id, key) = (escaped(&self.id), escaped(&self.key));
        format!("/s3/multipart/{id}{what}?key={key}")
    }

    /// Has a part signed and sends it; gives its entity tag.
    #[track_caller]
    pub(crate) fn send(&self, number: u32, bytes: &[u8]) -> String {
        let signed = self.app.get(&self.path(&format!("/{number}")));
        let sent = send("PUT", signed["url"].as_str().unwrap(), &[], bytes);
        assert_eq!(sent.status, 200, "{}", sent.text());
        sent.header("ETag").unwrap().to_owned()
    }

    pub(crate) fn complete(&self, tags: &[String]) -> Answer {
        let parts: Vec<Value> = (1..)
            .zip(tags)
            .map(|(number, tag)| json!({"PartNumber": number, "ETag": tag}))
            .collect();
        let parts = json!({ "parts": parts });
        self.app.ask("POST", &self.path("/complete"), Some(parts))
    }
}

/// Percent-encodes a text for a URL.
pub(crate) fn escaped(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// A request to the service, as a browser sends it.
#[track_caller]
pub(crate) fn send(method: &str, url: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
    let rest = url.strip_prefix("http://").unwrap();
    let (host, path) = rest.split_once('/').unwrap();
    let mut head = format!("{method} /{path} HTTP/1.1\r\nHost: {host}\r\n");
    for (name, value) in headers {
        write!(head, "{name}: {value}\r\n").unwrap();
    }
    write!(head, "Content-Length: {}\r\n\r\n", body.len()).unwrap();
    let mut client = Client::connect(host.parse().unwrap());
    client.send([head.as_bytes(), body].concat());
    client.answer()
}

/// Sends a form with a file at its end.
#[track_caller]
pub(crate) fn send_form(form: &Value, file: &[u8]) -> Answer {
    let fields = form["fields"].as_object().unwrap().iter();
    let fields = fields.map(|(name, value)| (name.as_str(), value.as_str().unwrap()));
    let (kind, body) = landfall_test_services::http1::form(fields, file);
    let url = form["url"].as_str().unwrap();
    send("POST", url, &[("Content-Type", &kind)], &body)
}
