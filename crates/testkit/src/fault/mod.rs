//! Stores with injected faults, and a locker that loses leases.
//!
//! * [`FaultStore`] fails by a script or at random, with every error that the traits allow;
//! * [`PowerLossStore`] loses power: uncommitted data is gone;
//! * [`FaultLocker`] revokes leases.
//!
//! All of them follow the contracts of the traits, so callers must work with them.

mod faulty;
mod locker;
mod plan;
mod power_loss;

pub use self::{
    faulty::FaultStore,
    locker::FaultLocker,
    plan::{Call, Failure, Fault, Faults},
    power_loss::PowerLossStore,
};
