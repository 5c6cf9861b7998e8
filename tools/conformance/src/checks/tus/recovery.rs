//! Steps after interruptions: a server may need a moment to notice them.

use std::time::Duration;

use tokio::time::{Instant, sleep};
use url::Url;

use crate::client::Response;
use crate::context::Context;
use crate::requirement::{CheckResult, Finding, fail};

const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// Longer than the lock timeouts of known servers.
const MAX_RECOVERY: Duration = Duration::from_secs(40);
/// The same offset this often in a row counts as final.
const STABLE_POLLS: usize = 4;

/// Statuses that mean "later": the upload is locked, or the server busy.
pub(super) const fn is_temporary(status: u16) -> bool {
    matches!(status, 423 | 429 | 503)
}

impl Context {
    /// Returns the offset once it has stopped changing.
    pub(super) async fn final_offset(&self, url: &Url) -> CheckResult<u64> {
        let deadline = Instant::now() + MAX_RECOVERY;
        let (mut last, mut same) = (None, 0);
        loop {
            let response = self.send(self.tus("HEAD", url)).await?;
            let offset = match response.is_success() {
                true => Some(response.number("Upload-Offset")?),
                false if is_temporary(response.status) => None,
                false => {
                    response.expect_success()?;
                    None
                }
            };
            same = if offset == last { same + 1 } else { 0 };
            last = offset;
            if let Some(offset) = offset.filter(|_| same >= STABLE_POLLS) {
                return Ok(offset);
            }
            if Instant::now() > deadline {
                return fail("the offset does not become final");
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Resumes an upload as clients do: HEAD, then PATCH with the rest, until it is complete.
    pub(super) async fn resume(&self, url: &Url, data: &[u8]) -> CheckResult {
        let deadline = Instant::now() + MAX_RECOVERY;
        loop {
            let head = self.send(self.tus("HEAD", url)).await?;
            if !is_temporary(head.status) {
                head.expect_success()?;
                let offset = head.number("Upload-Offset")?;
                if offset == data.len() as u64 {
                    return Ok(());
                }
                let rest = usize::try_from(offset)
                    .ok()
                    .and_then(|start| data.get(start..));
                let beyond = || Finding::failed(format!("the offset {offset} is beyond the end"));
                let rest = rest.ok_or_else(beyond)?;
                let patch = self.send(self.patch(url, offset, rest)).await?;
                // The interrupted request may still have been running.
                if patch.status != 409 && !is_temporary(patch.status) {
                    patch.expect_success()?;
                }
            }
            if Instant::now() > deadline {
                return fail(format!(
                    "the upload cannot be completed within {MAX_RECOVERY:?}"
                ));
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns the response to HEAD on a final upload once it has an offset.
    pub(super) async fn concatenated(&self, url: &Url) -> CheckResult<Response> {
        let deadline = Instant::now() + MAX_RECOVERY;
        loop {
            let head = self.head(url).await?;
            if head.field("Upload-Offset").is_some() || Instant::now() > deadline {
                return Ok(head);
            }
            sleep(POLL_INTERVAL).await;
        }
    }

    /// Fails unless the concatenated upload has all of its bytes.
    pub(super) async fn expect_concatenated(&self, url: &Url, length: u64) -> CheckResult {
        let head = self.concatenated(url).await?;
        head.expect_number("Upload-Offset", length)
    }
}
