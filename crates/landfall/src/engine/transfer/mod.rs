//! The hot path: from a request's body to the store.
//!
//! Frames are batched while the body has more ready, and written when it has not. A fast client gets
//! large writes, and a slow one holds no memory while it is silent. Bytes are not copied: the frames
//! themselves are written. Only a short body with a checksum waits in memory for its verification; after
//! a timeout, or without memory, its bytes are written unverified.

mod batch;

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::HeaderMap;
use landfall_protocol::Problem;
use tokio::time::{Sleep, sleep};

use self::batch::BATCH_BYTES;
pub(super) use self::batch::{Memory, WriteBatch};
use super::{
    Error, RequestBodyError,
    live::{LiveUpload, WriterRequest},
    verifier::Verifier,
};
use crate::{
    BoxError,
    hook::ClientResponse,
    lease::{YieldReason, YieldSignal},
    request_body::RequestBody,
    store::{Append, now_or_later},
    upload::Upload,
};

/// A box, so that references to it are small: futures have several.
pub(crate) type BoxedObserver<'a> = Box<dyn TransferObserver + 'a>;

/// Follows what a request has stored, before its response.
pub(crate) trait TransferObserver: Send + Sync {
    /// The upload of a creation exists, and its content has not been read.
    fn created(&self, upload: &Upload);

    /// The bytes before `offset` are stored, and HEAD reports them.
    fn stored(&self, offset: u64);
}

/// The time for which unverified bytes wait in memory for the rest of their body.
const UNVERIFIED_TIMEOUT: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) enum Interruption {
    /// The body is longer than the upload accepts. Bytes that were not published are discarded.
    Overrun,
    /// The body is longer than one request may be; the bytes that fit are stored.
    TooLarge,
    Yielded,
    Lost,
    Stopped(Box<ClientResponse>),
    Evicted,
    Connection(RequestBodyError),
    Checksum(Problem),
}

pub(super) type TransferOutcome = Result<Option<Box<HeaderMap>>, Interruption>;

pub(super) struct Transfer<'a> {
    pub(super) append: Box<dyn Append>,
    pub(super) live: &'a LiveUpload,
    pub(super) signal: &'a YieldSignal,
    pub(super) remaining: u64,
    /// True if `remaining` limits the request, and not the upload.
    pub(super) limits_request: bool,
    /// True if the byte that completes the upload is written only after the end of the body. More data would
    /// revoke it, so other processes must not see it before, even after a crash.
    pub(super) holds_last: bool,
    pub(super) timeout: Option<Duration>,
    pub(super) publish: bool,
    pub(super) observer: Option<&'a BoxedObserver<'a>>,
    pub(super) verifier: Verifier,
    pub(super) is_staged: bool,
    /// After [`run`](Self::run): all bytes of a short body that must be verified before they are written.
    pub(super) batch: WriteBatch<'a>,
}

enum TransferEvent {
    Frame(Bytes),
    Trailers(Box<HeaderMap>),
    Flush,
    WaitedLong,
    End,
    Interrupt(WriterRequest),
    Failed(BoxError),
}

