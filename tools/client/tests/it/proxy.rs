//! A TCP proxy that breaks connections.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
    task::{JoinHandle, JoinSet},
};

/// What happens to a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    None,
    /// It is closed after so many bytes of the client.
    Close(u64),
    /// It is reset (RST) after so many bytes of the client.
    Reset(u64),
    /// Nothing is forwarded after so many bytes of the client.
    Stall(u64),
    /// Requests are forwarded, and it is closed before the first byte of a response.
    LoseResponse,
    /// It is closed after so many bytes of the server.
    CutResponse(u64),
    /// It is refused.
    Refuse,
}

/// A running proxy.
pub(crate) struct Proxy {
    pub(crate) address: SocketAddr,
    task: JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// Starts a proxy; `plan` returns the fault of each connection by its number.
    pub(crate) async fn start(
        server: SocketAddr,
        plan: impl Fn(usize) -> Fault + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let plan = Arc::new(plan);
        let task = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            let mut number = 0;
            while let Ok((client, _)) = listener.accept().await {
                let fault = plan(number);
                number += 1;
                connections.spawn(async move {
                    // An error is a closed connection.
                    let _ = forward(client, server, fault).await;
                });
            }
        });
        Self { address, task }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}/files/", self.address)
    }
}

async fn forward(client: TcpStream, server: SocketAddr, fault: Fault) -> std::io::Result<()> {
    if let Fault::Refuse = fault {
        return reset(client);
    }
    let mut upstream = TcpStream::connect(server).await?;
    let (limit, resets) = match fault {
        Fault::Close(bytes) | Fault::Stall(bytes) => (bytes, false),
        Fault::Reset(bytes) => (bytes, true),
        Fault::None | Fault::LoseResponse | Fault::CutResponse(_) | Fault::Refuse => {
            (u64::MAX, false)
        }
    };
    let mut client = client;
    {
        let (mut from_client, mut to_client) = client.split();
        let (mut from_server, mut to_server) = upstream.split();
        let sending = async {
            let mut rest = limit;
            let mut buffer = vec![0; 16 * 1024];
            while rest > 0 {
                let size = usize::try_from(rest).map_or(buffer.len(), |n| n.min(buffer.len()));
                let read = from_client.read(&mut buffer[..size]).await?;
                if read == 0 {
                    return Ok(());
                }
                to_server.write_all(&buffer[..read]).await?;
                rest -= read as u64;
            }
            if let Fault::Stall(_) = fault {
                tokio::time::sleep(Duration::from_secs(3600)).await;
            }
            Ok::<(), std::io::Error>(())
        };
        let receiving = async {
            let mut buffer = vec![0; 16 * 1024];
            let mut forwarded = 0;
            loop {
                let read = from_server.read(&mut buffer).await?;
                forwarded += read as u64;
                if matches!(fault, Fault::CutResponse(bytes) if forwarded > bytes) {
                    return Ok(());
                }
                if read == 0 || matches!(fault, Fault::LoseResponse) {
                    return Ok::<(), std::io::Error>(());
                }
                to_client.write_all(&buffer[..read]).await?;
            }
        };
        tokio::select! {
            ended = sending => ended?,
            ended = receiving => ended?,
        }
    }
    match resets {
        true => reset(client),
        false => Ok(()),
    }
}

fn reset(stream: TcpStream) -> std::io::Result<()> {
    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO))
}
