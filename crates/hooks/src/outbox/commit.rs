//! One transaction: the steps of a batch, in the order that keeps events in order.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Duration,
};

use landfall_database::{DatabaseError, Transaction};
use rand::Rng;

use super::{
    Shared,
    batch::{Batch, Failure, Settled, Unsettled},
    clock::millis,
    fact::{self, Fact},
    lanes::Held,
    publish::newest_progress,
    sql::{self, NewRow, parts},
    tend::Tended,
};
use crate::{HookName, Message};

/// The first delay after an upload was found busy.
const MIN_BACKOFF: Duration = Duration::from_secs(1);

/// What a transaction led to, to be done once it is committed.
#[derive(Debug, Default)]
pub(super) struct Effects {
    /// What this process delivers now, in order.
    pub(super) mine: Vec<(usize, Arc<str>, Held)>,
    /// Lanes that it has let go of.
    pub(super) released: Vec<(usize, Arc<str>)>,
    /// Rows that are gone.
    pub(super) deleted: u64,
    /// Rows that came without room having been made for them.
    pub(super) extra: usize,
    /// Lanes' events that were claimed.
    pub(super) claimed: usize,
    pub(super) unsettled: Vec<Unsettled>,
    /// Deliveries by route that were given up on.
    pub(super) given_up: Vec<usize>,
    /// The earliest time at which something failed is tried again.
    pub(super) soonest: Option<i64>,
    /// Something is there for anybody to deliver.
    pub(super) is_due: bool,
    pub(super) tended: Tended,
}

/// A transaction on its way.
pub(super) struct Step<'a> {
    pub(super) shared: &'a Shared,
    pub(super) transaction: Transaction,
    pub(super) me: String,
    pub(super) now: i64,
    pub(super) effects: Effects,
}

