//! Result rows of both databases, with the same access by column name and type.
//!
//! A missing column or another type is an error: nothing is converted or replaced by a default.

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

macro_rules! columns {
    ($($(#[$doc:meta])* $name:ident: $type:ty;)*) => {$(
        $(#[$doc])*
        pub fn $name(&self, column: &str) -> Result<$type, DatabaseError> {
            match &self.0 {
                RowOf::Sqlite(row) => row.get(column),
                #[cfg(feature = "postgres")]
                RowOf::Postgres(row) => Ok(row.try_get(column)?),
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
    fn get<T: FromSql>(&self, column: &str) -> Result<T, DatabaseError> {
        let at = self.columns.iter().position(|name| name == column);
        let value = at.and_then(|at| self.values.get(at));
        let value = value.ok_or_else(|| DatabaseError::InvalidRow(format!("no {column}")))?;
        T::column_result(ValueRef::from(value))
            .map_err(|error| DatabaseError::InvalidRow(format!("{column}: {error}")))
    }
}
