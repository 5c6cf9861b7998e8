//! The library from outside.

mod leases;
