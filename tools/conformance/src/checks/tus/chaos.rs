//! Random interruptions and simultaneous requests, reproducible by `--seed`. Runs only with `--chaos`.

use std::time::Duration;

use futures_util::future::{join_all, try_join};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use tokio::time::sleep;
use url::Url;

use super::recovery::is_temporary;
use crate::client::{Connection, Content, chunk};
use crate::context::{Context, UPLOAD_DATA, test_data};
use crate::requirement::{CheckResult, ensure};

const CHAOS: &str = "Core Protocol, PATCH and HEAD";
const LENGTH: usize = 512 << 10;
/// Interruptions of one upload.
const ROUNDS: usize = 60;

checks! {
    Must "tus/chaos/closed-connections", CHAOS,
        "An upload that was interrupted by closed connections at random bytes is right." => interrupted(&[Fault::Close]);
    Must "tus/chaos/reset-connections", CHAOS,
        "An upload that was interrupted by reset connections at random bytes is right." => interrupted(&[Fault::Reset]);
    Must "tus/chaos/half-closed-connections", CHAOS,
        "An upload that was interrupted by half-closed connections is right." => interrupted(&[Fault::HalfClose]);
    Must "tus/chaos/stalled-connections", CHAOS,
        "An upload whose connections stall while others continue is right." => interrupted(&[Fault::Stall, Fault::Close]);
    Must "tus/chaos/cut-chunks", CHAOS,
        "An upload whose chunks end at random bytes is right." => interrupted(&[Fault::CutChunk]);
    Must "tus/chaos/mixed-faults", CHAOS,
        "An upload with interruptions of all kinds is right." => interrupted(Fault::ALL);
    Must "tus/chaos/many-uploads", CHAOS,
        "Simultaneous uploads with interruptions of all kinds are right." => many_uploads;
    Must "tus/chaos/simultaneous-writers", CHAOS,
        "An upload that several clients continue at the same time is right." => simultaneous_writers;
    Must "tus/chaos/duplicate-requests", CHAOS,
        "An upload whose requests are all sent twice is right." => duplicate_requests;
    Must "tus/chaos/head-storm", CHAOS,
        "During hundreds of HEAD requests, the offset never goes back, and the upload becomes right." => head_storm;
    Should "tus/chaos/interrupted-creations", "Creation, POST",
        "After a hundred interrupted creations, the server still accepts uploads." => interrupted_creations;
    Should "tus/chaos/random-bytes", "RFC 9112, 2.2 Message Parsing",
        "After connections with random bytes, the server still accepts uploads." => random_bytes;
    Should "tus/chaos/terminations", "Termination, DELETE", [Termination],
        "An upload that is removed at a random moment of a PATCH stays removed." => terminations;
    Must "tus/chaos/interrupted-checksums", "Checksum", [Checksum],
        "An upload whose requests with checksums are interrupted or damaged is right." => interrupted_checksums;
}

/// The end of a request before that of its body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    Close,
    Reset,
    HalfClose,
    /// The connection stays open until the next but one request.
    Stall,
    CutChunk,
}

impl Fault {
    const ALL: &[Self] = &[
        Self::Close,
        Self::Reset,
        Self::HalfClose,
        Self::Stall,
        Self::CutChunk,
    ];
}

/// An upload and the highest offset that the server has acknowledged.
struct Observed<'a> {
    c: &'a Context,
    url: Url,
    data: Vec<u8>,
    acknowledged: u64,
    rounds: usize,
    stalled: Option<Connection>,
}

impl<'a> Observed<'a> {
    async fn create(c: &'a Context) -> CheckResult<Self> {
        c.needs_size(LENGTH as u64)?;
        Ok(Self {
            c,
            url: c.create(LENGTH as u64).await?,
            data: test_data(LENGTH),
            acknowledged: 0,
            rounds: ROUNDS,
            stalled: None,
        })
    }

