//! As much of an HTTP client as setting up a service takes.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    time::Duration,
};

/// Sends one request and gives the status and the body of the answer.
pub(crate) fn call(
    authority: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect(authority)?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    // HTTP/1.0: the body of the answer ends with the connection, and is never chunked.
    let mut head = format!(
        "{method} {path} HTTP/1.0\r\nHost: {authority}\r\nContent-Length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| io::Error::other(format!("no HTTP answer: {answer:?}")))?;
    let body = answer
        .split_once("\r\n\r\n")
        .map_or("", |(_, body)| body)
        .to_owned();
    Ok((status, body))
}

/// Like [`call`]; panics with the response if the status is not a success.
#[track_caller]
pub(crate) fn must(
    authority: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &str,
) -> String {
    let (status, answer) = call(authority, method, path, headers, body)
        .unwrap_or_else(|error| panic!("{method} {path} on {authority}: {error}"));
    assert!(
        (200..300).contains(&status),
        "{method} {path} on {authority}: {status} {answer}"
    );
    answer
}
