use landfall_database::{Statement, replace_nul};

use super::{
    Page, Query, QueueError, Scope, read,
    record::{COLUMNS, state_number},
    search::{is_selective, search, starts_with},
    shared::Shared,
};

const MAX_PAGE_LEN: usize = 1000;

pub(super) async fn list(shared: &Shared, query: &Query) -> Result<Page, QueueError> {
    let limit = query.limit.clamp(1, MAX_PAGE_LEN);
    let one_more = i64::try_from(limit).unwrap_or(i64::MAX) + 1;
    let is_search = query.search.as_deref().is_some_and(|text| !text.is_empty());
    let mut records = if is_search && !is_selective(shared, query).await? {
        search(shared, query, one_more).await?
    } else {
        read::records(shared, walk(query, one_more)).await?
    };
    let has_more = records.len() > limit;
    records.truncate(limit);
    Ok(Page {
        jobs: records.into_iter().map(|record| record.job).collect(),
        has_more,
    })
}

pub(super) fn walk(query: &Query, limit: i64) -> Statement {
    let (order, beyond) = query.direction();
    let mut statement = Statement::new(format!("SELECT {COLUMNS} FROM ("));
    let limit = statement.bind(limit);
    let after = query.after.map(|after| statement.bind(after.0));
    let subject = match &query.scope {
        Scope::Subject(subject) => Some(statement.bind(replace_nul(subject))),
        Scope::All => None,
    };
    let wanted = query.search.as_deref().filter(|text| !text.is_empty());
    let wanted = wanted.map(|text| starts_with(&mut statement, text));
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
        if let Some((names, ids)) = &wanted {
            conditions.push(format!(
                "({} OR {} OR {} OR {})",
                names.on("filename_key"),
                ids.on("subject"),
                ids.on("request_id"),
                ids.on("upload_id")
            ));
        }
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
