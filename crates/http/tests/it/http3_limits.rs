//! Clients of HTTP/3 that try to exhaust the server, with bytes on the streams of QUIC.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use h3::error::Code;
use quinn::{ConnectionError, VarInt};
use tokio::time::timeout;

use crate::harness::TIMEOUT;
use crate::http3::{Client, Http3Server};

/// h3 would buffer it whole.
#[tokio::test]
async fn long_frames_are_not_buffered() {
    let http3 = Http3Server::start(|_| {});
    let quic = http3.quic().await;
    // A head of 1 GiB, and a frame of an unknown type before one.
    for frame in [
        &[0x01, 0xc0, 0, 0, 0, 0x40, 0, 0, 0][..],
        &[0x21, 0xc0, 0, 0, 0, 0x40, 0, 0, 0],
    ] {
        let (mut sending, _receiving) = quic.open_bi().await.unwrap();
        sending.write_all(frame).await.unwrap();
        let stopped = timeout(TIMEOUT, sending.stopped())
            .await
            .expect("more may be sent");
        let excessive = VarInt::from_u64(Code::H3_EXCESSIVE_LOAD.value()).unwrap();
        assert_eq!(stopped.unwrap(), Some(excessive));
    }
    // A control stream that never ends its settings.
    let mut control = quic.open_uni().await.unwrap();
    let too_much = async {
        control
            .write_all(&[0, 0x04, 0xc0, 0, 0, 0, 0x40, 0, 0, 0])
            .await?;
        loop {
            control.write_all(&[0; 100_000]).await?;
        }
        #[expect(unreachable_code, reason = "the type of the result")]
        Ok::<(), quinn::WriteError>(())
    };
    let ended = timeout(TIMEOUT, too_much).await.expect("more may be sent");
    assert!(ended.is_err());
    assert_eq!(http3.connect().await.get("/").await.text(), "hello");
    http3.server.stop().await;
}

/// The head of a PUT, with fields of QPACK's static table and literals.
fn raw_head(authority: &str, path: &str) -> Vec<u8> {
    // No dynamic table; :method PUT (21), :scheme https (23), :authority (0) and :path (1) with literals.
    let mut block = vec![0, 0, 0xc0 | 21, 0xc0 | 23];
    for (index, value) in [(0, authority), (1, path)] {
        block.extend([0x50 | index, value.len() as u8]);
        block.extend(value.as_bytes());
    }
    [&[1, block.len() as u8], &*block].concat()
}

/// h3 takes it for the end of the content.
#[tokio::test]
async fn the_end_of_a_stream_within_a_frame_is_no_end() {
    let http3 = Http3Server::start(|_| {});
    let mut client = http3.connect().await;
    let (mut sending, mut receiving) = client.quic.open_bi().await.unwrap();
    sending
        .write_all(&raw_head("a.example", "/sink"))
        .await
        .unwrap();
    // 5 of 9 bytes.
    sending.write_all(&[0, 9]).await.unwrap();
    sending.write_all(b"hello").await.unwrap();
    http3.server.until_requests(1).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    sending.finish().unwrap();
    let response = timeout(TIMEOUT, receiving.read_to_end(1000))
        .await
        .unwrap()
        .unwrap();
    assert!(response.ends_with(b"5 UnexpectedEnd"), "{response:?}");
    assert_eq!(client.get("/").await.text(), "hello");
    drop(client);
    http3.server.stop().await;
}

/// RFC 9114 section 7.2.1 allows them.
#[tokio::test]
async fn empty_data_frames_are_skipped() {
    let http3 = Http3Server::start(|_| {});
    let mut client = http3.connect().await;
    // The length of an empty frame in one, two and eight bytes.
    let empty = [&[0, 0][..], &[0, 0x40, 0], &[0, 0xc0, 0, 0, 0, 0, 0, 0, 0]];
    let hello = [0, 5, b'h', b'e', b'l', b'l', b'o'];
    for empty in empty {
        for single_bytes in [false, true] {
            let (mut sending, mut receiving) = client.quic.open_bi().await.unwrap();
            let head = raw_head("a.example", "/sink");
            let frames = [&head, empty, &hello, empty, empty, &hello, empty].concat();
            let pieces = if single_bytes { 1 } else { frames.len() };
            for piece in frames.chunks(pieces) {
                sending.write_all(piece).await.unwrap();
                tokio::task::yield_now().await;
            }
            sending.finish().unwrap();
            let response = timeout(TIMEOUT, receiving.read_to_end(1000)).await;
            let response = response.unwrap().unwrap();
            assert!(response.ends_with(b"10 complete"), "{response:?}");
        }
    }
    // Other streams continue.
    assert_eq!(client.get("/").await.text(), "hello");
    drop(client);
    http3.server.stop().await;
}

