//! The suite of damaged uploads on the file store, and on stores with one fault each.

use std::{
    collections::BTreeSet,
    sync::{Arc, Mutex},
};

use async_trait::async_trait;
use landfall::{
    lease::{Fence, Locker},
    removal::Removable,
    store::{
        Append, Capabilities, Cursor, Damaged, Enumerate, MemoryStore, Orphan, Page, Result, Store,
        StoreError, Terminate, file::FileStore,
    },
    upload::{Snapshot, Upload, UploadId},
};
use landfall_testkit::store::damaged::{self, Subject};

use crate::found::{assert_found, failing};

#[tokio::test(flavor = "multi_thread")]
async fn file_store() {
    let dir = tempfile::tempdir().unwrap();
    for text in ["", "nonsense", "{\"ID\":\"a"] {
        let make = async || {
            let dir = tempfile::tempdir_in(dir.path()).unwrap().keep();
            let store = Arc::new(FileStore::new(&dir).unwrap());
            let damage = move |upload: Arc<Upload>| {
                let info = dir.join(format!("{}.info", upload.id));
                std::fs::write(info, text).unwrap();
                Box::pin(std::future::ready(())) as _
            };
            Subject {
                store,
                damage: Box::new(damage),
            }
        };
        damaged::conformance(make).await.assert_complete();
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mutation {
    None,
    /// A damaged upload is not found.
    LoadAsMissing,
    /// Uploads that cannot be loaded cannot be removed.
    TerminateFails,
    /// Nothing is removed, because the objects are unknown.
    TerminateNothing,
    /// One damaged upload fails the whole listing.
    ListingFails,
    /// Damaged uploads are left out of the listing.
    Unlisted,
    /// They are listed again on each page.
    ListedTwice,
}

#[derive(Debug, Clone)]
struct Mutant {
    inner: MemoryStore,
    mutation: Mutation,
    damaged: Arc<Mutex<BTreeSet<UploadId>>>,
}

impl Mutant {
    fn subject(mutation: Mutation) -> Subject {
        let store = Self {
            inner: MemoryStore::new(),
            mutation,
            damaged: Arc::default(),
        };
        let damaged = store.damaged.clone();
        let damage = move |upload: Arc<Upload>| {
            damaged.lock().unwrap().insert(upload.id.clone());
            Box::pin(std::future::ready(())) as _
        };
        Subject {
            store: Arc::new(store),
            damage: Box::new(damage),
        }
    }

    fn is(&self, mutation: Mutation) -> bool {
        self.mutation == mutation
    }

    fn check(&self, id: &UploadId) -> Result<()> {
        if !self.damaged.lock().unwrap().contains(id) {
            return Ok(());
        }
        Err(if self.is(Mutation::LoadAsMissing) {
            StoreError::NotFound(id.clone())
        } else {
            StoreError::damaged(id, "on purpose")
        })
    }
}

#[async_trait]
impl Store for Mutant {
    async fn create(&self, upload: Upload) -> Result<Arc<Upload>> {
        self.inner.create(upload).await
    }

    async fn load(&self, id: &UploadId) -> Result<Snapshot> {
        self.check(id)?;
        self.inner.load(id).await
    }

    async fn resume(&self, id: &UploadId, fence: Fence) -> Result<(Snapshot, Box<dyn Append>)> {
        self.check(id)?;
        self.inner.resume(id, fence).await
    }

    async fn save(&self, upload: &Upload, fence: Fence) -> Result<()> {
        self.inner.save(upload, fence).await
    }

    fn capabilities(&self) -> Capabilities<'_> {
        Capabilities {
            terminator: Some(self),
            enumerator: Some(self),
            ..Capabilities::default()
        }
    }

    fn locker(&self) -> Option<Arc<dyn Locker>> {
        self.inner.locker()
    }
}

#[async_trait]
impl Terminate for Mutant {
    async fn terminate(&self, upload: &Upload, fence: Fence) -> Result<bool> {
        match self.mutation {
            Mutation::TerminateFails => self.check(&upload.id)?,
            Mutation::TerminateNothing if self.check(&upload.id).is_err() => return Ok(false),
            _ => {}
        }
        self.damaged.lock().unwrap().remove(&upload.id);
        let terminator = self.inner.capabilities().terminator.expect("a terminator");
        terminator.terminate(upload, fence).await
    }
}

#[async_trait]
impl Enumerate for Mutant {
    async fn page(&self, cursor: Option<Cursor>, limit: usize) -> Result<Page> {
        let enumerator = self.inner.capabilities().enumerator.expect("an enumerator");
        let mut page = enumerator.page(cursor, limit).await?;
        let mut healthy = Vec::new();
        for snapshot in page.uploads.drain(..) {
            let id = snapshot.upload.id.clone();
            let Err(error) = self.check(&id) else {
                healthy.push(snapshot);
                continue;
            };
            match self.mutation {
                Mutation::ListingFails => return Err(error),
                Mutation::Unlisted => continue,
                _ => {}
            }
            let damaged = Damaged {
                id,
                size: snapshot.offset,
                modified: snapshot.modified,
                reason: "damaged".into(),
            };
            if self.is(Mutation::ListedTwice) {
                page.damaged.push(damaged.clone());
            }
            page.damaged.push(damaged);
        }
        page.uploads = healthy;
        Ok(page)
    }

    async fn remove_orphan(&self, _orphan: &Orphan, _: Removable) -> Result<bool> {
        Ok(false)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_fault_is_found_by_the_check_made_for_it() {
    for (mutation, expected) in [
        (Mutation::None, ""),
        (Mutation::LoadAsMissing, "a_damaged_upload_is_not_served"),
        (Mutation::TerminateFails, "a_damaged_upload_answers_delete"),
        (
            Mutation::TerminateNothing,
            "a_damaged_upload_can_be_terminated",
        ),
        (
            Mutation::ListingFails,
            "damaged_uploads_are_listed_with_the_others",
        ),
        (
            Mutation::Unlisted,
            "damaged_uploads_are_listed_with_the_others",
        ),
        (
            Mutation::ListedTwice,
            "damaged_uploads_are_listed_with_the_others",
        ),
        (Mutation::Unlisted, "a_damaged_upload_never_expires"),
    ] {
        let failed = failing(damaged::all(), || Mutant::subject(mutation)).await;
        assert_found(mutation, &failed, expected);
    }
}
