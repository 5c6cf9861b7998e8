use landfall::{
    lease::{Fence, Locker},
    upload::UploadId,
};

use super::{LONG, Subject};
use crate::check::{Check, checks};

pub(super) struct Restarted {
    id: UploadId,
    newest: Fence,
    locker: Subject,
}

impl Restarted {
    pub(super) async fn new<L: Locker>(make: impl AsyncFn() -> L) -> Self {
        let id = UploadId::random();
        let before = make().await;
        let mut newest = Fence(0);
        for _ in 0..10 {
            newest = before.acquire(&id, LONG).await.expect("acquire").fence();
        }
        drop(before);
        let locker = std::sync::Arc::new(make().await);
        Self { id, newest, locker }
    }
}

pub(super) fn all() -> Vec<Check<Restarted>> {
    checks! { |_: &Restarted| true => fences_grow_over_a_restart; }
}

async fn fences_grow_over_a_restart(restarted: &Restarted) {
    let lease = restarted.locker.acquire(&restarted.id, LONG).await;
    let fence = lease.expect("acquire").fence();
    assert!(
        fence > restarted.newest,
        "{fence:?} after {:?}: a store that remembers fences would reject every write",
        restarted.newest
    );
}
