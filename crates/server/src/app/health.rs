use std::{
    io::{self, Read, Write},
    net::{TcpStream, ToSocketAddrs as _},
    os::unix::net::UnixStream,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;

use super::terminal::print;
use crate::settings::Loaded;

const TIMEOUT: Duration = Duration::from_secs(5);
const MAX_RESPONSE: u64 = 4096;

/// `landfall health`: requests `/healthz`, or with `ready` `/readyz`, of the server with these settings.
///
/// # Errors
/// There is no response within five seconds, or its status is not 200.
pub async fn health(loaded: Loaded, ready: bool) -> anyhow::Result<ExitCode> {
    let listen = &loaded.settings.listen;
    let path = if ready { "/readyz" } else { "/healthz" };
    let (place, response) = match &listen.unix_sock {
        Some(socket) => (socket.display().to_string(), over_unix(socket, path)),
        None => {
            let host = match listen.host.as_str() {
                "0.0.0.0" => "127.0.0.1",
                "::" | "[::]" => "::1",
                host => host,
            };
            let place = format!("{host}:{}", listen.port);
            (place, over_tcp(host, listen.port, path))
        }
    };
    let response = response.with_context(|| format!("no response from {place}"))?;
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or((&response, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    anyhow::ensure!(status == "200", "{place}{path}: {status} {}", body.trim());
    print(body)?;
    Ok(ExitCode::SUCCESS)
}

fn over_tcp(host: &str, port: u16, path: &str) -> io::Result<String> {
    let mut failure = io::Error::from(io::ErrorKind::NotFound);
    for address in (host.trim_matches(['[', ']']), port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, TIMEOUT) {
            Ok(stream) => {
                stream.set_read_timeout(Some(TIMEOUT))?;
                return request(stream, path);
            }
            Err(error) => failure = error,
        }
    }
    Err(failure)
}

fn over_unix(socket: &std::path::Path, path: &str) -> io::Result<String> {
    let stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    request(stream, path)
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
