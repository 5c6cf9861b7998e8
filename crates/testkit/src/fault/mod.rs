//! Stores around other stores that fail, stall, or forget, and a locker that loses leases.
//!
//! * [`FaultStore`] fails by script or by chance, in every way the traits allow;
//! * [`ForgetfulStore`] loses power: what wasn't committed is gone;
//! * [`FaultLocker`] takes leases from their holders.
//!
//! All keep the promises of the traits, so that whatever works on a store and a locker must work on
//! them.

mod flaky;
mod forgetful;
mod locker;
mod plan;

pub use self::{
    flaky::FaultStore,
    forgetful::ForgetfulStore,
    locker::FaultLocker,
    plan::{Call, Failure, Fault, Faults},
};
