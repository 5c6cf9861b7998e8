//! Tests of the statements.

mod plans;
