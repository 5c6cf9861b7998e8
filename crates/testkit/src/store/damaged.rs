//! The conformance suite of a store some of whose descriptions are damaged.

use std::{pin::Pin, sync::Arc, time::Duration};

use landfall::{
    Composer, Config, Handler, Lifetimes, SweepReason, Sweeper,
    lease::Fence,
    store::{Store, StoreError},
    upload::{Upload, UploadId},
};

use super::support::{append, assert_not_found, create, expect, terminate};
use crate::{
    check::{Check, Report, checks, run_all},
    engine::client,
    test_data,
};

/// Damages the description of a stored upload, so that it cannot be parsed.
pub type Damage =
    Box<dyn Fn(Arc<Upload>) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// A store and how to damage it.
pub struct Subject {
    /// The store, which is empty.
    pub store: Arc<dyn Store>,
    /// Damages an upload of the store. It must reach through the store's caches.
    pub damage: Damage,
}

impl std::fmt::Debug for Subject {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subject")
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Runs every check, each on a subject made by `make`. Needs a tokio runtime with its timer on.
///
/// # Panics
/// If a check fails: at the end, with the list of all that failed and why.
pub async fn conformance(make: impl AsyncFn() -> Subject) -> Report {
    run_all("damaged uploads", &all(), make).await
}

/// The checks, to be run one by one.
pub fn all() -> Vec<Check<Subject>> {
    checks! {
        |_: &Subject| true =>
            a_damaged_upload_is_not_served;
        |s: &Subject| s.store.capabilities().terminator.is_some() =>
            a_damaged_upload_can_be_terminated,
            a_damaged_upload_answers_delete;
        |s: &Subject| s.store.capabilities().enumerator.is_some() =>
            damaged_uploads_are_listed_with_the_others;
        |s: &Subject| s.store.capabilities().enumerator.is_some() && s.store.capabilities().terminator.is_some() =>
            a_damaged_upload_never_expires;
    }
}

async fn damaged(subject: &Subject) -> Arc<Upload> {
    let upload = create(&subject.store, 5000).await;
    let bytes = test_data::bytes(1, 3000);
    append(&subject.store, &upload, Fence(1), &bytes).await;
    (subject.damage)(upload.clone()).await;
    upload
}

fn assert_damaged(what: &str, result: Result<impl Sized, StoreError>) {
    match result {
        Err(StoreError::Damaged { .. }) => {}
        Err(other) => panic!("{what} of a damaged upload must give Damaged, not: {other:?}"),
        Ok(_) => panic!("{what} of a damaged upload must fail"),
    }
}

async fn a_damaged_upload_is_not_served(subject: &Subject) {
    let upload = damaged(subject).await;
    let store = &subject.store;
    assert_damaged("load", store.load(&upload.id).await);
    let resumed = store.resume(&upload.id, Fence(20)).await;
    assert_damaged("resume", resumed);
    assert_damaged("load", store.load(&upload.id).await);
}

async fn a_damaged_upload_can_be_terminated(subject: &Subject) {
    let upload = damaged(subject).await;
    let store = &subject.store;
    // All that is known of it is its id.
    let known = Upload::new(upload.id.clone(), None);
    let removed = terminate(store, &known, Fence(2)).await;
    assert!(removed.expect("terminate"), "there was something");
    assert_not_found("load", store.load(&upload.id).await);
    let removed = terminate(store, &known, Fence(3)).await;
    assert!(!removed.expect("terminate again"), "it is removed already");
    let listed = listed(subject, 3).await;
    assert!(listed.is_empty(), "a removed upload is listed: {listed:?}");
}

async fn a_damaged_upload_answers_delete(subject: &Subject) {
    let upload = damaged(subject).await;
    let handler = handler(subject, None);
    client::head(&handler, &upload.id).await.expect(500);
    client::delete(&handler, &upload.id).await.expect(204);
    client::head(&handler, &upload.id).await.expect(404);
    client::delete(&handler, &upload.id).await.expect(404);
}

/// Returns the ids in order, with whether they are damaged.
async fn listed(subject: &Subject, limit: usize) -> Vec<(UploadId, bool)> {
    let enumerator = subject.store.capabilities().enumerator;
    let (mut cursor, mut listed) = (None, Vec::new());
    while let Some(enumerator) = enumerator {
        let page = enumerator.page(cursor, limit).await;
        let page = page.expect("one damaged upload must not stop the listing");
        assert!(page.orphans.is_empty(), "{:?}", page.orphans);
        listed.extend(page.uploads.iter().map(|at| (at.upload.id.clone(), false)));
        listed.extend(page.damaged.into_iter().map(|damaged| (damaged.id, true)));
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    listed.sort();
    listed
}

async fn damaged_uploads_are_listed_with_the_others(subject: &Subject) {
    let store = &subject.store;
    let mut wanted = Vec::new();
    for is_damaged in [false, true].repeat(4) {
        let upload = match is_damaged {
            true => damaged(subject).await,
            false => create(store, 10).await,
        };
        wanted.push((upload.id.clone(), is_damaged));
    }
    wanted.sort();
    for limit in [1, 3, 100] {
        let listed = listed(subject, limit).await;
        assert_eq!(listed, wanted, "in pages of {limit}");
    }
    for (id, _) in wanted.iter().filter(|(_, is_damaged)| *is_damaged) {
        assert_damaged("load", store.load(id).await);
    }
}

async fn a_damaged_upload_never_expires(subject: &Subject) {
    let healthy = create(&subject.store, 0).await;
    let upload = damaged(subject).await;
    // Stores may keep whole seconds.
    let handler = handler(subject, Some(Duration::ZERO));
    tokio::time::sleep(Duration::from_millis(1100)).await;
    for _ in 0..2 {
        let [(id, why)] = &sweep(handler.sweeper()).await[..] else {
            panic!("it must be reported once");
        };
        assert!(matches!(why, SweepReason::Reported(_)), "{why:?}");
        assert_eq!(*id, upload.id);
        assert_eq!(handler.stats().damaged_uploads, 1);
    }
    assert_damaged("load", subject.store.load(&upload.id).await);
    expect(&subject.store, &healthy, b"").await;
}

fn handler(subject: &Subject, unfinished: Option<Duration>) -> Handler {
    let mut config = Config::new(Composer::join_shared(subject.store.clone()));
    config.lifetimes = Lifetimes {
        unfinished,
        finished: None,
    };
    Handler::new(config).expect("a configuration that works")
}

async fn sweep(sweeper: Sweeper) -> Vec<(UploadId, SweepReason)> {
    let mut removed = Vec::new();
    let summary = sweeper.run(|entry| removed.extend(entry.id.clone().map(|id| (id, entry.why))));
    let summary = summary.await.expect("a sweep");
    assert_eq!(summary.failed, 0, "{summary:?}");
    removed
}
