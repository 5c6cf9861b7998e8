//! One transaction: executes a batch of commands in the order that keeps events in order.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use landfall_hooks::{HookName, Message};

use super::{
    Shared,
    batch::{Batch, ClaimLimits, Command, InDoubt, Resolved, Size},
    event::{self, OutboxEvent},
    queues::ClaimedEvent,
    sql::{self, Attempt, NewRow},
};
use crate::sql::{DatabaseError, Row, Statement, Transaction, millis};

/// After an upload was found busy.
const MIN_BACKOFF: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(super) struct Effects {
    pub(super) claimed_here: Vec<(usize, ClaimedEvent)>,
    pub(super) released: Vec<(usize, ClaimedEvent)>,
    pub(super) deleted: Size,
    /// Stored without reserved capacity.
    pub(super) unreserved: Size,
    pub(super) stored: Option<Size>,
    pub(super) claimed: usize,
    pub(super) in_doubt: Vec<InDoubt>,
    pub(super) dead_lettered: Vec<usize>,
    pub(super) recovered: Vec<usize>,
    pub(super) soonest: Option<i64>,
    pub(super) is_due: bool,
    pub(super) maintenance: MaintenanceReport,
}

#[derive(Debug, Default)]
pub(super) struct MaintenanceReport {
    pub(super) dead: Vec<String>,
    pub(super) known: Vec<String>,
    pub(super) purged: u64,
}

pub(super) struct BatchTransaction<'a> {
    pub(super) shared: &'a Shared,
    pub(super) transaction: Transaction,
    pub(super) me: String,
    pub(super) now: i64,
    pub(super) effects: Effects,
}

impl<'a> BatchTransaction<'a> {
    pub(super) fn route(&self, at: usize) -> &'a str {
        self.shared.routes[at].transport.name()
    }
}