impl Step<'_> {
    /// All of a batch, except looking after nodes.
    pub(super) async fn write(
        &mut self,
        batch: &Batch,
        is_known: bool,
    ) -> Result<(), DatabaseError> {
        self.delete(batch).await?;
        self.release_failed(&batch.failed).await?;
        // What follows from something is told before it: then it is in the database when the order
        // is looked at.
        self.promote_implied(batch).await?;
        self.supersede(batch).await?;
        self.tell(&batch.told(), is_known).await?;
        self.announce(batch).await?;
        self.settle(&batch.settled).await?;
        let put_back: Vec<&str> = batch.put_back.iter().map(String::as_str).collect();
        for part in parts(&put_back) {
            let statement = sql::put_back(part, &self.me);
            self.transaction.execute(statement).await?;
        }
        let given_up: Vec<&str> = batch.given_up.iter().map(|event| &**event).collect();
        for part in parts(&given_up) {
            let statement = sql::give_up(part, &self.me, self.now);
            self.transaction.execute(statement).await?;
        }
        if let Some((most, _)) = &batch.claim {
            self.claim(*most).await?;
        }
        if let Some((most, _)) = &batch.take {
            self.take_unsettled(*most).await?;
        }
        Ok(())
    }

    fn route(&self, at: usize) -> &str {
        self.shared.routes[at].transport.name()
    }

    async fn delete(&mut self, batch: &Batch) -> Result<(), DatabaseError> {
        let arrived = batch.arrived.iter();
        for (route, events) in by_route(arrived.map(|(route, event)| (*route, &**event))) {
            let route = self.shared.routes[route].transport.name();
            for part in parts(&events) {
                let statement = sql::delete(route, part);
                self.effects.deleted += self.transaction.execute(statement).await?;
            }
        }
        Ok(())
    }

    /// Puts off lanes whose head failed; a head that is given up on is dead.
    async fn release_failed(&mut self, failed: &[Failure]) -> Result<(), DatabaseError> {
        let settings = &self.shared.settings;
        let mut lanes = Vec::new();
        let mut heads = Vec::new();
        for failure in failed {
            let (route, upload) = (failure.route, &failure.upload);
            let Some(head) = self.shared.lanes.head(route, upload, &failure.event) else {
                continue;
            };
            let is_over = self.now - head.since >= millis(settings.give_up_after);
            let due = (!is_over).then(|| {
                let longest = settings.longest_wait.max(settings.first_wait);
                let most = settings
                    .first_wait
                    .saturating_mul(1 << head.attempts.clamp(0, 20))
                    .min(longest);
                let wait =
                    rand::rng().random_range(settings.first_wait..=most.max(settings.first_wait));
                let asked = failure
                    .retry_after
                    .unwrap_or_default()
                    .min(settings.give_up_after);
                self.now + millis(wait.max(asked))
            });
            match due {
                Some(due) => {
                    let soonest = self.effects.soonest.unwrap_or(i64::MAX);
                    self.effects.soonest = Some(soonest.min(due));
                }
                None => {
                    self.effects.given_up.push(route);
                    self.effects.is_due = true;
                }
            }
            self.effects.released.push((route, upload.clone()));
            let name = self.route(route).to_owned();
            lanes.push((upload.clone(), name.clone(), due.unwrap_or(self.now)));
            heads.push((failure, name, head.attempts + 1, due));
        }
        let lanes: Vec<_> = lanes
            .iter()
            .map(|(upload, route, due)| ((&**upload, route.as_str()), *due))
            .collect();
        for part in parts(&lanes) {
            self.transaction
                .execute(sql::release(part, &self.me))
                .await?;
        }
        let heads: Vec<_> = heads
            .iter()
            .map(|(failure, route, attempts, due)| sql::Failed {
                event: &failure.event,
                route,
                attempts: *attempts,
                due: *due,
                error: &failure.error,
            })
            .collect();
        for part in parts(&heads) {
            let statement = sql::note_failed(part, self.now);
            self.transaction.execute(statement).await?;
        }
        Ok(())
    }

    /// Removes progress of jobs that waits and of which newer progress is told: it is only news, and a
    /// receiver that is away for long shall not fill the outbox with it.
    async fn supersede(&mut self, batch: &Batch) -> Result<(), DatabaseError> {
        let newest = newest_progress(batch.posted.iter().flat_map(|one| &one.facts));
        for part in parts(&newest) {
            let statement = sql::supersede(HookName::UploadProgress.as_str(), part);
            self.effects.deleted += self.transaction.execute(statement).await?;
        }
        Ok(())
    }

    /// Tells what happened, and takes in hand what nothing in the database goes before.
    async fn tell(&mut self, told: &[&Fact], is_known: bool) -> Result<(), DatabaseError> {
        let shared = self.shared;
        let mut room = shared.lanes.room();
        let mut known = Vec::new();
        let mut unknown = Vec::new();
        for &fact in told {
            for (route, mut row) in rows(shared, fact) {
                if room > 0 {
                    room -= 1;
                    row.owner = Some(self.me.clone());
                } else {
                    self.effects.is_due = true;
                }
                // Who announced it and was never gone knows the row to be there, unless another node
                // has told it since.
                let is_announced = is_known && shared.open().contains_key(&fact.id);
                let list = if is_announced {
                    &mut known
                } else {
                    &mut unknown
                };
                list.push((route, fact, row));
            }
        }
        let mut kept = HashSet::new();
        for (list, statement) in [
            (&known, sql::tell as fn(&[NewRow<'_>], i64) -> _),
            (&unknown, sql::tell_anyway),
        ] {
            let list: Vec<_> = list.iter().map(|(_, _, row)| row.clone()).collect();
            for part in parts(&list) {
                for row in self.transaction.fetch(statement(part, self.now)).await? {
                    kept.insert((row.text(0)?, row.text(1)?));
                }
            }
        }
        self.effects.extra += unknown.len();
        let told = known.iter().chain(&unknown).filter(|(_, _, row)| {
            row.owner.is_some() && kept.contains(&(row.event.to_owned(), row.route.to_owned()))
        });
        let told: Vec<_> = told.collect();
        let behind = self.behind_others(&told).await?;
        let (others, mine): (Vec<_>, Vec<_>) = told
            .into_iter()
            .partition(|(route, fact, _)| behind.contains(&(*route, fact.upload.to_string())));
        let others = others.iter().map(|(route, _, row)| (*route, row.event));
        for (route, events) in by_route(others) {
            self.effects.is_due = true;
            let route = shared.routes[route].transport.name();
            for part in parts(&events) {
                self.transaction.execute(sql::disown(route, part)).await?;
            }
        }
        for (route, fact, _) in mine {
            let held = Held {
                event: fact.id.clone(),
                message: fact.message.clone(),
                bytes: fact.json.len(),
                attempts: 0,
                since: self.now,
            };
            self.effects.mine.push((*route, fact.upload.clone(), held));
        }
        Ok(())
    }

    /// Of the lanes of told events, those in which something isn't in this process's hand.
    async fn behind_others(
        &mut self,
        told: &[&(usize, &Fact, NewRow<'_>)],
    ) -> Result<HashSet<(usize, String)>, DatabaseError> {
        let lanes: BTreeSet<_> = told
            .iter()
            .map(|(route, _, row)| (*route, row.upload))
            .collect();
        let mut behind = HashSet::new();
        for (route, uploads) in by_route(lanes.into_iter()) {
            let name = self.shared.routes[route].transport.name();
            for part in parts(&uploads) {
                let statement = sql::not_mine(name, part, &self.me);
                for row in self.transaction.fetch(statement).await? {
                    behind.insert((route, row.text(0)?));
                }
            }
        }
        Ok(behind)
    }

    async fn announce(&mut self, batch: &Batch) -> Result<(), DatabaseError> {
        let facts = batch.facts();
        let mut all = Vec::new();
        for fact in facts {
            for (_, mut row) in rows(self.shared, fact) {
                row.owner = Some(self.me.clone());
                all.push(row);
            }
        }
        // Every node takes rows in the same order, so none waits for another in a circle.
        all.sort_by_key(|row| (row.event, row.route));
        for part in parts(&all) {
            let statement = sql::announce(part, self.now);
            self.transaction.execute(statement).await?;
        }
        Ok(())
    }

    /// Tells what must have happened, if whoever announced it hasn't.
    async fn promote_implied(&mut self, batch: &Batch) -> Result<(), DatabaseError> {
        // What is told in this batch anyway is told with more.
        let told: HashSet<&str> = batch.told.iter().map(|fact| &*fact.id).collect();
        let implied: BTreeMap<&str, _> = batch
            .implied
            .iter()
            .filter(|implied| !told.contains(implied.id.as_str()))
            .map(|implied| (implied.id.as_str(), &implied.upload))
            .collect();
        let ids: Vec<_> = implied.keys().copied().collect();
        for part in parts(&ids) {
            for row in self.transaction.fetch(sql::announced(part)).await? {
                let (event, route) = (row.text(0)?, row.text(1)?);
                let mut json = row.text(2)?;
                // One that can't be read is found out when it is claimed.
                let mut sequence = 0;
                if let Some(upload) = implied.get(event.as_str())
                    && let Ok(mut message) = serde_json::from_str::<Message>(&json)
                {
                    fact::refresh(&mut message, upload);
                    fact::renumber(&mut message);
                    sequence = message.sequence;
                    json = serde_json::to_string(&message).unwrap_or(json);
                }
                let told = (json.as_str(), sequence);
                let statement = sql::promote(&event, &route, told, None, self.now);
                self.transaction.execute(statement).await?;
                self.effects.is_due = true;
            }
        }
        Ok(())
    }

    async fn settle(&mut self, settled: &[Settled]) -> Result<(), DatabaseError> {
        for one in settled {
            match one {
                Settled::Not(event) => {
                    self.effects.deleted += self
                        .transaction
                        .execute(sql::forget(event, &self.me))
                        .await?;
                }
                Settled::Happened(happened) => {
                    let (unsettled, snapshot) = &**happened;
                    let mut message = unsettled.message.clone();
                    if let Some(snapshot) = snapshot {
                        fact::refresh(&mut message, &snapshot.upload);
                    }
                    fact::renumber(&mut message);
                    let Ok(json) = serde_json::to_string(&message) else {
                        continue;
                    };
                    let (event, route) = (&unsettled.event, &unsettled.route);
                    let told = (json.as_str(), message.sequence);
                    let statement = sql::promote(event, route, told, Some(&self.me), self.now);
                    self.transaction.execute(statement).await?;
                    self.effects.is_due = true;
                }
            }
        }
        Ok(())
    }

    /// Takes lanes in hand that are due.
    async fn claim(&mut self, most: usize) -> Result<(), DatabaseError> {
        let shared = self.shared;
        // What was just told takes room, too.
        let room = shared.lanes.room().saturating_sub(self.effects.mine.len());
        let most = i64::try_from(most.min(room)).unwrap_or(i64::MAX);
        let routes: Vec<_> = shared.names().collect();
        if most == 0 || routes.is_empty() {
            return Ok(());
        }
        let is_postgres = shared.database.is_postgres();
        let statement = sql::claim(&routes, &self.me, self.now, most, is_postgres);
        let mut claimed = Vec::new();
        for row in self.transaction.fetch(statement).await? {
            let (event, name, json) = (row.text(0)?, row.text(1)?, row.text(4)?);
            let Some(route) = routes.iter().position(|route| *route == name) else {
                continue;
            };
            let message = match serde_json::from_str::<Message>(&json) {
                Ok(message) => message,
                Err(error) => {
                    tracing::error!(id = event, route = name, %error, "an event can't be read: dead");
                    let error = format!("it can't be read: {error}");
                    let statement = sql::condemn(&event, &name, &error, self.now);
                    self.transaction.execute(statement).await?;
                    self.effects.given_up.push(route);
                    continue;
                }
            };
            let upload: Arc<str> = message.lane().into();
            let held = Held {
                event: event.into(),
                bytes: json.len(),
                attempts: row.number(2)?,
                since: row.number(3)?,
                message: Arc::new(message),
            };
            claimed.push((route, upload, held));
        }
        claimed.sort_by_key(|(_, _, held)| held.message.sequence);
        self.effects.claimed = claimed.len();
        self.effects.mine.extend(claimed);
        Ok(())
    }

    async fn take_unsettled(&mut self, most: usize) -> Result<(), DatabaseError> {
        let settings = &self.shared.settings;
        // An upload that is busy may be so for a moment only, and nobody else resolves the event then.
        let first = millis(settings.settle_after.min(MIN_BACKOFF));
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let statement = sql::take_unsettled(
            &self.me,
            self.now,
            (first, millis(settings.longest_wait).max(first)),
            most,
            self.shared.database.is_postgres(),
        );
        for row in self.transaction.fetch(statement).await? {
            let (event, route) = (row.text(0)?, row.text(1)?);
            match serde_json::from_str(&row.text(2)?) {
                Ok(message) => self.effects.unsettled.push(Unsettled {
                    event,
                    route,
                    message,
                }),
                Err(error) => {
                    tracing::error!(id = event, route, %error, "an announcement can't be read: dead");
                    let error = format!("it can't be read: {error}");
                    let statement = sql::condemn(&event, &route, &error, self.now);
                    self.transaction.execute(statement).await?;
                }
            }
        }
        Ok(())
    }
}

/// Names by their routes.
fn by_route<'a>(names: impl Iterator<Item = (usize, &'a str)>) -> BTreeMap<usize, Vec<&'a str>> {
    let mut routes: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (route, name) in names {
        routes.entry(route).or_default().push(name);
    }
    routes
}

/// The rows of a fact, one for each route that wants it.
pub(super) fn rows<'a>(
    shared: &'a Shared,
    fact: &'a Fact,
) -> impl Iterator<Item = (usize, NewRow<'a>)> {
    let wanted = shared.routes.iter().enumerate();
    wanted
        .filter(|(_, route)| route.names.has(fact.message.hook))
        .map(|(at, route)| {
            let row = NewRow {
                event: &fact.id,
                route: route.transport.name(),
                upload: &fact.upload,
                sequence: fact.sequence,
                hook: fact.message.hook.as_str(),
                owner: None,
                message: &fact.json,
            };
            (at, row)
        })
}
