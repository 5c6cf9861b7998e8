//! The bare loop: receives into 256 KiB and writes to a file, one thread per connection. No leases,
//! metadata, checks, limits or durability: a yardstick, never to be used as a server.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::http::Fault;
use crate::listen::{self, Inbox};

/// Receive buffer of a connection.
const BUFFER: usize = 256 << 10;

/// Serves on a port of 127.0.0.1 until it is killed.
///
/// # Errors
/// When the folder can't be made or the port can't be bound.
pub(crate) fn serve(port: u16, folder: &Path) -> Result<(), Fault> {
    std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let (folder, next) = (folder.to_path_buf(), AtomicU64::new(1));
    listen::serve(port, move |stream| connection(stream, &folder, &next))
}

/// The parts of a request head that the bare loop reads.
#[derive(Debug)]
struct Request {
    method: Method,
    /// The last segment of the path.
    id: String,
    length: u64,
    offset: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Method {
    Options,
    Head,
    Get,
    Post,
    Patch,
}

impl Request {
    fn parse(head: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
        let mut words = lines.next()?.split(' ');
        let method = match words.next()? {
            "OPTIONS" => Method::Options,
            "HEAD" => Method::Head,
            "GET" => Method::Get,
            "POST" => Method::Post,
            "PATCH" => Method::Patch,
            _ => return None,
        };
        let id = words.next()?.rsplit('/').next()?.into();
        let mut request = Self {
            method,
            id,
            length: 0,
            offset: 0,
        };
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                request.length = value.trim().parse().ok()?;
            } else if name.eq_ignore_ascii_case("upload-offset") {
                request.offset = value.trim().parse().ok()?;
            }
        }
        Some(request)
    }
}

fn connection(stream: TcpStream, folder: &Path, next: &AtomicU64) -> io::Result<()> {
    let mut inbox = Inbox::new(stream, BUFFER)?;
    while let Some(end) = inbox.head()? {
        let Some(mut request) = Request::parse(&inbox.buffer[..end - 4]) else {
            return inbox
                .stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        };
        if request.method == Method::Post {
            request.id = next.fetch_add(1, Ordering::Relaxed).to_string();
        }
        let path = folder.join(&request.id);
        let mut used = end;
        let reply = match request.method {
            Method::Options => {
                "204 No Content\r\nTus-Extension: creation,creation-with-upload".to_owned()
            }
            Method::Head => {
                let kept = std::fs::metadata(&path)?.len();
                format!("200 OK\r\nUpload-Offset: {kept}\r\nCache-Control: no-store")
            }
            Method::Get => {
                let mut file = File::open(&path)?;
                let length = file.metadata()?.len();
                let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
                inbox.stream.write_all(head.as_bytes())?;
                io::copy(&mut file, &mut inbox.stream)?;
                String::new()
            }
            Method::Post | Method::Patch => {
                let early = (request.length.min((inbox.filled - end) as u64)) as usize;
                used = end + early;
                receive(&mut inbox, end..used, &path, &request)?
            }
        };
        // A request longer than the buffer has used all of it; else the next one may have begun.
        inbox.used(used);
        if !reply.is_empty() {
            let reply = format!("HTTP/1.1 {reply}\r\nTus-Resumable: 1.0.0\r\n\r\n");
            inbox.stream.write_all(reply.as_bytes())?;
        }
    }
    Ok(())
}

/// Writes the body to the file: the part of it that came with the head, then the rest.
fn receive(
    inbox: &mut Inbox,
    early: Range<usize>,
    path: &Path,
    request: &Request,
) -> io::Result<String> {
    let mut file = if request.method == Method::Post {
        File::create(path)?
    } else {
        let mut file = File::options().write(true).open(path)?;
        file.seek(SeekFrom::Start(request.offset))?;
        file
    };
    let Inbox {
        stream,
        buffer,
        filled,
    } = inbox;
    file.write_all(&buffer[early.clone()])?;
    let mut left = request.length - early.len() as u64;
    debug_assert!(
        left == 0 || early.end == *filled,
        "what came early comes first"
    );
    while left > 0 {
        let limit = buffer
            .len()
            .min(usize::try_from(left).unwrap_or(usize::MAX));
        let count = stream.read(&mut buffer[..limit])?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        file.write_all(&buffer[..count])?;
        left -= count as u64;
    }
    let offset = request.offset + request.length;
    if request.method == Method::Post {
        let id = &request.id;
        return Ok(format!(
            "201 Created\r\nLocation: /files/{id}\r\nUpload-Offset: {offset}\r\nContent-Length: 0"
        ));
    }
    Ok(format!("204 No Content\r\nUpload-Offset: {offset}"))
}
