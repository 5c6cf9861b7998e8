//! The state of things at a glance, and what came in during the last hours.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
};
use landfall_grants::queue::Throughput;
use landfall_hooks::outbox::{OutboxStats, RouteStats};
use serde::{Deserialize, Serialize};

use super::{Admin, Check, Room, problem::Problem, row::time};

const MINUTE: Duration = Duration::from_secs(60);
/// The longest time that throughput is shown of: a day.
const MOST_MINUTES: u64 = 24 * 60;

#[derive(Serialize)]
pub(super) struct Overview {
    node: String,
    version: &'static str,
    now: String,
    started_at: String,
    uptime_seconds: u64,
    jobs: BTreeMap<&'static str, u64>,
    completed_bytes: u64,
    /// Bytes per second that came in during the last minute, over all nodes.
    rate: u64,
    /// Uploads whose bytes this node is receiving.
    live_here: u64,
    storage: Room,
    health: Vec<Check>,
    outbox: Option<Outbox>,
}

#[derive(Serialize)]
struct Outbox {
    rows: usize,
    limit: usize,
    transports: Vec<Transport>,
}

#[derive(Serialize)]
struct Transport {
    name: String,
    waiting: u64,
    oldest_seconds: u64,
    dead: u64,
    delivered: u64,
    failed: u64,
}

impl From<OutboxStats> for Outbox {
    fn from(stats: OutboxStats) -> Self {
        let transport = |route: RouteStats| Transport {
            name: route.name,
            waiting: route.pending,
            oldest_seconds: route.oldest.as_secs(),
            dead: route.dead,
            delivered: route.delivered,
            failed: route.failed,
        };
        Self {
            rows: stats.queued,
            limit: stats.max_queued,
            transports: stats.routes.into_iter().map(transport).collect(),
        }
    }
}

/// `GET overview`.
pub(super) async fn overview(State(admin): State<Admin>) -> Result<Json<Overview>, Problem> {
    let inner = &*admin.0;
    let now = admin.now();
    let health = inner.machine.health();
    let (totals, recent, health) = tokio::join!(
        inner.queue.totals(),
        inner.queue.throughput(minute_of(now) - MINUTE),
        health
    );
    let (totals, recent) = (totals?, recent?);
    let (began, started_at) = inner.started;
    Ok(Json(Overview {
        node: inner.node.clone(),
        version: env!("CARGO_PKG_VERSION"),
        now: time(now),
        started_at: time(started_at),
        uptime_seconds: began.elapsed().as_secs(),
        jobs: totals.jobs,
        completed_bytes: totals.completed_bytes,
        rate: rate(&recent, now),
        live_here: inner.handler.stats().live_uploads,
        storage: inner.machine.room(),
        health,
        outbox: inner.machine.outbox().map(Into::into),
    }))
}

/// Bytes per second during the 60 seconds before `now`: all of the minute that runs, and as much of the
/// one before as lies in them.
fn rate(recent: &[Throughput], now: SystemTime) -> u64 {
    let minute = minute_of(now);
    let bytes = |wanted: SystemTime| -> u64 {
        let found = recent.iter().filter(|one| one.minute == wanted);
        found.map(|one| one.bytes).sum()
    };
    let gone = now.duration_since(minute).unwrap_or_default().as_secs_f64();
    let before = bytes(minute - MINUTE) as f64 * (1.0 - gone / 60.0);
    ((bytes(minute) as f64 + before) / 60.0).round() as u64
}

/// When the minute began in which `when` lies.
fn minute_of(when: SystemTime) -> SystemTime {
    let seconds = when
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs();
    UNIX_EPOCH + Duration::from_secs(seconds / 60 * 60)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    minutes: Option<u64>,
}

#[derive(Serialize)]
pub(super) struct Minutes {
    minutes: Vec<Minute>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Minute {
    minute: String,
    bytes: u64,
    started: u64,
    completed: u64,
    failed: u64,
}

/// `GET throughput`: each of the last minutes, the one that runs as the last.
pub(super) async fn throughput(
    State(admin): State<Admin>,
    asked: Result<Query<Asked>, QueryRejection>,
) -> Result<Json<Minutes>, Problem> {
    let Query(asked) = asked.map_err(|wrong| Problem::invalid(wrong.body_text()))?;
    let count = asked.minutes.unwrap_or(60).clamp(1, MOST_MINUTES);
    let last = minute_of(admin.now());
    let first = last - MINUTE * u32::try_from(count - 1).unwrap_or_default();
    let found = admin.0.queue.throughput(first).await?;
    Ok(Json(Minutes {
        minutes: filled(&found, first, count),
    }))
}

/// So many minutes from `first` on, also those in which nothing came.
fn filled(found: &[Throughput], first: SystemTime, count: u64) -> Vec<Minute> {
    let by_minute: BTreeMap<SystemTime, &Throughput> =
        found.iter().map(|one| (one.minute, one)).collect();
    (0..count)
        .map(|at| {
            let minute = first + Duration::from_secs(at * 60);
            let of = |value: fn(&Throughput) -> u64| {
                by_minute.get(&minute).map_or(0, |found| value(found))
            };
            Minute {
                minute: time(minute),
                bytes: of(|one| one.bytes),
                started: of(|one| one.started),
                completed: of(|one| one.completed),
                failed: of(|one| one.failed),
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn came(minute: u64, bytes: u64) -> Throughput {
        Throughput {
            minute: at(minute),
            bytes,
            started: 1,
            completed: 0,
            failed: 0,
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_sixty_seconds() {
        let recent = [came(600, 6000), came(660, 600)];
        assert_eq!(
            rate(&recent, at(660)),
            110,
            "nothing of the first minute is over"
        );
        assert_eq!(rate(&recent, at(690)), 60, "half of it is");
        assert_eq!(rate(&recent, at(720)), 10, "all of it is");
        assert_eq!(rate(&recent, at(900)), 0);
    }

    #[test]
    fn minutes_without_anything_are_shown_too() {
        let shown = filled(&[came(660, 7)], at(600), 3);
        let bytes: Vec<u64> = shown.iter().map(|minute| minute.bytes).collect();
        assert_eq!(bytes, [0, 7, 0]);
        assert_eq!(shown[1].minute, "1970-01-01T00:11:00.000Z");
    }
}
