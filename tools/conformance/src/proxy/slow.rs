//! Time limits of request bodies, with `--slow`.

use std::time::{Duration, Instant};

use super::{Connection, Doctor, Finding, Response, describe, is_from_server, seconds};

/// Enough per second for most minimum rates, and for proxies with small buffers.
const PART: usize = 16 * 1024;
static ZEROS: [u8; PART] = [0; PART];
const INTERVAL: Duration = Duration::from_secs(1);

const INACTIVITY_ADVICE: &str = "raise the limits of inactivity above Landfall's --network-timeout (nginx: client_body_timeout, \
     proxy_send_timeout; HAProxy: timeout client, timeout server; Caddy, Traefik: no read timeout)";

const DURATION_ADVICE: &str = "remove the limit of whole requests (Traefik: readTimeout 0s; Caddy: no read_timeout and read_body; \
     CDNs: a limit of the plan), or let clients upload in chunks that take less";

/// Sends two bodies at the same time: one pauses for `duration`, the other lasts as long.
pub(super) async fn run(doctor: &mut Doctor<'_>, duration: Duration) {
    let intervals = duration.as_secs().max(1);
    let paused = start(doctor, 2).await;
    let steady = start(doctor, intervals + 1).await;
    let paused = async {
        let patch = paused?;
        Ok::<_, String>(send_parts(doctor, patch, 1, duration).await)
    };
    let steady = async {
        let patch = steady?;
        Ok::<_, String>(send_parts(doctor, patch, intervals, INTERVAL).await)
    };
    let (paused, steady) = tokio::join!(paused, steady);
    let result = paused.map(|sent| finding("pause", sent, duration, INACTIVITY_ADVICE));
    doctor.add_result("pause", result);
    let result = steady.map(|sent| finding("duration", sent, duration, DURATION_ADVICE));
    doctor.add_result("duration", result);
}

async fn start(doctor: &Doctor<'_>, parts: u64) -> Result<Connection, String> {
    let length = parts * PART as u64;
    let (_, mut patch) = doctor.start_patch(length, &[]).await?;
    patch.send_part(&ZEROS).await;
    Ok(patch)
}

/// Sends a part after each interval until the exchange ends; returns when it did, and its response.
async fn send_parts(
    doctor: &Doctor<'_>,
    mut patch: Connection,
    parts: u64,
    interval: Duration,
) -> (Duration, Result<Response, String>) {
    let started = Instant::now();
    for _ in 0..parts {
        if patch.has_ended(interval).await || !patch.send_part(&ZEROS).await {
            break;
        }
    }
    let elapsed = started.elapsed();
    (elapsed, doctor.response(&mut patch).await)
}

fn finding(
    check: &'static str,
    (elapsed, result): (Duration, Result<Response, String>),
    duration: Duration,
    advice: &str,
) -> Finding {
    let elapsed = seconds(elapsed);
    match result {
        Ok(response) if response.is_success() => {
            Finding::ok(check, format!("a body of {} passes", seconds(duration)))
        }
        Ok(response) if is_from_server(&response) => {
            let text = format!(
                "the server ends the body after {elapsed}: {}",
                describe(&response)
            );
            Finding::info(check, text)
        }
        Ok(response) => {
            let text = format!("the body is cut after {elapsed}: {}", describe(&response));
            Finding::warn(check, text).advise(advice)
        }
        Err(error) => {
            let text = format!("the body is cut after {elapsed}: {error}");
            Finding::warn(check, text).advise(advice)
        }
    }
}
