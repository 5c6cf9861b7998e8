//! Stores around other stores that fail, stall, or forget.
//!
//! * [`FaultStore`] fails by script or by chance, in every way the traits allow;
//! * [`ForgetfulStore`] loses power: what wasn't committed is gone.
//!
//! Both keep the promises of the [`Store`](landfall::store::Store) trait, so that whatever works on
//! a store must work on them.

mod flaky;
mod forgetful;
mod plan;

pub use self::{
    flaky::FaultStore,
    forgetful::ForgetfulStore,
    plan::{Call, Failure, Fault, Faults},
};
