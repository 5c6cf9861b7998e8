//! A hook server in the test process.

use std::{
    future::Future,
    path::Path,
    pin::Pin,
    sync::{Arc, Mutex},
};

use hyper::server::conn::http2;
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    service::TowerToHyperService,
};
use landfall_test_services::free_port;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, UnixListener},
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::{TlsAcceptor, rustls::ServerConfig};
use tonic::{Request, Response, Status, metadata::MetadataMap};

use super::generated::{
    HookRequest, HookResponse,
    hook_handler_server::{HookHandler, HookHandlerServer},
};

/// The response to a call, given the number of calls before it.
type Answer = Pin<Box<dyn Future<Output = Result<HookResponse, Status>> + Send>>;

/// A received call.
#[derive(Debug, Clone)]
pub(super) struct Call {
    pub(super) request: HookRequest,
    pub(super) metadata: MetadataMap,
}

/// A server. Dropping it closes all connections.
pub(super) struct Server {
    /// Its port, on loopback.
    pub(super) port: u16,
    calls: Arc<Mutex<Vec<Call>>>,
    connections: Arc<Mutex<u32>>,
    task: JoinHandle<()>,
}

impl Server {
    /// Starts a server with the same response to each call.
    pub(super) async fn answering(response: HookResponse) -> Self {
        Self::start(move |_| Ok(response.clone())).await
    }

    /// Starts a server that responds by the number of earlier calls.
    pub(super) async fn start(
        answer: impl Fn(usize) -> Result<HookResponse, Status> + Send + Sync + 'static,
    ) -> Self {
        Self::on(free_port(), move |before| {
            let answer = answer(before);
            Box::pin(async { answer })
        })
        .await
    }

    /// Starts a server that never responds.
    pub(super) async fn mute() -> Self {
        Self::on(free_port(), |_| Box::pin(std::future::pending())).await
    }

    /// Starts a server on a port of [`free_port`], which the system does not reassign meanwhile.
    pub(super) async fn on(
        port: u16,
        answer: impl Fn(usize) -> Answer + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        Self::serve(port, answer, Listener::Tcp(listener))
    }

    /// Starts a server with TLS.
    pub(super) async fn tls(config: ServerConfig, response: HookResponse) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let answer = move |_| -> Answer {
            let response = response.clone();
            Box::pin(async { Ok(response) })
        };
        Self::serve(port, answer, Listener::Tls(listener, acceptor))
    }

    /// Starts a server on a UNIX socket.
    pub(super) fn unix(path: &Path, response: HookResponse) -> Self {
        let listener = UnixListener::bind(path).unwrap();
        let answer = move |_| -> Answer {
            let response = response.clone();
            Box::pin(async { Ok(response) })
        };
        Self::serve(0, answer, Listener::Unix(listener))
    }

    fn serve(
        port: u16,
        answer: impl Fn(usize) -> Answer + Send + Sync + 'static,
        listener: Listener,
    ) -> Self {
        let calls = Arc::<Mutex<Vec<Call>>>::default();
        let connections = Arc::<Mutex<u32>>::default();
        let service = HookHandlerServer::new(Handler {
            calls: calls.clone(),
            answer: Box::new(answer),
        });
        let count = connections.clone();
        let task = tokio::spawn(async move {
            let mut open = JoinSet::new();
            loop {
                let stream = TokioIo::new(listener.accept().await);
                *count.lock().unwrap() += 1;
                let service = TowerToHyperService::new(service.clone());
                open.spawn(
                    http2::Builder::new(TokioExecutor::new())
                        // The limit of concurrent streams differs between servers; further calls
                        // wait.
                        .max_concurrent_streams(8)
                        .serve_connection(stream, service),
                );
            }
        });
        Self {
            port,
            calls,
            connections,
            task,
        }
    }

    /// `127.0.0.1:port`.
    pub(super) fn target(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Returns all received calls.
    pub(super) fn calls(&self) -> Vec<Call> {
        self.calls.lock().unwrap().clone()
    }

    /// Stops the server abruptly.
    pub(super) async fn stop(mut self) {
        self.task.abort();
        // The port is free after this.
        assert!((&mut self.task).await.unwrap_err().is_cancelled());
    }

    /// Returns the number of accepted connections.
    pub(super) fn connections(&self) -> u32 {
        *self.connections.lock().unwrap()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

enum Listener {
    Tcp(TcpListener),
    Tls(TcpListener, TlsAcceptor),
    Unix(UnixListener),
}

impl Listener {
    async fn accept(&self) -> Box<dyn Stream> {
        match self {
            Self::Tcp(listener) => Box::new(listener.accept().await.unwrap().0),
            Self::Unix(listener) => Box::new(listener.accept().await.unwrap().0),
            Self::Tls(listener, acceptor) => loop {
                let (stream, _) = listener.accept().await.unwrap();
                // Some tests expect the client to abort.
                if let Ok(stream) = acceptor.accept(stream).await {
                    return Box::new(stream);
                }
            },
        }
    }
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

struct Handler {
    calls: Arc<Mutex<Vec<Call>>>,
    answer: Box<dyn Fn(usize) -> Answer + Send + Sync>,
}

#[tonic::async_trait]
impl HookHandler for Handler {
    async fn invoke_hook(
        &self,
        request: Request<HookRequest>,
    ) -> Result<Response<HookResponse>, Status> {
        let before = {
            let mut calls = self.calls.lock().unwrap();
            calls.push(Call {
                metadata: request.metadata().clone(),
                request: request.into_inner(),
            });
            calls.len() - 1
        };
        (self.answer)(before).await.map(Response::new)
    }
}
