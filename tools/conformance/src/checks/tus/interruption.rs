//! Interrupted requests: the received bytes count, and the upload can be resumed.

use std::time::Duration;

use tokio::time::sleep;
use url::Url;

use super::recovery::is_temporary;
use crate::client::{Connection, Content, chunk};
use crate::context::{Context, test_data};
use crate::requirement::{CheckResult, ensure};

const PATCH: &str = "Core Protocol, PATCH";
const LENGTH: usize = 256 << 10;
const SENT: usize = 100_000;
/// Until the server has most likely read what was sent.
const READ_DELAY: Duration = Duration::from_millis(300);

checks! {
    Should "tus/interruption/close-keeps-data", PATCH,
        "The server stores as much of the received data as possible if the connection is closed." => keeps(End::Close);
    Should "tus/interruption/half-close-keeps-data", PATCH,
        "The server stores as much of the received data as possible if the sending side is closed." => keeps(End::HalfClose);
    May "tus/interruption/reset-keeps-data", PATCH,
        "The server stores received data also if the connection is reset." => keeps(End::Reset);
    Should "tus/interruption/chunked-keeps-data", PATCH,
        "The server stores as much of the received data as possible of a body in chunks." => chunked_keeps_data;
    Must "tus/interruption/offset-is-not-above-the-data", "Core Protocol, Headers, Upload-Offset",
        "After an interruption, the offset is not above the bytes that were sent." => not_above_the_data;
    Must "tus/interruption/resume-after-close", PATCH,
        "After a closed connection, HEAD and PATCH complete the upload with the right bytes." => resume_after(End::Close);
    Must "tus/interruption/resume-after-reset", PATCH,
        "After a reset connection, HEAD and PATCH complete the upload with the right bytes." => resume_after(End::Reset);
    Must "tus/interruption/resume-after-half-close", PATCH,
        "After a half-closed connection, HEAD and PATCH complete the upload with the right bytes." => resume_after(End::HalfClose);
    Must "tus/interruption/resume-after-cut-chunk", PATCH,
        "A chunk that ends early leaves an upload that can be completed." => resume_after_cut_chunk;
    Must "tus/interruption/cut-before-the-body", PATCH,
        "A connection that ends before the body leaves the offset as it was." => cut_before_the_body;
    Must "tus/interruption/cut-in-the-head", "RFC 9112, 8 Handling Incomplete Messages",
        "A request whose head is incomplete has no effect." => cut_in_the_head;
    Must "tus/interruption/cut-chunked-is-not-complete", "RFC 9112, 8 Handling Incomplete Messages",
        "A body in chunks without the last chunk is not complete: the length stays." => cut_chunked_is_not_complete;
    Must "tus/interruption/acknowledged-bytes-are-kept", PATCH,
        "Bytes that a response has acknowledged are kept when a later request is interrupted." => acknowledged_bytes_are_kept;
    Should "tus/interruption/reported-bytes-are-kept", "Core Protocol, HEAD",
        "Bytes that HEAD reported during a PATCH are kept when it is interrupted." => reported_bytes_are_kept;
    Must "tus/interruption/several-interruptions", PATCH,
        "An upload that was interrupted five times has the right bytes." => several_interruptions;
    Should "tus/interruption/stalled-request-can-be-replaced", PATCH,
        "While a request is stalled, another connection can complete the upload." => stalled_can_be_replaced;
    Must "tus/interruption/stalled-request-adds-nothing", PATCH,
        "A stalled request that was replaced cannot change the upload any more." => stalled_adds_nothing;
    Should "tus/interruption/slow-data", PATCH,
        "A body that arrives in small pieces with pauses is accepted." => slow_data;
    Should "tus/interruption/head-during-patch", "Core Protocol, HEAD",
        "HEAD during a PATCH reports an offset that is not above the bytes that were sent." => head_during_patch;
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Close,
    HalfClose,
    Reset,
}

