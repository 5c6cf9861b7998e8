//! Simultaneous requests for one upload.

use std::time::Duration;

use futures_util::future::{join_all, try_join_all};
use tokio::time::sleep;
use url::Url;

use super::requests::{Draft, SETTLE, end_of};
use super::{CONCURRENCY, OFFSET, draft_checks};
use crate::client::{Connection, Content, chunk};
use crate::dialect::fields::integer;
use crate::requirement::{CheckResult, Finding, ensure, skip};

draft_checks! {
    Must "draft/concurrency/two-appends-do-not-add-up", CONCURRENCY,
        "Of simultaneous appends at one offset, the bytes are stored once." => two_appends(2);
    Must "draft/concurrency/many-appends-do-not-add-up", CONCURRENCY,
        "Of many simultaneous appends at one offset, the bytes are stored once." => two_appends(8);
    Must "draft/concurrency/last-appends", CONCURRENCY,
        "Of simultaneous last appends, one completes the upload with the right bytes." => last_appends;
    Must "draft/concurrency/offset-during-an-append-is-not-stale", OFFSET,
        "The offset that HEAD reports during an append is accepted by the next append." => offset_is_accepted(Framing::Length);
    Should "draft/concurrency/offset-during-chunks-is-not-stale", OFFSET,
        "The offset that HEAD reports during an append in chunks is accepted by the next append." => offset_is_accepted(Framing::Chunks);
    Should "draft/concurrency/append-ends-an-older-one", CONCURRENCY,
        "A new append ends an older one that hangs." => ends_an_older_one;
    Must "draft/concurrency/ended-append-is-not-successful", CONCURRENCY,
        "An append that was ended by a newer one does not succeed." => ended_is_not_successful;
    Must "draft/concurrency/late-bytes-of-an-older-append-are-not-stored", CONCURRENCY,
        "Bytes of an older append that arrive after a newer one are not stored." => late_bytes;
    Should "draft/concurrency/head-is-answered-during-an-append", CONCURRENCY,
        "HEAD is answered during an append." => head_during_an_append;
    Must "draft/concurrency/head-during-a-creation", CONCURRENCY,
        "HEAD during the creation reports an offset at which the upload is completed." => head_during_a_creation;
    Must "draft/concurrency/uploads-are-independent", CONCURRENCY,
        "Simultaneous uploads do not change each other." => independent;
    Must "draft/concurrency/append-and-cancellation", CONCURRENCY,
        "Of a simultaneous append and DELETE, either result is consistent." => append_and_cancellation;
}

async fn two_appends(d: &Draft<'_>, number: usize) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_with(&data, unit).await?;
    let part = &data[unit..2 * unit];
    let appends = (0..number).map(|_| d.send(d.append(&url, unit, part, false)));
    // A server may close the connection of an append that another ends.
    let statuses: Vec<_> = join_all(appends)
        .await
        .into_iter()
        .filter_map(|response| response.ok().map(|response| response.status))
        .collect();
    let offset = d.expect_incomplete(&url).await?.offset;
    ensure!(
        offset == 2 * unit as u64 || !statuses.iter().any(|status| *status < 300),
        "Upload-Offset is {offset}, not {}; the statuses are {statuses:?}",
        2 * unit
    )?;
    ensure!(
        offset <= 2 * unit as u64,
        "Upload-Offset is {offset}, above the {} bytes that were sent",
        2 * unit
    )?;
    d.resume(&url, &data).await
}

async fn last_appends(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_with(&data, unit).await?;
    let appends = (0..4).map(|_| d.send(d.append(&url, unit, &data[unit..], true)));
    let responses = join_all(appends).await;
    let is_successful = responses
        .iter()
        .flatten()
        .any(|response| response.is_success());
    match is_successful {
        true => d.expect_state_if_there(&url, data.len()).await,
        false => d.resume(&url, &data).await,
    }
}

/// Starts an append at offset 0, sends some bytes of its content, and lets the server process them.
pub(super) async fn start_append(
    d: &Draft<'_>,
    url: &Url,
    content: &[u8],
    sent: usize,
    is_last: bool,
) -> CheckResult<Connection> {
    let request = d.append(url, 0, b"", is_last);
    let declared = Content::Declared(content.len() as u64);
    let connection = d.start(request, declared, &content[..sent]).await?;
    sleep(SETTLE).await;
    Ok(connection)
}

