//! SQL statements, their values, and result rows.

use std::fmt::Write as _;

/// A value of a statement, or NULL. A prepared statement takes values of one type at each position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// An integer.
    Number(Option<i64>),
    /// A text. PostgreSQL rejects U+0000 in it.
    Text(Option<String>),
}

impl From<i64> for Value {
    fn from(number: i64) -> Self {
        Self::Number(Some(number))
    }
}

impl From<Option<i64>> for Value {
    fn from(number: Option<i64>) -> Self {
        Self::Number(number)
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(Some(text))
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        text.to_owned().into()
    }
}

impl From<Option<String>> for Value {
    fn from(text: Option<String>) -> Self {
        Self::Text(text)
    }
}

/// SQL with its values. The SQL comes from the program alone; all input is bound as values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    pub(crate) sql: String,
    pub(crate) values: Vec<Value>,
    /// Set if the statement can be merged with others.
    insert: Option<&'static Insert>,
}

/// The SQL of an `INSERT` from `(VALUES …) AS v`, with columns `v.column1`, `v.column2`, ….
#[derive(Debug, PartialEq, Eq)]
pub struct Insert {
    /// The SQL before the rows, up to `FROM`.
    pub head: &'static str,
    /// The types of the columns.
    pub types: &'static [&'static str],
    /// The SQL after the rows.
    pub tail: &'static str,
}

impl Statement {
    /// Creates a statement; values for `$1`, `$2`, … follow by [`with`](Self::with).
    pub fn new(sql: impl Into<String>) -> Self {
        Self {
            sql: sql.into(),
            values: Vec::new(),
            insert: None,
        }
    }

    /// Creates an `INSERT` of one row; [`merge`](Self::merge) combines several.
    pub fn insert(insert: &'static Insert, row: Vec<Value>) -> Self {
        Self::insert_rows(insert, [row])
    }

    fn insert_rows(insert: &'static Insert, rows: impl IntoIterator<Item = Vec<Value>>) -> Self {
        let mut statement = Self::new(insert.head);
        statement.push_rows(rows, insert.types);
        statement.push(insert.tail);
        statement.insert = Some(insert);
        statement
    }

    /// Creates a statement over rows: `head (VALUES …) AS v tail`, with columns `v.column1`, `v.column2`, ….
    ///
    /// Each value is cast to the type of its column.
    pub fn from_rows<const N: usize>(
        head: &str,
        rows: impl IntoIterator<Item = [Value; N]>,
        types: [&str; N],
        tail: &str,
    ) -> Self {
        Self::new(head).rows(rows, types, tail)
    }

    /// Appends rows and SQL, as [`from_rows`](Self::from_rows) does; their values follow those bound
    /// before.
    #[must_use]
    pub fn rows<const N: usize>(
        mut self,
        rows: impl IntoIterator<Item = [Value; N]>,
        types: [&str; N],
        tail: &str,
    ) -> Self {
        self.push_rows(rows, &types);
        self.push(tail);
        self
    }

    /// Merges consecutive statements that insert one row each by the same SQL.
    pub fn merge(statements: &[Self]) -> Vec<Self> {
        let is_same = |one: &Self, next: &Self| one.insert.is_some() && one.insert == next.insert;
        let parts = statements.chunk_by(is_same).flat_map(parts);
        let merged = parts.map(|part| match part[0].insert {
            Some(insert) => Self::insert_rows(insert, part.iter().map(|one| one.values.clone())),
            None => part[0].clone(),
        });
        merged.collect()
    }

    /// Binds the next value.
    #[must_use]
    pub fn with(mut self, value: impl Into<Value>) -> Self {
        self.values.push(value.into());
        self
    }

    /// Binds the next value and returns its number, for SQL that is built dynamically.
    pub fn bind(&mut self, value: impl Into<Value>) -> usize {
        self.values.push(value.into());
        self.values.len()
    }

    /// Appends SQL.
    pub fn push(&mut self, sql: &str) {
        self.sql.push_str(sql);
    }

    /// Appends a list of values as `($1, $2)`.
    #[must_use]
    pub fn list<T: Into<Value>>(mut self, values: impl IntoIterator<Item = T>) -> Self {
        push_list(&mut self, values);
        self
    }

