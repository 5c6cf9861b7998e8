//! A connection loop on httparse: one buffer, one write for each response.

use std::{
    io::{self, ErrorKind},
    str,
};

use hyper::Method;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::store::{Append, Store};

/// Receive buffer of a connection, and the limit of a head.
const BUFFER: usize = 64 << 10;
const MAX_FIELDS: usize = 32;

struct Head {
    method: Method,
    /// The last segment of the path.
    id: String,
    length: u64,
    offset: u64,
    /// Length of the head.
    end: usize,
}

/// `None` while the head is incomplete.
fn parse(bytes: &[u8]) -> io::Result<Option<Head>> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_FIELDS];
    let mut request = httparse::Request::new(&mut fields);
    let malformed = |_| io::Error::from(ErrorKind::InvalidData);
    let httparse::Status::Complete(end) = request.parse(bytes).map_err(malformed)? else {
        return Ok(None);
    };
    let method = request.method.unwrap_or_default();
    let path = request.path.unwrap_or_default();
    let number = |name: &str| {
        let field = request
            .headers
            .iter()
            .find(|field| field.name.eq_ignore_ascii_case(name));
        let value = field.and_then(|field| str::from_utf8(field.value).ok());
        value.and_then(|value| value.parse().ok()).unwrap_or(0)
    };
    Ok(Some(Head {
        method: method.parse().map_err(io::Error::other)?,
        id: path.rsplit('/').next().unwrap_or_default().into(),
        length: number("content-length"),
        offset: number("upload-offset"),
        end,
    }))
}

/// Responds to the requests of one connection.
pub(crate) async fn connection(mut stream: TcpStream, store: &Store) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    let mut filled = 0;
    loop {
        let head = loop {
            if let Some(head) = parse(&buffer[..filled])? {
                break head;
            }
            match stream.read(&mut buffer[filled..]).await? {
                0 => return Ok(()),
                count => filled += count,
            }
        };
        let used = usize::try_from(head.length)
            .map_or(filled, |length| filled.min(head.end.saturating_add(length)));
        let response = match head.method {
            Method::OPTIONS => {
                "204 No Content\r\nTus-Extension: creation,creation-with-upload\r\n\r\n".into()
            }
            Method::HEAD => {
                let offset = store.offset(&head.id)?;
                format!("200 OK\r\nUpload-Offset: {offset}\r\nCache-Control: no-store\r\n\r\n")
            }
            Method::GET => {
                let body = store.read(&head.id)?;
                let start = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", body.len());
                stream.write_all(start.as_bytes()).await?;
                stream.write_all(&body).await?;
                String::new()
            }
            Method::POST | Method::PATCH => {
                let is_new = head.method == Method::POST;
                let mut append = if is_new {
                    store.create()?
                } else {
                    store.append(&head.id, head.offset)?
                };
                let early = &buffer[head.end..used];
                append.write(early)?;
                let left = head.length - early.len() as u64;
                receive(&mut stream, &mut buffer, left, &mut append).await?;
                let (id, offset) = store.end(append);
                if is_new {
                    format!(
                        "201 Created\r\nLocation: /files/{id}\r\nUpload-Offset: {offset}\r\n\
                         Content-Length: 0\r\n\r\n"
                    )
                } else {
                    format!("204 No Content\r\nUpload-Offset: {offset}\r\n\r\n")
                }
            }
            _ => return Err(ErrorKind::Unsupported.into()),
        };
        buffer.copy_within(used..filled, 0);
        filled -= used;
        if !response.is_empty() {
            let response = format!("HTTP/1.1 {response}");
            stream.write_all(response.as_bytes()).await?;
        }
    }
}

/// Receives the rest of a body. If there is one, all that was in the buffer has been written.
async fn receive(
    stream: &mut TcpStream,
    buffer: &mut [u8],
    mut left: u64,
    append: &mut Append,
) -> io::Result<()> {
    while left > 0 {
        let limit = usize::try_from(left)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        let count = stream.read(&mut buffer[..limit]).await?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        append.write(&buffer[..count])?;
        left -= count as u64;
    }
    Ok(())
}
