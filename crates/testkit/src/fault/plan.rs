//! Decides which call of a store fails, and how: a script first, then a seeded random choice.
//!
//! An error after the effect is injected only where the trait allows it; other calls fail before.

use std::{io, sync::Arc, time::Duration};

use landfall::store::{Result, StoreError};
use parking_lot::Mutex;

use crate::test_data;

/// A call of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[allow(missing_docs, reason = "they are named after the methods")]
pub enum StoreCall {
    Create,
    Load,
    Resume,
    Write,
    Commit,
    BeginUnverified,
    AcceptUnverified,
    DiscardUnverified,
    Save,
    Terminate,
    Finish,
    Read,
    Concatenate,
    DeclareLength,
    Page,
}

impl StoreCall {
    /// Tells whether the trait allows an error of this call though it was done.
    fn can_fail_after(self) -> bool {
        use StoreCall::{BeginUnverified, Commit, Finish, Save, Terminate, Write};
        matches!(
            self,
            Save | Terminate | Finish | Write | Commit | BeginUnverified
        )
    }
}

/// The error of a failed call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Failure {
    /// [`StoreError::Full`].
    Full,
    /// [`StoreError::Other`] of an I/O error (`EIO`).
    Io,
    /// [`StoreError::Unavailable`].
    Unavailable,
}

/// The fault of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fault {
    /// Nothing is done.
    Before(Failure),
    /// All is done, and yet an error comes back: the answer got lost. Calls after whose error the
    /// trait promises that nothing has changed fail [before](Self::Before).
    After(Failure),
    /// A write or a download fails after this many bytes; other calls fail [before](Self::Before).
    Short(usize, Failure),
    /// It takes longer.
    Slow(Duration),
    /// All is done, and the answer comes later.
    Late(Duration),
}

impl Failure {
    pub(super) fn error(self, call: StoreCall) -> StoreError {
        let doing = || format!("{call:?}, where a fault was injected");
        match self {
            Self::Full => StoreError::Full("injected: no space left".into()),
            Self::Io => StoreError::io(doing(), io::Error::from_raw_os_error(5)),
            Self::Unavailable => StoreError::Unavailable(doing().into()),
        }
    }
}

/// The faults to come, shared with the [`FaultStore`](super::FaultStore)s that have them.
#[derive(Debug, Clone, Default)]
pub struct Faults(Arc<Mutex<FaultPlan>>);

#[derive(Debug, Default)]
struct FaultPlan {
    script: Vec<(StoreCall, Fault)>,
    chance: Option<FaultChance>,
    happened: u64,
}

#[derive(Debug)]
struct FaultChance {
    state: u64,
    per_mille: u64,
}

impl Faults {
    /// No faults, for now.
    pub fn none() -> Self {
        Self::default()
    }

    /// The next `call` that has no fault planned yet has this one.
    pub fn plan(&self, call: StoreCall, fault: Fault) {
        self.0.lock().script.push((call, fault));
    }

    /// From now on each call has a fault in `per_mille` of 1,000 cases, the same ones for the same
    /// `seed` and the same calls.
    pub fn by_chance(&self, seed: u64, per_mille: u64) {
        let state = seed | 1;
        self.0.lock().chance = Some(FaultChance { state, per_mille });
    }

    /// No more faults from now on.
    pub fn stop(&self) {
        let mut plan = self.0.lock();
        plan.script.clear();
        plan.chance = None;
    }

    /// Returns the number of faults injected.
    pub fn happened(&self) -> u64 {
        self.0.lock().happened
    }

    pub(super) fn draw(&self, call: StoreCall) -> Option<Fault> {
        let mut plan = self.0.lock();
        let planned = plan.script.iter().position(|(planned, _)| *planned == call);
        let fault = match planned {
            Some(n) => Some(plan.script.remove(n).1),
            None => plan.chance.as_mut().and_then(FaultChance::draw),
        };
        plan.happened += u64::from(fault.is_some());
        fault
    }
}

impl FaultChance {
    fn draw(&mut self) -> Option<Fault> {
        let mut next = |below: u64| (test_data::next(&mut self.state) >> 16) % below;
        if next(1000) >= self.per_mille {
            return None;
        }
        let failure = [Failure::Full, Failure::Io, Failure::Unavailable][next(3) as usize];
        Some(match next(8) {
            0..3 => Fault::Before(failure),
            3..5 => Fault::After(failure),
            5..7 => Fault::Short(next(100_000) as usize, failure),
            _ => Fault::Slow(Duration::from_micros(next(5000))),
        })
    }
}

pub(super) async fn with_fault<T>(
    fault: Option<Fault>,
    call: StoreCall,
    work: impl Future<Output = Result<T>>,
) -> Result<T> {
    match fault {
        None => work.await,
        Some(Fault::Slow(by)) => {
            tokio::time::sleep(by).await;
            work.await
        }
        Some(Fault::Late(by)) => {
            let done = work.await;
            tokio::time::sleep(by).await;
            done
        }
        Some(Fault::After(failure)) if call.can_fail_after() => {
            work.await?;
            Err(failure.error(call))
        }
        Some(Fault::Before(failure) | Fault::After(failure) | Fault::Short(_, failure)) => {
            Err(failure.error(call))
        }
    }
}