async fn end(mut connection: Connection, end: End) -> CheckResult {
    match end {
        End::Close => connection.close(),
        End::Reset => connection.reset(),
        End::HalfClose => {
            connection.half_close().await?;
            // A response is allowed and not required.
            let _ = connection.response_within(Duration::from_secs(2)).await;
        }
    }
    Ok(())
}

/// Starts a PATCH of all data and sends a part of it.
async fn start(c: &Context, url: &Url, offset: usize, sent: usize) -> CheckResult<Connection> {
    let data = test_data(LENGTH);
    let request = c.patch(url, offset as u64, &data[offset..]);
    let connection = c.start(&request, &data[offset..offset + sent]).await?;
    sleep(READ_DELAY).await;
    Ok(connection)
}

async fn create(c: &Context) -> CheckResult<Url> {
    c.needs_size(LENGTH as u64)?;
    c.create(LENGTH as u64).await
}

async fn keeps(c: &Context, kind: End) -> CheckResult {
    let url = create(c).await?;
    end(start(c, &url, 0, SENT).await?, kind).await?;
    let offset = c.final_offset(&url).await?;
    ensure!(offset > 0, "none of {SENT} bytes was stored")
}

async fn start_chunked(c: &Context, url: &Url) -> CheckResult<Connection> {
    let request = c.patch(url, 0, b"").content(Content::DeclaredChunked);
    let connection = c.start(&request, &chunk(&test_data(SENT))).await?;
    sleep(READ_DELAY).await;
    Ok(connection)
}

async fn chunked_keeps_data(c: &Context) -> CheckResult {
    let url = create(c).await?;
    end(start_chunked(c, &url).await?, End::Close).await?;
    let offset = c.final_offset(&url).await?;
    ensure!(offset > 0, "none of {SENT} bytes was stored")
}

async fn not_above_the_data(c: &Context) -> CheckResult {
    let url = create(c).await?;
    end(start(c, &url, 0, SENT).await?, End::Close).await?;
    let offset = c.final_offset(&url).await?;
    ensure!(
        offset <= SENT as u64,
        "the offset is {offset}, but {SENT} bytes were sent"
    )
}

async fn expect_complete(c: &Context, url: &Url) -> CheckResult {
    let data = test_data(LENGTH);
    c.resume(url, &data).await?;
    c.expect_offset(url, LENGTH as u64).await?;
    c.expect_bytes(url, &data).await
}

async fn resume_after(c: &Context, kind: End) -> CheckResult {
    let url = create(c).await?;
    end(start(c, &url, 0, SENT).await?, kind).await?;
    expect_complete(c, &url).await
}

async fn resume_after_cut_chunk(c: &Context) -> CheckResult {
    let url = create(c).await?;
    let request = c.patch(&url, 0, b"").content(Content::DeclaredChunked);
    let encoded = chunk(&test_data(SENT));
    c.start(&request, &encoded[..SENT / 2]).await?.close();
    expect_complete(c, &url).await
}

async fn cut_before_the_body(c: &Context) -> CheckResult {
    let url = create(c).await?;
    end(start(c, &url, 0, 0).await?, End::Close).await?;
    let offset = c.final_offset(&url).await?;
    ensure!(offset == 0, "the offset is {offset}, but no byte was sent")?;
    expect_complete(c, &url).await
}

async fn cut_in_the_head(c: &Context) -> CheckResult {
    let url = create(c).await?;
    let mut connection = c.connect(&url).await?;
    let path = url.path();
    connection
        .write(format!("DELETE {path} HTTP/1.1\r\nTus-Resumable: 1.0.0\r\n").as_bytes())
        .await?;
    connection.close();
    sleep(READ_DELAY).await;
    c.expect_offset(&url, 0).await
}

async fn cut_chunked_is_not_complete(c: &Context) -> CheckResult {
    let url = create(c).await?;
    end(start_chunked(c, &url).await?, End::Close).await?;
    let head = c.send(c.tus("HEAD", &url)).await?;
    if head.is_success() {
        head.expect_number("Upload-Length", LENGTH as u64)?;
    }
    expect_complete(c, &url).await
}

