//! Two stores on one directory, as two processes have them: one has stopped, and goes on when the other has taken over.

use std::{
    os::unix::fs::{FileExt as _, MetadataExt as _},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
        mpsc,
    },
    time::Duration,
};

use async_trait::async_trait;
use tempfile::TempDir;

use crate::{
    lease::{Fence, Lease, LeaseError, LeaseTerms, Locker, YieldSignal},
    store::{
        Append, DeferLength as _, Finish as _, Store as _, StoreError, Terminate as _,
        file::{FileOptions, FileStore},
    },
    upload::{Upload, UploadId},
};

/// A service that grants each lease at once, as one that has lost its data does.
#[derive(Debug, Clone, Default)]
struct Service {
    fences: Arc<AtomicU64>,
    is_settled: bool,
    /// One clone for each lease.
    leases: Arc<()>,
}

#[async_trait]
impl Locker for Service {
    async fn acquire_at(
        &self,
        id: &UploadId,
        _offset: Option<u64>,
        _wait: Duration,
    ) -> Result<Lease, LeaseError> {
        self.try_acquire(id).await
    }

    async fn try_acquire(&self, _id: &UploadId) -> Result<Lease, LeaseError> {
        let fence = Fence(self.fences.fetch_add(10, Ordering::Relaxed) + 10);
        let terms = Arc::new(LeaseTerms::new(self.is_settled));
        let guard = Arc::clone(&self.leases);
        Ok(Lease::new(fence, YieldSignal::new(), guard).with_terms(terms))
    }
}

struct Node {
    store: FileStore,
    locker: Arc<dyn Locker>,
}

impl Node {
    fn new(dir: &Path, service: &Service, is_local: bool) -> Self {
        Self::with_options(dir, service, is_local, FileOptions::default())
    }

    fn with_options(dir: &Path, service: &Service, is_local: bool, options: FileOptions) -> Self {
        let mut store = FileStore::open(dir, options).unwrap();
        Arc::get_mut(&mut store.0).unwrap().is_local &= is_local;
        let locker = store.guard(Arc::new(service.clone()));
        Self { store, locker }
    }

    async fn lease(&self, id: &UploadId) -> Lease {
        self.locker.try_acquire(id).await.unwrap()
    }

    async fn resume(&self, id: &UploadId, lease: &Lease) -> (u64, Box<dyn Append>) {
        let (snapshot, append) = self.store.resume(id, lease.fence()).await.unwrap();
        assert_eq!(snapshot.offset, append.offset());
        (snapshot.offset, append)
    }
}

fn two(service: &Service, is_local: bool) -> (TempDir, Node, Node) {
    let dir = tempfile::tempdir().unwrap();
    let [one, other] = [(); 2].map(|()| Node::new(dir.path(), service, is_local));
    (dir, one, other)
}

/// Creates an upload of twelve bytes with three `a`.
async fn start(node: &Node) -> (Arc<Upload>, Lease, Box<dyn Append>) {
    let upload = Upload::new(UploadId::random(), Some(12));
    let lease = node.lease(&upload.id).await;
    let created = node.store.create_append(upload, lease.fence()).await;
    let (upload, mut append) = created.unwrap();
    write(&mut append, "aaa").await.unwrap();
    assert_eq!(append.commit().await.unwrap(), 3);
    (upload, lease, append)
}

async fn write(append: &mut Box<dyn Append>, text: &'static str) -> Result<(), StoreError> {
    if let Some(written) = append.write_now(&mut vec![text.into()]) {
        return written;
    }
    append.write(&mut vec![text.into()]).await
}

fn data(dir: &TempDir, id: &UploadId) -> String {
    std::fs::read_to_string(dir.path().join(id.as_str())).unwrap()
}

fn inode(dir: &TempDir, id: &UploadId) -> u64 {
    std::fs::metadata(dir.path().join(id.as_str()))
        .unwrap()
        .ino()
}

fn is_lost<T>(result: &Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::LeaseLost(_)))
}

