//! The requests of the draft that checks share.

use std::time::Duration;

use tokio::time::sleep;
use url::Url;

use crate::client::{Connection, Content, INTEROP_VERSION, Request, Response};
use crate::context::{Context, test_data};
use crate::dialect::Dialect;
use crate::dialect::fields::{Limits, boolean, digest_field, expect_digest, integer};
use crate::requirement::{CheckResult, Finding, ensure, equal, fail, skip};

/// The media type of the content of an append.
pub(super) const PARTIAL_UPLOAD: &str = "application/partial-upload";

/// The time in which a server processes what it has received.
pub(super) const SETTLE: Duration = Duration::from_millis(150);

/// The time in which a server has to send an interim response.
pub(super) const INTERIM: Duration = Duration::from_secs(2);

const HEAD_RETRIES: usize = 3;
const HEAD_RETRY_DELAY: Duration = Duration::from_secs(1);

/// The state of an upload, as HEAD reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct State {
    pub(super) offset: u64,
    /// Optional from version 10 on.
    pub(super) is_complete: Option<bool>,
    /// Optional from version 10 on.
    pub(super) length: Option<u64>,
}

/// A connection whose request is not complete.
pub(super) struct PendingRequest {
    pub(super) connection: Connection,
    /// The interim responses so far.
    pub(super) interim: Vec<Response>,
}

/// The means of a check of the draft.
pub(super) struct Draft<'a> {
    pub(super) context: &'a Context,
    pub(super) dialect: &'a Dialect,
}

impl<'a> Draft<'a> {
    /// Detects the version of the server, once per run.
    pub(super) async fn new(context: &'a Context) -> CheckResult<Self> {
        let detect = || Dialect::detect(&context.client, &context.options);
        match context.draft.get_or_init(detect).await {
            Ok(dialect) => Ok(Self { context, dialect }),
            Err(finding) => Err(finding.clone()),
        }
    }

    /// Skips the check unless the rules of one of these versions apply.
    pub(super) fn needs_version(&self, versions: impl std::ops::RangeBounds<u8>) -> CheckResult {
        match versions.contains(&self.dialect.version) {
            true => Ok(()),
            false => skip(format!(
                "interop version {} has no such rule",
                self.dialect.version
            )),
        }
    }

    pub(super) const fn limits(&self) -> &Limits {
        &self.dialect.limits
    }

    /// Returns bytes of some units for an upload, or skips the check if the limits do not allow it.
    pub(super) fn data(&self, units: u64) -> CheckResult<Vec<u8>> {
        self.sized(units * self.dialect.unit())
    }

    /// Returns bytes for an upload, or skips the check if the limits do not allow it.
    pub(super) fn sized(&self, size: u64) -> CheckResult<Vec<u8>> {
        self.context.needs_size(size)?;
        for key in ["max-size", "max-append-size"] {
            let limit = self.limits().get(key).unwrap_or(u64::MAX);
            if size > limit {
                let reason = format!("needs contents of {size} bytes, and {key} is {limit}");
                return skip(reason);
            }
        }
        let size = usize::try_from(size).map_err(|_| Finding::skipped("needs more memory"))?;
        Ok(test_data(size))
    }

    pub(super) fn unit(&self) -> usize {
        // Limits above what `sized` allows skip the check.
        usize::try_from(self.dialect.unit()).unwrap_or(usize::MAX)
    }

    /// A request that names the version.
    pub(super) fn request(&self, method: &str, url: &Url) -> Request {
        self.dialect.name(Request::new(method, url))
    }

    pub(super) async fn send(&self, request: Request) -> CheckResult<Response> {
        self.context.send(request).await
    }

    /// A creation with data of the whole upload or of its first part.
    pub(super) fn creation(&self, data: &[u8], is_last: bool) -> Request {
        let request = self.request("POST", self.context.endpoint());
        self.dialect.flag(request, is_last).body(data)
    }

    /// Creates an empty upload of a known length.
    pub(super) async fn create(&self, length: usize) -> CheckResult<Url> {
        let request = self.creation(b"", false).field("Upload-Length", length);
        self.created(request).await
    }

    /// Creates an empty upload of unknown length.
    pub(super) async fn create_deferred(&self) -> CheckResult<Url> {
        self.created(self.creation(b"", false)).await
    }

    /// Creates an empty upload for this data. A server that verifies digests verifies the whole.
    pub(super) async fn create_for(&self, data: &[u8]) -> CheckResult<Url> {
        let request = self.creation(b"", false).field("Upload-Length", data.len());
        let request = request.field("Repr-Digest", digest_field(data)?);
        self.created(request).await
    }

    /// Creates an upload with its first bytes.
    pub(super) async fn create_with(&self, data: &[u8], stored: usize) -> CheckResult<Url> {
        let url = self.create_for(data).await?;
        if stored > 0 {
            self.part(&url, 0, &data[..stored]).await?;
        }
        Ok(url)
    }

