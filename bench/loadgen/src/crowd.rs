//! Many clients that are beside others, or in their way.
//!
//! Unlike other work it has no end of its own: it goes on from `ready` until the driver says so.

use std::io::Write;
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::http::{Connection, Fault};
use crate::report;
use crate::target::Target;

/// Length of an upload of a client that sends next to nothing.
const QUIET: u64 = 256 << 10;
/// What a client that stalls sends before, and what it announces.
const STALLED: (u64, u64) = (600_000, 1 << 20);
/// Length of each upload of a client that never stops.
const GREEDY: u64 = 2 << 20;
/// The largest frame that every HTTP/2 server takes.
const FRAME: usize = 16 << 10;
const STACK: usize = 128 << 10;
const CHECKSUM: &str = "Upload-Checksum: sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00=\r\n";

/// What the clients do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crowd {
    /// Half of them send one byte of a body with a checksum, the others one byte a second.
    Quiet,
    /// They send fast and stall in the middle of the body.
    Stalled,
    /// The same in the middle of the trailers.
    StalledTrailers,
    /// The same over HTTP/2.
    StalledHttp2,
    /// They send one upload after the other, as fast as they can.
    Greedy,
    /// They send 64 bytes every two seconds.
    Running,
}

impl Crowd {
    /// The one of this name.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "quiet" => Self::Quiet,
            "stalled" => Self::Stalled,
            "stalled-trailers" => Self::StalledTrailers,
            "stalled-http2" => Self::StalledHttp2,
            "greedy" => Self::Greedy,
            "running" => Self::Running,
            _ => return None,
        })
    }
}

/// Has `count` clients do it until the driver says `go`; then they are gone.
///
/// # Errors
/// A client can't begin.
pub(crate) fn gather(target: &Target, crowd: Crowd, count: usize) -> Result<(), Fault> {
    if crowd == Crowd::Greedy {
        return greedy(target, count);
    }
    let mut open = Vec::with_capacity(count);
    for index in 0..count {
        open.push(match crowd {
            Crowd::StalledHttp2 => stall_http2(target)?,
            Crowd::Stalled | Crowd::StalledTrailers => stall(target, crowd)?,
            Crowd::Running => begin(target, index, "")?,
            Crowd::Quiet | Crowd::Greedy => begin(target, index, CHECKSUM)?,
        });
    }
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let (skipped, step, bytes, seconds) = match crowd {
            Crowd::Quiet => (1, 2, 1, 1),
            Crowd::Running => (0, 1, 64, 2),
            _ => (open.len(), 1, 0, 1),
        };
        let mut trickling: Vec<_> = open.iter().skip(skipped).step_by(step).collect();
        if !trickling.is_empty() {
            let over = &over;
            scope.spawn(move || trickle(&mut trickling, bytes, seconds, over));
        }
        let paused = report::pause("ready 0");
        over.store(true, Ordering::Relaxed);
        paused
    })?;
    drop(open);
    report::pause("done {}")
}

/// Sends bytes on each connection once in so many seconds, evenly spread over them.
fn trickle(streams: &mut [&TcpStream], bytes: usize, seconds: usize, over: &AtomicBool) {
    let pause = Duration::from_millis(10);
    let body = vec![1; bytes];
    let step = streams.len().div_ceil(100 * seconds).max(1);
    while !over.load(Ordering::Relaxed) {
        for some in streams.chunks_mut(step) {
            let begun = Instant::now();
            for stream in some {
                // The server may have ended it.
                let _ = stream.write_all(&body);
            }
            thread::sleep(pause.saturating_sub(begun.elapsed()));
        }
    }
}

fn begin(target: &Target, index: usize, checksum: &str) -> Result<TcpStream, Fault> {
    let mut connection = Connection::open(target.address)?;
    let upload = target.create(&mut connection, index as u64, QUIET, 0)?;
    let fields = format!(
        "Upload-Offset: 0\r\nContent-Type: application/offset+octet-stream\r\n\
         {checksum}Content-Length: {QUIET}\r\n"
    );
    connection.begin(target.head("PATCH", &upload.path, &fields).as_bytes())?;
    connection.send(&[1])?;
    Ok(connection.into_stream())
}