#[tokio::test]
async fn a_stopped_writer_replaces_and_acknowledges_nothing() {
    // The clocks of the first process show the end of its lease, or were stopped with it.
    for (is_local, has_clock) in [(true, true), (true, false), (false, true), (false, false)] {
        let (dir, one, other) = two(&Service::default(), is_local);
        let (upload, lease, mut late) = start(&one).await;
        let path = dir.path().join(upload.id.as_str());
        let in_flight = std::fs::File::options().write(true).open(path).unwrap();

        let next = other.lease(&upload.id).await;
        assert!(next.terms().unwrap().is_settled());
        let (offset, mut append) = other.resume(&upload.id, &next).await;
        assert_eq!(offset, 3);
        write(&mut append, "bbb").await.unwrap();
        assert_eq!(append.commit().await.unwrap(), 6);

        // A call that the kernel had already accepted.
        in_flight.write_all_at(b"xxxxxx", 3).unwrap();
        in_flight.set_len(1).unwrap();
        if has_clock {
            lease.terms().unwrap().end();
        }
        assert!(is_lost(&late.commit().await));
        assert!(
            late.commit_now()
                .is_none_or(|committed| is_lost(&committed))
        );
        assert!(is_lost(&write(&mut late, "xxx").await));
        let _ = late.discard_unverified().await;
        assert_eq!(data(&dir, &upload.id), "aaabbb");
        write(&mut append, "cccccc").await.unwrap();
        assert_eq!(append.commit().await.unwrap(), 12);
        assert_eq!(data(&dir, &upload.id), "aaabbbcccccc");
        other.store.finish(&upload, next.fence()).await.unwrap();
        drop((append, next, late, lease));
        assert!(one.store.load(&upload.id).await.unwrap().is_complete());
        let names = std::fs::read_dir(dir.path()).unwrap();
        assert_eq!(names.count(), 2, "temporary files are left");
    }
}

#[tokio::test]
async fn nothing_is_copied_if_the_former_holder_is_gone_or_has_released() {
    for (is_local, is_settled, copies) in [
        (true, false, false),
        (true, true, false),
        (false, true, false),
        (false, false, true),
    ] {
        let service = Service {
            is_settled,
            ..Service::default()
        };
        let (dir, one, other) = two(&service, is_local);
        let (upload, lease, append) = start(&one).await;
        drop((append, lease, one));
        let before = inode(&dir, &upload.id);
        let next = other.lease(&upload.id).await;
        assert!(next.terms().unwrap().is_settled());
        assert_eq!(other.resume(&upload.id, &next).await.0, 3);
        assert_eq!(inode(&dir, &upload.id) != before, copies);
    }
}

/// A request was dropped while a step of it was running, and its lease released.
#[tokio::test]
async fn a_writer_that_is_still_there_is_copied_away_from() {
    let service = Service {
        is_settled: true,
        ..Service::default()
    };
    let (dir, one, other) = two(&service, true);
    let (upload, _lease, mut late) = start(&one).await;
    let before = inode(&dir, &upload.id);
    let next = other.lease(&upload.id).await;
    assert_ne!(inode(&dir, &upload.id), before);
    assert!(is_lost(&write(&mut late, "xxx").await));
    assert_eq!(other.resume(&upload.id, &next).await.0, 3);
}

#[tokio::test]
async fn a_late_change_of_the_description_fails() {
    for is_local in [true, false] {
        let (_dir, one, other) = two(&Service::default(), is_local);
        let upload = Upload::new(UploadId::random(), None);
        let id = upload.id.clone();
        let lease = one.lease(&id).await;
        let upload = one.store.create_append(upload, lease.fence()).await;
        let upload = upload.unwrap().0;
        let entry = one.store.0.cache.get_or_insert(&id);
        let (inner, bound) = (&one.store.0, entry.lease.lock().clone().unwrap());
        let (_, known) = inner.record(&id, None).unwrap();
        let prepare = || inner.prepare_change(&id, b"{}", &known, &bound);
        let prepared = prepare().unwrap();

        let next = other.lease(&id).await;
        assert!(is_lost(&prepared.apply()), "prepared before");
        assert!(is_lost(&prepare()), "prepared after");
        let declared = other.store.declare_length(&upload, 5, next.fence()).await;
        assert_eq!(declared.unwrap().length, Some(5));
        let prepared = prepare();
        assert!(is_lost(&prepared), "another version");
        lease.terms().unwrap().end();
        assert!(is_lost(&one.store.save(&upload, lease.fence()).await));
        assert_eq!(other.store.load(&id).await.unwrap().upload.length, Some(5));
    }
}

