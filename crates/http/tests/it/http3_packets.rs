//! The packets that clients of HTTP/3 receive.

use std::io::{self, IoSliceMut};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::pin::Pin;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};

use quinn::udp::{RecvMeta, Transmit};
use quinn::{AsyncUdpSocket, Endpoint, EndpointConfig, Runtime as _, TokioRuntime, UdpPoller};

use crate::http3::{Client, Http3Server};

struct Received {
    bytes: usize,
    packet: usize,
    first_byte: u8,
}

impl Received {
    /// RFC 9000 section 17.2.5.
    fn is_retry(&self) -> bool {
        self.first_byte & 0xf0 == 0xf0
    }
}

type Record = Arc<Mutex<Vec<Received>>>;

#[derive(Debug)]
struct RecordingSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    record: Record,
}

impl std::fmt::Debug for Received {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.bytes)
    }
}

impl AsyncUdpSocket for RecordingSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        self.socket.try_send(transmit)
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let received = self.socket.poll_recv(cx, bufs, meta);
        if let Poll::Ready(Ok(count)) = &received {
            let received = meta.iter().zip(bufs).take(*count);
            self.record
                .lock()
                .unwrap()
                .extend(received.map(|(meta, bytes)| Received {
                    bytes: meta.len,
                    packet: meta.stride,
                    first_byte: bytes[0],
                }));
        }
        received
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    fn max_transmit_segments(&self) -> usize {
        self.socket.max_transmit_segments()
    }

    fn max_receive_segments(&self) -> usize {
        self.socket.max_receive_segments()
    }

    fn may_fragment(&self) -> bool {
        self.socket.may_fragment()
    }
}

impl Http3Server {
    async fn recorded(&self) -> (Client, Record) {
        let record = Record::default();
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let socket = Arc::new(RecordingSocket {
            socket: TokioRuntime.wrap_udp_socket(udp).unwrap(),
            record: record.clone(),
        });
        let (config, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
        let mut endpoint =
            Endpoint::new_with_abstract_socket(config, None, socket, runtime).unwrap();
        endpoint.set_default_client_config(self.client_config());
        let connecting = endpoint.connect(self.server.address, "a.example").unwrap();
        let client = Client::new(connecting.await.unwrap()).await;
        (client, record)
    }
}

/// RFC 9000 section 8.1.2.
#[tokio::test]
async fn addresses_are_verified() {
    let http3 = Http3Server::start(|_| {});
    let mut open = Vec::new();
    let mut retries = Vec::new();
    for _ in 0..3 {
        let (mut client, record) = http3.recorded().await;
        assert_eq!(client.get("/").await.text(), "hello");
        let record = record.lock().unwrap();
        retries.push(record.iter().filter(|packet| packet.is_retry()).count());
        open.push(client);
    }
    assert_eq!(retries, [1; 3]);
    assert_eq!(http3.server.stats.accepted.load(Relaxed), 3);
    drop(open);
    http3.server.stop().await;
}

/// RFC 9000 section 8.1: an address that may be false gets at most three times what was sent in its name.
#[tokio::test]
async fn a_client_that_does_not_answer_gets_little() {
    let http3 = Http3Server::start(|_| {});
    // The first packet of a client, whose socket sends nothing.
    let record = FirstPacket::default();
    let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let socket = Arc::new(SilentSocket {
        socket: TokioRuntime.wrap_udp_socket(udp).unwrap(),
        first: record.clone(),
    });
    let (config, runtime) = (EndpointConfig::default(), Arc::new(TokioRuntime));
    let mut endpoint = Endpoint::new_with_abstract_socket(config, None, socket, runtime).unwrap();
    endpoint.set_default_client_config(http3.client_config());
    let connecting = endpoint.connect(http3.server.address, "a.example");
    let connecting = tokio::spawn(connecting.unwrap());
    let initial = loop {
        if let Some(initial) = record.lock().unwrap().clone() {
            break initial;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    };
    let client = tokio::net::UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    client
        .send_to(&initial, http3.server.address)
        .await
        .unwrap();
    // Also what it repeats: the first probe comes after a second, the next ones after two and four.
    let (mut received, mut bytes) = (0, vec![0; 65_536]);
    let receiving = async {
        loop {
            received += client.recv(&mut bytes).await.unwrap();
        }
    };
    let _: Result<(), _> = tokio::time::timeout(std::time::Duration::from_secs(4), receiving).await;
    assert!(received > 0 && received <= 3 * initial.len(), "{received}");
    connecting.abort();
    http3.server.stop().await;
}

type FirstPacket = Arc<Mutex<Option<Vec<u8>>>>;

/// Keeps the first packet, and sends none.
#[derive(Debug)]
struct SilentSocket {
    socket: Arc<dyn AsyncUdpSocket>,
    first: FirstPacket,
}

impl AsyncUdpSocket for SilentSocket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        self.socket.clone().create_io_poller()
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let mut first = self.first.lock().unwrap();
        first.get_or_insert_with(|| transmit.contents.to_vec());
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        self.socket.poll_recv(cx, bufs, meta)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }
}

/// One system call sends many (UDP_SEGMENT). On the loopback interface the client gets them as they were sent.
#[tokio::test]
async fn packets_are_sent_together() {
    let http3 = Http3Server::start(|_| {});
    let (mut client, record) = http3.recorded().await;
    assert_eq!(client.get("/bytes/3000000").await.body.len(), 3_000_000);
    let largest = {
        let record = record.lock().unwrap();
        record
            .iter()
            .map(|sent| sent.bytes / sent.packet)
            .max()
            .unwrap()
    };
    assert!(largest >= 8, "{largest}");
    drop(client);
    http3.server.stop().await;
}