    /// Returns the offset by HEAD; none if the upload is locked.
    async fn offset(&mut self) -> CheckResult<Option<usize>> {
        let head = self.c.send(self.c.tus("HEAD", &self.url)).await?;
        if is_temporary(head.status) {
            sleep(Duration::from_millis(100)).await;
            return Ok(None);
        }
        head.expect_success()?;
        let offset = head.number("Upload-Offset")?;
        ensure!(
            offset >= self.acknowledged,
            "the offset is {offset}, after {} was acknowledged",
            self.acknowledged
        )?;
        ensure!(
            offset <= LENGTH as u64,
            "the offset is {offset}, the length {LENGTH}"
        )?;
        self.acknowledged = offset;
        Ok(usize::try_from(offset).ok())
    }

    /// Returns the offset for one more round; none after the last one, or if the upload is complete.
    async fn next_offset(&mut self) -> CheckResult<Option<usize>> {
        while self.rounds > 0 {
            self.rounds -= 1;
            match self.offset().await? {
                None => {}
                Some(LENGTH) => break,
                offset => return Ok(offset),
            }
        }
        Ok(None)
    }

    /// Sends a part of the rest, and ends the request with a fault.
    async fn interrupt(&mut self, offset: usize, fault: Fault, random: &mut StdRng) -> CheckResult {
        let rest = &self.data[offset..];
        let sent = random.random_range(0..=rest.len().min(LENGTH * 2 / ROUNDS));
        let request = self.c.patch(&self.url, offset as u64, b"");
        let mut connection = self.c.connect(&self.url).await?;
        let (content, body) = match fault {
            Fault::CutChunk => {
                let mut encoded = chunk(rest);
                encoded.truncate(sent);
                (Content::DeclaredChunked, encoded)
            }
            _ => (Content::Declared(rest.len() as u64), rest[..sent].to_vec()),
        };
        // The server may reject a request that overlaps with the one before.
        let _ = connection.send_head(&request.content(content)).await;
        let _ = connection.write(&body).await;
        sleep(Duration::from_millis(random.random_range(0..20))).await;
        match fault {
            Fault::Close | Fault::CutChunk => connection.close(),
            Fault::Reset => connection.reset(),
            Fault::HalfClose => {
                let _ = connection.half_close().await;
                let _ = connection.response_within(Duration::from_millis(200)).await;
            }
            Fault::Stall => self.stalled = Some(connection),
        }
        Ok(())
    }

    async fn finish(mut self) -> CheckResult {
        self.stalled = None;
        self.c.resume(&self.url, &self.data).await?;
        self.c.expect_offset(&self.url, LENGTH as u64).await?;
        self.c.expect_bytes(&self.url, &self.data).await
    }
}

async fn with_faults(c: &Context, faults: &[Fault], mut random: StdRng) -> CheckResult {
    let mut upload = Observed::create(c).await?;
    while let Some(offset) = upload.next_offset().await? {
        let fault = faults[random.random_range(0..faults.len())];
        upload.interrupt(offset, fault, &mut random).await?;
    }
    upload.finish().await
}

async fn interrupted(c: &Context, faults: &[Fault]) -> CheckResult {
    with_faults(c, faults, c.random()).await
}

async fn many_uploads(c: &Context) -> CheckResult {
    let mut random = c.random();
    let uploads = (0..8).map(|_| with_faults(c, Fault::ALL, random.fork()));
    let uploads: Vec<_> = uploads.collect();
    join_all(uploads).await.into_iter().collect()
}

async fn simultaneous_writers(c: &Context) -> CheckResult {
    let mut random = c.random();
    let mut upload = Observed::create(c).await?;
    while let Some(offset) = upload.next_offset().await? {
        let rest = &upload.data[offset..];
        let writers: Vec<_> = (0..4)
            .map(|_| {
                let length = random.random_range(1..=rest.len().min(LENGTH / 20));
                c.patch(&upload.url, offset as u64, &rest[..length])
            })
            .collect();
        let responses = join_all(writers.iter().map(|request| c.client.send(request))).await;
        for response in responses.into_iter().flatten() {
            ensure!(
                matches!(response.status, 200..=499 | 503),
                "the status is {}",
                response.status
            )?;
        }
    }
    upload.finish().await
}

