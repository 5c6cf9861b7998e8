//! A receiver with scripted responses.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A received request.
#[derive(Debug, Clone)]
pub(super) struct Received {
    /// The request line and the headers.
    pub(super) head: String,
    pub(super) body: Vec<u8>,
    /// The index of the connection.
    pub(super) connection: usize,
}

impl Received {
    pub(super) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    /// Returns all values of a header.
    pub(super) fn all(&self, name: &str) -> Vec<&str> {
        let lines = self.head.lines().skip(1);
        let fields = lines.filter_map(|line| line.split_once(": "));
        fields
            .filter(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
            .collect()
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }
}

/// The reaction to a request.
pub(super) enum Act {
    /// Send these bytes and keep the connection open.
    Say(String),
    /// Send these bytes and close the connection.
    SayAndClose(String),
    /// Never respond.
    Hang,
    /// Tunnel the connection to another address, as a proxy.
    Tunnel(SocketAddr),
}

/// A response with a length.
pub(super) fn answer(status: u16, headers: &str, body: &str) -> Act {
    let length = body.len();
    Act::Say(format!(
        "HTTP/1.1 {status} Said\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    ))
}

/// A response of version 2.
pub(super) fn json(body: &str) -> Act {
    answer(200, "Content-Type: application/json\r\n", body)
}

type Script = dyn Fn(usize, &Received) -> Act + Send + Sync;

/// A receiver that listens until dropped.
pub(super) struct Receiver {
    pub(super) address: SocketAddr,
    seen: Arc<Mutex<Vec<Received>>>,
    accepting: JoinHandle<()>,
}

impl Receiver {
    /// Starts a receiver. `script` gets the index of the request over all connections.
    pub(super) async fn start(
        script: impl Fn(usize, &Received) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (all, script): (_, Arc<Script>) = (seen.clone(), Arc::new(script));
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            for connection in 0.. {
                let (stream, _) = listener.accept().await.unwrap();
                connections.spawn(serve(stream, connection, all.clone(), script.clone()));
            }
        });
        Self {
            address,
            seen,
            accepting,
        }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Returns all received requests.
    pub(super) fn seen(&self) -> Vec<Received> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for Receiver {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    mut stream: TcpStream,
    connection: usize,
    seen: Arc<Mutex<Vec<Received>>>,
    script: Arc<Script>,
) {
    let mut buffer = Vec::new();
    while let Some(received) = request(&mut stream, &mut buffer, connection).await {
        let nth = {
            let mut seen = seen.lock().unwrap();
            seen.push(received.clone());
            seen.len() - 1
        };
        match script(nth, &received) {
            Act::Say(bytes) => {
                if stream.write_all(bytes.as_bytes()).await.is_err() {
                    return;
                }
            }
            Act::SayAndClose(bytes) => {
                let _ = stream.write_all(bytes.as_bytes()).await;
                return;
            }
            Act::Hang => std::future::pending().await,
            Act::Tunnel(address) => {
                let mut onward = TcpStream::connect(address).await.unwrap();
                let _ = stream.write_all(b"HTTP/1.1 200 Tunnel\r\n\r\n").await;
                let _ = tokio::io::copy_bidirectional(&mut stream, &mut onward).await;
                return;
            }
        }
    }
}

/// Reads the next request of a connection; `None` at its end.
async fn request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
    connection: usize,
) -> Option<Received> {
    let end = loop {
        if let Some(end) = buffer.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    };
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    let mut received = Received {
        head,
        body: Vec::new(),
        connection,
    };
    let length = received.header("content-length").unwrap_or("0");
    let length: usize = length.parse().unwrap();
    while buffer.len() < end + 4 + length {
        if stream.read_buf(buffer).await.ok()? == 0 {
            return None;
        }
    }
    received.body = buffer[end + 4..end + 4 + length].to_vec();
    buffer.drain(..end + 4 + length);
    Some(received)
}
