//! Requests a health page from the running server, so that containers need no HTTP client for their probe.
//!
//! Opens no storage and no database. Connecting and reading block in a thread, for `TIMEOUT` altogether, and at most
//! `MAX_RESPONSE` bytes are read. The certificate is not verified: the server is the one at the configured address.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    process::ExitCode,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

use anyhow::Context as _;
use rustls::{ClientConnection, StreamOwned, pki_types::ServerName};

use super::terminal::print;
use crate::settings::Loaded;

const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_RESPONSE: u64 = 4096;

/// A header of the PROXY protocol of a client without a proxy (LOCAL).
const PROXY_HEADER: &[u8; 16] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

/// `landfall health`: requests `/healthz`, or with `ready` `/readyz`, of the server with these settings.
///
/// # Errors
/// There is no response within five seconds, or its status is not 200.
pub async fn health(loaded: Loaded, ready: bool) -> anyhow::Result<ExitCode> {
    let listen = &loaded.settings.listen;
    let path = if ready { "/readyz" } else { "/healthz" };
    let needs_certificate = loaded.settings.tls.needs_client_certificate();
    anyhow::ensure!(
        listen.unix_sock.is_some() || !needs_certificate,
        "--tls-client-ca accepts only clients with a certificate, and this command has none; request {path} with one \
         (curl --cert FILE --key FILE), or set --tls-client-auth optional"
    );
    let (sender, receiver) = mpsc::channel();
    let place = match listen.unix_sock.clone() {
        Some(socket) => {
            let place = socket.display().to_string();
            thread::spawn(move || {
                let stream = UnixStream::connect(socket);
                sender.send(stream.and_then(|stream| request(stream, path)))
            });
            place
        }
        None => {
            let host = match listen.host.as_str() {
                "0.0.0.0" => "127.0.0.1",
                "::" | "[::]" => "::1",
                host => host,
            };
            let (place, port) = (format!("{host}:{}", listen.port), listen.port);
            let host = host.trim_matches(['[', ']']).to_owned();
            let is_tls = loaded.settings.tls.is_on();
            let is_proxied = listen.proxy_protocol;
            thread::spawn(move || {
                let stream = TcpStream::connect((host.as_str(), port));
                sender.send(stream.and_then(|mut stream| {
                    if is_proxied {
                        stream.write_all(PROXY_HEADER)?;
                    }
                    match is_tls {
                        true => request(own_tls(stream, host)?, path),
                        false => request(stream, path),
                    }
                }))
            });
            place
        }
    };
    // A thread that still waits ends with the process.
    let response = receiver.recv_timeout(TIMEOUT);
    let response = response.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
    let response = response.with_context(|| format!("no response from {place}"))?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    anyhow::ensure!(status == "200", "{place}{path}: {status} {}", body.trim());
    print(body)?;
    Ok(ExitCode::SUCCESS)
}

/// The certificate is not verified: it may be for other names than this one, which is of this machine.
fn own_tls(stream: TcpStream, host: String) -> io::Result<impl Read + Write> {
    let config = landfall_net::client_config_without_verification()?;
    let name = ServerName::try_from(host).map_err(io::Error::other)?;
    let connection = ClientConnection::new(Arc::new(config), name).map_err(io::Error::other)?;
    Ok(StreamOwned::new(connection, stream))
}

fn request(mut stream: impl Read + Write, path: &str) -> io::Result<String> {
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    )?;
    let mut response = String::new();
    stream.take(MAX_RESPONSE).read_to_string(&mut response)?;
    Ok(response)
}