impl Transfer<'_> {
    /// Runs until the body ends or is interrupted. Received bytes are written, with two exceptions: a
    /// short body with a checksum, which the caller verifies first, and the current batch when another
    /// request takes over.
    pub(super) async fn run<B: RequestBody + Unpin>(
        &mut self,
        body: &mut B,
    ) -> Result<TransferOutcome, Error> {
        let outcome = self.read_body(body).await?;
        self.conclude(outcome).await
    }

    /// A separate function, so that its timers take no memory afterwards.
    async fn read_body<B: RequestBody + Unpin>(
        &mut self,
        body: &mut B,
    ) -> Result<TransferOutcome, Error> {
        let (live, signal) = (self.live, self.signal);
        let max_bytes = self.append.write_size().min(BATCH_BYTES);
        let mut trailers = None;
        let mut last = None;
        let mut deadline: Option<Pin<Box<Sleep>>> = None;
        let mut answered = 0;
        // Boxed, and created when the client is waited for: most requests have their body by then.
        let mut interrupts = None;
        let mut timer = None;

        let outcome = loop {
            let requested = signal.state();
            if requested > answered {
                // Unpublished bytes do not prove that the request is outdated.
                let offset = if self.publish {
                    self.append.offset()
                } else {
                    0
                };
                match signal.reason_at(offset) {
                    Some(YieldReason::LeaseLost) => break Err(Interruption::Lost),
                    Some(YieldReason::Requested) => break Err(Interruption::Yielded),
                    None => {}
                }
                // The request finds this offset in the store and fails.
                answered = requested;
                interrupts = None;
                live.publish_commit(self.append.commit().await?);
            }
            if live.must_end()
                && let Some(request) = live.take_request()
            {
                break Err(interruption(request));
            }
            let event = poll_fn(|cx: &mut Context<'_>| {
                if self.batch.is_full(max_bytes) {
                    return Poll::Ready(TransferEvent::Flush);
                }
                if let Poll::Ready(event) = poll_body(body, cx) {
                    live.set_waiting(false);
                    return Poll::Ready(event);
                }
                if !self.batch.frames().is_empty() {
                    return Poll::Ready(TransferEvent::Flush);
                }
                live.set_waiting(true);
                if let Some(deadline) = &mut deadline
                    && deadline.as_mut().poll(cx).is_ready()
                {
                    return Poll::Ready(TransferEvent::WaitedLong);
                }
                let waits = interrupts.get_or_insert_with(|| interrupt(signal, live, answered));
                if let Poll::Ready(interrupt) = waits.as_mut().poll(cx) {
                    return Poll::Ready(TransferEvent::Interrupt(interrupt));
                }
                match self.timeout {
                    Some(limit) => poll_timeout(&mut timer, limit, live, cx),
                    None => Poll::Pending,
                }
            })
            .await;

            let mut interrupted = None;
            match event {
                TransferEvent::Frame(data) if data.is_empty() => {}
                TransferEvent::Frame(mut data) => {
                    let is_overrun = data.len() as u64 > self.remaining;
                    if is_overrun {
                        data.truncate(usize::try_from(self.remaining).unwrap_or(usize::MAX));
                    }
                    self.remaining -= data.len() as u64;
                    if !self.batch.try_permit() {
                        let waits =
                            interrupts.get_or_insert_with(|| interrupt(signal, live, answered));
                        interrupted = self.batch.permit_or(waits.as_mut()).await;
                    }
                    if is_overrun {
                        self.batch.push(data);
                        break Err(match self.limits_request {
                            true => Interruption::TooLarge,
                            false => Interruption::Overrun,
                        });
                    }
                    if self.remaining == 0 && self.holds_last && !self.limits_request {
                        last = data.split_off(data.len() - 1).first().copied();
                    }
                    self.batch.push(data);
                }
                TransferEvent::Flush
                    if self.verifier.is_on() && !self.is_staged && self.batch.can_pack() =>
                {
                    self.hash();
                    self.batch.pack();
                    live.touch();
                    deadline.get_or_insert_with(|| Box::pin(sleep(UNVERIFIED_TIMEOUT)));
                }
                TransferEvent::Flush | TransferEvent::WaitedLong => {
                    deadline = None;
                    if self.verifier.is_on() && !self.is_staged {
                        self.append.begin_unverified().await?;
                        self.is_staged = true;
                    }
                    if !self.flush().await? {
                        break Err(Interruption::Yielded);
                    }
                }
                TransferEvent::Trailers(fields) => trailers = Some(fields),
                TransferEvent::End => break Ok(trailers),
                TransferEvent::Interrupt(interrupt) => interrupted = Some(interrupt),
                TransferEvent::Failed(error) => {
                    break Err(match RequestBodyError::classify(&*error) {
                        RequestBodyError::TooLarge => Interruption::TooLarge,
                        fault => {
                            if fault == RequestBodyError::Failed {
                                tracing::info!(%error, "the body of a request failed");
                            }
                            Interruption::Connection(fault)
                        }
                    });
                }
            }
            match interrupted {
                None => {}
                Some(WriterRequest::Commit) => {
                    interrupts = None;
                    if self.publish {
                        live.publish_commit(self.append.commit().await?);
                    }
                }
                // The signal's state is checked against the offset in the next iteration.
                Some(WriterRequest::Lease) => interrupts = None,
                Some(other) => break Err(interruption(other)),
            }
        };
        if let Some(last) = last
            && !matches!(outcome, Err(Interruption::Overrun))
        {
            self.batch.push(Bytes::copy_from_slice(&[last]));
        }
        Ok(outcome)
    }

    async fn conclude(&mut self, outcome: TransferOutcome) -> Result<TransferOutcome, Error> {
        match outcome {
            // The next holder continues at the published offset.
            Err(Interruption::Lost | Interruption::Yielded) => self.batch.clear(Vec::new()),
            _ if self.verifier.is_on() && !self.is_staged => self.hash(),
            _ if self.batch.frames().is_empty() => {}
            _ if self.flush().await? => {}
            _ => return Ok(Err(Interruption::Yielded)),
        }
        Ok(outcome)
    }

    fn hash(&mut self) {
        if self.verifier.is_on() {
            for frame in self.batch.frames() {
                self.verifier.update(frame);
            }
        }
    }

    /// Returns false, without writing, if another request has taken over.
    async fn flush(&mut self) -> Result<bool, Error> {
        self.hash();
        if !self.live.start_write() {
            return Ok(false);
        }
        let mut bytes = self.batch.take();
        let append = &mut self.append;
        now_or_later!(append.write_now(&mut bytes), append.write(&mut bytes))?;
        self.batch.clear(bytes);
        if self.publish
            && let Some(offset) = self.append.readable()
        {
            self.live.publish(offset);
            if let Some(observer) = self.observer {
                self.live.record_told(offset);
                observer.stored(offset);
            }
        }
        // Unverified bytes do not count yet.
        self.live.end_write(self.append.offset(), !self.is_staged);
        Ok(true)
    }
}

