//! The application behind hooks: it takes every message, answers at once that all is well, and
//! counts. As little work as that can be, because it runs on the same processors.
//!
//! `POST` to any path is a message, in tusd's JSON; `GET` asks for what came ([`Arrivals::json`]).

use std::io::{self, Write};
use std::net::TcpStream;
use std::sync::{Arc, Mutex, PoisonError};

use crate::arrivals::{Arrivals, Message};
use crate::http::Fault;
use crate::json::text;
use crate::listen::{self, Inbox};

/// The longest message that is taken, its head included.
const BUFFER: usize = 64 << 10;

/// Serves on a port of 127.0.0.1 until it is killed.
///
/// # Errors
/// When the port can't be bound.
pub(crate) fn serve(port: u16) -> Result<(), Fault> {
    let arrivals = Arc::new(Mutex::new(Arrivals::default()));
    listen::serve(port, move |stream| connection(stream, &arrivals))
}

fn connection(stream: TcpStream, arrivals: &Mutex<Arrivals>) -> io::Result<()> {
    let mut inbox = Inbox::new(stream, BUFFER)?;
    while let Some(end) = inbox.head()? {
        let head = Head::parse(&inbox.buffer[..end - 4]);
        let Some(head) = head else {
            let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            arrivals.wrong(|| "a request that is none, or has no length, came to the hook".into());
            return inbox
                .stream
                .write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
        };
        let Some(body) = inbox.body(end, head.length)? else {
            return Ok(());
        };
        let used = body.end;
        let message = String::from_utf8_lossy(&inbox.buffer[body]);
        let message = head.is_message.then(|| head.message(&message));
        let answer = {
            let mut arrivals = arrivals.lock().unwrap_or_else(PoisonError::into_inner);
            match message {
                None => arrivals.json(),
                Some(Ok(message)) => {
                    arrivals.note(message);
                    "{}".into()
                }
                Some(Err(why)) => {
                    arrivals.wrong(|| why);
                    "{}".into()
                }
            }
        };
        inbox.used(used);
        let answer = format!(
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{answer}",
            answer.len()
        );
        inbox.stream.write_all(answer.as_bytes())?;
    }
    Ok(())
}

/// What is read of a request's head.
#[derive(Debug, PartialEq, Eq)]
struct Head {
    is_message: bool,
    length: usize,
    /// `Hook-Name`.
    name: Option<String>,
    /// `webhook-id`.
    id: Option<String>,
    /// `Landfall-Sequence`.
    sequence: Option<u64>,
}

impl Head {
    fn parse(head: &[u8]) -> Option<Self> {
        let mut lines = std::str::from_utf8(head).ok()?.split("\r\n");
        let is_message = match lines.next()?.split_once(' ')?.0 {
            "GET" => false,
            "POST" => true,
            _ => return None,
        };
        let (mut length, mut name, mut id, mut sequence) = (None, None, None, None);
        for (field, value) in lines.filter_map(|line| line.split_once(':')) {
            let value = value.trim();
            if field.eq_ignore_ascii_case("content-length") {
                length = Some(value.parse().ok()?);
            } else if field.eq_ignore_ascii_case("hook-name") {
                name = Some(value.into());
            } else if field.eq_ignore_ascii_case("webhook-id") {
                id = Some(value.into());
            } else if field.eq_ignore_ascii_case("landfall-sequence") {
                sequence = Some(value.parse().ok()?);
            }
        }
        Some(Self {
            is_message,
            // What is asked has no body.
            length: length.or((!is_message).then_some(0))?,
            name,
            id,
            sequence,
        })
    }

