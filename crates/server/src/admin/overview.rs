use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use landfall_api::Problem;
use landfall_outbox::{OutboxStats, RouteStats};
use landfall_queue::Throughput;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Admin, invalid, job_json::time};

const MINUTE: Duration = Duration::from_secs(60);
const MAX_MINUTES: u64 = 24 * 60;

pub(super) async fn overview(State(admin): State<Admin>) -> Result<Json<Value>, Problem> {
    let parts = &admin.0.parts;
    let now = SystemTime::now();
    let recent = parts.queue.throughput(minute_of(now) - MINUTE);
    let (totals, health) = (parts.queue.totals(), parts.app.health());
    let (totals, recent, health) = tokio::join!(totals, recent, health);
    let (totals, recent) = (totals?, recent?);
    let (start, started_at) = admin.0.started;
    Ok(Json(json!({
        "node": parts.node,
        "version": env!("CARGO_PKG_VERSION"),
        "now": time(now),
        "started_at": time(started_at),
        "uptime_seconds": start.elapsed().as_secs(),
        "jobs": totals.jobs,
        "completed_bytes": totals.completed_bytes,
        // Received by all nodes, over the last minute.
        "rate": rate(&recent, now),
        "active_uploads": parts.handler.stats().live_uploads,
        "storage": parts.app.storage.capacity(),
        "health": health,
        "outbox": parts.app.hooks.outbox_stats().map(outbox_json),
    })))
}

fn outbox_json(stats: OutboxStats) -> Value {
    let transport = |route: &RouteStats| {
        json!({
            "name": route.name,
            "pending": route.pending,
            "oldest_seconds": route.oldest.as_secs(),
            "dead_letters": route.dead,
            "delivered": route.delivered,
            "failed": route.failed,
        })
    };
    let transports: Value = stats.routes.iter().map(transport).collect();
    json!({ "queued": stats.queued, "limit": stats.max_queued, "transports": transports })
}

/// Covers the 60 seconds before `now`: the current minute counts whole, the previous one by its share.
fn rate(recent: &[Throughput], now: SystemTime) -> u64 {
    let minute = minute_of(now);
    let bytes = |wanted: SystemTime| -> u64 {
        let found = recent.iter().filter(|one| one.minute == wanted);
        found.map(|one| one.bytes).sum()
    };
    let elapsed = now.duration_since(minute).unwrap_or_default().as_secs_f64();
    let previous = bytes(minute - MINUTE) as f64 * (1.0 - elapsed / 60.0);
    ((bytes(minute) as f64 + previous) / 60.0).round() as u64
}

fn minute_of(when: SystemTime) -> SystemTime {
    let since = when.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs() / 60 * 60)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ThroughputQuery {
    minutes: Option<u64>,
}

pub(super) async fn throughput(
    State(admin): State<Admin>,
    query: Result<Query<ThroughputQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|error| invalid(error.body_text()))?;
    let count = query.minutes.unwrap_or(60).clamp(1, MAX_MINUTES);
    let last = minute_of(SystemTime::now());
    let first = last - MINUTE * u32::try_from(count - 1).unwrap_or_default();
    let found = admin.0.parts.queue.throughput(first).await?;
    Ok(Json(json!({ "minutes": fill_gaps(&found, first, count) })))
}

fn fill_gaps(found: &[Throughput], first: SystemTime, count: u64) -> Value {
    let by_minute: BTreeMap<SystemTime, &Throughput> =
        found.iter().map(|one| (one.minute, one)).collect();
    let minute_json = |at: u64| {
        let minute = first + Duration::from_secs(at * 60);
        let found = by_minute.get(&minute);
        json!({
            "minute": time(minute),
            "bytes": found.map_or(0, |one| one.bytes),
            "started": found.map_or(0, |one| one.started),
            "completed": found.map_or(0, |one| one.completed),
            "failed": found.map_or(0, |one| one.failed),
        })
    };
    (0..count).map(minute_json).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn throughput_of(minute: u64, bytes: u64) -> Throughput {
        Throughput {
            minute: at(minute),
            bytes,
            started: 1,
            completed: 0,
            failed: 0,
        }
    }

    #[test]
    fn rate_covers_the_last_sixty_seconds() {
        let recent = [throughput_of(600, 6000), throughput_of(660, 600)];
        assert_eq!(
            rate(&recent, at(660)),
            110,
            "the window covers the whole first minute"
        );
        assert_eq!(rate(&recent, at(690)), 60, "half of the first minute");
        assert_eq!(rate(&recent, at(720)), 10, "only the second minute");
        assert_eq!(rate(&recent, at(900)), 0);
    }

    #[test]
    fn minutes_without_uploads_are_listed() {
        let minutes = fill_gaps(&[throughput_of(660, 7)], at(600), 3);
        let minutes = minutes.as_array().unwrap();
        let bytes: Vec<&Value> = minutes.iter().map(|minute| &minute["bytes"]).collect();
        assert_eq!(bytes, [0, 7, 0]);
        assert_eq!(minutes[1]["minute"], "1970-01-01T00:11:00.000Z");
    }
}
