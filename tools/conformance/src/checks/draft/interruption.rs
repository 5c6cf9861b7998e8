//! Requests that end before their content does, and the resumption after them.

use tokio::time::sleep;
use url::Url;

use super::concurrency::start_append;
use super::requests::{Draft, SETTLE};
use super::{APPEND, COMPLETENESS, CREATION, OFFSET, draft_checks};
use crate::client::{Connection, Content, chunk};
use crate::requirement::{CheckResult, ensure};

draft_checks! {
    Must "draft/interruption/closed-append-can-be-resumed", OFFSET,
        "After an append whose connection was closed, the upload is completed at the offset of HEAD." => resumable(Disconnect::Close, Framing::Length);
    Must "draft/interruption/reset-append-can-be-resumed", OFFSET,
        "After an append whose connection was reset, the upload is completed at the offset of HEAD." => resumable(Disconnect::Reset, Framing::Length);
    Must "draft/interruption/half-closed-append-can-be-resumed", OFFSET,
        "After an append whose sending half was closed, the upload is completed at the offset of HEAD." => resumable(Disconnect::HalfClose, Framing::Length);
    Must "draft/interruption/cut-chunks-can-be-resumed", OFFSET,
        "After chunks without the last one, the upload is completed at the offset of HEAD." => resumable(Disconnect::Close, Framing::Chunks);
    Must "draft/interruption/cut-append-does-not-complete", COMPLETENESS,
        "The last append does not complete the upload if its content is cut." => not_complete(Framing::Length);
    Must "draft/interruption/cut-chunks-do-not-complete", COMPLETENESS,
        "The last append does not complete the upload without the last chunk." => not_complete(Framing::Chunks);
    Must "draft/interruption/all-bytes-without-the-last-chunk-do-not-complete", COMPLETENESS,
        "An append of unknown length does not complete the upload without the last chunk." => missing_last_chunk;
    Should "draft/interruption/bytes-of-a-cut-append-are-kept", APPEND,
        "Bytes of an append that was cut are kept." => bytes_are_kept;
    Must "draft/interruption/reported-bytes-are-kept", OFFSET,
        "Bytes that HEAD reported during an append are kept when the append is cut." => reported_bytes_are_kept;
    Must "draft/interruption/offset-does-not-decrease", OFFSET,
        "The offset does not decrease from one interruption to the next." => does_not_decrease;
    Must "draft/interruption/cut-creation-can-be-resumed", CREATION,
        "After a creation that was cut, the upload is completed at the Location of the 104." => creation_resumable(Disconnect::Close);
    Must "draft/interruption/reset-creation-can-be-resumed", CREATION,
        "After a creation that was reset, the upload is completed at the Location of the 104." => creation_resumable(Disconnect::Reset);
    Must "draft/interruption/cut-creation-does-not-complete", COMPLETENESS,
        "A creation whose content is cut does not complete the upload." => creation_not_complete;
    Should "draft/interruption/bytes-of-a-cut-creation-are-kept", CREATION,
        "Bytes of a creation that was cut are kept." => creation_bytes_are_kept;
    Must "draft/interruption/lost-response", OFFSET,
        "After an append whose response was lost, HEAD reports its bytes, and the upload can be completed." => lost_response;
    Must "draft/interruption/lost-final-response", COMPLETENESS,
        "After the last append whose response was lost, the upload is complete, or can be completed." => lost_final_response;
}

#[derive(Clone, Copy)]
enum Disconnect {
    Close,
    Reset,
    HalfClose,
}

#[derive(Clone, Copy, PartialEq)]
enum Framing {
    Length,
    Chunks,
}

async fn cut(connection: Connection, cut: Disconnect) {
    let mut connection = connection;
    match cut {
        Disconnect::Close => connection.close(),
        Disconnect::Reset => connection.reset(),
        Disconnect::HalfClose => {
            // An error means that the connection has ended already.
            let _ = connection.half_close().await;
            sleep(SETTLE).await;
        }
    }
}

/// Sends the last append of three units, whose first is stored, and cuts it after one more.
async fn interrupted(
    d: &Draft<'_>,
    how: Disconnect,
    framing: Framing,
) -> CheckResult<(Url, Vec<u8>)> {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_with(&data, unit).await?;
    let request = d.append(&url, unit, b"", true);
    let part = &data[unit..2 * unit];
    let connection = match framing {
        Framing::Length => {
            let declared = Content::Declared(2 * unit as u64);
            d.start(request, declared, part).await?
        }
        Framing::Chunks => {
            d.start(request, Content::DeclaredChunked, &chunk(part))
                .await?
        }
    };
    sleep(SETTLE).await;
    cut(connection, how).await;
    Ok((url, data))
}

/// Fails unless the offset is that of bytes that were sent.
async fn expect_range(d: &Draft<'_>, url: &Url, from: usize, to: usize) -> CheckResult<u64> {
    let offset = d.expect_incomplete(url).await?.offset;
    ensure!(
        (from as u64..=to as u64).contains(&offset),
        "Upload-Offset is {offset}; {from} bytes were stored, and {to} sent"
    )?;
    Ok(offset)
}

