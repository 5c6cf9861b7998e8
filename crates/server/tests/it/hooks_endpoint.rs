//! An endpoint that records its requests.

use std::{
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    thread,
    time::Duration,
};

use landfall_test_services::free_port;
use serde_json::Value;

use crate::serve_harness::{Client, TIMEOUT, eventually};

/// A request to the endpoint.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// `Hook-Name`.
    pub(crate) hook: String,
    /// `webhook-id`.
    pub(crate) id: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) path: String,
    pub(crate) bytes: Vec<u8>,
    /// [`Self::bytes`], if they are JSON.
    pub(crate) body: Value,
    /// The status it was answered with.
    pub(crate) status: u16,
}

impl Call {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self
            .headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The id of the upload it is about.
    pub(crate) fn upload(&self) -> &str {
        self.body["Event"]["Upload"]["ID"].as_str().unwrap()
    }
}

/// The response of the endpoint: status and JSON.
type Answer = dyn Fn(&Call) -> (u16, String) + Send + Sync;

/// An HTTP endpoint, until it is dropped.
pub(crate) struct Endpoint {
    address: SocketAddr,
    calls: Arc<Mutex<Vec<Call>>>,
    ended: Arc<AtomicBool>,
}

impl Endpoint {
    /// Creates an endpoint that allows everything.
    pub(crate) fn agreeing() -> Self {
        Self::answering(|_| (200, String::new()))
    }

    pub(crate) fn answering(
        answer: impl Fn(&Call) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        Self::at("127.0.0.1:0".parse().unwrap(), answer)
    }

    /// On this address, which may have been another's until now.
    pub(crate) fn at(
        address: SocketAddr,
        answer: impl Fn(&Call) -> (u16, String) + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap();
        let endpoint = Self {
            address,
            calls: Arc::default(),
            ended: Arc::default(),
        };
        let (calls, ended) = (endpoint.calls.clone(), endpoint.ended.clone());
        let answer: Arc<Answer> = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if ended.load(SeqCst) {
                    return;
                }
                let (calls, ended, answer) = (calls.clone(), ended.clone(), answer.clone());
                thread::spawn(move || serve(stream, &calls, &ended, &*answer));
            }
        });
        endpoint
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/hooks", self.address)
    }

    /// All calls so far.
    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// The calls about one hook so far.
    pub(crate) fn calls_of(&self, hook: &str) -> Vec<Call> {
        let mut calls = self.calls();
        calls.retain(|call| call.hook == hook);
        calls
    }

    /// Waits for so many calls about a hook.
    pub(crate) fn waits_for(&self, hook: &str, count: usize) -> Vec<Call> {
        eventually(&format!("{hook} isn't told {count} times"), || {
            self.calls_of(hook).len() >= count
        });
        self.calls_of(hook)
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.ended.store(true, SeqCst);
        // It waits for a connection: this is the last one.
        let _ = TcpStream::connect(self.address);
    }
}

/// Answers requests on a connection until it, or the endpoint, ends.
fn serve(
    stream: TcpStream,
    calls: &Mutex<Vec<Call>>,
    ended: &AtomicBool,
    answer: &Answer,
) -> Option<()> {
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut client = Client::new(stream);
    loop {
        let request = client.try_answer().ok()??;
        if ended.load(SeqCst) {
            return None;
        }
        let text = |name| request.header(name).unwrap_or_default().to_owned();
        let mut call = Call {
            hook: text("hook-name"),
            id: text("webhook-id"),
            path: request.line().split(' ').nth(1)?.to_owned(),
            body: Value::Null,
            status: 0,
            headers: request.headers.clone(),
            bytes: request.body.clone(),
        };
        let is_json = call.header("content-type") != Some("application/x-protobuf");
        if is_json && !call.bytes.is_empty() {
            call.body = serde_json::from_slice(&call.bytes).unwrap();
        }
        let (status, text) = answer(&call);
        call.status = status;
        calls.lock().unwrap().push(call);
        let head = format!(
            "HTTP/1.1 {status} Answer\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            text.len()
        );
        client.try_send(head + &text).ok()?;
    }
}

/// Returns an unused address that the system assigns to no other listener.
pub(crate) fn unused_address() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, free_port()).into()
}

/// Long enough to detect something that must not happen.
pub(crate) const A_WHILE: Duration = Duration::from_millis(300);
