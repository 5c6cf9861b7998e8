//! Totals, health and throughput for the start page of the dashboard.
//!
//! Jobs, rate and throughput are of all nodes; health, conditions and storage are as this node sees them.
//! Both responses are bounded: at most `MAX_ACTIVE` jobs are examined, and at most `MAX_INTERVALS` intervals are sent.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use landfall_access::Problem;
use landfall_hooks::rfc3339;
use landfall_state::outbox::{OutboxStats, RouteStats};
use landfall_state::queue::{
    JobState, Query as JobQuery, Scope, Throughput, ThroughputQuery as Range,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::condition::Condition;

use super::{Admin, invalid, job_json::is_receiving};

const MINUTE: Duration = Duration::from_secs(60);
const MAX_MINUTES: u64 = 7 * 24 * 60;
/// At most this many intervals, of the first of these lengths that allows it.
const MAX_INTERVALS: u64 = 240;
const INTERVALS: [u64; 6] = [1, 2, 5, 10, 30, 60];
/// Of more active uploads, it is unknown which are being received.
const MAX_ACTIVE: usize = 1000;

pub(super) async fn overview(State(admin): State<Admin>) -> Result<Json<Value>, Problem> {
    let parts = &admin.0.parts;
    let now = SystemTime::now();
    let range = Range {
        since: minute_of(now) - MINUTE,
        interval: 1,
        node: None,
    };
    let mut active = JobQuery::new(Scope::All);
    active.states = vec![JobState::Started, JobState::Progress];
    active.limit = MAX_ACTIVE;
    let (totals, health) = (parts.queue.totals(), parts.app.health());
    let (recent, active) = (parts.queue.throughput(&range), parts.queue.list(&active));
    let (totals, recent, active, health) = tokio::join!(totals, recent, active, health);
    let (totals, recent, active) = (totals?, recent?, active?);
    let receiving = active.jobs.iter().filter(|job| is_receiving(&admin, job));
    let receiving = (!active.has_more).then(|| receiving.count());
    let (start, started_at) = admin.0.started;
    Ok(Json(json!({
        "node": parts.node,
        "version": env!("CARGO_PKG_VERSION"),
        "now": rfc3339::millis(now),
        "started_at": rfc3339::millis(started_at),
        "uptime_seconds": start.elapsed().as_secs(),
        "jobs": totals.jobs,
        "completed_bytes": totals.completed_bytes,
        // Received by all nodes, over the last minute.
        "rate": rate(&recent, now),
        "receiving": receiving,
        "active_uploads": parts.handler.stats().live_uploads,
        "storage": parts.app.storage.capacity(),
        "health": health,
        "conditions": parts.app.conditions.list().iter().map(Condition::to_json).collect::<Value>(),
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
            // Set while one event is tried at a time.
            "next_attempt_seconds": route.next_attempt.map(|wait| wait.as_secs()),
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
    #[serde(default)]
    node: String,
}

pub(super) async fn throughput(
    State(admin): State<Admin>,
    query: Result<Query<ThroughputQuery>, QueryRejection>,
) -> Result<Json<Value>, Problem> {
    let Query(query) = query.map_err(|error| invalid(error.body_text()))?;
    let count = query.minutes.unwrap_or(60).clamp(1, MAX_MINUTES);
    let is_enough = |interval: &u64| count.div_ceil(*interval) <= MAX_INTERVALS;
    let interval = INTERVALS.into_iter().find(is_enough).unwrap_or(60);
    let range = Range {
        since: first_of(SystemTime::now(), count, interval),
        interval: u32::try_from(interval).unwrap_or(1),
        node: Some(query.node).filter(|node| !node.is_empty()),
    };
    let queue = &admin.0.parts.queue;
    let (found, nodes) = (
        queue.throughput(&range),
        queue.throughput_nodes(range.since),
    );
    let (found, nodes) = tokio::join!(found, nodes);
    let minutes = fill_gaps(&found?, range.since, count.div_ceil(interval), interval);
    Ok(Json(
        json!({ "interval_minutes": interval, "nodes": nodes?, "minutes": minutes }),
    ))
}

/// Returns the start of the first of the intervals that cover the last `minutes`.
fn first_of(now: SystemTime, minutes: u64, interval: u64) -> SystemTime {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let last = now / (interval * 60) + 1;
    UNIX_EPOCH
        + Duration::from_secs(last.saturating_sub(minutes.div_ceil(interval)) * interval * 60)
}

fn fill_gaps(found: &[Throughput], first: SystemTime, count: u64, interval: u64) -> Value {
    let by_minute: BTreeMap<SystemTime, &Throughput> =
        found.iter().map(|one| (one.minute, one)).collect();
    let minute_json = |at: u64| {
        let minute = first + Duration::from_secs(at * interval * 60);
        let found = by_minute.get(&minute);
        json!({
            "minute": rfc3339::millis(minute),
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
        let minutes = fill_gaps(&[throughput_of(660, 7)], at(600), 3, 1);
        let minutes = minutes.as_array().unwrap();
        let bytes: Vec<&Value> = minutes.iter().map(|minute| &minute["bytes"]).collect();
        assert_eq!(bytes, [0, 7, 0]);
        assert_eq!(minutes[1]["minute"], "1970-01-01T00:11:00.000Z");
    }

    #[test]
    fn intervals_start_at_multiples_of_their_length() {
        assert_eq!(first_of(at(7261), 3, 1), at(7140));
        assert_eq!(first_of(at(7261), 120, 60), at(3600));
        assert_eq!(first_of(at(7261), 61, 60), at(3600));
    }
}
