//! Pages of jobs, and search.
//!
//! Pages are sorted by number, but matches of a prefix by text. The search indexes are therefore
//! divided into blocks of numbers. The matches in a block are found by an index range and sorted,
//! block by block until the page is full.
//!
//! A name is also found by a text inside it, for which no index exists: all names of a block are read. The first
//! `MAX_NAMES` blocks are searched so, half a million names: 0.1 s on SQLite, which reads only the index of names; on
//! PostgreSQL their rows as well, several times that. In older blocks, names must start with the text.

use std::time::SystemTime;

use super::{
    JobId, Page, Query, QueueError, Scope, Shared, read,
    record::{COLUMNS, filename_key, state_number},
};
use crate::sql::{Row, Statement, parts, replace_nul, unix_millis};

const MAX_PAGE_LEN: usize = 1000;
/// Must match the migrations.
const BLOCK: i64 = 16_384;
const MAX_BLOCKS: usize = 16;
/// Blocks in which a search ends to read all names. The last step of the search reads as many again.
const MAX_NAMES: usize = 16;
/// Jobs around a time whose order of numbers may differ from that of their times.
const NUMBER_SLACK: i64 = 1000;
/// Sorts after all strings with the same prefix.
const MAX_CHAR: char = '\u{10ffff}';

pub(super) async fn list(shared: &Shared, query: &Query) -> Result<Page, QueueError> {
    let limit = query.limit.clamp(1, MAX_PAGE_LEN);
    let one_more = limit + 1;
    let mut query = query.clone();
    if query.created_from.is_some() || query.created_before.is_some() {
        query.numbers = created_numbers(shared, &query).await?;
    }
    let is_search = query.search.as_deref().is_some_and(|text| !text.is_empty());
    let mut records = Vec::new();
    loop {
        let rows = if is_search {
            search(shared, &query, one_more).await?
        } else {
            let walk = walk(&query, i64::try_from(one_more).unwrap_or(i64::MAX));
            shared.database.read(walk).await?
        };
        records.extend(read::read_records(shared, &rows));
        // Skipped rows do not end the page.
        match rows.last() {
            Some(last) if rows.len() == one_more && records.len() <= limit => {
                query.after = Some(JobId(last.number("number")?));
            }
            _ => break,
        }
    }
    let has_more = records.len() > limit;
    records.truncate(limit);
    Ok(Page {
        jobs: records.into_iter().map(|record| record.job).collect(),
        has_more,
    })
}

/// Lists jobs without a search.
pub(super) fn walk(query: &Query, limit: i64) -> Statement {
    let (order, beyond) = query.direction();
    let mut statement = Statement::new(format!("SELECT {COLUMNS} FROM ("));
    let limit = statement.bind(limit);
    let after = query.after.map(|after| statement.bind(after.0));
    let subject = match &query.scope {
        Scope::Subject(subject) => Some(statement.bind(replace_nul(subject))),
        Scope::All => None,
    };
    let created = created(query, &mut statement);
    let mut states: Vec<_> = query.states.iter().map(|state| Some(*state)).collect();
    states.dedup();
    if states.is_empty() {
        states.push(None);
    }
    for (at, state) in states.into_iter().enumerate() {
        let mut conditions = Vec::new();
        if let Some(subject) = subject {
            conditions.push(format!("subject = ${subject}"));
        }
        if let Some(state) = state {
            conditions.push(format!("state = {}", state_number(state)));
        }
        if let Some(after) = after {
            conditions.push(format!("number {beyond} ${after}"));
        }
        if let Some((first, last)) = query.numbers {
            conditions.push(format!("number BETWEEN {first} AND {last}"));
        }
        conditions.extend(created.iter().cloned());
        let union = if at == 0 { "" } else { " UNION ALL " };
        let filter = if conditions.is_empty() {
            String::new()
        } else {
            format!("WHERE {} ", conditions.join(" AND "))
        };
        statement.push(&format!(
            "{union}SELECT * FROM (SELECT {COLUMNS} FROM queue_jobs {filter}\
             ORDER BY number {order} LIMIT ${limit}) AS s{at}"
        ));
    }
    statement.push(&format!(") AS jobs ORDER BY number {order} LIMIT ${limit}"));
    statement
}

