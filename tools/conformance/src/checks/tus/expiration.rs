//! Expiration of unfinished uploads.

use std::time::{Duration, SystemTime};

use url::Url;

use super::termination::expect_gone;
use crate::client::Response;
use crate::context::Context;
use crate::requirement::{CheckResult, Finding, ensure, skip};

const HEADER: &str = "Expiration, Headers, Upload-Expires";
const EXPIRATION: &str = "Expiration";
/// Longer lifetimes are not waited for.
const MAX_WAIT: Duration = Duration::from_secs(20);
/// Clocks differ, and HTTP dates are whole seconds.
const TOLERANCE: Duration = Duration::from_secs(2);

checks! {
    Must "tus/expiration/patch-has-upload-expires", HEADER,
        "Every response to PATCH has Upload-Expires if the upload is going to expire." => patch_has_expires;
    Must "tus/expiration/each-patch-has-upload-expires", HEADER,
        "Also later responses to PATCH have Upload-Expires." => each_patch_has_expires;
    Should "tus/expiration/creation-has-upload-expires", HEADER,
        "The response to a creation has Upload-Expires if the time is known." => creation_has_expires;
    Must "tus/expiration/is-an-http-date", HEADER,
        "Upload-Expires is a date as in RFC 9110." => is_an_http_date;
    Should "tus/expiration/is-in-the-preferred-format", "RFC 9110, 5.6.7 Date/Time Formats",
        "The date has the format of RFC 9110 that senders must generate." => is_in_the_preferred_format;
    Should "tus/expiration/is-in-the-future", HEADER,
        "An upload that was just created expires in the future." => is_in_the_future;
    Should "tus/expiration/expired-upload-is-gone", EXPIRATION,
        "HEAD on an expired upload is 404 or 410." => expired("HEAD");
    Should "tus/expiration/patch-on-expired-upload-is-gone", EXPIRATION,
        "PATCH on an expired upload is 404 or 410." => expired("PATCH");
    May "tus/expiration/head-has-upload-expires", HEADER,
        "HEAD reports the expiration, too." => head_has_expires;
    May "tus/expiration/does-not-move-back", HEADER,
        "The expiration does not come earlier because data arrives." => does_not_move_back;
}

/// Returns the response to a PATCH; skips the check if no response has an expiration.
async fn patched(c: &Context) -> CheckResult<Response> {
    let url = expiring(c).await?;
    c.append(&url, 0, b"hello").await
}

/// An upload of 10 bytes. A server may offer the extension although its uploads do not expire.
async fn expiring(c: &Context) -> CheckResult<Url> {
    let created = c.send(c.post().field("Upload-Length", 10)).await?;
    let url = c.location(&created)?;
    if created.field("Upload-Expires").is_none() {
        let other = c.create(10).await?;
        let patched = c.append(&other, 0, b"hello").await?;
        let head = c.head(&other).await?;
        if [patched, head]
            .iter()
            .all(|response| response.field("Upload-Expires").is_none())
        {
            return skip("uploads do not expire");
        }
    }
    Ok(url)
}

fn expires(response: &Response) -> CheckResult<SystemTime> {
    let value = response.required("Upload-Expires")?;
    let invalid = |_| Finding::failed(format!("Upload-Expires is {value:?}"));
    httpdate::parse_http_date(value).map_err(invalid)
}

async fn patch_has_expires(c: &Context) -> CheckResult {
    patched(c).await?.required("Upload-Expires")?;
    Ok(())
}

async fn each_patch_has_expires(c: &Context) -> CheckResult {
    let url = expiring(c).await?;
    for offset in 0..4 {
        c.append(&url, offset, b"x")
            .await?
            .required("Upload-Expires")?;
    }
    Ok(())
}

async fn creation_has_expires(c: &Context) -> CheckResult {
    expiring(c).await?;
    let response = c.send(c.post().field("Upload-Length", 10)).await?;
    response.expect_success()?;
    response.required("Upload-Expires")?;
    Ok(())
}

async fn is_an_http_date(c: &Context) -> CheckResult {
    expires(&patched(c).await?)?;
    Ok(())
}

async fn is_in_the_preferred_format(c: &Context) -> CheckResult {
    let response = patched(c).await?;
    let preferred = httpdate::fmt_http_date(expires(&response)?);
    let value = response.required("Upload-Expires")?;
    ensure!(
        value == preferred,
        "Upload-Expires is {value:?}, not {preferred:?}"
    )
}

async fn is_in_the_future(c: &Context) -> CheckResult {
    let time = expires(&patched(c).await?)?;
    ensure!(
        time + TOLERANCE > SystemTime::now(),
        "the upload has expired already"
    )
}

async fn expired(c: &Context, method: &str) -> CheckResult {
    let url = expiring(c).await?;
    let time = expires(&c.append(&url, 0, b"hello").await?)?;
    let wait = time.duration_since(SystemTime::now()).unwrap_or_default() + TOLERANCE;
    if wait > MAX_WAIT {
        let seconds = wait.as_secs();
        return skip(format!("uploads expire in {seconds} seconds"));
    }
    tokio::time::sleep(wait).await;
    expect_gone(c, method, &url, 5).await
}

async fn head_has_expires(c: &Context) -> CheckResult {
    let url = expiring(c).await?;
    c.append(&url, 0, b"hello").await?;
    c.head(&url).await?.required("Upload-Expires")?;
    Ok(())
}

async fn does_not_move_back(c: &Context) -> CheckResult {
    let url = expiring(c).await?;
    let first = expires(&c.append(&url, 0, b"x").await?)?;
    let second = expires(&c.append(&url, 1, b"x").await?)?;
    ensure!(second >= first, "Upload-Expires has come earlier")
}