    /// Turns it into SQLite's `EXPLAIN QUERY PLAN`, whose fourth column describes a step, for
    /// tests.
    #[must_use]
    pub fn explain(mut self) -> Self {
        self.sql.insert_str(0, "EXPLAIN QUERY PLAN ");
        self
    }

    fn push_rows<R: IntoIterator<Item = Value>>(
        &mut self,
        rows: impl IntoIterator<Item = R>,
        types: &[&str],
    ) {
        self.push(" (VALUES ");
        for (at, row) in rows.into_iter().enumerate() {
            self.push(if at == 0 { "(" } else { ", (" });
            for (column, (value, cast)) in row.into_iter().zip(types).enumerate() {
                let number = self.bind(value);
                let comma = if column == 0 { "" } else { ", " };
                // Writing to a string does not fail.
                let _ = write!(self.sql, "{comma}CAST(${number} AS {cast})");
            }
            self.push(")");
        }
        self.push(") AS v ");
    }
}

/// Splits rows into batches of a few fixed sizes, so that few statements have to be prepared.
pub fn parts<T>(mut rows: &[T]) -> impl Iterator<Item = &[T]> {
    const SIZES: [usize; 10] = [64, 32, 16, 12, 8, 6, 4, 3, 2, 1];
    std::iter::from_fn(move || {
        let size = SIZES.into_iter().find(|n| *n <= rows.len())?;
        let (part, rest) = rows.split_at(size);
        rows = rest;
        Some(part)
    })
}

/// Creates a statement for each [part](parts) of the rows.
pub fn in_parts<'a, T>(rows: &'a [T], create: impl Fn(&'a [T]) -> Statement) -> Vec<Statement> {
    parts(rows).map(create).collect()
}

/// Appends a list of values as `($1, $2)`.
pub fn push_list<T: Into<Value>>(statement: &mut Statement, values: impl IntoIterator<Item = T>) {
    statement.push("(");
    for (at, value) in values.into_iter().enumerate() {
        let number = statement.bind(value);
        let comma = if at == 0 { "" } else { ", " };
        let _ = write!(statement.sql, "{comma}${number}");
    }
    statement.push(")");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_have_few_sizes_and_contain_every_row() {
        let rows: Vec<_> = (0..151).collect();
        let sizes: Vec<_> = parts(&rows).map(<[_]>::len).collect();
        assert_eq!(sizes, [64, 64, 16, 6, 1]);
        assert_eq!(parts(&rows).flatten().copied().collect::<Vec<_>>(), rows);
        assert_eq!(parts(&rows[..0]).count(), 0);
    }

    #[test]
    fn rows_of_one_insert_are_merged() {
        static INSERT: Insert = Insert {
            head: "INSERT INTO t (a, b) SELECT v.* FROM",
            types: &["BIGINT", "TEXT"],
            tail: "WHERE true ON CONFLICT DO NOTHING",
        };
        let row = |number: i64| Statement::insert(&INSERT, vec![number.into(), "x".into()]);
        let other = Statement::new("DELETE FROM t WHERE a = $1").with(1);
        let merged = Statement::merge(&[row(1), row(2), other.clone(), row(3)]);
        assert_eq!(merged.len(), 3);
        assert_eq!(
            merged[0].sql,
            "INSERT INTO t (a, b) SELECT v.* FROM (VALUES (CAST($1 AS BIGINT), CAST($2 AS TEXT)), \
             (CAST($3 AS BIGINT), CAST($4 AS TEXT))) AS v WHERE true ON CONFLICT DO NOTHING"
        );
        let values: [Value; 4] = [1.into(), "x".into(), 2.into(), "x".into()];
        assert_eq!(merged[0].values, values);
        assert_eq!(merged[1..], [other, row(3)]);
        let many: Vec<_> = (0..100).map(row).collect();
        let merged = Statement::merge(&many);
        let values: Vec<_> = merged.iter().map(|one| one.values.len() / 2).collect();
        assert_eq!(values, [64, 32, 4]);
    }
}