    /// The message that came with this head.
    ///
    /// # Errors
    /// When the body isn't one, in words.
    fn message(self, body: &str) -> Result<Message, String> {
        // Of all that is in it, these come first under their names.
        let (kind, upload) = (text(body, "Type"), text(body, "ID"));
        let name = match (self.name, kind) {
            (Some(name), Some(kind)) if name != kind => {
                return Err(format!("Hook-Name is {name}, Type is {kind}"));
            }
            (Some(name), _) => name,
            (None, kind) => kind
                .ok_or("a message without a name came to the hook")?
                .into(),
        };
        let upload = upload.ok_or_else(|| format!("{name} came without an upload"))?;
        if upload.is_empty() && name != "pre-create" {
            return Err(format!("{name} came without the upload's id"));
        }
        Ok(Message {
            name,
            upload: upload.into(),
            id: self.id,
            sequence: self.sequence,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    const CREATE: &str = r#"{"Type":"post-create","Event":{"Upload":{"ID":"u1","Size":3}}}"#;

    fn read(head: &str, body: &str) -> Result<Message, String> {
        Head::parse(head.as_bytes()).unwrap().message(body)
    }

    #[test]
    fn reads_a_message_with_and_without_headers() {
        let mut wanted = Message {
            name: "post-create".into(),
            upload: "u1".into(),
            id: None,
            sequence: None,
        };
        assert_eq!(
            read("POST / HTTP/1.1\r\nContent-Length: 1", CREATE),
            Ok(wanted.clone())
        );
        wanted.id = Some("m1".into());
        wanted.sequence = Some(17);
        let head = "POST /x HTTP/1.1\r\nhook-name: post-create\r\nWebhook-Id: m1\r\nLandfall-Sequence: 17\r\ncontent-length: 1";
        assert_eq!(read(head, CREATE), Ok(wanted.clone()));
        // Version 1 has the name in the head alone.
        assert_eq!(read(head, r#"{"Upload":{"ID":"u1"}}"#), Ok(wanted));
    }

    #[test]
    fn what_is_no_message_is_told() {
        let plain = "POST / HTTP/1.1\r\nContent-Length: 1";
        let named = "POST / HTTP/1.1\r\nContent-Length: 1\r\nHook-Name: post-finish";
        for (head, body, why) in [
            (plain, "{}", "a message without a name came to the hook"),
            (
                named,
                CREATE,
                "Hook-Name is post-finish, Type is post-create",
            ),
            (named, "{}", "post-finish came without an upload"),
            (
                named,
                r#"{"ID":""}"#,
                "post-finish came without the upload's id",
            ),
        ] {
            assert_eq!(read(head, body), Err(why.into()));
        }
        for head in [
            "PUT / HTTP/1.1\r\nContent-Length: 1",
            "POST / HTTP/1.1",
            "POST / HTTP/1.1\r\nContent-Length: many",
            "POST",
        ] {
            assert_eq!(Head::parse(head.as_bytes()), None, "{head}");
        }
    }

    /// Sends all at once, and returns what is answered until the end.
    fn talk(requests: &str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let server = thread::spawn(move || {
            let stream = listener.accept().unwrap().0;
            connection(stream, &Mutex::default())
        });
        client.write_all(requests.as_bytes()).unwrap();
        client.shutdown(std::net::Shutdown::Write).unwrap();
        let mut answers = String::new();
        client.read_to_string(&mut answers).unwrap();
        server.join().unwrap().unwrap();
        answers
    }

    #[test]
    fn keeps_the_connection_and_tells_what_came() {
        let post = format!(
            "POST / HTTP/1.1\r\nContent-Length: {}\r\n\r\n{CREATE}",
            CREATE.len()
        );
        let answers = talk(&format!("{post}{post}GET / HTTP/1.1\r\n\r\n"));
        assert_eq!(answers.matches("200 OK").count(), 3, "{answers}");
        assert_eq!(answers.matches("\r\n\r\n{}").count(), 2, "{answers}");
        assert!(answers.contains(r#""first":{"post-create":1},"repeated":1,"#));
    }

    #[test]
    fn a_request_without_a_length_is_refused() {
        assert!(talk("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n").contains(" 400 "));
    }
}