    /// Creates a complete upload in two requests.
    pub(super) async fn complete(&self, data: &[u8]) -> CheckResult<Url> {
        let url = self.create_for(data).await?;
        self.last(&url, 0, data).await?;
        Ok(url)
    }

    /// Sends a creation of a part, which has to succeed, and returns the URL of the upload.
    pub(super) async fn created(&self, request: Request) -> CheckResult<Url> {
        let response = self.send(request).await?;
        self.context.location(&response)
    }

    /// An append.
    pub(super) fn append(&self, url: &Url, offset: usize, data: &[u8], is_last: bool) -> Request {
        let request = self.request("PATCH", url);
        let request = self.dialect.flag(request, is_last);
        let request = request.field("Upload-Offset", offset);
        request.field("Content-Type", PARTIAL_UPLOAD).body(data)
    }

    /// Sends the data after a 100, which has to succeed. Returns false after a final response without 100, which is
    /// allowed.
    pub(super) async fn send_after_continue(
        &self,
        request: Request,
        data: &[u8],
    ) -> CheckResult<bool> {
        let request = request.field("Expect", "100-continue");
        let declared = Content::Declared(data.len() as u64);
        let mut connection = self.start(request, declared, b"").await?;
        let limit = self.context.options.timeout;
        loop {
            match connection.interim_within(limit).await?.status {
                100 => break,
                101..=199 => {}
                _ => return Ok(false),
            }
        }
        connection.finish(data).await?.expect_success()?;
        Ok(true)
    }

    /// Appends data that is not the last, which has to succeed.
    pub(super) async fn part(
        &self,
        url: &Url,
        offset: usize,
        data: &[u8],
    ) -> CheckResult<Response> {
        let response = self.send(self.append(url, offset, data, false)).await?;
        response.expect_success()?;
        Ok(response)
    }

    /// Appends the last data, which has to complete the upload.
    pub(super) async fn last(
        &self,
        url: &Url,
        offset: usize,
        data: &[u8],
    ) -> CheckResult<Response> {
        let response = self.send(self.append(url, offset, data, true)).await?;
        response.expect_success()?;
        Ok(response)
    }

    /// Resumes the upload at the offset that HEAD reports, and completes it.
    pub(super) async fn resume(&self, url: &Url, data: &[u8]) -> CheckResult {
        let state = self.state(url).await?;
        let offset = usize::try_from(state.offset).unwrap_or(usize::MAX);
        ensure!(
            offset <= data.len(),
            "the offset is {offset}, and the upload has {} bytes",
            data.len()
        )?;
        let request = self.append(url, offset, &data[offset..], true);
        let response = self
            .send(request.field("Want-Repr-Digest", "sha-256=10"))
            .await?;
        response.expect_success()?;
        expect_digest(&response, data)?;
        self.expect_state_if_there(url, data.len()).await?;
        self.expect_bytes(url, data).await
    }

    /// Fails if the server has downloads, and other bytes than these. Downloads are no part of the draft, in which GET
    /// reports the offset.
    async fn expect_bytes(&self, url: &Url, expected: &[u8]) -> CheckResult {
        if !self.context.options.downloads {
            return Ok(());
        }
        let response = self.send(Request::new("GET", url)).await?;
        if response.status != 200 || response.field("Upload-Offset").is_some() {
            return Ok(());
        }
        ensure!(
            response.body == expected,
            "the download has {} bytes, not the {} that were sent, or others",
            response.body.len(),
            expected.len()
        )
    }

    /// Sends HEAD. A server that is not ready yet responds with 423, 429 or 503, and gets some more attempts.
    pub(super) async fn inspect(&self, url: &Url) -> CheckResult<Response> {
        let mut response = self.send(self.request("HEAD", url)).await?;
        for _ in 0..HEAD_RETRIES {
            if !matches!(response.status, 423 | 429 | 503) {
                break;
            }
            sleep(HEAD_RETRY_DELAY).await;
            response = self.send(self.request("HEAD", url)).await?;
        }
        Ok(response)
    }

    /// Sends HEAD, which has to succeed.
    pub(super) async fn head(&self, url: &Url) -> CheckResult<Response> {
        let response = self.inspect(url).await?.success()?;
        Ok(response)
    }

    pub(super) async fn state(&self, url: &Url) -> CheckResult<State> {
        let response = self.head(url).await?;
        self.state_of(&response)
    }

    pub(super) fn state_of(&self, response: &Response) -> CheckResult<State> {
        let offset = integer(response, "Upload-Offset")?;
        let missing = || Finding::failed("the response to HEAD has no Upload-Offset");
        Ok(State {
            offset: offset.ok_or_else(missing)?,
            is_complete: self.is_complete(response)?,
            length: integer(response, "Upload-Length")?,
        })
    }

    /// Returns what a response states about completeness.
    pub(super) fn is_complete(&self, response: &Response) -> CheckResult<Option<bool>> {
        let flag = boolean(response, self.dialect.flag_name())?;
        Ok(flag.map(|flag| flag == (self.dialect.version > 3)))
    }

