//! Failed deliveries: retries, dead letters, and the events behind them.

use std::time::Duration;

use landfall_hooks::DeliveryError;

use super::{
    batch::Command, commit::BatchTransaction, queues::ClaimedEvent, settings::OutboxSettings, sql,
};
use crate::sql::{DatabaseError, millis};

impl BatchTransaction<'_> {
    /// Also reschedules the events behind the failed ones.
    pub(super) async fn record_failures(
        &mut self,
        commands: &[Command],
    ) -> Result<(), DatabaseError> {
        let shared = self.shared;
        let (mut released, mut rescheduled, mut failures) = (Vec::new(), Vec::new(), Vec::new());
        for command in commands {
            let Command::Failed(failure) = command else {
                continue;
            };
            let (route, key) = (failure.route, &failure.key);
            let Some(event) = shared.queues.get(route, key, &failure.event) else {
                continue;
            };
            let due = failure.due;
            let name = self.route(route);
            let hold = shared.order_hold(route);
            let sequence = i64::try_from(event.message.sequence).unwrap_or(i64::MAX);
            let key = (&**key, name);
            let behind = |due| sql::Behind { key, sequence, due };
            match due {
                Some(due) => {
                    let soonest = self.effects.soonest.unwrap_or(i64::MAX);
                    self.effects.soonest = Some(soonest.min(due));
                }
                None => {
                    self.effects.dead_lettered.push(route);
                    self.effects.is_due = true;
                }
            }
            match (event.is_retry(), due) {
                (false, Some(due)) => released.push(behind(hold.until(self.now, due))),
                (false, None) => released.push(behind(self.now)),
                (true, None) => rescheduled.push(behind(self.now)),
                (true, Some(due)) if hold.limit.is_none() => rescheduled.push(behind(due)),
                // They become due when the hold ends.
                (true, Some(_)) => {}
            }
            failures.push(sql::Failed {
                event: &failure.event,
                route: name,
                attempts: event.attempts + 1,
                due,
                error: &failure.error,
            });
            self.effects.released.push((route, event));
        }
        let release = |part| sql::release(part, &self.me);
        self.transaction.execute_parts(&released, release).await?;
        let record = |part| sql::record_failures(part, &self.me, self.now);
        self.transaction.execute_parts(&failures, record).await?;
        // After the failed rows were locked: see `sql::release_behind`.
        self.reschedule(&rescheduled).await
    }

    pub(super) async fn release_followers(
        &mut self,
        commands: &[Command],
    ) -> Result<(), DatabaseError> {
        let delivered = commands.iter().filter_map(|command| match command {
            Command::Delivered {
                route,
                key,
                is_retry: true,
                ..
            } => Some(sql::Behind {
                key: (&**key, self.route(*route)),
                sequence: i64::MIN,
                due: self.now,
            }),
            _ => None,
        });
        let delivered: Vec<_> = delivered.collect();
        self.effects.is_due |= !delivered.is_empty();
        self.reschedule(&delivered).await
    }

    async fn reschedule(&mut self, keys: &[sql::Behind<'_>]) -> Result<(), DatabaseError> {
        let rescheduled = self.transaction.execute_parts(keys, sql::reschedule);
        rescheduled.await?;
        Ok(())
    }

    pub(super) async fn recover(&mut self, commands: &[Command]) -> Result<(), DatabaseError> {
        for command in commands {
            let Command::Recovered { route, since } = *command else {
                continue;
            };
            let name = self.route(route);
            let statements = sql::recover(name, since, self.now);
            self.transaction.execute_all(statements.into()).await?;
            self.effects.recovered.push(route);
            self.effects.is_due = true;
        }
        Ok(())
    }
}

/// `None` if the event becomes a dead letter.
pub(super) fn next_attempt(
    settings: &OutboxSettings,
    event: &ClaimedEvent,
    failure: &DeliveryError,
    now: i64,
) -> Option<i64> {
    let failing = now - event.first_failed_at.unwrap_or(now);
    let is_over = failing >= millis(settings.retry.retry_for)
        && event.attempts + 1 >= settings.retry.required_attempts();
    if failure.is_permanent || is_over {
        return None;
    }
    let (min, limit) = (settings.retry.min_backoff, settings.retry.max_backoff);
    let max = min.saturating_mul(1 << event.attempts.clamp(0, 20));
    let wait = rand::random_range(min..=max.min(limit.max(min)));
    let requested = failure.retry_after.unwrap_or(Duration::ZERO);
    Some(now + millis(wait.max(requested.min(settings.retry.retry_for))))
}