fn stall(target: &Target, crowd: Crowd) -> Result<TcpStream, Fault> {
    let mut connection = Connection::open(target.address)?;
    let (sent, length) = STALLED;
    let mut fields =
        format!("Upload-Length: {length}\r\nContent-Type: application/offset+octet-stream\r\n");
    fields.push_str(match crowd {
        Crowd::StalledTrailers => "Transfer-Encoding: chunked\r\nTrailer: Upload-Checksum\r\n",
        _ => "Content-Length: 1048576\r\n",
    });
    connection.begin(target.post_head(&fields).as_bytes())?;
    let mut body = Vec::new();
    if crowd == Crowd::StalledTrailers {
        body = format!("{sent:x}\r\n").into_bytes();
    }
    target.pattern.copy_to(&mut body, 0, 0, sent);
    if crowd == Crowd::StalledTrailers {
        body.extend_from_slice(b"\r\n0\r\nUpload-Check");
    }
    connection.send(&body)?;
    Ok(connection.into_stream())
}

/// What it sends fits the first window of a stream.
fn stall_http2(target: &Target) -> Result<TcpStream, Fault> {
    let mut connection = Connection::open(target.address)?;
    let (sent, length) = STALLED;
    let mut bytes = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    frame(&mut bytes, 4, 0, 0, &[]);
    let mut fields = Vec::new();
    for (name, value) in [
        (":method", "POST"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", target.path()),
        ("tus-resumable", "1.0.0"),
        ("upload-length", &length.to_string()),
        ("content-type", "application/offset+octet-stream"),
    ] {
        // A literal without indexing, with a new name (RFC 7541, 6.2.2); all are short.
        fields.push(0);
        for text in [name, value] {
            fields.push(text.len() as u8);
            fields.extend_from_slice(text.as_bytes());
        }
    }
    frame(&mut bytes, 1, 4, 1, &fields);
    let mut body = Vec::new();
    target.pattern.copy_to(&mut body, 0, 0, sent);
    connection.begin(&bytes)?;
    // The window that its settings give.
    thread::sleep(Duration::from_millis(2));
    let mut bytes = Vec::new();
    frame(&mut bytes, 4, 1, 0, &[]);
    for piece in body.chunks(FRAME) {
        frame(&mut bytes, 0, 0, 1, piece);
    }
    connection.send(&bytes)?;
    Ok(connection.into_stream())
}

fn frame(to: &mut Vec<u8>, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
    to.extend_from_slice(&(payload.len() as u32).to_be_bytes()[1..]);
    to.extend_from_slice(&[kind, flags]);
    to.extend_from_slice(&stream.to_be_bytes());
    to.extend_from_slice(payload);
}

fn greedy(target: &Target, count: usize) -> Result<(), Fault> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for index in 0..count {
            let over = &over;
            let builder = thread::Builder::new().stack_size(STACK);
            let thread = builder.spawn_scoped(scope, move || {
                while !over.load(Ordering::Relaxed) {
                    // A server may have enough of them.
                    if uploads(target, index as u64, over).is_err() {
                        thread::sleep(Duration::from_millis(500));
                    }
                }
            });
            thread.map_err(|error| format!("thread: {error}"))?;
        }
        let paused = report::pause("ready 0");
        over.store(true, Ordering::Relaxed);
        paused
    })?;
    report::pause("done {}")
}

fn uploads(target: &Target, phase: u64, over: &AtomicBool) -> Result<(), Fault> {
    let mut connection = Connection::open(target.address)?;
    while !over.load(Ordering::Relaxed) {
        let upload = target.create(&mut connection, phase, GREEDY, GREEDY)?;
        let request = target.head("DELETE", &upload.path, "Content-Length: 0\r\n");
        connection.begin(request.as_bytes())?;
        let reply = connection.reply(false, |_| Ok(()))?;
        reply.expect("DELETE", &[204])?;
    }
    Ok(())
}
