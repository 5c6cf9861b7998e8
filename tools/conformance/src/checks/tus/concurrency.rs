//! Simultaneous requests for one upload.

use futures_util::future::{join_all, try_join};

use crate::context::{Context, test_data};
use crate::requirement::{CheckResult, ensure, equal, skip};

const PATCH: &str = "Core Protocol, PATCH";
const WRITERS: u8 = 6;

checks! {
    Must "tus/concurrency/offset-counts-bytes-once", PATCH,
        "Of simultaneous PATCH requests at one offset, the bytes of one are added." => bytes_once;
    Must "tus/concurrency/data-is-of-one-request", PATCH,
        "Simultaneous PATCH requests do not mix their bytes." => not_mixed;
    Should "tus/concurrency/losers-are-rejected", PATCH,
        "Of simultaneous PATCH requests with different data, one succeeds and the others are rejected." => losers_are_rejected;
    Should "tus/concurrency/no-server-errors", PATCH,
        "Simultaneous requests are no errors of the server: none is 5xx other than 503." => no_server_errors;
    Must "tus/concurrency/uploads-do-not-interfere", PATCH,
        "Simultaneous PATCH requests for different uploads all succeed." => different_uploads;
    Must "tus/concurrency/head-never-goes-back", "Core Protocol, HEAD",
        "HEAD during appends never reports a lower offset than before." => head_never_goes_back;
    Should "tus/concurrency/simultaneous-deletes", "Termination, DELETE", [Termination],
        "Of simultaneous DELETE requests, one is 204 and the others are 204, 404, 410 or 423." => deletes;
}

async fn race(c: &Context, length: usize) -> CheckResult<(url::Url, Vec<u16>)> {
    c.needs_size(length as u64)?;
    let url = c.create(length as u64).await?;
    let writers = (0..WRITERS).map(|writer| {
        let request = c.patch(&url, 0, &vec![b'a' + writer; length]);
        let client = &c.client;
        async move { client.send(&request).await }
    });
    let responses = join_all(writers).await;
    // A request that lost may be cut off.
    let statuses = responses
        .into_iter()
        .map(|response| response.map_or(0, |one| one.status));
    Ok((url, statuses.collect()))
}

async fn bytes_once(c: &Context) -> CheckResult {
    let (url, _) = race(c, 1000).await?;
    let offset = c.final_offset(&url).await?;
    equal("the offset", offset, 1000)
}

async fn not_mixed(c: &Context) -> CheckResult {
    let (url, _) = race(c, 200_000).await?;
    // A writer that was replaced leaves its bytes; the rest is not a matter of this check.
    if c.final_offset(&url).await? < 200_000 {
        return Ok(());
    }
    let Some(data) = c.download(&url).await? else {
        return skip("the server has no downloads");
    };
    let pieces = data.chunk_by(|one, other| one == other).count();
    ensure!(pieces == 1, "the data of {pieces} requests is mixed")
}

async fn losers_are_rejected(c: &Context) -> CheckResult {
    let (_, statuses) = race(c, 1000).await?;
    let successes = statuses
        .iter()
        .filter(|status| matches!(status, 200..=299))
        .count();
    ensure!(successes == 1, "the statuses are {statuses:?}")
}

async fn no_server_errors(c: &Context) -> CheckResult {
    let (_, statuses) = race(c, 1000).await?;
    let is_error = |status: &u16| matches!(status, 500..=599) && *status != 503;
    ensure!(
        !statuses.iter().any(is_error),
        "the statuses are {statuses:?}"
    )
}

async fn different_uploads(c: &Context) -> CheckResult {
    let data = test_data(10_000);
    let uploads = (0..16).map(|_| async {
        let url = c.complete(&data).await?;
        c.expect_offset(&url, 10_000).await?;
        c.expect_bytes(&url, &data).await
    });
    join_all(uploads).await.into_iter().collect()
}

async fn head_never_goes_back(c: &Context) -> CheckResult {
    let data = test_data(40_000);
    let url = c.create(40_000).await?;
    let append = async {
        for (index, piece) in data.chunks(1000).enumerate() {
            let offset = index as u64 * 1000;
            let response = c.send(c.patch(&url, offset, piece)).await?;
            if super::recovery::is_temporary(response.status) || response.status == 409 {
                // HEAD may take the lock of the upload.
                return c.resume(&url, &data).await;
            }
            response.expect_success()?;
        }
        Ok(())
    };
    try_join(append, c.watch_growth(&url, 40)).await?;
    c.expect_offset(&url, 40_000).await
}

async fn deletes(c: &Context) -> CheckResult {
    let url = c.complete(b"hello").await?;
    let requests = (0..4).map(|_| c.send(c.tus("DELETE", &url)));
    let responses: Vec<_> = join_all(requests)
        .await
        .into_iter()
        .collect::<CheckResult<_>>()?;
    for response in &responses {
        response.expect(&[204, 404, 410, 423])?;
    }
    ensure!(
        responses.iter().any(|response| response.status == 204),
        "no DELETE is 204"
    )
}
