//! A server that answers requests with scripted steps and records the requests.

use std::{
    collections::VecDeque,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    sync::Notify,
    task::JoinHandle,
    time::sleep,
};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    /// Sends this response and closes the connection.
    Raw(String),
    /// Sends a response in pieces, with a pause before each.
    Slow(Vec<String>, Duration),
    /// Reads the request and closes the connection.
    Cut,
    /// Reads the head of the request and closes the connection.
    CutUnread,
    /// Reads the request and sends nothing until the client closes the connection.
    Silence,
}

pub(crate) fn response(status: &str, headers: &[(&str, &str)], body: &str) -> Step {
    let mut raw = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n", body.len());
    for (name, value) in headers {
        raw.push_str(&format!("{name}: {value}\r\n"));
    }
    Step::Raw(format!("{raw}connection: close\r\n\r\n{body}"))
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) line: String,
    headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Request {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        headers
            .find(|(one, _)| one == name)
            .map(|(_, value)| value.as_str())
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }
}

#[derive(Default)]
struct Shared {
    steps: Mutex<VecDeque<Step>>,
    requests: Mutex<Vec<Request>>,
    closed: Notify,
}

/// The server, stopped when dropped.
pub(crate) struct Script {
    address: SocketAddr,
    shared: Arc<Shared>,
    task: JoinHandle<()>,
}

impl Script {
    pub(crate) async fn start(steps: impl IntoIterator<Item = Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared {
            steps: Mutex::new(steps.into_iter().collect()),
            ..Shared::default()
        });
        let task = tokio::spawn({
            let shared = shared.clone();
            async move {
                loop {
                    let (stream, _) = listener.accept().await.expect("accepts");
                    tokio::spawn(serve(stream, shared.clone()));
                }
            }
        });
        Self {
            address,
            shared,
            task,
        }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn requests(&self) -> usize {
        self.shared.requests.lock().expect("unbroken").len()
    }

    pub(crate) fn request(&self, index: usize) -> Request {
        self.shared.requests.lock().expect("unbroken")[index].clone()
    }

    /// Waits until a client closes the connection of a [`Step::Silence`].
    pub(crate) async fn closed(&self) {
        self.shared.closed.notified().await;
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn serve(mut stream: TcpStream, shared: Arc<Shared>) {
    let Some((mut request, rest)) = read_head(&mut stream).await else {
        return;
    };
    let step = shared
        .steps
        .lock()
        .expect("unbroken")
        .pop_front()
        .expect("one request too many");
    if !matches!(step, Step::CutUnread) {
        let length = request
            .header("content-length")
            .map_or(0, |text| text.parse().expect("a number"));
        request.body = rest;
        let have = request.body.len();
        request.body.resize(length, 0);
        stream
            .read_exact(&mut request.body[have..])
            .await
            .expect("the body");
    }
    shared.requests.lock().expect("unbroken").push(request);
    match step {
        Step::Raw(raw) => {
            let _ = stream.write_all(raw.as_bytes()).await;
        }
        Step::Slow(pieces, pause) => {
            for piece in pieces {
                sleep(pause).await;
                if stream.write_all(piece.as_bytes()).await.is_err() {
                    return;
                }
            }
        }
        Step::Cut | Step::CutUnread => {}
        Step::Silence => {
            let mut byte = [0];
            let _ = stream.read(&mut byte).await;
            shared.closed.notify_one();
        }
    }
}

async fn read_head(stream: &mut TcpStream) -> Option<(Request, Vec<u8>)> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let rest = bytes.split_off(end + 4);
    let text = String::from_utf8(bytes).expect("text");
    let mut lines = text.trim_end().lines();
    let line = lines.next().expect("a request line").to_owned();
    let headers = lines
        .map(|line| line.split_once(": ").expect("a header"))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Some((
        Request {
            line,
            headers,
            body: Vec::new(),
        },
        rest,
    ))
}
