//! Clients: each uploads one upload by tus, as tus-js-client does: it creates it, appends pieces, and after a failure
//! asks for the offset and resumes at another node. It keeps the offset that was acknowledged to it.

use std::{
    collections::VecDeque,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body::{Body, Frame};
use landfall::{service::ResponseBody, upload::UploadId};
use tokio::{
    task::AbortHandle,
    time::{Sleep, sleep},
};

use crate::world::Random;

const MAX_FRAME: u64 = 8192;
const MAX_LENGTH: u64 = 65_536;

#[derive(Debug)]
pub(crate) enum Signal {
    /// Sends the next request.
    Next,
    Response(Reply),
    /// The client abandons the request with this number.
    GiveUp(u64),
}

/// A response, as far as a client needs it.
#[derive(Debug)]
pub(crate) struct Reply {
    number: u64,
    pub(crate) status: u16,
    pub(crate) offset: Option<u64>,
    location: Option<UploadId>,
    /// Milliseconds that the node needed.
    pub(crate) took: u64,
}

impl Reply {
    pub(crate) const fn number(&self) -> u64 {
        self.number
    }

    pub(crate) fn new(number: u64, response: Response<ResponseBody>, took: u64) -> Self {
        let header = |name| response.headers().get(name)?.to_str().ok();
        let id = header("location").and_then(|location| location.rsplit('/').next());
        Self {
            number,
            status: response.status().as_u16(),
            offset: header("upload-offset").and_then(|offset| offset.parse().ok()),
            location: id.and_then(|id| UploadId::new(id).ok()),
            took,
        }
    }
}

/// A request on its way to a node.
#[derive(Debug)]
pub(crate) struct SentRequest {
    pub(crate) number: u64,
    method: Method,
    uri: String,
    fields: Vec<(&'static str, String)>,
    frames: VecDeque<(u64, Bytes)>,
    end: End,
}

/// The end of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Whole,
    /// The connection breaks.
    Cut,
    /// No more data arrives, and the node is not notified.
    Silent,
}

impl SentRequest {
    pub(crate) fn into_request(self) -> Request<ClientBody> {
        let body = ClientBody {
            frames: self.frames,
            end: self.end,
            sleep: None,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.method;
        *request.uri_mut() = self.uri.parse().unwrap_or_default();
        let fields = [("tus-resumable", "1.0.0".to_owned())];
        for (name, value) in fields.into_iter().chain(self.fields) {
            if let Ok(value) = value.parse() {
                request.headers_mut().insert(name, value);
            }
        }
        request
    }
}

/// A body whose frames arrive by the clock of the node.
#[derive(Debug)]
pub(crate) struct ClientBody {
    frames: VecDeque<(u64, Bytes)>,
    end: End,
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Body for ClientBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<std::io::Result<Frame<Bytes>>>> {
        let this = self.get_mut();
        let Some((delay, _)) = this.frames.front() else {
            return match this.end {
                End::Whole => Poll::Ready(None),
                End::Cut => Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into()))),
                End::Silent => Poll::Pending,
            };
        };
        let delay = Duration::from_millis(*delay);
        let wait = this.sleep.get_or_insert_with(|| Box::pin(sleep(delay)));
        std::task::ready!(wait.as_mut().poll(cx));
        this.sleep = None;
        let frame = this.frames.pop_front();
        Poll::Ready(frame.map(|(_, bytes)| Ok(Frame::data(bytes))))
    }
}

/// The content of an upload.
pub(crate) fn content(client: usize, from: u64, to: u64) -> Bytes {
    let byte =
        |at: u64| u8::try_from((client as u64 * 31 + at * 7 + at / 251) % 251).unwrap_or_default();
    (from..to).map(byte).collect()
}

#[derive(Debug)]
pub(crate) struct Client {
    number: usize,
    pub(crate) length: u64,
    pub(crate) id: Option<UploadId>,
    pub(crate) acknowledged: u64,
    knows_offset: bool,
    pub(crate) is_done: bool,
    /// The number of the current request.
    request: u64,
    pub(crate) running: Option<(usize, u64, AbortHandle)>,
}

impl Client {
    pub(crate) fn new(number: usize, random: &mut Random) -> Self {
        Self {
            number,
            length: random.between(1, MAX_LENGTH),
            id: None,
            acknowledged: 0,
            knows_offset: false,
            is_done: false,
            request: 0,
            running: None,
        }
    }

    pub(crate) fn is_current(&self, number: u64) -> bool {
        number == self.request && !self.is_done
    }

    /// Forgets the current request: its response is ignored.
    pub(crate) fn abandon(&mut self) -> Option<(usize, u64, AbortHandle)> {
        self.request += 1;
        self.knows_offset = false;
        self.running.take()
    }

    pub(crate) fn next_request(&mut self, random: &mut Random) -> SentRequest {
        self.request += 1;
        let mut sent = SentRequest {
            number: self.request,
            method: Method::POST,
            uri: "/files/".to_owned(),
            fields: vec![("upload-length", self.length.to_string())],
            frames: VecDeque::new(),
            end: End::Whole,
        };
        let Some(id) = &self.id else { return sent };
        sent.uri = format!("/files/{id}");
        sent.fields.clear();
        if !self.knows_offset {
            sent.method = Method::HEAD;
            return sent;
        }
        sent.method = Method::PATCH;
        let from = self.acknowledged;
        let left = self.length - from;
        let to = if random.chance(5000) {
            self.length
        } else {
            from + random.between(0, left) + 1
        };
        let end = match random.below(100) {
            0..6 => End::Cut,
            6..8 => End::Silent,
            _ => End::Whole,
        };
        let arrives = if end == End::Whole {
            to
        } else {
            from + random.below(to - from + 1)
        };
        let mut at = from;
        while at < arrives {
            let next = arrives.min(at + random.between(1, MAX_FRAME + 1));
            let delay = if random.chance(500) {
                random.below(3000)
            } else {
                random.below(50)
            };
            sent.frames
                .push_back((delay, content(self.number, at, next)));
            at = next;
        }
        sent.fields = vec![
            ("upload-offset", from.to_string()),
            ("content-type", "application/offset+octet-stream".to_owned()),
            ("content-length", (to - from).to_string()),
        ];
        sent
    }

    /// Returns the milliseconds until the next request, or the problem of the response.
    pub(crate) fn receive(&mut self, reply: &Reply, random: &mut Random) -> Result<u64, String> {
        self.running = None;
        let later = random.between(100, 2000);
        let Some(id) = &self.id else {
            if reply.status == 201 {
                self.id.clone_from(&reply.location);
                self.knows_offset = true;
                return Ok(random.below(50));
            }
            return Ok(later);
        };
        match (reply.status, reply.offset) {
            (200 | 204, Some(offset)) => {
                let before = self.acknowledged;
                if offset < before || offset > self.length {
                    return Err(format!(
                        "acknowledged bytes: upload {id} has offset {offset} after {before}"
                    ));
                }
                (self.acknowledged, self.knows_offset) = (offset, true);
                self.is_done = offset == self.length;
                Ok(random.below(50))
            }
            (404 | 410, _) => Err(format!("acknowledged bytes: upload {id} is gone")),
            _ => {
                self.knows_offset = false;
                Ok(later)
            }
        }
    }
}
