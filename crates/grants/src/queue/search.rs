//! Searching jobs by what they begin with.
//!
//! Pages go by number, and what begins alike is sorted by its letters. So the indexes of the search are
//! cut into blocks of numbers: within one, all that begins so is found by a walk and sorted, and blocks
//! are taken one after another until the page is full.

use landfall_database::Statement;

use super::{
    Query, QueueError, Scope, Shared,
    load::{parts, push_list},
    read,
    record::{COLUMNS, Record, clean, place, unsigned},
};
use crate::JobState;

/// Numbers in a block of the search indexes; the same figure is in the migrations.
const BLOCK: i64 = 16_384;
/// Blocks that are searched with one statement.
const MOST_BLOCKS: usize = 16;
/// Jobs of a subject or in some states, of which all are looked at instead of the search indexes.
const FEW: u64 = 10_000;

/// Whether the subject or the states that are asked for have so few jobs that they are quickly looked
/// through.
pub(super) async fn are_few(shared: &Shared, query: &Query) -> Result<bool, QueueError> {
    if let Scope::Subject(subject) = &query.scope {
        let rows = shared.database.read(some_of(subject)).await?;
        let some = rows.first().map_or(Ok(0), |row| row.number(0))?;
        if unsigned(some) <= FEW {
            return Ok(true);
        }
    }
    if query.states.is_empty() {
        return Ok(false);
    }
    let totals = read::totals(shared).await?;
    let jobs = |state: &JobState| totals.jobs.get(state.as_str()).copied().unwrap_or_default();
    Ok(query.states.iter().map(jobs).sum::<u64>() <= FEW)
}

/// How many jobs a subject has, counted until they are too many.
pub(super) fn some_of(subject: &str) -> Statement {
    Statement::new(format!(
        "SELECT COUNT(*) FROM (SELECT number FROM queue_jobs WHERE subject = $1 LIMIT {}) AS found",
        FEW + 1
    ))
    .with(clean(subject))
}

/// Searches block by block, from the end where the page begins, until the page is full.
pub(super) async fn search(
    shared: &Shared,
    query: &Query,
    limit: i64,
) -> Result<Vec<Record>, QueueError> {
    let rows = shared.database.read(ends()).await?;
    let Some(row) = rows.first() else {
        return Ok(Vec::new());
    };
    let (Some(newest), Some(oldest)) = (row.opt_number(0)?, row.opt_number(1)?) else {
        return Ok(Vec::new());
    };
    let (newest, oldest) = match query.after {
        Some(after) if query.newest_first => (newest.min(after.0), oldest),
        Some(after) => (newest, oldest.max(after.0)),
        None => (newest, oldest),
    };
    let mut blocks: Vec<i64> = (oldest / BLOCK..=newest / BLOCK).collect();
    if query.newest_first {
        blocks.reverse();
    }
    let mut found = Vec::new();
    let mut rest = &*blocks;
    let mut size = 1;
    let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
    while found.len() < wanted && !rest.is_empty() {
        let (now, later) = rest.split_at(size.min(rest.len()));
        let missing = i64::try_from(wanted - found.len()).unwrap_or(i64::MAX);
        for row in shared.database.read(in_blocks(query, now, missing)).await? {
            found.push(row.number(0)?);
        }
        rest = later;
        size = (size * 2).min(MOST_BLOCKS);
    }
    let mut jobs = Vec::with_capacity(found.len());
    for part in parts(&found) {
        let mut statement =
            Statement::new(format!("SELECT {COLUMNS} FROM queue_jobs WHERE number IN "));
        push_list(&mut statement, part.iter().copied());
        jobs.extend(read::records(shared, statement).await?);
    }
    jobs.sort_by_key(|record| record.job.id);
    if query.newest_first {
        jobs.reverse();
    }
    Ok(jobs)
}

/// The newest and the oldest number. (Asked for at once, SQLite would look at all.)
pub(super) fn ends() -> Statement {
    Statement::new(
        "SELECT (SELECT MAX(number) FROM queue_jobs), (SELECT MIN(number) FROM queue_jobs)",
    )
}

/// The numbers of what is searched for, in blocks that stand beside each other.
pub(super) fn in_blocks(query: &Query, blocks: &[i64], limit: i64) -> Statement {
    let (order, beyond) = read::direction(query);
    let mut statement = Statement::new("SELECT number FROM (");
    let text = query.search.as_deref().unwrap_or_default();
    let (names, ids) = read::begins_with(&mut statement, text);
    let limit = statement.bind(limit);
    let mut conditions = String::new();
    if let Some(after) = query.after {
        let after = statement.bind(after.0);
        conditions.push_str(&format!(" AND number {beyond} ${after}"));
    }
    if let Scope::Subject(subject) = &query.scope {
        let subject = statement.bind(clean(subject));
        // Written so that the planner takes the index of blocks; the same goes for states.
        conditions.push_str(&format!(" AND COALESCE(subject, '') = ${subject}"));
    }
    if !query.states.is_empty() {
        let states: Vec<_> = query
            .states
            .iter()
            .map(|state| place(*state).to_string())
            .collect();
        conditions.push_str(&format!(" AND +state IN ({})", states.join(", ")));
    }
    let blocks: Vec<_> = blocks.iter().map(ToString::to_string).collect();
    let blocks = blocks.join(", ");
    let columns = [
        ("name_key", &names),
        ("subject", &ids),
        ("request_id", &ids),
        ("upload", &ids),
    ];
    for (at, (column, between)) in columns.into_iter().enumerate() {
        let union = if at == 0 { "" } else { " UNION " };
        statement.push(&format!(
            "{union}SELECT number FROM queue_jobs WHERE number / {BLOCK} IN ({blocks}) \
             AND {}{conditions}",
            between.on(column)
        ));
    }
    statement.push(&format!(
        ") AS found ORDER BY number {order} LIMIT ${limit}"
    ));
    statement
}
