//! Looking after nodes, and after what is old.

use landfall_database::DatabaseError;

use super::{
    clock::millis,
    commit::Step,
    node::{Node, Sign},
    sql::{self, ANNOUNCED, DEAD, TOLD},
};

/// Of all rows, the dead may be at most one in so many.
const DEAD_SHARE: usize = 10;

/// What looking after things found.
#[derive(Debug, Default)]
pub(super) struct Tended {
    /// Nodes that are gone.
    pub(super) gone: Vec<String>,
    /// Nodes that are known.
    pub(super) known: Vec<String>,
    /// Dead events that were removed: for their age, and because there were too many.
    pub(super) buried: (u64, u64),
    /// Rows in the database, if they were counted.
    pub(super) rows: Option<usize>,
}

impl Step<'_> {
    /// Says that this node lives; `is_new` makes it known. Says whether it counted as gone.
    pub(super) async fn renew(&mut self, is_new: bool) -> Result<bool, DatabaseError> {
        if self.shared.database.is_postgres() {
            let rows = self.transaction.fetch(sql::time()).await?;
            if let Some(row) = rows.first() {
                self.shared.clock.set(row.number(0)?);
                self.now = self.shared.clock.now();
            }
        }
        let until = self.now + millis(self.shared.settings.node_timeout);
        if is_new {
            self.transaction
                .execute(sql::enter(&self.me, until))
                .await?;
            // Whoever restarts a server has mended something, perhaps.
            self.transaction.execute(sql::hurry(self.now)).await?;
            self.effects.is_due = true;
            return Ok(false);
        }
        let renewed = self
            .transaction
            .execute(sql::renew(&self.me, until))
            .await?;
        Ok(renewed == 0)
    }

    /// Takes over what `node` had, at once or later.
    pub(super) async fn inherit(
        &mut self,
        node: &str,
        settle_at: i64,
    ) -> Result<(), DatabaseError> {
        let told = sql::inherit(node, TOLD, self.now);
        self.transaction.execute(told).await?;
        let announced = sql::inherit(node, ANNOUNCED, settle_at);
        self.transaction.execute(announced).await?;
        self.effects.is_due = true;
        Ok(())
    }

    /// Takes over what nodes had that are gone.
    pub(super) async fn mind_nodes(&mut self, node: &Node) -> Result<(), DatabaseError> {
        for row in self.transaction.fetch(sql::nodes()).await? {
            let (other, until) = (row.text(0)?, row.number(1)?);
            let sign = node.sign_of(&other);
            let is_gone = match sign {
                Sign::Gone => true,
                Sign::Alive => false,
                Sign::None => until < self.now,
            };
            if other == self.me || !is_gone {
                self.effects.tended.known.push(other);
                continue;
            }
            let strike = sql::strike(&other, until);
            if self.transaction.execute(strike).await? == 0 {
                continue;
            }
            // One that is only silent may be about to do what it announced.
            let settle_at = match sign {
                Sign::Gone => self.now,
                Sign::Alive | Sign::None => self.now + millis(self.shared.settings.settle_after),
            };
            self.inherit(&other, settle_at).await?;
            self.effects.tended.gone.push(other);
        }
        Ok(())
    }

    /// Takes over what is owned by nodes that nobody knows. A server may commit what a process sent
    /// shortly after the process is gone and its things were taken over.
    pub(super) async fn find_lost(&mut self) -> Result<(), DatabaseError> {
        for state in [TOLD, ANNOUNCED] {
            let find = sql::inherit_lost(state, self.now);
            let lost = self.transaction.execute(find).await?;
            self.effects.is_due |= lost > 0;
        }
        Ok(())
    }

    /// Removes what is old, and counts what is there.
    pub(super) async fn tidy(&mut self) -> Result<(), DatabaseError> {
        let settings = &self.shared.settings;
        let routes: Vec<_> = self.shared.names().collect();
        let then = self.now - millis(settings.give_up_after);
        let orphans = sql::orphans(&routes, then, self.now);
        self.transaction.execute(orphans).await?;
        let then = self.now - millis(settings.keep_dead);
        let old = self.transaction.execute(sql::bury(then)).await?;
        let mut dead = 0;
        for row in self.transaction.fetch(sql::count(DEAD)).await? {
            dead += usize::try_from(row.number(1)?).unwrap_or_default();
        }
        let most = (settings.limit / DEAD_SHARE).max(1);
        let mut surplus = 0;
        if dead > most {
            let too_many = i64::try_from(dead - most).unwrap_or(i64::MAX);
            let bury = sql::bury_oldest(too_many);
            surplus = self.transaction.execute(bury).await?;
        }
        let mut rows = 0;
        for state in [ANNOUNCED, TOLD, DEAD] {
            for row in self.transaction.fetch(sql::count(state)).await? {
                rows += usize::try_from(row.number(1)?).unwrap_or_default();
            }
        }
        self.effects.tended.rows = Some(rows);
        self.effects.tended.buried = (old, surplus);
        Ok(())
    }
}
