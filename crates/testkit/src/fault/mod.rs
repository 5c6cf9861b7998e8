//! Stores with injected faults, and a locker that loses leases.
//!
//! * [`FaultStore`] fails by a script or at random, with every error that the traits allow;
//! * [`PowerLossStore`] loses power: uncommitted data is gone;
//! * [`FaultLocker`] revokes leases.
//!
//! All of them follow the contracts of the traits, so callers must work with them.

use landfall::store::{
    Capabilities, Concatenate, DeferLength, Enumerate, Finish, Read, Result, StoreError, Terminate,
};

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

fn capability<T: ?Sized>(inner: Option<&T>) -> Result<&T> {
    inner.ok_or_else(|| {
        StoreError::other(
            "using a capability of the inner store",
            "the inner store no longer has it",
        )
    })
}

fn wrapped<'a, S>(wrapper: &'a S, inner: Capabilities<'_>) -> Capabilities<'a>
where
    S: Terminate + Finish + Read + Concatenate + DeferLength + Enumerate,
{
    let all = Capabilities::all(wrapper);
    Capabilities {
        terminator: inner.terminator.and(all.terminator),
        finisher: inner.finisher.and(all.finisher),
        reader: inner.reader.and(all.reader),
        concatenator: inner.concatenator.and(all.concatenator),
        length_deferrer: inner.length_deferrer.and(all.length_deferrer),
        enumerator: inner.enumerator.and(all.enumerator),
    }
}