async fn search(shared: &Shared, query: &Query, wanted: usize) -> Result<Vec<Row>, QueueError> {
    let rows = shared.database.read(number_range()).await?;
    let Some(row) = rows.first() else {
        return Ok(Vec::new());
    };
    let (Some(newest), Some(oldest)) = (row.opt_number("newest")?, row.opt_number("oldest")?)
    else {
        return Ok(Vec::new());
    };
    let (newest, oldest) = match query.numbers {
        Some((first, last)) => (newest.min(last), oldest.max(first)),
        None => (newest, oldest),
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
    let mut searched = 0;
    while found.len() < wanted && !rest.is_empty() {
        let (now, later) = rest.split_at(size.min(rest.len()));
        let missing = i64::try_from(wanted - found.len()).unwrap_or(i64::MAX);
        for row in shared
            .database
            .read(search_blocks(query, now, missing, searched < MAX_NAMES))
            .await?
        {
            found.push(row.number("number")?);
        }
        rest = later;
        searched += size;
        size = (size * 2).min(MAX_BLOCKS);
    }
    let mut jobs = Vec::with_capacity(found.len());
    for part in parts(&found) {
        for row in shared.database.read(read::by_numbers(part)).await? {
            jobs.push((row.number("number")?, row));
        }
    }
    jobs.sort_by_key(|(number, _)| *number);
    if query.newest_first {
        jobs.reverse();
    }
    Ok(jobs.into_iter().map(|(_, row)| row).collect())
}

/// SQLite would scan the table for both in one SELECT.
pub(super) fn number_range() -> Statement {
    Statement::new(
        "SELECT (SELECT MAX(number) FROM queue_jobs) AS newest, (SELECT MIN(number) FROM queue_jobs) AS oldest",
    )
}

pub(super) fn search_blocks(
    query: &Query,
    blocks: &[i64],
    limit: i64,
    reads_names: bool,
) -> Statement {
    let (order, beyond) = query.direction();
    let mut statement = Statement::new("SELECT number FROM (");
    let text = query.search.as_deref().unwrap_or_default();
    let mut wanted = starts_with(&mut statement, text);
    if reads_names {
        wanted[0] = contains(&mut statement, text);
    }
    let limit = statement.bind(limit);
    let mut conditions = String::new();
    for condition in created(query, &mut statement) {
        conditions.push_str(&format!(" AND {condition}"));
    }
    if let Some(after) = query.after {
        let after = statement.bind(after.0);
        conditions.push_str(&format!(" AND number {beyond} ${after}"));
    }
    if let Scope::Subject(subject) = &query.scope {
        let subject = statement.bind(replace_nul(subject));
        // The expression makes the planner choose the index of blocks; also for states below.
        conditions.push_str(&format!(" AND COALESCE(subject, '') = ${subject}"));
    }
    if !query.states.is_empty() {
        let states: Vec<_> = query
            .states
            .iter()
            .map(|state| state_number(*state).to_string())
            .collect();
        conditions.push_str(&format!(" AND +state IN ({})", states.join(", ")));
    }
    let blocks: Vec<_> = blocks.iter().map(ToString::to_string).collect();
    let blocks = blocks.join(", ");
    for (at, wanted) in wanted.iter().enumerate() {
        let union = if at == 0 { "" } else { " UNION " };
        statement.push(&format!(
            "{union}SELECT number FROM queue_jobs WHERE number / {BLOCK} IN ({blocks}) \
             AND {wanted}{conditions}"
        ));
    }
    statement.push(&format!(
        ") AS found ORDER BY number {order} LIMIT ${limit}"
    ));
    statement
}

fn created(query: &Query, statement: &mut Statement) -> Vec<String> {
    let bounds = [(query.created_from, ">="), (query.created_before, "<")];
    let bound = |(at, compare): (Option<SystemTime>, _)| {
        let at = statement.bind(unix_millis(at?));
        Some(format!("created_at {compare} ${at}"))
    };
    bounds.into_iter().filter_map(bound).collect()
}

/// Returns the first and the last number that the times of a query allow, by a binary search: numbers ascend
/// with the time, except for the differences between clocks.
async fn created_numbers(shared: &Shared, query: &Query) -> Result<Option<(i64, i64)>, QueueError> {
    let rows = shared.database.read(number_range()).await?;
    let Some(row) = rows.first() else {
        return Ok(None);
    };
    let (Some(newest), Some(oldest)) = (row.opt_number("newest")?, row.opt_number("oldest")?)
    else {
        return Ok(None);
    };
    let mut bounds = [oldest, newest + 1];
    for (bound, at) in bounds
        .iter_mut()
        .zip([query.created_from, query.created_before])
    {
        let Some(at) = at.map(unix_millis) else {
            continue;
        };
        let (mut low, mut high) = (oldest, newest + 1);
        while low < high {
            let middle = low + (high - low) / 2;
            let rows = shared.database.read(next_number(middle)).await?;
            match rows.first() {
                Some(row) if row.number("created_at")? < at => low = row.number("number")? + 1,
                _ => high = middle,
            }
        }
        *bound = low;
    }
    Ok(Some((bounds[0] - NUMBER_SLACK, bounds[1] + NUMBER_SLACK)))
}

pub(super) fn next_number(from: i64) -> Statement {
    let next =
        "SELECT number, created_at FROM queue_jobs WHERE number >= $1 ORDER BY number LIMIT 1";
    Statement::new(next).with(from)
}

/// Binds a text. One of the returned conditions holds if a file name (ignoring case) or an id starts
/// with it.
fn starts_with(statement: &mut Statement, text: &str) -> [String; 4] {
    let mut bind_range = |text: String| {
        let last = format!("{text}{MAX_CHAR}");
        (statement.bind(text), statement.bind(last))
    };
    let names = bind_range(filename_key(&replace_nul(text)));
    let ids = bind_range(replace_nul(text));
    [
        ("filename_key", names),
        ("subject", ids),
        ("request_id", ids),
        ("upload_id", ids),
    ]
    .map(|(column, (first, last))| format!("({column} >= ${first} AND {column} < ${last})"))
}

/// Returns a condition that holds if a file name contains the text, ignoring case.
fn contains(statement: &mut Statement, text: &str) -> String {
    let mut pattern = String::from("%");
    for one in filename_key(&replace_nul(text)).chars() {
        if matches!(one, '%' | '_' | '!') {
            pattern.push('!');
        }
        pattern.push(one);
    }
    pattern.push('%');
    let pattern = statement.bind(pattern);
    format!("filename_key LIKE ${pattern} ESCAPE '!'")
}