async fn duplicate_requests(c: &Context) -> CheckResult {
    let mut upload = Observed::create(c).await?;
    while let Some(offset) = upload.next_offset().await? {
        let rest = &upload.data[offset..];
        let piece = &rest[..rest.len().min(LENGTH / 30)];
        let request = c.patch(&upload.url, offset as u64, piece);
        let both = [c.client.send(&request), c.client.send(&request)];
        join_all(both).await;
    }
    upload.finish().await
}

async fn head_storm(c: &Context) -> CheckResult {
    let upload = Observed::create(c).await?;
    let polled = (0..4).map(|_| c.watch_growth(&upload.url, 100));
    let polls = async { join_all(polled).await.into_iter().collect::<CheckResult>() };
    let resumed = c.resume(&upload.url, &upload.data);
    try_join(polls, resumed).await?;
    upload.finish().await
}

async fn expect_usable(c: &Context) -> CheckResult {
    let url = c.complete(b"hello").await?;
    c.expect_offset(&url, 5).await?;
    c.expect_bytes(&url, b"hello").await
}

async fn interrupted_creations(c: &Context) -> CheckResult {
    let mut random = c.random();
    for _ in 0..100 {
        let mut connection = c.connect(c.endpoint()).await?;
        let request = c
            .post()
            .field("Upload-Length", 5000)
            .field("Content-Type", UPLOAD_DATA);
        connection
            .send_head(&request.content(Content::Declared(5000)))
            .await?;
        let sent = random.random_range(0..5000);
        let _ = connection.write(&test_data(sent)).await;
        match random.random_bool(0.5) {
            true => connection.reset(),
            false => connection.close(),
        }
    }
    expect_usable(c).await
}

async fn random_bytes(c: &Context) -> CheckResult {
    let mut random = c.random();
    for _ in 0..100 {
        let mut connection = c.connect(c.endpoint()).await?;
        let length = random.random_range(1..2000);
        let bytes: Vec<u8> = std::iter::repeat_with(|| random.random())
            .take(length)
            .collect();
        let _ = connection.write(&bytes).await;
        connection.close();
    }
    expect_usable(c).await
}

async fn terminations(c: &Context) -> CheckResult {
    let mut random = c.random();
    for _ in 0..20 {
        let url = c.create(10_000).await?;
        let mut connection = c.connect(&url).await?;
        let request = c.patch(&url, 0, b"").content(Content::Declared(10_000));
        connection.send_head(&request).await?;
        let _ = connection
            .write(&test_data(random.random_range(0..10_000)))
            .await;
        sleep(Duration::from_millis(random.random_range(0..20))).await;
        let response = c.send(c.tus("DELETE", &url)).await?;
        let _ = connection.write(&test_data(5000)).await;
        connection.close();
        if response.status == 204 {
            c.send(c.tus("HEAD", &url)).await?.expect(&[404, 410])?;
        }
    }
    expect_usable(c).await
}

async fn interrupted_checksums(c: &Context) -> CheckResult {
    let mut random = c.random();
    let mut upload = Observed::create(c).await?;
    while let Some(offset) = upload.next_offset().await? {
        let rest = &upload.data[offset..];
        let piece = &rest[..rest.len().min(LENGTH / 30)];
        let checksum = super::checksum::value("sha1", piece)?;
        let request = c.patch(&upload.url, offset as u64, piece);
        let request = request.field("Upload-Checksum", checksum);
        match random.random_range(0..3) {
            0 => {
                let mut connection = c.connect(&upload.url).await?;
                connection.send_head(&request).await?;
                let _ = connection.write(&piece[..piece.len() / 2]).await;
                connection.close();
            }
            1 => {
                let mut damaged = piece.to_vec();
                damaged[0] ^= 1;
                let response = c.send(request.body(damaged)).await?;
                ensure!(!response.is_success(), "damaged data was accepted")?;
            }
            _ => {
                let response = c.send(request).await?;
                if response.status != 409 && !is_temporary(response.status) {
                    response.expect_success()?;
                }
            }
        }
    }
    upload.finish().await
}
