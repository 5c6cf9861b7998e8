//! Request bodies: whether they are streamed, `Expect: 100-continue`, and their maximum size.

use std::time::{Duration, Instant};

use landfall_protocol::units::size_text;

use super::{Connection, Doctor, Finding, describe, is_from_server, offset, seconds};

/// Proxies that stream hold back less.
const PART: usize = 256 * 1024;
static ZEROS: [u8; PART] = [0; PART];

const STREAM_TIMEOUT: Duration = Duration::from_secs(10);
const POLL_INTERVAL: Duration = Duration::from_millis(300);
/// curl waits 1 s for `100 Continue`.
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(5);
/// A rejection of the head arrives before most of the content is sent.
const REJECTION_TIMEOUT: Duration = Duration::from_secs(1);
const SIZE_TIMEOUT: Duration = Duration::from_secs(15 * 60);

const BUFFERING_ADVICE: &str = "pass bodies as they arrive (nginx: proxy_request_buffering off and proxy_http_version 1.1; HAProxy: \
     no option http-buffer-request; Caddy: no request_buffers; Traefik: no buffering middleware)";

const SIZE_ADVICE: &str = "raise the limit (nginx: client_max_body_size 0; Caddy: no request_body max_size; Traefik: no \
     maxRequestBodyBytes; CDNs: a limit of the plan), or let clients upload in chunks below it";

const EXPECT_ADVICE: &str = "let the proxy respond with 100 Continue, or pass the field Expect";

pub(super) async fn run(doctor: &mut Doctor<'_>) {
    let result = streaming(doctor).await;
    doctor.add_result("request buffering", result);
    let result = expectation(doctor).await;
    doctor.add_result("Expect", result);
    let result = size(doctor).await;
    doctor.add_result("body size", result);
}

/// Sends a first part, and waits until HEAD on other connections returns its offset.
async fn streaming(doctor: &mut Doctor<'_>) -> Result<Finding, String> {
    const CHECK: &str = "request buffering";
    let part = PART as u64;
    let (upload, mut patch) = doctor.start_patch(2 * part, &[]).await?;
    let started = Instant::now();
    patch.send_part(&ZEROS).await;
    let (mut stored, mut is_ended) = (0, false);
    while stored < part && started.elapsed() < STREAM_TIMEOUT {
        is_ended = patch.has_ended(POLL_INTERVAL).await;
        if is_ended {
            break;
        }
        let head = doctor.head(&upload).await?;
        // Servers that let no HEAD pass during a PATCH have received the latter.
        if head.status == 423 {
            stored = part;
        }
        stored = stored.max(offset(&head).unwrap_or(0));
    }
    let waited = seconds(started.elapsed());
    patch.send_part(&ZEROS).await;
    let response = doctor.response(&mut patch).await;
    if stored == 0 && is_ended {
        let rejection = describe(&response?);
        return Ok(Finding::fail(CHECK, rejection).advise(SIZE_ADVICE));
    }
    if stored == 0 {
        let text = format!(
            "the server has received none of {part} bytes after {waited}: the proxy holds bodies back, and \
             after an interruption they are lost"
        );
        return Ok(Finding::fail(CHECK, text).advise(BUFFERING_ADVICE));
    }
    if stored < part {
        let text = format!("the server has received only {stored} of {part} bytes after {waited}");
        return Ok(Finding::warn(CHECK, text).advise(BUFFERING_ADVICE));
    }
    let response = response?;
    // HEAD may end a running PATCH, which the client then resumes.
    match response.is_success() || is_from_server(&response) {
        true => Ok(Finding::ok(
            CHECK,
            format!("none, bytes arrive within {waited}"),
        )),
        false => Ok(Finding::warn(CHECK, describe(&response))),
    }
}

async fn expectation(doctor: &mut Doctor<'_>) -> Result<Finding, String> {
    const CHECK: &str = "Expect";
    let fields = [("Expect", "100-continue")];
    let (_, mut patch) = doctor.start_patch(PART as u64, &fields).await?;
    let interim = patch.interim(100, CONTINUE_TIMEOUT).await;
    patch.send_part(&ZEROS).await;
    let response = doctor.response(&mut patch).await?;
    if !response.is_success() {
        let text = format!("{} to Expect: 100-continue", describe(&response));
        return Ok(Finding::warn(CHECK, text).advise(EXPECT_ADVICE));
    }
    Ok(match interim {
        Some(_) => Finding::ok(CHECK, "100 Continue arrives"),
        None => {
            let text = format!(
                "no 100 Continue within {}; the request succeeds without",
                seconds(CONTINUE_TIMEOUT)
            );
            Finding::info(CHECK, text)
        }
    })
}

async fn size(doctor: &mut Doctor<'_>) -> Result<Finding, String> {
    const CHECK: &str = "body size";
    let size = doctor.options.size;
    let size = size.min(
        doctor
            .server
            .max_size
            .map_or(size, |max| max.saturating_sub(1)),
    );
    let (_, mut patch) = doctor.start_patch(size, &[]).await?;
    let is_rejected = patch.has_ended(REJECTION_TIMEOUT).await;
    let started = Instant::now();
    let sent = match is_rejected {
        true => 0,
        false => send_zeros(&mut patch, size).await,
    };
    let shown = size_text(size);
    if started.elapsed() > SIZE_TIMEOUT {
        let text = format!("{sent} bytes within {}", seconds(SIZE_TIMEOUT));
        return Ok(Finding::warn(CHECK, text).advise("set a smaller --size"));
    }
    let text = match doctor.response(&mut patch).await {
        Ok(response) if response.is_success() => {
            let text = format!("{shown} pass in {}", seconds(started.elapsed()));
            return Ok(Finding::ok(CHECK, text));
        }
        Ok(response) => format!("{shown}: {} after {sent} bytes", describe(&response)),
        Err(error) => format!("{shown}: {error}, after {sent} bytes"),
    };
    Ok(Finding::fail(CHECK, text).advise(SIZE_ADVICE))
}

/// Returns the number of bytes that were sent until the exchange ended or took no more.
async fn send_zeros(patch: &mut Connection, size: u64) -> u64 {
    let (mut sent, started) = (0, Instant::now());
    while sent < size && started.elapsed() <= SIZE_TIMEOUT {
        let part = usize::try_from(size - sent).unwrap_or(PART).min(PART);
        if patch.has_ended(Duration::ZERO).await || !patch.send_part(&ZEROS[..part]).await {
            break;
        }
        sent += part as u64;
    }
    sent
}
