//! The PROXY protocol, versions 1 and 2: the header in which a TCP proxy names its client.
//!
//! It is peeked at first, so that what follows stays in the socket for TLS or HTTP.

use std::io::{self, ErrorKind::InvalidData, ErrorKind::UnexpectedEof};
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use memchr::memchr;
use proxy_header::{ParseConfig, Protocol};
use tokio::io::{AsyncRead, ReadBuf};
use tokio::net::TcpStream;

use super::connection::plain;
use super::limits::addresses::Function;

const SIGNATURE_V1: &[u8] = b"PROXY ";
const SIGNATURE_V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, command, family and length.
const FIXED_LEN_V2: usize = 16;
const LOCAL_COMMAND_V2: u8 = 0x20;

const MAX_LEN_V1: usize = 107;
const MAX_LEN_V2: usize = 536;

/// The addresses of proxies whose PROXY headers are trusted; for [`Listener::with_proxy_protocol`](super::Listener::with_proxy_protocol).
pub type TrustedProxies = Function<dyn Fn(IpAddr) -> bool + Send + Sync>;

/// The part of a header that has been received.
#[derive(Debug, Default)]
pub(super) struct ProxyHeader(Vec<u8>);

impl ProxyHeader {
    /// Returns the address of the client; `None` if the proxy speaks for itself or does not know it.
    ///
    /// # Errors
    /// The header is invalid, or the connection ended.
    pub(super) fn poll_read(
        &mut self,
        tcp: &mut TcpStream,
        cx: &mut Context<'_>,
    ) -> Poll<io::Result<Option<SocketAddr>>> {
        loop {
            let before = self.0.len();
            let mut space = [0; MAX_LEN_V2];
            let mut peeked = ReadBuf::new(&mut space[before..]);
            ready!(tcp.poll_peek(cx, &mut peeked))?;
            if peeked.filled().is_empty() {
                return Poll::Ready(Err(UnexpectedEof.into()));
            }
            self.0.extend_from_slice(peeked.filled());
            let len = header_len(&self.0)?;
            let end = len.unwrap_or(self.0.len());
            let mut taken = ReadBuf::new(&mut space[before..end]);
            let outcome = Pin::new(&mut *tcp).poll_read(cx, &mut taken);
            self.0.truncate(before + taken.filled().len());
            ready!(outcome)?;
            if len == Some(self.0.len()) {
                return Poll::Ready(parse(&self.0));
            }
        }
    }

    /// Such as for a health check of a TCP load balancer.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn invalid(reason: &'static str) -> io::Error {
    io::Error::new(InvalidData, reason)
}

/// Returns the length of the header at the start of `bytes`; `None` if more bytes are needed.
fn header_len(bytes: &[u8]) -> io::Result<Option<usize>> {
    let starts_with = |signature: &[u8]| {
        let both = bytes.iter().zip(signature);
        both.into_iter().all(|(byte, expected)| byte == expected)
    };
    let (len, max) = if starts_with(SIGNATURE_V1) {
        (memchr(b'\n', bytes).map(|at| at + 1), MAX_LEN_V1)
    } else if starts_with(SIGNATURE_V2) {
        let len = bytes.get(FIXED_LEN_V2 - 2..FIXED_LEN_V2);
        let len = len.map(|len| FIXED_LEN_V2 + usize::from(u16::from_be_bytes([len[0], len[1]])));
        (len, MAX_LEN_V2)
    } else {
        return Err(invalid("there is no PROXY header"));
    };
    if len.unwrap_or(bytes.len()) > max {
        return Err(invalid("the PROXY header is too long"));
    }
    Ok(len.filter(|len| *len <= bytes.len()))
}

fn parse(header: &[u8]) -> io::Result<Option<SocketAddr>> {
    // Its addresses are to be ignored, whatever they are.
    let is_local = header.get(SIGNATURE_V2.len()) == Some(&LOCAL_COMMAND_V2);
    if is_local && header.starts_with(SIGNATURE_V2) {
        return Ok(None);
    }
    let malformed = || invalid("the PROXY header is malformed");
    let parsed = proxy_header::ProxyHeader::parse(header, ParseConfig::default());
    let (parsed, len) = parsed.map_err(|_| malformed())?;
    match parsed.proxied_address() {
        _ if len != header.len() => Err(malformed()),
        Some(address) if address.protocol != Protocol::Stream => {
            Err(invalid("the PROXY header is not for TCP"))
        }
        address => Ok(address.map(|address| plain(address.source))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proxy_header::{ProxiedAddress, ProxyHeader};

    use super::*;

    /// Random bytes, mostly after the beginning of a header.
    fn input() -> impl Strategy<Value = Vec<u8>> {
        let begin = prop_oneof![
            Just(b"".to_vec()),
            Just(b"PROXY TCP4 192.0.2.7 ".to_vec()),
            Just(b"PROXY UNKNOWN".to_vec()),
            Just([SIGNATURE_V2, b"\x21\x11"].concat()),
            Just([SIGNATURE_V2, b"\x20\x00\x00"].concat()),
            Just([SIGNATURE_V2, b"\x21\x21\x00\x24"].concat()),
        ];
        let byte = prop_oneof![
            any::<u8>(),
            proptest::sample::select(&b" .:\r\n\0\x011"[..])
        ];
        let rest = proptest::collection::vec(byte, 0..600);
        (begin, rest).prop_map(|(begin, rest)| [begin, rest].concat())
    }

    proptest! {
        #[test]
        fn a_header_does_not_depend_on_the_reads(bytes in input(), cut in any::<prop::sample::Index>()) {
            let at_once = header_len(&bytes);
            match header_len(&bytes[..cut.index(bytes.len() + 1)]) {
                Ok(None) => {}
                Ok(len) => prop_assert_eq!(at_once.unwrap(), len),
                Err(_) => prop_assert!(at_once.is_err()),
            }
            if let Ok(Some(len)) = header_len(&bytes) {
                prop_assert!(len <= MAX_LEN_V2.min(bytes.len()));
                let _ = parse(&bytes[..len]);
            }
        }

        #[test]
        fn addresses_are_those_of_the_header(ip in any::<IpAddr>(), port in any::<u16>()) {
            let client = SocketAddr::new(ip, port);
            let header = ProxyHeader::with_address(ProxiedAddress::stream(client, client));
            let (mut v1, mut v2) = (Vec::new(), Vec::new());
            header.encode_v1(&mut v1).unwrap();
            header.encode_v2(&mut v2).unwrap();
            for header in [v1, v2] {
                prop_assert_eq!(header_len(&header).unwrap(), Some(header.len()));
                prop_assert_eq!(parse(&header).unwrap(), Some(plain(client)));
            }
        }
    }
}