#[derive(Clone, Copy)]
enum Framing {
    Length,
    Chunks,
}

async fn offset_is_accepted(d: &Draft<'_>, framing: Framing) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_for(&data).await?;
    let request = d.append(&url, 0, b"", true);
    let first = &data[..unit];
    let (declared, sent) = match framing {
        Framing::Length => (Content::Declared(data.len() as u64), first.to_vec()),
        Framing::Chunks => (Content::DeclaredChunked, chunk(first)),
    };
    let _older = d.start(request, declared, &sent).await?;
    sleep(SETTLE).await;
    d.resume(&url, &data).await
}

async fn ends_an_older_one(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_for(&data).await?;
    let mut older = start_append(d, &url, &data, unit, true).await?;
    d.resume(&url, &data).await?;
    let ended = tokio::time::timeout(d.context.options.timeout, end_of(&mut older)).await;
    let response = ended.map_err(|_| Finding::failed("the older append does not end"))?;
    ensure!(
        response.is_none_or(|response| !response.is_success()),
        "the older append succeeds without its content"
    )
}

async fn ended_is_not_successful(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_for(&data).await?;
    let mut older = start_append(d, &url, &data[..2 * unit], unit, false).await?;
    d.resume(&url, &data).await?;
    // It may fail because the server has closed the connection.
    let _ = older.write(&data[unit..2 * unit]).await;
    let limit = d.context.options.timeout.min(Duration::from_secs(2));
    if let Ok(Some(response)) = tokio::time::timeout(limit, end_of(&mut older)).await {
        ensure!(
            !response.is_success(),
            "the older append gets {}, though a newer one has completed the upload",
            response.status
        )?;
    }
    d.expect_state_if_there(&url, data.len()).await
}

async fn late_bytes(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(4)?, d.unit());
    let url = d.create_for(&data).await?;
    let request = d.append(&url, 0, b"", false);
    let first = chunk(&data[..unit]);
    let mut older = d.start(request, Content::DeclaredChunked, &first).await?;
    sleep(SETTLE).await;
    let mut offset = usize::try_from(d.state(&url).await?.offset).unwrap_or(0);
    let append = |offset: usize| d.append(&url, offset, &data[offset..offset + unit], false);
    let mut newer = d.send(append(offset)).await?;
    if newer.status == 409 {
        // The bytes of the older append are stored when it has ended.
        let right = integer(&newer, "Upload-Offset")?.unwrap_or_default();
        offset = usize::try_from(right).unwrap_or(0).min(3 * unit);
        newer = d.send(append(offset)).await?;
    }
    let end = offset + unit;
    let _ = older.write(&chunk(&vec![0; unit])).await;
    let _ = older.write(b"0\r\n\r\n").await;
    sleep(SETTLE).await;
    if newer.is_success() {
        d.expect_offset(&url, end).await?;
        return d.resume(&url, &data).await;
    }
    skip("the newer append does not end the older one")
}

async fn head_during_an_append(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_for(&data).await?;
    let _older = start_append(d, &url, &data, unit, true).await?;
    let offset = d.expect_incomplete(&url).await?.offset;
    ensure!(
        offset <= unit as u64,
        "Upload-Offset is {offset}, and {unit} bytes were sent"
    )
}

async fn head_during_a_creation(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let (_started, url) = d.create_announced(&data, d.unit(), true).await?;
    sleep(SETTLE).await;
    d.resume(&url, &data).await
}

async fn independent(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(4)?, d.unit());
    let upload = async |index: usize| {
        let start = index % unit.min(50);
        let own = &data[start..];
        let url = d.create_with(own, unit).await?;
        d.part(&url, unit, &own[unit..2 * unit]).await?;
        d.resume(&url, own).await
    };
    try_join_all((0..6).map(upload)).await?;
    Ok(())
}

async fn append_and_cancellation(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    for _ in 0..3 {
        let url = d.create_for(&data).await?;
        let append = d.send(d.append(&url, 0, &data, true));
        let cancellation = d.send(d.request("DELETE", &url));
        let (_, cancellation) = tokio::join!(append, cancellation);
        match cancellation?.is_success() {
            true => d.expect_gone(&url, &[404, 410]).await?,
            false => d.expect_state_if_there(&url, data.len()).await?,
        }
    }
    Ok(())
}
