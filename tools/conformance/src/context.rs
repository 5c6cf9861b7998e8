//! The means of a check: requests, uploads and random values.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use rand::{SeedableRng as _, rngs::StdRng};
use url::Url;

use crate::capabilities::Capabilities;
use crate::client::{Client, Connection, Content, Request, Response};
use crate::dialect::DraftCell;
use crate::options::Options;
use crate::requirement::{CheckResult, Finding, ensure, skip};

/// The media type of upload data (tus 1.0.0, PATCH).
pub(crate) const UPLOAD_DATA: &str = "application/offset+octet-stream";

/// 1000 times the letter a, compressed by gzip.
pub(crate) const GZIP: &[u8] = &[
    0x1f, 0x8b, 0x08, 0x00, 0x00, 0x00, 0x00, 0x00, 0x02, 0x03, 0x4b, 0x4c, 0x1c, 0x05, 0xa3, 0x60,
    0x14, 0x0c, 0x77, 0x00, 0x00, 0x03, 0xda, 0x38, 0x9a, 0xe8, 0x03, 0x00, 0x00,
];

/// The means of one run of a check.
pub struct Context {
    pub(crate) options: std::sync::Arc<Options>,
    pub(crate) server: std::sync::Arc<Capabilities>,
    pub(crate) client: Client,
    pub(crate) draft: std::sync::Arc<DraftCell>,
    pub(crate) check_id: &'static str,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context")
            .field("check", &self.check_id)
            .finish_non_exhaustive()
    }
}

impl Context {
    /// Returns the same means with another client.
    pub(crate) fn with(&self, client: Client) -> Self {
        Self {
            options: std::sync::Arc::clone(&self.options),
            server: std::sync::Arc::clone(&self.server),
            draft: std::sync::Arc::clone(&self.draft),
            client,
            check_id: self.check_id,
        }
    }

    pub(crate) fn endpoint(&self) -> &Url {
        &self.options.endpoint
    }

    /// Returns random values that depend on the seed and the check alone.
    pub(crate) fn random(&self) -> StdRng {
        let bytes = self.check_id.bytes();
        let seed = bytes.fold(self.options.seed, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
        });
        StdRng::seed_from_u64(seed)
    }

    /// Sends a request on a new connection.
    pub(crate) async fn send(&self, request: Request) -> CheckResult<Response> {
        Ok(self.client.send(&request).await?)
    }

    /// Opens a connection for requests to a URL.
    pub(crate) async fn connect(&self, url: &Url) -> CheckResult<Connection> {
        Ok(self.client.connect(url).await?)
    }

    /// Sends the head of a request, and some of the content that it declares.
    pub(crate) async fn start(&self, request: &Request, sent: &[u8]) -> CheckResult<Connection> {
        let mut connection = self.connect(&request.url).await?;
        connection.send_head(request).await?;
        connection.write(sent).await?;
        Ok(connection)
    }

    /// Skips the check if it needs larger uploads than the options or the server allow.
    pub(crate) fn needs_size(&self, bytes: u64) -> CheckResult {
        let limit = self.server.max_size.unwrap_or(u64::MAX);
        match bytes <= self.options.max_size.min(limit) {
            true => Ok(()),
            false => skip(format!("needs uploads of {bytes} bytes")),
        }
    }
}

/// Requests of tus.
impl Context {
    /// A request with `Tus-Resumable`.
    pub(crate) fn tus(&self, method: &str, url: &Url) -> Request {
        Request::new(method, url).field("Tus-Resumable", "1.0.0")
    }

    /// A creation without a length, with the metadata of `--metadata`.
    pub(crate) fn post(&self) -> Request {
        let request = self
            .tus("POST", self.endpoint())
            .content(Content::Bytes(Vec::new()));
        match self.metadata("") {
            metadata if metadata.is_empty() => request,
            metadata => request.field("Upload-Metadata", metadata),
        }
    }

    /// Adds the pairs of `--metadata` to a value of `Upload-Metadata`, except those with a key that it has.
    pub(crate) fn metadata(&self, value: &str) -> String {
        let has = |key: &str| {
            let pairs = value.split(',');
            pairs
                .into_iter()
                .any(|pair| pair.split(' ').next() == Some(key))
        };
        let given = self.options.metadata.iter();
        let mut pairs: Vec<_> = given
            .filter(|(key, _)| !has(key))
            .map(|(key, value)| format!("{key} {}", STANDARD.encode(value)))
            .collect();
        pairs.extend((!value.is_empty()).then(|| value.to_owned()));
        pairs.join(",")
    }

    /// Creates an upload and returns its URL. The offset is 0.
    pub(crate) async fn create(&self, length: u64) -> CheckResult<Url> {
        self.created(self.post().field("Upload-Length", length))
            .await
    }

