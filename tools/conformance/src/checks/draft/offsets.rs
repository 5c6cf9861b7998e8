//! Appends at another offset than that of the upload.

use url::Url;

use super::requests::Draft;
use super::{APPEND, OFFSET, draft_checks};
use crate::client::Response;
use crate::dialect::fields::{digest_field, integer};
use crate::requirement::{CheckResult, ensure};

draft_checks! {
    Must "draft/offsets/lower-offset-is-409", APPEND,
        "An append at a lower offset than that of the upload is 409." => conflict(Sent::Start);
    Must "draft/offsets/slightly-lower-offset-is-409", APPEND,
        "An append one byte below the offset of the upload is 409." => conflict(Sent::Below);
    Must "draft/offsets/higher-offset-is-409", APPEND,
        "An append at a higher offset than that of the upload is 409." => conflict(Sent::Above);
    Must "draft/offsets/offset-at-the-length-is-409", APPEND,
        "An append at the length of an upload that has fewer bytes is 409." => conflict(Sent::Length);
    Must "draft/offsets/409-has-the-offset", APPEND,
        "A response with 409 has the Upload-Offset of the upload." => has_the_offset;
    Must "draft/offsets/409-is-not-complete", APPEND, [9..],
        "A response with 409 has Upload-Complete: ?0." => is_not_complete;
    Must "draft/offsets/409-changes-nothing", OFFSET,
        "An append at another offset does not change the upload." => changes_nothing;
    Must "draft/offsets/rejected-appends-keep-the-offset", OFFSET,
        "Appends that are rejected for any reason do not lower the offset." => rejected_keep_the_offset;
    Must "draft/offsets/last-append-at-another-offset-does-not-complete", OFFSET,
        "The last append at another offset is 409, and does not complete the upload." => last_at_another;
    Must "draft/offsets/repeated-append-is-409", APPEND,
        "The same append again is 409: its bytes are stored already." => repeated;
    Must "draft/offsets/reported-offset-is-accepted", OFFSET,
        "An append at the Upload-Offset of a 409 succeeds." => reported_is_accepted;
    Must "draft/offsets/empty-append-at-another-offset-is-409", APPEND,
        "An append without content at another offset is 409." => empty;
}

/// The offset that a request has, of an upload of three units that has one.
#[derive(Clone, Copy)]
enum Sent {
    Start,
    Below,
    Above,
    Length,
}

impl Sent {
    const fn offset(self, unit: usize) -> usize {
        match self {
            Self::Start => 0,
            Self::Below => unit - 1,
            Self::Above => unit + 1,
            Self::Length => 3 * unit,
        }
    }
}

async fn upload(d: &Draft<'_>) -> CheckResult<(Url, Vec<u8>)> {
    let data = d.data(3)?;
    Ok((d.create_with(&data, d.unit()).await?, data))
}

async fn sent(d: &Draft<'_>, sent: Sent) -> CheckResult<(Url, Vec<u8>, Response)> {
    let (url, data) = upload(d).await?;
    let offset = sent.offset(d.unit());
    let request = d.append(&url, offset, &data[..d.unit()], false);
    let response = d.send(request).await?;
    Ok((url, data, response))
}

async fn conflict(d: &Draft<'_>, offset: Sent) -> CheckResult {
    sent(d, offset).await?.2.expect(&[409])
}

async fn has_the_offset(d: &Draft<'_>) -> CheckResult {
    for offset in [Sent::Start, Sent::Above] {
        let (_, _, response) = sent(d, offset).await?;
        response.expect(&[409])?;
        let offset = integer(&response, "Upload-Offset")?;
        ensure!(
            offset == Some(d.unit() as u64),
            "Upload-Offset is {offset:?}, not {}",
            d.unit()
        )?;
    }
    Ok(())
}

async fn is_not_complete(d: &Draft<'_>) -> CheckResult {
    let (_, _, response) = sent(d, Sent::Above).await?;
    response.expect(&[409])?;
    d.expect_flag(&response, false)
}

async fn changes_nothing(d: &Draft<'_>) -> CheckResult {
    let (url, data) = upload(d).await?;
    let unit = d.unit();
    for offset in [Sent::Start, Sent::Below, Sent::Above, Sent::Length] {
        let wrong = vec![0; unit];
        d.send(d.append(&url, offset.offset(unit), &wrong, false))
            .await?;
        d.expect_offset(&url, unit).await?;
    }
    d.resume(&url, &data).await
}

async fn rejected_keep_the_offset(d: &Draft<'_>) -> CheckResult {
    let (url, data) = upload(d).await?;
    let unit = d.unit();
    let append = || d.append(&url, unit, &data[unit..2 * unit], false);
    let requests = [
        append().set("Content-Type", "text/plain"),
        append().without("Upload-Offset"),
        append().set("Upload-Offset", "-1"),
        append().set("Upload-Offset", "1e3"),
        append().without(d.dialect.flag_name()),
        append().set(d.dialect.flag_name(), "yes"),
        append().field("Content-Digest", digest_field(b"other bytes")?),
    ];
    let mut highest = unit as u64;
    for request in requests {
        let response = d.send(request).await?;
        // What a server accepts is a matter of other checks.
        let state = d.state(&url).await?;
        ensure!(
            state.offset >= highest,
            "Upload-Offset was {highest}, and is {} after a request that got {}",
            state.offset,
            response.status
        )?;
        if state.is_complete == Some(true) {
            return Ok(());
        }
        highest = state.offset;
    }
    match highest == unit as u64 {
        true => d.resume(&url, &data).await,
        false => Ok(()),
    }
}

async fn last_at_another(d: &Draft<'_>) -> CheckResult {
    let (url, data) = upload(d).await?;
    let unit = d.unit();
    let request = d.append(&url, 2 * unit, &data[2 * unit..], true);
    d.send(request).await?.expect(&[409])?;
    d.expect_incomplete(&url).await?;
    d.resume(&url, &data).await
}

async fn repeated(d: &Draft<'_>) -> CheckResult {
    let (url, data) = upload(d).await?;
    let request = d.append(&url, 0, &data[..d.unit()], false);
    d.send(request).await?.expect(&[409])?;
    d.expect_offset(&url, d.unit()).await
}

async fn reported_is_accepted(d: &Draft<'_>) -> CheckResult {
    let (url, data, response) = sent(d, Sent::Above).await?;
    response.expect(&[409])?;
    let offset = integer(&response, "Upload-Offset")?.unwrap_or_default();
    ensure!(
        offset <= data.len() as u64,
        "Upload-Offset is {offset}, above the length"
    )?;
    let rest = usize::try_from(offset).unwrap_or_default();
    d.last(&url, rest, &data[rest..]).await?;
    d.expect_state_if_there(&url, data.len()).await
}

async fn empty(d: &Draft<'_>) -> CheckResult {
    let (url, _) = upload(d).await?;
    let request = d.append(&url, 2 * d.unit(), b"", true);
    d.send(request).await?.expect(&[409])?;
    d.expect_offset(&url, d.unit()).await
}
