//! Stores with injected faults, and a locker that loses leases.
//!
//! * [`FaultStore`] fails by a script or at random, with every error that the traits allow;
//! * [`PowerLossStore`] loses power: uncommitted data is gone;
//! * [`FaultLocker`] revokes leases.
//!
//! All of them follow the contracts of the traits, so callers must work with them.

use landfall::store::{Result, StoreError};

/// The accessors of a store around `inner`, which has the capabilities of `inner`.
macro_rules! wrapped_capabilities {
    ($($accessor:ident: $capability:ident,)+) => {
        $(
            fn $accessor(&self) -> Option<&dyn $capability> {
                self.inner.$accessor().is_some().then_some(self as _)
            }
        )+
        fn locker(&self) -> Option<Arc<dyn Locker>> {
            self.inner.locker()
        }
    };
    () => {
        wrapped_capabilities! {
            terminator: Terminate,
            finisher: Finish,
            reader: Read,
            concatenator: Concatenate,
            length_deferrer: DeferLength,
            enumerator: Enumerate,
        }
    };
}

mod faulty;
mod locker;
mod plan;
mod power_loss;

pub use self::{
    faulty::FaultStore,
    locker::FaultLocker,
    plan::{Failure, Fault, Faults, StoreCall},
    power_loss::PowerLossStore,
};

/// Returns a capability of the inner store, which exists if the outer one was handed out.
fn capability<T: ?Sized>(inner: Option<&T>) -> Result<&T> {
    inner.ok_or_else(|| StoreError::Other {
        action: "using a capability of the inner store".into(),
        source: "the inner store no longer has it".into(),
    })
}
