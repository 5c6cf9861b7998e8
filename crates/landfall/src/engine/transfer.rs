//! The hot path: from a request's body to the store.
//!
//! Frames are gathered while they are at hand and written as soon as the body has nothing more to
//! give, so that a fast client gets large writes, and a slow one holds no memory while it is silent.
//! Bytes are not copied: the frames themselves go to the store.

use std::{
    future::{Future as _, poll_fn},
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::HeaderMap;
use http_body::Body;
use tokio::sync::{Semaphore, SemaphorePermit};

use super::{BodyFault, Error, live::Live};
use crate::{
    BoxError,
    checksum::Verifier,
    hook::Reply,
    lease::{Asked, YieldSignal},
    store::Append,
};

/// The most bytes that are gathered before they are written: large enough to make a system call
/// cheap, small enough to be written while they are still in the CPU's second-level cache.
const GATHER: usize = 256 * 1024;
/// What a holder that is asked to yield still takes if it has arrived already.
const LAST_SIP: u64 = 1024 * 1024;
/// Units in which the memory budget is counted.
pub(super) const BUDGET_UNIT: usize = GATHER;

/// How the transfer of one body ended.
#[derive(Debug)]
pub(super) enum Ending {
    /// The body ended as it should.
    End(Option<HeaderMap>),
    /// The body has more bytes than the upload takes; those that fit are stored.
    Overrun,
    /// Another request wants the upload.
    Yielded,
    /// The lease is lost.
    Lost,
    /// A hook stopped the upload.
    Stopped(Reply),
    /// The connection failed.
    Failed(BodyFault),
}

/// One body on its way into the store.
pub(super) struct Transfer<'a> {
    pub(super) append: &'a mut dyn Append,
    pub(super) live: &'a Live,
    pub(super) signal: &'a YieldSignal,
    pub(super) budget: &'a Semaphore,
    /// How many bytes the upload still takes.
    pub(super) room: u64,
    /// Whether others may be told the offset before the body has ended.
    pub(super) publish: bool,
    pub(super) verifier: Verifier,
    /// Called about once per interval while bytes come in.
    pub(super) progress: Option<(Duration, &'a (dyn Fn(u64) + Sync))>,
}

enum Next {
    Frame(Bytes),
    Trailers(HeaderMap),
    Flush,
    End,
    Asked(Asked),
    Stopped(Reply),
    Failed(BoxError),
}

/// Bytes at hand that aren't written yet.
#[derive(Default)]
struct Gathered<'a> {
    chunks: Vec<Bytes>,
    bytes: usize,
    permit: Option<SemaphorePermit<'a>>,
}

/// What became of the body.
pub(super) struct Transferred {
    pub(super) ending: Ending,
    /// The checksums of the body, if one was announced.
    pub(super) verifier: Verifier,
    /// Whether bytes are on probation in the store.
    pub(super) held: bool,
    /// Bytes not written yet because they are being verified: all there are of this body.
    pub(super) unwritten: Vec<Bytes>,
}