impl BatchTransaction<'_> {
    pub(super) async fn write(
        &mut self,
        batch: Batch<'_>,
        is_known: bool,
    ) -> Result<(), DatabaseError> {
        let commands = batch.0;
        self.delete(commands).await?;
        self.release_followers(commands).await?;
        self.record_failures(commands).await?;
        self.recover(commands).await?;
        // Implied events become pending before the events that imply them, so that ordering checks
        // see them.
        self.emit_implied(batch).await?;
        self.emit(&batch.emitted(), is_known).await?;
        self.prepare(batch).await?;
        for command in commands {
            match command {
                Command::Resolved(resolved) => self.resolve(resolved).await?,
                Command::Requeue(events) => {
                    let events: Vec<&str> = events.iter().map(String::as_str).collect();
                    let requeue = |part| sql::requeue(part, &self.me);
                    self.transaction.execute_parts(&events, requeue).await?;
                }
                Command::Abandon(events) => {
                    let events: Vec<&str> = events.iter().map(|event| &**event).collect();
                    let abandon = |part| sql::abandon_prepared(part, &self.me, self.now);
                    self.transaction.execute_parts(&events, abandon).await?;
                }
                _ => {}
            }
        }
        for command in commands {
            match command {
                Command::Claim { limits, .. } => {
                    for limits in limits {
                        self.claim(*limits).await?;
                    }
                }
                Command::ClaimInDoubt { limit, .. } => self.claim_in_doubt(*limit).await?,
                _ => {}
            }
        }
        Ok(())
    }

    async fn delete(&mut self, commands: &[Command]) -> Result<(), DatabaseError> {
        let delivered = commands.iter().filter_map(|command| match command {
            Command::Delivered { route, event, .. } => Some((*route, &**event)),
            _ => None,
        });
        let is_postgres = self.shared.database.is_postgres();
        let has_history = !self.shared.settings.history.is_zero();
        for (route, events) in by_route(delivered) {
            let route = self.route(route);
            let mut deleted = 0;
            if has_history {
                let record = |part| sql::record_delivered(route, part, self.now, is_postgres);
                deleted = self.transaction.execute_parts(&events, record).await?;
            }
            if !(has_history && is_postgres) {
                let delete = |part| sql::delete(route, part);
                deleted = self.transaction.execute_parts(&events, delete).await?;
            }
            self.count_deleted(deleted);
        }
        Ok(())
    }

    /// Their bytes are subtracted at the next measurement.
    fn count_deleted(&mut self, rows: u64) {
        self.effects.deleted.rows += usize::try_from(rows).unwrap_or_default();
    }

    /// Also claims events that no other event holds.
    async fn emit(
        &mut self,
        emitted: &[&OutboxEvent],
        is_known: bool,
    ) -> Result<(), DatabaseError> {
        let shared = self.shared;
        let capacity = (0..shared.routes.len()).map(|route| shared.queues.capacity(route));
        let mut capacity: Vec<_> = capacity.collect();
        let (mut known, mut unknown) = (Vec::new(), Vec::new());
        for &event in emitted {
            for (route, mut row) in rows(shared, event) {
                if capacity[route] > 0 {
                    capacity[route] -= 1;
                    row.owner.clone_from(&self.me);
                } else {
                    self.effects.is_due = true;
                }
                // A node that prepared an event and was not evicted since knows that the row
                // exists, unless another node has made it pending.
                if is_known && shared.prepared.lock().contains_key(&event.id) {
                    known.push((route, event, row));
                } else {
                    unknown.push((route, event, row));
                }
            }
        }
        let mut stored = self.store(&known, sql::emit).await?;
        // Another node has prepared it, too, and died, and what it did has not happened: the row is gone. A creation
        // is prepared by one node.
        let (lost, known): (Vec<_>, Vec<_>) = known.into_iter().partition(|(_, event, row)| {
            event.message.hook != HookName::PostCreate && !stored.contains(&row.key_of())
        });
        unknown.extend(lost);
        stored.extend(self.store(&unknown, sql::emit_unprepared).await?);
        for (_, event, _) in &unknown {
            self.effects.unreserved.rows += 1;
            self.effects.unreserved.bytes += event.bytes;
        }
        let emitted = known
            .iter()
            .chain(&unknown)
            .filter(|(_, _, row)| !row.owner.is_empty() && stored.contains(&row.key_of()));
        let emitted: Vec<_> = emitted.collect();
        let behind = self.behind_others(&emitted).await?;
        let (others, mine): (Vec<_>, Vec<_>) = emitted
            .into_iter()
            .partition(|(route, event, _)| behind.contains(&(*route, event.key.to_string())));
        let others = others.iter();
        let others = others.map(|(route, _, row)| (*route, (row.event, row.key)));
        let is_postgres = shared.database.is_postgres();
        for (route, events) in by_route(others) {
            self.effects.is_due = true;
            let name = self.route(route);
            let hold = shared.order_hold(route);
            let release = |part| sql::release_behind(name, part, self.now, hold, is_postgres);
            self.transaction.execute_parts(&events, release).await?;
        }
        for (route, event, _) in mine {
            let claimed = ClaimedEvent {
                event: event.id.clone(),
                key: event.key.clone(),
                message: event.message.clone(),
                bytes: event.bytes,
                attempts: 0,
                earlier_attempts: 0,
                first_failed_at: None,
            };
            self.effects.claimed_here.push((*route, claimed));
        }
        Ok(())
    }

    /// Returns the events, with their routes, that were not pending.
    async fn store(
        &mut self,
        emitted: &[(usize, &OutboxEvent, NewRow<'_>)],
        statement: fn(&[NewRow<'_>], i64) -> Statement,
    ) -> Result<HashSet<(String, String)>, DatabaseError> {
        let rows: Vec<_> = emitted.iter().map(|(_, _, row)| row.clone()).collect();
        let emit = |part: &[_]| statement(part, self.now);
        let stored = self.transaction.fetch_parts(&rows, emit).await?;
        let key = |row: &Row| Ok((row.text("event_id")?, row.text("route")?));
        stored.iter().map(key).collect()
    }

    /// Returns the keys with events behind a delivery of another node or a retry.
    async fn behind_others(
        &mut self,
        emitted: &[&(usize, &OutboxEvent, NewRow<'_>)],
    ) -> Result<HashSet<(usize, String)>, DatabaseError> {
        let keys = emitted.iter().map(|(route, _, row)| (*route, row.key));
        let keys: BTreeSet<_> = keys.collect();
        let mut behind = HashSet::new();
        for (route, keys) in by_route(keys.into_iter()) {
            let name = self.route(route);
            let hold = self.shared.order_hold(route);
            let owned = |part| sql::owned_elsewhere(name, part, &self.me, self.now, hold);
            for row in self.transaction.fetch_parts(&keys, owned).await? {
                behind.insert((route, row.text("ordering_key")?));
            }
        }
        Ok(behind)
    }

    async fn prepare(&mut self, batch: Batch<'_>) -> Result<(), DatabaseError> {
        let mut all = Vec::new();
        for event in batch.prepared() {
            for (_, mut row) in rows(self.shared, event) {
                row.owner.clone_from(&self.me);
                all.push(row);
            }
        }
        // Every node locks rows in the same order, so that transactions do not deadlock.
        all.sort_by_key(|row| (row.event, row.route));
        let prepare = |part| sql::prepare(part, self.now);
        self.transaction.execute_parts(&all, prepare).await?;
        Ok(())
    }

    async fn emit_implied(&mut self, batch: Batch<'_>) -> Result<(), DatabaseError> {
        // An event that is emitted in this batch has newer data.
        let emitted: HashSet<&str> = batch.emitted().iter().map(|event| &*event.id).collect();
        let implied: BTreeMap<&str, _> = batch
            .implied()
            .filter(|implied| !emitted.contains(implied.id.as_str()))
            .map(|implied| (implied.id.as_str(), &implied.upload))
            .collect();
        let ids: Vec<_> = implied.keys().copied().collect();
        for row in self.transaction.fetch_parts(&ids, sql::prepared).await? {
            let (event, route) = (row.text("event_id")?, row.text("route")?);
            let mut json = row.text("message")?;
            // One that cannot be read becomes a dead letter when it is claimed.
            let mut sequence = 0;
            if let Some(upload) = implied.get(event.as_str())
                && let Ok(mut message) = serde_json::from_str::<Message>(&json)
            {
                event::refresh_upload(&mut message, upload);
                event::assign_sequence(&mut message);
                sequence = message.sequence;
                json = serde_json::to_string(&message).unwrap_or(json);
            }
            let emitted = (json.as_str(), sequence);
            let statement = sql::promote(&event, &route, emitted, None, self.now);
            self.transaction.execute(statement).await?;
            self.effects.is_due = true;
        }
        Ok(())
    }

    async fn resolve(&mut self, resolved: &Resolved) -> Result<(), DatabaseError> {
        match resolved {
            Resolved::DidNotHappen(event) => {
                let delete = sql::delete_prepared(event, &self.me);
                let deleted = self.transaction.execute(delete).await?;
                self.count_deleted(deleted);
            }
            Resolved::Happened(happened) => {
                let (in_doubt, snapshot) = &**happened;
                let mut message = in_doubt.message.clone();
                if let Some(snapshot) = snapshot {
                    event::refresh_upload(&mut message, &snapshot.upload);
                }
                event::assign_sequence(&mut message);
                let Ok(json) = serde_json::to_string(&message) else {
                    return Ok(());
                };
                let (event, route) = (&in_doubt.event, &in_doubt.route);
                let emitted = (json.as_str(), message.sequence);
                let statement = sql::promote(event, route, emitted, Some(&self.me), self.now);
                self.transaction.execute(statement).await?;
                self.effects.is_due = true;
            }
        }
        Ok(())
    }

    async fn claim(&mut self, limits: ClaimLimits) -> Result<(), DatabaseError> {
        let shared = self.shared;
        let route = limits.route;
        let name = self.route(route);
        // Events emitted in this batch take capacity, too.
        let here = self.effects.claimed_here.iter();
        let here = here.filter(|(of, _)| *of == route).count();
        let capacity = shared.queues.capacity(route).saturating_sub(here);
        let hold = shared.order_hold(route);
        let is_postgres = shared.database.is_postgres();
        let mut rows = Vec::new();
        for (attempt, limit) in [
            (Attempt::First, limits.first.min(capacity)),
            (Attempt::Retry, limits.retries),
        ] {
            if limit > 0 {
                let limit = i64::try_from(limit).unwrap_or(i64::MAX);
                let claim = sql::claim(attempt, name, &self.me, self.now, hold, limit, is_postgres);
                rows.extend(self.transaction.fetch(claim).await?);
            }
        }
        let mut claimed = Vec::new();
        for row in rows {
            let (event, key) = (row.text("event_id")?, row.text("ordering_key")?);
            let json = row.text("message")?;
            let headers = row.opt_text("headers")?;
            let message = match serde_json::from_str::<Message>(&json) {
                Ok(mut message) => {
                    if let Some(headers) = &headers {
                        message.request.redacted = shared.decrypt(headers, [&event, name]);
                    }
                    message
                }
                Err(error) => {
                    self.mark_malformed(&event, name, &error).await?;
                    self.effects.dead_lettered.push(route);
                    // Claim the rest of its ordering key later.
                    self.effects.is_due = true;
                    continue;
                }
            };
            claimed.push(ClaimedEvent {
                event: event.into(),
                key: key.into(),
                bytes: json.len() + headers.map_or(0, |headers| headers.len()),
                attempts: row.number("attempts")?,
                earlier_attempts: row.number("earlier_attempts")?,
                first_failed_at: row.opt_number("first_failed_at")?,
                message: Arc::new(message),
            });
        }
        claimed.sort_by_key(|event| event.message.sequence);
        self.effects.claimed += claimed.len();
        let claimed = claimed.into_iter().map(|event| (route, event));
        self.effects.claimed_here.extend(claimed);
        Ok(())
    }

    /// Another version may have written the event.
    async fn mark_malformed(
        &mut self,
        event: &str,
        route: &str,
        error: &serde_json::Error,
    ) -> Result<(), DatabaseError> {
        tracing::error!(id = event, route, %error, "malformed event moved to dead letters");
        let error = format!("the event cannot be read: {error}");
        let statement = sql::mark_dead(event, route, &error, self.now);
        self.transaction.execute(statement).await?;
        Ok(())
    }

    async fn claim_in_doubt(&mut self, limit: usize) -> Result<(), DatabaseError> {
        let settings = &self.shared.settings;
        // A busy upload may be so for a moment only, and no other task resolves its event.
        let first = millis(settings.resolve_after.min(MIN_BACKOFF));
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let backoff = (first, millis(settings.retry.max_backoff).max(first));
        let is_postgres = self.shared.database.is_postgres();
        let statement = sql::claim_in_doubt(&self.me, self.now, backoff, limit, is_postgres);
        for row in self.transaction.fetch(statement).await? {
            let (event, route) = (row.text("event_id")?, row.text("route")?);
            match serde_json::from_str(&row.text("message")?) {
                Ok(message) => self.effects.in_doubt.push(InDoubt {
                    event,
                    route,
                    message,
                }),
                Err(error) => {
                    self.mark_malformed(&event, &route, &error).await?;
                    let route = self.shared.names().position(|name| name == route);
                    self.effects.dead_lettered.extend(route);
                }
            }
        }
        Ok(())
    }
}

fn by_route<T>(items: impl Iterator<Item = (usize, T)>) -> BTreeMap<usize, Vec<T>> {
    let mut routes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (route, item) in items {
        routes.entry(route).or_default().push(item);
    }
    routes
}

pub(super) fn rows<'a>(
    shared: &'a Shared,
    event: &'a OutboxEvent,
) -> impl Iterator<Item = (usize, NewRow<'a>)> {
    let wanted = shared.routes.iter().enumerate();
    wanted
        .filter(|(_, route)| route.names.contains(event.message.hook))
        .map(|(at, route)| {
            let name = route.transport.name();
            let headers = event.message.request.redacted.of(&shared.headers[at]);
            let encrypt = || {
                shared
                    .settings
                    .header_key
                    .encrypt(&headers, [&event.id, name])
            };
            let row = NewRow {
                event: &event.id,
                route: name,
                headers: (!headers.is_empty()).then(encrypt).flatten(),
                key: &event.key,
                sequence: event.sequence,
                hook: event.message.hook.as_str(),
                owner: sql::UNOWNED.to_owned(),
                message: &event.json,
            };
            (at, row)
        })
}
