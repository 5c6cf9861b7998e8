use std::sync::Arc;

use rusqlite::types::{FromSql, ValueRef};
#[cfg(feature = "postgres")]
use sqlx::Row as _;

use super::DatabaseError;

/// A result row.
///
/// # Errors
/// All methods fail if the column does not exist or has another type.
#[derive(Debug)]
pub struct Row(pub(crate) RowOf);

#[derive(Debug)]
pub(crate) enum RowOf {
    Sqlite(SqliteRow),
    #[cfg(feature = "postgres")]
    Postgres(sqlx::postgres::PgRow),
}

/// A column of a row.
#[derive(Debug, Clone, Copy)]
pub enum Column<'a> {
    /// By name.
    Name(&'a str),
    /// By index, from 0.
    Index(usize),
}

impl<'a> From<&'a str> for Column<'a> {
    fn from(name: &'a str) -> Self {
        Self::Name(name)
    }
}

impl From<usize> for Column<'_> {
    fn from(index: usize) -> Self {
        Self::Index(index)
    }
}

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name<'a>(&self, column: impl Into<Column<'a>>) -> Result<$type, DatabaseError> {
            match (&self.0, column.into()) {
                (RowOf::Sqlite(row), column) => row.get(column),
                #[cfg(feature = "postgres")]
                (RowOf::Postgres(row), Column::Name(name)) => Ok(row.try_get(name)?),
                #[cfg(feature = "postgres")]
                (RowOf::Postgres(row), Column::Index(index)) => Ok(row.try_get(index)?),
            }
        }
    )*};
}

impl Row {
    columns! {
        /// Returns an integer (`BIGINT` on PostgreSQL).
        number: i64;
        /// Returns an integer or NULL.
        opt_number: Option<i64>;
        /// Returns a text.
        text: String;
        /// Returns a text or NULL.
        opt_text: Option<String>;
    }
}

#[derive(Debug)]
pub(crate) struct SqliteRow {
    pub(crate) columns: Arc<[String]>,
    pub(crate) values: Vec<rusqlite::types::Value>,
}

impl SqliteRow {
    fn get<T: FromSql>(&self, column: Column<'_>) -> Result<T, DatabaseError> {
        let at = match column {
            Column::Index(at) => Some(at),
            Column::Name(name) => self.columns.iter().position(|column| column == name),
        };
        let value = at.and_then(|at| self.values.get(at));
        let value = value.ok_or_else(|| DatabaseError::InvalidRow(format!("no {column:?}")))?;
        T::column_result(ValueRef::from(value))
            .map_err(|error| DatabaseError::InvalidRow(format!("{column:?}: {error}")))
    }
}
