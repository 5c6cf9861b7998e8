//! Time limits of request bodies, with `--slow`.

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::{Doctor, Response, client::Exchange, describe, is_from_server, seconds};
use crate::finding::Finding;

/// Enough per second for most minimum rates, and for proxies with small buffers.
const PART: usize = 16 * 1024;
static ZEROS: [u8; PART] = [0; PART];
const INTERVAL: Duration = Duration::from_secs(1);

const INACTIVITY_ADVICE: &str = "raise the limits of inactivity above Landfall's --network-timeout (nginx: client_body_timeout, \
     proxy_send_timeout; HAProxy: timeout client, timeout server; Caddy, Traefik: no read timeout)";

const DURATION_ADVICE: &str = "remove the limit of whole requests (Traefik: readTimeout 0s; Caddy: no read_timeout and read_body; \
     CDNs: a limit of the plan), or let clients upload in chunks that take less";

/// Sends two bodies at the same time: one pauses for `duration`, the other lasts as long.
pub(super) async fn run(doctor: &mut Doctor, duration: Duration) {
    let intervals = duration.as_secs().max(1);
    let paused = start(doctor, 2).await;
    let steady = start(doctor, intervals + 1).await;
    let paused = async {
        let exchange = paused?;
        Ok::<_, String>(send_parts(exchange, 1, duration).await)
    };
    let steady = async {
        let exchange = steady?;
        Ok::<_, String>(send_parts(exchange, intervals, INTERVAL).await)
    };
    let (paused, steady) = tokio::join!(paused, steady);
    let result = paused.map(|sent| finding("pause", sent, duration, INACTIVITY_ADVICE));
    doctor.report_result("pause", result);
    let result = steady.map(|sent| finding("duration", sent, duration, DURATION_ADVICE));
    doctor.report_result("duration", result);
}

async fn start(doctor: &mut Doctor, parts: u64) -> Result<Exchange, String> {
    let length = parts * PART as u64;
    let (_, mut exchange) = doctor.start_patch(length, &[]).await?;
    exchange.send(Bytes::from_static(&ZEROS)).await;
    Ok(exchange)
}

/// Sends a part after each interval until the exchange ends; returns when it did, and its response.
async fn send_parts(
    mut exchange: Exchange,
    parts: u64,
    interval: Duration,
) -> (Duration, Result<Response, String>) {
    let started = Instant::now();
    for _ in 0..parts {
        if exchange.has_ended(interval).await || !exchange.send(Bytes::from_static(&ZEROS)).await {
            break;
        }
    }
    let elapsed = started.elapsed();
    (elapsed, exchange.response().await)
}

fn finding(
    check: &'static str,
    (elapsed, result): (Duration, Result<Response, String>),
    duration: Duration,
    advice: &str,
) -> Finding {
    let elapsed = seconds(elapsed);
    match result {
        Ok(response) if response.status().is_success() => {
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