    /// Fails unless the response states that the upload is complete, or is not.
    pub(super) fn expect_flag(&self, response: &Response, expected: bool) -> CheckResult {
        let name = self.dialect.flag_name();
        match self.is_complete(response)? {
            Some(flag) if flag == expected => Ok(()),
            Some(_) => fail(format!("{name} has the wrong value")),
            None => fail(format!("the response has no {name}")),
        }
    }

    /// Fails unless a response has `Upload-Limit`, if there are limits.
    pub(super) fn expect_limits(&self, response: &Response, name: &str) -> CheckResult {
        let limits = Limits::parse(response)?;
        ensure!(
            limits.is_some() || !self.limits().limits_anything(),
            "{name} has no Upload-Limit, but OPTIONS reports limits"
        )
    }

    pub(super) async fn expect_offset(&self, url: &Url, expected: usize) -> CheckResult {
        let offset = self.state(url).await?.offset;
        equal("Upload-Offset", offset, expected as u64)?;
        Ok(())
    }

    /// Fails if the upload is there and not complete. Servers may remove complete uploads.
    pub(super) async fn expect_state_if_there(&self, url: &Url, length: usize) -> CheckResult {
        let response = self.inspect(url).await?;
        if matches!(response.status, 404 | 410) {
            return Ok(());
        }
        response.expect_success()?;
        let state = self.state_of(&response)?;
        let is_complete = state.is_complete.unwrap_or(true);
        ensure!(
            state.offset == length as u64 && is_complete,
            "HEAD does not report that all {length} bytes are complete"
        )?;
        Ok(())
    }

    /// Fails if the upload is complete.
    pub(super) async fn expect_incomplete(&self, url: &Url) -> CheckResult<State> {
        let state = self.state(url).await?;
        ensure!(state.is_complete != Some(true), "the upload is complete")?;
        Ok(state)
    }

    /// Fails unless the upload does not exist, or not any more.
    pub(super) async fn expect_gone(&self, url: &Url, statuses: &[u16]) -> CheckResult {
        self.inspect(url).await?.expect(statuses)?;
        Ok(())
    }

    /// Sends the head of a request, which declares its content, and some of the content.
    pub(super) async fn start(
        &self,
        request: Request,
        declared: Content,
        sent: &[u8],
    ) -> CheckResult<Connection> {
        self.context.start(&request.content(declared), sent).await
    }

    /// Starts a creation with the whole data, sends its first bytes, and waits for a 104 with
    /// `Location`. Skips the check if there is none.
    pub(super) async fn create_announced(
        &self,
        data: &[u8],
        sent: usize,
        is_last: bool,
    ) -> CheckResult<(PendingRequest, Url)> {
        let request = self.creation(b"", is_last);
        let request = request.field("Upload-Length", data.len());
        self.announced(request, data, sent).await
    }

    /// Starts this creation with the whole data, as [`create_announced`](Self::create_announced) does.
    pub(super) async fn announced(
        &self,
        request: Request,
        data: &[u8],
        sent: usize,
    ) -> CheckResult<(PendingRequest, Url)> {
        let declared = Content::Declared(data.len() as u64);
        let mut connection = self.start(request, declared, &data[..sent]).await?;
        let mut interim = Vec::new();
        let skipped = || Finding::skipped("the server sends no 104 (Upload Resumption Supported)");
        loop {
            let head = connection.interim_within(INTERIM).await;
            let head = head.map_err(|_| skipped())?;
            head.expect_interim()?;
            let location = head.field("Location").filter(|_| head.status == 104);
            let url = location.map(|location| self.context.endpoint().join(location));
            interim.push(head);
            if let Some(url) = url {
                let url = url.map_err(|error| Finding::failed(format!("Location: {error}")))?;
                let started = PendingRequest {
                    connection,
                    interim,
                };
                return Ok((started, url));
            }
        }
    }

    /// Returns a URL like those of uploads, at which there is none.
    pub(super) async fn unknown(&self) -> CheckResult<Url> {
        let length = 2 * self.unit();
        let url = self.create(length).await?;
        Ok(crate::context::similar(&url))
    }

    /// Names another version, or none.
    pub(super) fn with_version(&self, request: Request, version: Option<&str>) -> Request {
        let request = request.without(INTEROP_VERSION);
        match version {
            Some(version) => request.field(INTEROP_VERSION, version),
            None => request,
        }
    }
}

/// Returns the final response if it comes in this time, although the request is not complete.
pub(super) async fn early_response(
    connection: &mut Connection,
    limit: Duration,
) -> Option<Response> {
    let heads = async {
        loop {
            match connection.interim_within(limit).await {
                Ok(head) if head.status < 200 => {}
                head => return head.ok(),
            }
        }
    };
    tokio::time::timeout(limit, heads).await.ok().flatten()
}

/// Waits for a final response or the end of the connection.
pub(super) async fn end_of(connection: &mut Connection) -> Option<Response> {
    loop {
        match connection.interim_within(Duration::MAX).await {
            Ok(head) if head.status < 200 => {}
            head => return head.ok(),
        }
    }
}
