//! Moving completed files out of the store, and interrupted removals.

use std::{
    fs,
    os::unix::fs::MetadataExt as _,
    path::Path,
    time::{Duration, SystemTime},
};

use bytes::Bytes;
use landfall::{
    Composer, Config, Handler,
    event::{EventKinds, channel},
    lease::Fence,
    store::{
        Concatenate as _, Enumerate as _, Store as _, StoreError, Terminate as _,
        file::{Durability, FileOptions, FileStore},
    },
    upload::{Upload, UploadKind},
};

use super::{id, make, open};

#[tokio::test]
async fn take_moves_the_file_and_keeps_the_description() {
    for durability in [Durability::None, Durability::Complete, Durability::Every] {
        let dir = tempfile::tempdir().unwrap();
        let mut options = FileOptions::default();
        options.durability = durability;
        let uploads = dir.path().join("uploads");
        let store = FileStore::open(&uploads, options).unwrap();
        make(&store, "sub/whole", 5, &Bytes::from_static(b"hello")).await;
        let inode = fs::metadata(uploads.join("sub/whole")).unwrap().ino();
        let to = dir.path().join("taken");

        let taken = store.take(&id("sub/whole"), &to).await.unwrap();
        assert_eq!((taken.offset, taken.upload.length), (5, Some(5)));
        assert_eq!(fs::read(&to).unwrap(), b"hello");
        assert_eq!(fs::metadata(&to).unwrap().ino(), inode, "moved, not copied");
        assert_eq!(names(&uploads.join("sub")), ["whole.info"]);
        // Again, also by another process.
        for store in [store, open(&uploads)] {
            let again = store.take(&id("sub/whole"), &to).await.unwrap();
            assert_eq!((again.offset, again.upload.length), (5, Some(5)));
            let elsewhere = store.take(&id("sub/whole"), dir.path().join("b")).await;
            let error = elsewhere.unwrap_err();
            let reason = format!("{:?}", std::error::Error::source(&error));
            assert!(reason.contains("it was moved to"), "{reason}");
            let known = store.load(&id("sub/whole")).await.unwrap();
            assert!(known.is_complete() && known.upload.completion.is_done());
            let page = store.page(None, 10).await.unwrap();
            assert_eq!((page.uploads.len(), page.damaged.len()), (1, 0));
            assert!(page.orphans.is_empty(), "{:?}", page.orphans);
        }
    }
}

fn names(dir: &Path) -> Vec<String> {
    let entries = fs::read_dir(dir).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = names.filter(|name| name != ".landfall").collect();
    names.sort();
    names
}

fn age(path: &Path, days: u64) {
    let at = SystemTime::now() - Duration::from_secs(days * 24 * 3600);
    let file = fs::File::options().write(true).open(path).unwrap();
    file.set_modified(at).unwrap();
}