fn poll_body<B: RequestBody + Unpin>(body: &mut B, cx: &mut Context<'_>) -> Poll<TransferEvent> {
    Pin::new(body).poll_frame(cx).map(|frame| match frame {
        None => TransferEvent::End,
        Some(Err(error)) => TransferEvent::Failed(error.into()),
        Some(Ok(frame)) => match frame.into_data() {
            Ok(data) => TransferEvent::Frame(data),
            Err(frame) => {
                TransferEvent::Trailers(Box::new(frame.into_trailers().unwrap_or_default()))
            }
        },
    })
}

/// The timer is not reset for each frame: when it fires, it is set again for the remaining time.
fn poll_timeout(
    timer: &mut Option<Pin<Box<Sleep>>>,
    limit: Duration,
    live: &LiveUpload,
    cx: &mut Context<'_>,
) -> Poll<TransferEvent> {
    let timer = timer.get_or_insert_with(|| Box::pin(sleep(limit)));
    loop {
        ready!(timer.as_mut().poll(cx));
        let silent = live.silent_for();
        if silent >= limit {
            return Poll::Ready(TransferEvent::Failed(RequestBodyError::Timeout.into()));
        }
        timer.set(sleep(limit - silent));
    }
}

fn interruption(request: WriterRequest) -> Interruption {
    match request {
        WriterRequest::Stop(reply) => Interruption::Stopped(reply),
        WriterRequest::Evict => Interruption::Evicted,
        WriterRequest::ShutDown => Interruption::Connection(RequestBodyError::ShuttingDown),
        WriterRequest::TakeOver | WriterRequest::Commit | WriterRequest::Lease => {
            Interruption::Yielded
        }
    }
}

/// Lease requests up to the signal state `answered` are ignored.
fn interrupt<'a>(
    signal: &'a YieldSignal,
    live: &'a LiveUpload,
    answered: u64,
) -> Pin<Box<impl Future<Output = WriterRequest> + 'a>> {
    Box::pin(async move {
        tokio::select! {
            biased;
            request = live.next_request() => request,
            _ = signal.wait_above(answered) => WriterRequest::Lease,
        }
    })
}