impl<'a> Transfer<'a> {
    /// Runs until the body ends or something ends it. What arrived is written, except for a short
    /// body with a checksum, which is left to the caller to verify first.
    pub(super) async fn run<B>(mut self, body: &mut B) -> Result<Transferred, Error>
    where
        B: Body<Data = Bytes> + Unpin,
        B::Error: Into<BoxError>,
    {
        let mut gathered = Gathered::default();
        let most = self.append.write_size().min(GATHER);
        let mut trailers = None;
        let mut held = false;
        let mut yielding = false;
        let mut sip = LAST_SIP;
        let mut told = self.progress.map(|_| Instant::now());
        let signal = self.signal.wait();
        let stopped = self.live.stopped();
        tokio::pin!(signal, stopped);

        let ending = loop {
            if !yielding && let Some(asked) = self.signal.asked() {
                match asked {
                    Asked::Yield => yielding = true,
                    Asked::Lost => break Ending::Lost,
                }
            }
            // A short body with a checksum is verified before anything is written.
            let may_wait = self.verifier.is_on() && !held && !yielding;
            let next = poll_fn(|cx: &mut Context<'_>| {
                if gathered.bytes >= most {
                    return Poll::Ready(Next::Flush);
                }
                match Pin::new(&mut *body).poll_frame(cx) {
                    Poll::Ready(None) => return Poll::Ready(Next::End),
                    Poll::Ready(Some(Err(error))) => {
                        return Poll::Ready(Next::Failed(error.into()));
                    }
                    Poll::Ready(Some(Ok(frame))) => {
                        return Poll::Ready(match frame.into_data() {
                            Ok(data) => Next::Frame(data),
                            Err(frame) => Next::Trailers(frame.into_trailers().unwrap_or_default()),
                        });
                    }
                    Poll::Pending => {}
                }
                if yielding {
                    return Poll::Ready(Next::Asked(Asked::Yield));
                }
                if gathered.bytes > 0 && !may_wait {
                    return Poll::Ready(Next::Flush);
                }
                if let Poll::Ready(asked) = signal.as_mut().poll(cx) {
                    return Poll::Ready(Next::Asked(asked));
                }
                stopped.as_mut().poll(cx).map(Next::Stopped)
            })
            .await;

            match next {
                Next::Frame(data) if data.is_empty() => {}
                Next::Frame(mut data) => {
                    let overrun = data.len() as u64 > self.room;
                    if overrun {
                        data.truncate(usize::try_from(self.room).unwrap_or(usize::MAX));
                    }
                    self.room -= data.len() as u64;
                    if yielding {
                        sip = sip.saturating_sub(data.len() as u64);
                    }
                    if gathered.permit.is_none() {
                        gathered.permit = match self.budget.try_acquire() {
                            Ok(permit) => Some(permit),
                            // Out of memory to lend: what would wait for its checksum is written
                            // now, everything else waits for its turn.
                            Err(_) if may_wait => {
                                self.append.hold().await?;
                                held = true;
                                None
                            }
                            Err(_) => self.budget.acquire().await.ok(),
                        };
                    }
                    gathered.bytes += data.len();
                    if !data.is_empty() {
                        gathered.chunks.push(data);
                    }
                    if overrun {
                        break Ending::Overrun;
                    }
                    if yielding && sip == 0 {
                        break Ending::Yielded;
                    }
                }
                Next::Flush => {
                    if self.verifier.is_on() && !held {
                        self.append.hold().await?;
                        held = true;
                    }
                    self.flush(&mut gathered, held).await?;
                    if let (Some((interval, tell)), Some(at)) = (self.progress, &mut told)
                        && at.elapsed() >= interval
                    {
                        *at = Instant::now();
                        tell(self.live.received());
                    }
                }
                Next::Trailers(fields) => trailers = Some(fields),
                Next::End => break Ending::End(trailers),
                Next::Asked(Asked::Yield) if yielding => break Ending::Yielded,
                // One more look at what has arrived, then go.
                Next::Asked(Asked::Yield) => yielding = true,
                Next::Asked(Asked::Lost) => break Ending::Lost,
                Next::Stopped(reply) => break Ending::Stopped(reply),
                Next::Failed(error) => break Ending::Failed(BodyFault::classify(&*error)),
            }
        };

        let mut unwritten = Vec::new();
        if matches!(ending, Ending::Lost) {
            gathered = Gathered::default();
        }
        if self.verifier.is_on() && !held {
            for chunk in &gathered.chunks {
                self.verifier.update(chunk);
            }
            unwritten = std::mem::take(&mut gathered.chunks);
        } else if gathered.bytes > 0 {
            self.flush(&mut gathered, held).await?;
        }
        Ok(Transferred {
            ending,
            verifier: self.verifier,
            held,
            unwritten,
        })
    }

    async fn flush(&mut self, gathered: &mut Gathered<'_>, held: bool) -> Result<(), Error> {
        if self.verifier.is_on() {
            for chunk in &gathered.chunks {
                self.verifier.update(chunk);
            }
        }
        self.append.write(&mut gathered.chunks).await?;
        gathered.bytes = 0;
        gathered.permit = None;
        self.live.receive(self.append.offset());
        if self.publish
            && !held
            && let Some(offset) = self.append.readable()
        {
            self.live.publish(offset);
        }
        Ok(())
    }
}