    /// Sends a creation that has to succeed, and returns the URL of the upload.
    pub(crate) async fn created(&self, request: Request) -> CheckResult<Url> {
        let response = self.send(request).await?;
        self.location(&response)
    }

    /// Returns the URL of the upload that a response names.
    pub(crate) fn location(&self, response: &Response) -> CheckResult<Url> {
        response.expect_success()?;
        let location = response.required("Location")?;
        let invalid = |error| Finding::failed(format!("Location is not a URL: {error}"));
        self.endpoint().join(location).map_err(invalid)
    }

    /// A PATCH with data.
    pub(crate) fn patch(&self, url: &Url, offset: u64, data: &[u8]) -> Request {
        self.tus("PATCH", url)
            .field("Upload-Offset", offset)
            .field("Content-Type", UPLOAD_DATA)
            .body(data)
    }

    /// Appends data, which has to succeed.
    pub(crate) async fn append(
        &self,
        url: &Url,
        offset: u64,
        data: &[u8],
    ) -> CheckResult<Response> {
        let response = self.send(self.patch(url, offset, data)).await?.success()?;
        response.expect_number("Upload-Offset", offset + data.len() as u64)?;
        Ok(response)
    }

    /// Creates an upload with all of its bytes.
    pub(crate) async fn complete(&self, data: &[u8]) -> CheckResult<Url> {
        let url = self.create(data.len() as u64).await?;
        if !data.is_empty() {
            self.append(&url, 0, data).await?;
        }
        Ok(url)
    }

    /// Returns a URL like those of uploads, at which there is none.
    pub(crate) async fn unknown(&self) -> CheckResult<Url> {
        Ok(similar(&self.create(1).await?))
    }

    /// Sends HEAD, which has to succeed.
    pub(crate) async fn head(&self, url: &Url) -> CheckResult<Response> {
        let response = self.send(self.tus("HEAD", url)).await?.success()?;
        Ok(response)
    }

    /// Returns the offset that HEAD reports.
    pub(crate) async fn offset(&self, url: &Url) -> CheckResult<u64> {
        self.head(url).await?.number("Upload-Offset")
    }

    /// Fails unless HEAD reports this offset.
    pub(crate) async fn expect_offset(&self, url: &Url, offset: u64) -> CheckResult {
        self.head(url)
            .await?
            .expect_number("Upload-Offset", offset)?;
        Ok(())
    }

    /// Asks HEAD so often, and fails if an offset is less than one before it.
    pub(crate) async fn watch_growth(&self, url: &Url, times: usize) -> CheckResult {
        let mut last = 0;
        for _ in 0..times {
            let head = self.send(self.tus("HEAD", url)).await?;
            if head.is_success() {
                let offset = head.number("Upload-Offset")?;
                ensure!(offset >= last, "the offset is {offset} after {last}")?;
                last = offset;
            }
        }
        Ok(())
    }

    /// Downloads a complete upload, if the server offers that. Downloads are no part of tus.
    pub(crate) async fn download(&self, url: &Url) -> CheckResult<Option<Vec<u8>>> {
        if !self.options.downloads {
            return Ok(None);
        }
        let response = self.send(self.tus("GET", url)).await?;
        Ok((response.status == 200).then_some(response.body))
    }

    /// Fails if a download is possible and has other bytes.
    pub(crate) async fn expect_bytes(&self, url: &Url, expected: &[u8]) -> CheckResult {
        if let Some(bytes) = self.download(url).await? {
            let first = bytes.iter().zip(expected).position(|(a, b)| a != b);
            ensure!(
                bytes == expected,
                "the download has {} bytes, not the {} that were uploaded (first difference at byte {})",
                bytes.len(),
                expected.len(),
                first.unwrap_or(bytes.len().min(expected.len()))
            )?;
        }
        Ok(())
    }
}

/// Returns a URL like that of an upload, at which there is none.
pub(crate) fn similar(url: &Url) -> Url {
    let mut url = url.clone();
    let unknown = |segment: &str| {
        // The same length and alphabet, as far as one can guess them.
        let segment = segment.chars().map(|character| match character {
            '0'..='9' => '0',
            'a'..='z' => 'a',
            'A'..='Z' => 'A',
            other => other,
        });
        segment.collect::<String>()
    };
    let path = url.path().to_owned();
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", &path));
    match url.query().map(unknown) {
        Some(query) => url.set_query(Some(&query)),
        None => url.set_path(&format!("{folder}/{}", unknown(name))),
    }
    url
}

/// Returns bytes without a period that a chunk size could hide.
pub(crate) fn test_data(length: usize) -> Vec<u8> {
    let mut state: u32 = 0x9e37_79b9;
    let next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state.to_le_bytes()[1]
    };
    std::iter::repeat_with(next).take(length).collect()
}
