//! Clients with API keys.

use std::path::Path;

use crate::serve_harness::{Answer, Landfall, Request, program, run};

/// Runs `landfall keys …` on the database of an upload directory.
pub(crate) fn keys(dir: &Path, words: &[&str]) -> (Option<i32>, String, String) {
    let mut command = program();
    command.arg("keys").args(words).arg("-upload-dir").arg(dir);
    run(&mut command)
}

/// Creates a key and returns it: it is the only standard output.
pub(crate) fn add_key(dir: &Path, words: &[&str]) -> String {
    let (code, key, told) = keys(dir, &[&["add"], words].concat());
    assert_eq!(code, Some(0), "{told}");
    assert!(told.contains("shown only once"), "{told}");
    let key = key.strip_suffix('\n').unwrap();
    assert!(key.starts_with("lfk_") && key.len() == 47, "{key:?}");
    key.to_owned()
}

/// A client with a key.
pub(crate) struct Caller<'a> {
    server: &'a Landfall,
    key: String,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(server: &'a Landfall, key: &str) -> Self {
        Self {
            server,
            key: key.to_owned(),
        }
    }

    pub(crate) fn ask(&self, method: &'static str, path: &str) -> Answer {
        let request = Request::new(method, path).with("Authorization", self.bearer());
        self.server.client().ask(request)
    }

    /// Asks for an upload, and gives the answer's status and body.
    pub(crate) fn grant(&self, ask: &serde_json::Value) -> (u16, serde_json::Value) {
        let request = Request::new("POST", "/uploadjobs")
            .with("Authorization", self.bearer())
            .with("Content-Type", "application/json")
            .body(ask.to_string().as_bytes());
        let answer = self.server.client().ask(request);
        (answer.status, json(&answer))
    }

    /// Returns the state of an upload.
    pub(crate) fn job(&self, id: &str) -> serde_json::Value {
        let answer = self.ask("GET", &format!("/uploadjobs/{id}"));
        assert_eq!(answer.status, 200, "{}", answer.text());
        json(&answer)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.key)
    }
}

pub(crate) fn json(answer: &Answer) -> serde_json::Value {
    serde_json::from_slice(&answer.body).unwrap_or_else(|_| panic!("{}", answer.text()))
}
