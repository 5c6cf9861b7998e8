//! A receiver with scripted responses.

use std::{
    net::SocketAddr,
    ops::Deref,
    sync::{Arc, Mutex},
};

use landfall_test_services::http1::{AsyncClient, Message};
use tokio::{
    io::AsyncWriteExt as _,
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// A received request.
#[derive(Debug, Clone)]
pub(super) struct Received {
    message: Message,
    /// The index of the connection.
    pub(super) connection: usize,
}

impl Deref for Received {
    type Target = Message;

    fn deref(&self) -> &Message {
        &self.message
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
    stream: TcpStream,
    connection: usize,
    seen: Arc<Mutex<Vec<Received>>>,
    script: Arc<Script>,
) {
    let mut client = AsyncClient::new(stream);
    while let Some(message) = client.read("").await {
        let received = Received {
            message,
            connection,
        };
        let nth = {
            let mut seen = seen.lock().unwrap();
            seen.push(received.clone());
            seen.len() - 1
        };
        let stream = &mut client.stream;
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
                let _ = tokio::io::copy_bidirectional(stream, &mut onward).await;
                return;
            }
        }
    }
}
