//! One call that acquires a lease, and the lease that comes of it. Whatever happens, it is released.

use std::{any::Any, fmt, sync::Arc, time::Duration};

use landfall::{
    lease::{Lease, LeaseError, LeaseTerms, YieldReason, YieldSignal},
    upload::UploadId,
};
use tokio::time::Instant;

use crate::{
    service::GrantedLease,
    table::{LeaseTable, OwnedLease, Rejection},
};

/// A lease that the service may have granted, and the lease within this node. On drop it is released
/// in both, also if the response never arrived.
pub(crate) struct Attempt {
    table: Arc<LeaseTable>,
    _locker: Arc<dyn Any + Send + Sync>,
    id: UploadId,
    number: u64,
    /// Released last, so that the next request of this node calls the service after the release.
    local: Option<Lease>,
    is_acquired: bool,
    /// When the attempt began, by the clock of leases and by that of the runtime.
    began: (Duration, Instant),
    /// Once the lease is granted.
    terms: Option<Arc<LeaseTerms>>,
}

impl Attempt {
    /// Creates an attempt, which keeps `locker` alive.
    pub(crate) fn new(
        table: &Arc<LeaseTable>,
        locker: Arc<dyn Any + Send + Sync>,
        id: &UploadId,
        local: Option<Lease>,
    ) -> Self {
        Self {
            table: Arc::clone(table),
            _locker: locker,
            id: id.clone(),
            number: table.next_number(),
            local,
            is_acquired: true,
            began: (LeaseTerms::now(), Instant::now()),
            terms: None,
        }
    }

    /// Returns the upload.
    pub(crate) fn id(&self) -> &UploadId {
        &self.id
    }

    /// Returns the number of the acquisition; later ones of the table have greater numbers.
    pub(crate) fn number(&self) -> u64 {
        self.number
    }

    /// Returns the lease that the service granted.
    ///
    /// # Errors
    /// [`LeaseError::Unavailable`] if the call was sent too long ago.
    pub(crate) fn granted(mut self, granted: &GrantedLease) -> Result<Lease, Rejection> {
        let GrantedLease {
            fence,
            sent,
            is_settled,
            ..
        } = *granted;
        let was_unsettled = self.table.take_unsettled(&self.id);
        let terms = Arc::new(LeaseTerms::new(is_settled && !was_unsettled));
        self.terms = Some(Arc::clone(&terms));
        let local = self.local.as_ref();
        let signal = local.map_or_else(YieldSignal::new, |local| local.signal().clone());
        let lease = OwnedLease {
            id: self.id.clone(),
            number: self.number,
            fence,
        };
        if !(self.table).insert(lease, signal.clone(), &terms, (sent, self.since(sent))) {
            return Err(self.table.unavailable("the service responded too late"));
        }
        Ok(Lease::new(fence, signal, self).with_terms(terms))
    }

    /// Returns a time of this attempt by the clock of leases; an earlier one, if the machine was suspended.
    fn since(&self, sent: Instant) -> Duration {
        let (began, began_at) = self.began;
        let now = LeaseTerms::now();
        let suspended = now.saturating_sub(began).saturating_sub(began_at.elapsed());
        now.saturating_sub(sent.elapsed()).saturating_sub(suspended)
    }

    /// Ends an attempt because another node has the lease, for at most `remaining`.
    pub(crate) fn held(mut self, poll: Duration, remaining: Duration) -> Rejection {
        self.is_acquired = false;
        // Random, so that the waiters of all nodes do not retry at the same time.
        let poll = poll.mul_f64(rand::random_range(0.7..1.0));
        let retry = poll.min(remaining + Duration::from_millis(1));
        match self.local.take() {
            Some(local) => Rejection::Held { local, retry },
            None => Rejection::Failed(LeaseError::Locked),
        }
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        if self.is_acquired {
            let signal = self
                .local
                .as_ref()
                .and_then(|lease| lease.signal().reason());
            let is_requested = signal == Some(YieldReason::Requested);
            // Without a response, the lease may be one that is not settled.
            let terms = self.terms.as_ref();
            let is_settled = terms.is_some_and(|terms| terms.is_settled());
            (self.table).release(&self.id, self.number, is_requested, is_settled);
            if let Some(terms) = terms {
                terms.end();
            }
        }
    }
}

impl fmt::Debug for Attempt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Attempt").field(&self.id).finish()
    }
}
