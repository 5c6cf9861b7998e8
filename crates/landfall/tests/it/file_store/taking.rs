//! Moving completed files out of the store, and interrupted removals.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use bytes::Bytes;
use landfall::{
    Composer, Config, Handler,
    lease::Fence,
    store::{
        Store as _, StoreError, Terminate as _,
        file::{Durability, FileOptions, FileStore},
    },
    upload::Upload,
};

use super::{id, make, open};

#[tokio::test]
async fn take_moves_the_file_and_removes_the_upload() {
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
        assert_eq!(fs::read_dir(uploads.join("sub")).unwrap().count(), 0);
        let again = store.take(&id("sub/whole"), &to).await;
        assert!(matches!(again, Err(StoreError::NotFound(_))), "{again:?}");
    }
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
    assert!(!from.exists() && !dir.path().join("uploads/whole.info").exists());
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