#[tokio::test]
async fn a_late_removal_fails_and_one_that_began_is_final() {
    for is_local in [true, false] {
        let (dir, one, other) = two(&Service::default(), is_local);
        let (upload, lease, append) = start(&one).await;
        let next = other.lease(&upload.id).await;
        let (_, mut other_append) = other.resume(&upload.id, &next).await;
        write(&mut other_append, "bbb").await.unwrap();
        assert_eq!(other_append.commit().await.unwrap(), 6);
        lease.terms().unwrap().end();
        assert!(is_lost(&one.store.terminate(&upload, lease.fence()).await));
        assert_eq!(data(&dir, &upload.id), "aaabbb");
        drop((append, lease));

        // It stops between the description and the files.
        let entry = other.store.0.cache.get_or_insert(&upload.id);
        other.store.0.mark_terminated(&upload.id, &entry).unwrap();
        let third = one.lease(&upload.id).await;
        let resumed = one.store.resume(&upload.id, third.fence()).await;
        assert!(matches!(resumed, Err(StoreError::NotFound(_))));
        assert!(one.store.terminate(&upload, third.fence()).await.unwrap());
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}

#[tokio::test]
async fn the_file_behind_a_link_is_replaced() {
    let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let service = Service::default();
    let node = || {
        let options = FileOptions {
            data_dirs: vec![elsewhere.path().to_owned()],
            ..FileOptions::default()
        };
        Node::with_options(dir.path(), &service, true, options)
    };
    let (one, other) = (node(), node());
    let (upload, lease, append) = start(&one).await;
    let (path, target) = (
        dir.path().join(upload.id.as_str()),
        elsewhere.path().join("bytes"),
    );
    drop((append, lease));
    std::fs::rename(&path, &target).unwrap();
    std::os::unix::fs::symlink(&target, &path).unwrap();
    let lease = one.lease(&upload.id).await;
    let (_, mut late) = one.resume(&upload.id, &lease).await;

    let next = other.lease(&upload.id).await;
    let (offset, mut append) = other.resume(&upload.id, &next).await;
    assert_eq!(offset, 3);
    write(&mut append, "bbb").await.unwrap();
    assert_eq!(append.commit().await.unwrap(), 6);
    assert!(is_lost(&write(&mut late, "xxx").await));
    assert!(path.symlink_metadata().unwrap().is_symlink());
    assert_eq!(std::fs::read_to_string(&target).unwrap(), "aaabbb");
}

#[tokio::test]
async fn unverified_bytes_of_a_stopped_writer_are_cut() {
    let (dir, one, other) = two(&Service::default(), true);
    let (upload, _lease, mut late) = start(&one).await;
    late.begin_unverified().await.unwrap();
    write(&mut late, "xxx").await.unwrap();
    let next = other.lease(&upload.id).await;
    let (offset, _append) = other.resume(&upload.id, &next).await;
    assert_eq!(offset, 3);
    assert!(is_lost(&late.accept_unverified().await));
    assert_eq!(data(&dir, &upload.id), "aaa");
}

#[tokio::test]
async fn times_and_modes_stay() {
    use std::os::unix::fs::PermissionsExt as _;
    let (dir, one, other) = two(&Service::default(), true);
    let (upload, _lease, _late) = start(&one).await;
    let path = dir.path().join(upload.id.as_str());
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let before = one.store.load(&upload.id).await.unwrap().modified;
    let ino = inode(&dir, &upload.id);
    let _next = other.lease(&upload.id).await;
    assert_ne!(inode(&dir, &upload.id), ino);
    let mode = path.metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(one.store.load(&upload.id).await.unwrap().modified, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_released_after_the_last_step() {
    let service = Service::default();
    let (_dir, one, _) = two(&service, true);
    let (upload, lease, append) = start(&one).await;
    let entry = one.store.0.cache.get_or_insert(&upload.id);
    let (started, has_started) = mpsc::channel();
    let (finish, may_finish) = mpsc::channel::<()>();
    let step = std::thread::spawn(move || {
        let _state = entry.state.lock();
        started.send(()).unwrap();
        may_finish.recv().unwrap();
    });
    has_started.recv().unwrap();
    let held = Arc::strong_count(&service.leases);
    drop((append, lease));
    tokio::time::sleep(Duration::from_millis(20)).await;
    assert_eq!(
        Arc::strong_count(&service.leases),
        held,
        "a step is running"
    );
    finish.send(()).unwrap();
    let released = async {
        while Arc::strong_count(&service.leases) == held {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    let limit = Duration::from_secs(30);
    tokio::time::timeout(limit, released).await.unwrap();
    step.join().unwrap();
}