async fn acknowledged_bytes_are_kept(c: &Context) -> CheckResult {
    let url = create(c).await?;
    let data = test_data(LENGTH);
    c.append(&url, 0, &data[..SENT]).await?;
    for kind in [End::Close, End::Reset] {
        let offset = usize::try_from(c.final_offset(&url).await?).unwrap_or(LENGTH);
        ensure!(
            (SENT..=LENGTH).contains(&offset),
            "the offset is {offset}, and {SENT} bytes are acknowledged"
        )?;
        end(start(c, &url, offset, (LENGTH - offset) / 3).await?, kind).await?;
    }
    let offset = c.final_offset(&url).await?;
    ensure!(
        offset >= SENT as u64,
        "the offset is {offset}, and {SENT} bytes are acknowledged"
    )?;
    expect_complete(c, &url).await
}

async fn reported_bytes_are_kept(c: &Context) -> CheckResult {
    for kind in [End::Close, End::Reset] {
        let url = create(c).await?;
        let connection = start(c, &url, 0, SENT).await?;
        let head = c.send(c.tus("HEAD", &url)).await?;
        end(connection, kind).await?;
        if is_temporary(head.status) {
            continue;
        }
        let reported = head.success()?.number("Upload-Offset")?;
        let offset = c.final_offset(&url).await?;
        ensure!(
            offset >= reported,
            "HEAD reported {reported}, and {offset} after the interruption"
        )?;
    }
    Ok(())
}

async fn several_interruptions(c: &Context) -> CheckResult {
    let url = create(c).await?;
    for kind in [
        End::Close,
        End::Reset,
        End::HalfClose,
        End::Close,
        End::Reset,
    ] {
        let offset = usize::try_from(c.final_offset(&url).await?).unwrap_or(LENGTH);
        ensure!(
            offset <= LENGTH,
            "the offset is {offset}, the length {LENGTH}"
        )?;
        let sent = (LENGTH - offset) / 3;
        end(start(c, &url, offset, sent).await?, kind).await?;
    }
    expect_complete(c, &url).await
}

async fn stalled_can_be_replaced(c: &Context) -> CheckResult {
    let url = create(c).await?;
    let stalled = start(c, &url, 0, SENT).await?;
    expect_complete(c, &url).await?;
    stalled.close();
    Ok(())
}

async fn stalled_adds_nothing(c: &Context) -> CheckResult {
    let url = create(c).await?;
    let mut stalled = start(c, &url, 0, SENT).await?;
    // A server that does not replace it may complete the upload after this.
    let completed = expect_complete(c, &url).await;
    if completed.is_err() {
        stalled.close();
        return expect_complete(c, &url).await;
    }
    // The server may have closed the connection.
    let _ = stalled.write(&vec![b'x'; LENGTH - SENT]).await;
    let _ = stalled.response_within(Duration::from_secs(2)).await;
    c.expect_offset(&url, LENGTH as u64).await?;
    c.expect_bytes(&url, &test_data(LENGTH)).await
}

async fn slow_data(c: &Context) -> CheckResult {
    let data = test_data(20);
    let url = c.create(20).await?;
    let request = c.patch(&url, 0, b"").content(Content::Declared(20));
    let mut connection = c.start(&request, b"").await?;
    for piece in data.chunks(2) {
        sleep(Duration::from_millis(100)).await;
        connection.write(piece).await?;
    }
    let response = connection.response().await?;
    response.expect_stored(20)?;
    c.expect_bytes(&url, &data).await
}

async fn head_during_patch(c: &Context) -> CheckResult {
    let url = create(c).await?;
    let connection = start(c, &url, 0, SENT).await?;
    let head = c.send(c.tus("HEAD", &url)).await?;
    if head.status != 423 {
        head.expect_success()?;
        let offset = head.number("Upload-Offset")?;
        ensure!(
            offset <= SENT as u64,
            "the offset is {offset}, but {SENT} bytes were sent"
        )?;
    }
    connection.close();
    Ok(())
}
