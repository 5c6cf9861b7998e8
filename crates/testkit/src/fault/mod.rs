//! Stores with injected faults, and a locker that loses leases.
//!
//! * [`FaultStore`] fails by a script or at random, with every error that the traits allow;
//! * [`FaultLocker`] revokes leases.
//!
//! Both follow the contracts of the traits, so callers must work with them.

mod faulty;
mod locker;
mod plan;

pub use self::{
    faulty::FaultStore,
    locker::FaultLocker,
    plan::{Failure, Fault, Faults, StoreCall},
};
