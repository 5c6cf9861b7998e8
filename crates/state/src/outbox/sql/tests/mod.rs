//! Tests of the statements.

mod plans;
#[cfg(feature = "postgres")]
mod races;