async fn resumable(d: &Draft<'_>, how: Disconnect, framing: Framing) -> CheckResult {
    let (url, data) = interrupted(d, how, framing).await?;
    expect_range(d, &url, d.unit(), 2 * d.unit()).await?;
    d.resume(&url, &data).await
}

async fn not_complete(d: &Draft<'_>, framing: Framing) -> CheckResult {
    let (url, _) = interrupted(d, Disconnect::Close, framing).await?;
    stays_incomplete(d, &url).await
}

/// A server may notice the cut after the first HEAD.
async fn stays_incomplete(d: &Draft<'_>, url: &Url) -> CheckResult {
    d.expect_incomplete(url).await?;
    sleep(SETTLE).await;
    d.expect_incomplete(url).await.map(drop)
}

async fn missing_last_chunk(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.create_deferred().await?;
    let request = d.append(&url, 0, b"", true);
    let connection = d
        .start(request, Content::DeclaredChunked, &chunk(&data))
        .await?;
    sleep(SETTLE).await;
    connection.close();
    stays_incomplete(d, &url).await?;
    d.resume(&url, &data).await
}

async fn bytes_are_kept(d: &Draft<'_>) -> CheckResult {
    let (url, _) = interrupted(d, Disconnect::Close, Framing::Length).await?;
    // A server may notice the cut after the first HEAD.
    sleep(SETTLE).await;
    let offset = expect_range(d, &url, d.unit(), 2 * d.unit()).await?;
    ensure!(offset > d.unit() as u64, "no byte of the append is kept")
}

async fn reported_bytes_are_kept(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    for how in [Disconnect::Close, Disconnect::Reset] {
        let url = d.create_for(&data).await?;
        let connection = start_append(d, &url, &data, 2 * unit, true).await?;
        let reported = d.expect_incomplete(&url).await?.offset;
        cut(connection, how).await;
        // A server may notice the cut after the next HEAD.
        for _ in 0..2 {
            let offset = d.expect_incomplete(&url).await?.offset;
            ensure!(
                offset >= reported,
                "HEAD reported {reported}, and {offset} after the append was cut"
            )?;
            sleep(SETTLE).await;
        }
        d.resume(&url, &data).await?;
    }
    Ok(())
}

async fn does_not_decrease(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(5)?, d.unit());
    let url = d.create_for(&data).await?;
    let mut offset = 0;
    for cut_after in [unit / 2, unit, 3, unit + 1] {
        let start = usize::try_from(offset).unwrap_or(0);
        let request = d.append(&url, start, b"", true);
        let declared = Content::Declared((data.len() - start) as u64);
        let end = (start + cut_after).min(data.len() - 1);
        let connection = d.start(request, declared, &data[start..end]).await?;
        sleep(SETTLE / 3).await;
        connection.reset();
        offset = expect_range(d, &url, start, end).await?;
    }
    d.resume(&url, &data).await
}

async fn interrupted_creation(d: &Draft<'_>, how: Disconnect) -> CheckResult<(Url, Vec<u8>)> {
    let data = d.data(2)?;
    let (started, url) = d.create_announced(&data, d.unit(), true).await?;
    sleep(SETTLE).await;
    cut(started.connection, how).await;
    Ok((url, data))
}

async fn creation_resumable(d: &Draft<'_>, how: Disconnect) -> CheckResult {
    let (url, data) = interrupted_creation(d, how).await?;
    expect_range(d, &url, 0, d.unit()).await?;
    d.resume(&url, &data).await
}

async fn creation_not_complete(d: &Draft<'_>) -> CheckResult {
    let (url, _) = interrupted_creation(d, Disconnect::Close).await?;
    stays_incomplete(d, &url).await
}

async fn creation_bytes_are_kept(d: &Draft<'_>) -> CheckResult {
    let (url, _) = interrupted_creation(d, Disconnect::Close).await?;
    // A server may notice the cut after the first HEAD.
    sleep(SETTLE).await;
    let offset = expect_range(d, &url, 0, d.unit()).await?;
    ensure!(offset > 0, "no byte of the creation is kept")
}

async fn lost_response(d: &Draft<'_>) -> CheckResult {
    let (data, unit) = (d.data(3)?, d.unit());
    let url = d.create_for(&data).await?;
    let connection = start_append(d, &url, &data[..unit], unit, false).await?;
    connection.reset();
    d.expect_offset(&url, unit).await?;
    d.resume(&url, &data).await
}

async fn lost_final_response(d: &Draft<'_>) -> CheckResult {
    let data = d.data(2)?;
    let url = d.create_for(&data).await?;
    let connection = start_append(d, &url, &data, data.len(), true).await?;
    connection.reset();
    let response = d.inspect(&url).await?;
    if matches!(response.status, 404 | 410) {
        return Ok(());
    }
    response.expect_success()?;
    match d.state_of(&response)?.is_complete {
        Some(false) => d.resume(&url, &data).await,
        _ => d.expect_state_if_there(&url, data.len()).await,
    }
}