/// CVE-2023-44487: each stream is reset as soon as it is open.
#[tokio::test]
async fn reset_streams_still_count_while_the_service_runs() {
    let http3 = Http3Server::start(|limits| limits.max_streams = 4);
    let quic = http3.quic().await;
    let opening = async {
        for _ in 0..2000 {
            let (mut sending, mut receiving) = quic.open_bi().await.unwrap();
            sending
                .write_all(&raw_head("a.example", "/late/100"))
                .await
                .unwrap();
            sending.finish().unwrap();
            receiving.stop(VarInt::from_u32(0x10c)).unwrap();
        }
    };
    // Only some come through in this time.
    drop(timeout(Duration::from_secs(1), opening).await);
    let requests = http3.server.stats.requests.load(Relaxed);
    assert!(requests <= 4 * 15, "{requests}");
    quic.close(VarInt::from_u32(0x100), b"");
    assert_eq!(http3.connect().await.get("/").await.text(), "hello");
    http3.server.stop().await;
}

#[tokio::test]
async fn heads_are_limited_and_checked() {
    let http3 = Http3Server::start(|limits| limits.max_head = 2000);
    let mut client = http3.connect().await;
    let (mut sending, mut receiving) = client.quic.open_bi().await.unwrap();
    sending
        .write_all(&raw_head("user@a.example", "/"))
        .await
        .unwrap();
    sending.finish().unwrap();
    let response = timeout(TIMEOUT, receiving.read_to_end(1000)).await;
    let response = response.unwrap().unwrap();
    let text = b"the :authority is not a host name with optional port\n";
    assert!(response.ends_with(text), "{response:?}");
    let long = "x".repeat(1900);
    let (mut sending, mut receiving) = client.quic.open_bi().await.unwrap();
    // `:path` of 1900 bytes, and the rest of the head.
    let mut block = vec![0, 0, 0xc0 | 21, 0xc0 | 23, 0x51, 0x7f, 0xed, 0x0d];
    block.extend(long.as_bytes());
    block.extend([0x50, 9]);
    block.extend(b"a.example");
    sending
        .write_all(&[1, 0x40 | (block.len() >> 8) as u8, block.len() as u8])
        .await
        .unwrap();
    sending.write_all(&block).await.unwrap();
    sending.finish().unwrap();
    let response = timeout(TIMEOUT, receiving.read_to_end(1000))
        .await
        .unwrap()
        .unwrap();
    // Only a HEADERS frame, with `:status` 431, which the table of QPACK does not have.
    assert_eq!(response[..2], [1, response.len() as u8 - 2], "{response:?}");
    assert_eq!(client.get("/").await.text(), "hello");
    http3.server.until_requests(2).await;
    assert_eq!(http3.server.stats.requests.load(Relaxed), 2);
    drop(client);
    http3.server.stop().await;
}

/// CVE-2023-44487, with requests that end before the server has read them.
#[tokio::test]
async fn streams_without_a_request_end_the_connection() {
    let http3 = Http3Server::start(|_| {});
    let mut other = http3.connect().await;
    let quic = http3.quic().await;
    let mut client = Client::new(quic.clone()).await;
    let reset = async |count: usize| {
        for n in 0..count {
            let (mut sending, mut receiving) = quic.open_bi().await?;
            // Without a head, with half of one, and with a whole one.
            let head = raw_head("a.example", "/late/100");
            let sent = [0, 9, head.len()][n % 3];
            sending.write_all(&head[..sent]).await.ok();
            sending.reset(VarInt::from_u32(0x10c)).ok();
            receiving.stop(VarInt::from_u32(0x10c)).ok();
        }
        Ok::<_, ConnectionError>(())
    };
    reset(500).await.unwrap();
    assert_eq!(client.get("/").await.text(), "hello");
    let closed = timeout(TIMEOUT, reset(100_000)).await;
    let error = closed.expect("it is still open").unwrap_err();
    let ConnectionError::ApplicationClosed(close) = &error else {
        panic!("{error}");
    };
    assert_eq!(
        u64::from(close.error_code),
        Code::H3_EXCESSIVE_LOAD.value(),
        "{error}"
    );
    assert_eq!(other.get("/").await.text(), "hello");
    drop((client, other));
    http3.server.stop().await;
}