/// Without lifetimes: the parts go with the description of the whole.
#[tokio::test]
async fn descriptions_of_moved_files_and_their_parts_are_swept() {
    let dir = tempfile::tempdir().unwrap();
    let uploads = dir.path().join("uploads");
    let store = open(&uploads);
    let (sink, mut events) = channel(EventKinds::ALL, 16);
    let config = Config::new(store.clone()).sink(sink.without_acknowledgement());
    let handler = Handler::new(config).unwrap();
    for part in ["one", "two"] {
        let mut upload = Upload::new(id(part), Some(5));
        upload.kind = UploadKind::Partial;
        let (_, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
        append
            .write(&mut vec![Bytes::from_static(b"hello")])
            .await
            .unwrap();
        append.commit().await.unwrap();
    }
    let mut whole = Upload::new(id("whole"), Some(10));
    whole.kind = UploadKind::Final {
        parts: vec![id("one"), id("two")],
        header: String::new(),
        concatenated: false,
    };
    let mut whole = (*store.create(whole).await.unwrap()).clone();
    let mut parts = Vec::new();
    for part in ["one", "two"] {
        parts.push(store.load(&id(part)).await.unwrap().upload);
    }
    store.concatenate(&whole, &parts, Fence(1)).await.unwrap();
    if let UploadKind::Final { concatenated, .. } = &mut whole.kind {
        *concatenated = true;
    }
    store.save(&whole, Fence(1)).await.unwrap();

    store
        .take(&id("whole"), dir.path().join("taken"))
        .await
        .unwrap();
    assert_eq!(names(&uploads), ["one.info", "two.info", "whole.info"]);
    let sweeper = handler.sweeper();
    assert_eq!(sweeper.run(|_| {}).await.unwrap().removed, 0);
    for name in ["one.info", "two.info", "whole.info"] {
        age(&uploads.join(name), 8);
    }
    assert_eq!(sweeper.run(|_| {}).await.unwrap().removed, 3);
    assert!(names(&uploads).is_empty());
    assert_eq!(fs::read(dir.path().join("taken")).unwrap(), b"hellohello");
    let event = tokio::time::timeout(Duration::from_millis(50), events.next()).await;
    assert!(event.is_err(), "it ended before: {event:?}");
}

/// The data path of a moved file, and its id, may belong to another upload later.
#[tokio::test]
async fn another_upload_may_take_the_place_of_a_moved_file() {
    let dir = tempfile::tempdir().unwrap();
    let uploads = dir.path().join("uploads");
    let store = open(&uploads);
    let described = |name: &str| {
        let mut upload = Upload::new(id(name), Some(5));
        upload.storage = [("Path".to_owned(), "place".to_owned())].into();
        upload
    };
    for (n, name) in ["first", "second", "first"].into_iter().enumerate() {
        let created = store
            .create_append(described(name), Fence(10 * n as u64 + 1))
            .await;
        let (upload, mut append) = created.unwrap();
        append
            .write(&mut vec![Bytes::from_static(b"hello")])
            .await
            .unwrap();
        append.commit().await.unwrap();
        assert!(upload.moved_to.is_none());
        if n == 1 {
            // The description of the first one is removed, and not the data of the second.
            let first = store.load(&id("first")).await.unwrap().upload;
            assert!(store.terminate(&first, Fence(15)).await.unwrap());
            assert_eq!(fs::read(uploads.join("place")).unwrap(), b"hello");
            assert_eq!(store.load(&id("second")).await.unwrap().offset, 5);
        }
        let to = dir.path().join(n.to_string());
        store.take(&id(name), &to).await.unwrap();
        assert_eq!(fs::read(&to).unwrap(), b"hello");
    }
    // The id of a moved file, at once.
    let again = store.create(described("first")).await.unwrap();
    assert!(again.moved_to.is_none());
    // One whose completion is to be emitted again is kept.
    let mut pending = (*store
        .create(Upload::new(id("pending"), Some(0)))
        .await
        .unwrap())
    .clone();
    pending.unacknowledged = true;
    store.save(&pending, Fence(1)).await.unwrap();
    store
        .take(&id("pending"), dir.path().join("pending"))
        .await
        .unwrap();
    let again = store.create(Upload::new(id("pending"), Some(0))).await;
    assert!(
        matches!(again, Err(StoreError::AlreadyExists(_))),
        "{again:?}"
    );
}

#[tokio::test]
async fn failed_take_leaves_the_upload() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("uploads"));
    make(&store, "half", 9, &Bytes::from_static(b"hello")).await;
    make(&store, "whole", 5, &Bytes::from_static(b"hello")).await;
    let taken = dir.path().join("taken");
    fs::write(&taken, "another file").unwrap();
    let device = fs::metadata(dir.path()).unwrap().dev();
    let mut cases = vec![
        ("half", dir.path().join("free"), "it is incomplete"),
        ("whole", taken.clone(), "exists"),
        (
            "whole",
            dir.path().join("no/such/directory"),
            "No such file",
        ),
    ];
    let memory = Path::new("/dev/shm");
    if fs::metadata(memory).is_ok_and(|memory| memory.dev() != device) {
        let to = memory.join(format!("landfall-{}", std::process::id()));
        cases.push(("whole", to, "on another file system"));
    }
    for (name, to, why) in cases {
        let error = store.take(&id(name), &to).await.unwrap_err();
        let text = format!("{error}: {:?}", std::error::Error::source(&error));
        assert!(text.contains(why) && text.contains(name), "{text}");
        assert_eq!(store.load(&id(name)).await.unwrap().offset, 5);
    }
    assert_eq!(fs::read(&taken).unwrap(), b"another file");
}

#[tokio::test]
async fn interrupted_take_can_be_repeated() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("uploads"));
    make(&store, "whole", 5, &Bytes::from_static(b"hello")).await;
    let (from, to) = (dir.path().join("uploads/whole"), dir.path().join("taken"));
    fs::hard_link(&from, &to).unwrap();
    store.take(&id("whole"), &to).await.unwrap();
    assert_eq!(fs::read(&to).unwrap(), b"hello");
    assert!(!from.exists());
    // Interrupted after the description was changed.
    fs::hard_link(&to, &from).unwrap();
    store.take(&id("whole"), &to).await.unwrap();
    assert!(!from.exists());
    assert_eq!(fs::read(&to).unwrap(), b"hello");
}

#[tokio::test]
async fn writer_cannot_change_a_taken_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("uploads"));
    make(&store, "whole", 5, &Bytes::from_static(b"hello")).await;
    let (_, mut append) = store.resume(&id("whole"), Fence(2)).await.unwrap();
    let to = dir.path().join("taken");
    store.take(&id("whole"), &to).await.unwrap();
    let written = append.write(&mut vec![Bytes::from_static(b"!")]).await;
    assert!(
        matches!(written, Err(StoreError::LeaseLost(_))),
        "{written:?}"
    );
    assert_eq!(fs::read(&to).unwrap(), b"hello");
}

#[tokio::test]
async fn interrupted_removal_is_completed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let handler = Handler::new(Config::new(Composer::join(store.clone()))).unwrap();
    make(&store, "moved", 5, &Bytes::from_static(b"hello")).await;
    // An application may move files without `take`.
    fs::rename(dir.path().join("moved"), dir.path().join("elsewhere")).unwrap();
    assert!(handler.remove(&id("moved")).await.unwrap());
    assert!(!dir.path().join("moved.info").exists());
    assert!(!handler.remove(&id("moved")).await.unwrap());
    assert!(dir.path().join("elsewhere").exists());

    let never = Upload::new(id("never"), None);
    assert!(!store.terminate(&never, Fence(1)).await.unwrap());
}
