//! Confinement: nothing outside the directory is read, written or removed.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{Concatenate, Enumerate, Finish, Read, Store, StoreError, Terminate},
    upload::{Snapshot, Upload},
};

use super::{id, make, open};

/// A directory for uploads, and one next to it with a secret.
struct TestDirs {
    _base: tempfile::TempDir,
    inside: PathBuf,
    outside: PathBuf,
}

impl TestDirs {
    fn new() -> Self {
        let base = tempfile::tempdir().unwrap();
        let (inside, outside) = (base.path().join("data"), base.path().join("outside"));
        fs::create_dir_all(&inside).unwrap();
        fs::create_dir_all(&outside).unwrap();
        fs::write(outside.join("secret"), b"secret").unwrap();
        Self {
            _base: base,
            inside,
            outside,
        }
    }

    fn assert_untouched(&self) {
        assert_eq!(fs::read(self.outside.join("secret")).unwrap(), b"secret");
        assert_eq!(fs::read_dir(&self.outside).unwrap().count(), 1);
    }
}

#[tokio::test]
async fn requested_paths_outside_are_rejected() {
    let dirs = TestDirs::new();
    let store = open(&dirs.inside);
    symlink(&dirs.outside, dirs.inside.join("link")).unwrap();
    let outside = dirs.outside.join("x");
    for requested in [
        "../outside/x",
        "a/../../outside/x",
        outside.to_str().unwrap(),
        "link/x",
        "link/deep/x",
        "./x",
        ".landfall/x",
        "x.info",
        "a\0b",
    ] {
        let mut upload = Upload::new(id("x"), Some(1));
        upload.storage.insert("Path".into(), requested.into());
        let error = store.create(upload).await.unwrap_err();
        assert!(
            matches!(error, StoreError::InvalidPath(_)),
            "{requested:?}: {error}"
        );
        assert!(!dirs.inside.join("x.info").exists(), "{requested:?}");
    }
    dirs.assert_untouched();
}

#[tokio::test]
async fn ids_do_not_lead_through_links() {
    let dirs = TestDirs::new();
    let store = open(&dirs.inside);
    symlink(&dirs.outside, dirs.inside.join("link")).unwrap();
    let error = store
        .create(Upload::new(id("link/x"), Some(1)))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::InvalidPath(_)), "{error}");
    assert_not_served(store.load(&id("link/secret")).await);
    dirs.assert_untouched();
}

/// The upload may exist, so a client must not send it again from its first byte.
fn assert_not_served(found: Result<Snapshot, StoreError>) {
    let error = found.unwrap_err();
    let is_not_served = format!("{error:?}").contains("NotServed");
    assert!(
        matches!(error, StoreError::Unavailable { .. }) && is_not_served,
        "{error:?}"
    );
}

/// Replaces a file by a link.
fn replace_by_link(path: &Path, target: &Path) {
    fs::remove_file(path).unwrap();
    symlink(target, path).unwrap();
}

#[tokio::test]
async fn link_in_place_of_the_data_is_not_followed() {
    let dirs = TestDirs::new();
    let store = open(&dirs.inside);
    let upload = make(&store, "x", 100, &Bytes::from_static(b"hello"))
        .await
        .upload;
    let part = make(&store, "part", 5, &Bytes::from_static(b"hello"))
        .await
        .upload;
    replace_by_link(&dirs.inside.join("x"), &dirs.outside.join("secret"));
    store.load(&id("x")).await.unwrap_err();
    store.resume(&upload.id, Fence(2)).await.unwrap_err();
    assert!(store.read(&upload, 0..5).await.is_err());
    store.finish(&upload, Fence(2)).await.ok();
    store
        .concatenate(&upload, &[part], Fence(2))
        .await
        .unwrap_err();
    store.terminate(&upload, Fence(2)).await.unwrap();
    dirs.assert_untouched();
}

#[tokio::test]
async fn link_in_place_of_the_description_is_not_followed() {
    let dirs = TestDirs::new();
    let store = open(&dirs.inside);
    let upload = make(&store, "x", 100, &Bytes::from_static(b"hello"))
        .await
        .upload;
    fs::rename(dirs.inside.join("x.info"), dirs.outside.join("x.info")).unwrap();
    symlink(dirs.outside.join("x.info"), dirs.inside.join("x.info")).unwrap();
    let before = fs::read(dirs.outside.join("x.info")).unwrap();
    store.load(&id("x")).await.unwrap_err();
    store.resume(&upload.id, Fence(2)).await.unwrap_err();
    store.save(&upload, Fence(2)).await.unwrap_err();
    store.terminate(&upload, Fence(2)).await.unwrap();
    assert_eq!(fs::read(dirs.outside.join("x.info")).unwrap(), before);
    assert!(!dirs.inside.join("x.info").is_symlink());
}

#[tokio::test]
async fn link_in_place_of_a_directory_is_not_followed() {
    let dirs = TestDirs::new();
    let store = open(&dirs.inside);
    let upload = make(&store, "a/b/x", 100, &Bytes::from_static(b"hello"))
        .await
        .upload;
    // All files of the upload exist there, but outside.
    fs::rename(dirs.inside.join("a"), dirs.outside.join("a")).unwrap();
    symlink(dirs.outside.join("a"), dirs.inside.join("a")).unwrap();
    assert_not_served(store.load(&id("a/b/x")).await);
    store.resume(&upload.id, Fence(2)).await.unwrap_err();
    store.save(&upload, Fence(2)).await.unwrap_err();
    assert!(store.read(&upload, 0..5).await.is_err());
    store.terminate(&upload, Fence(2)).await.unwrap_err();
    assert_eq!(fs::read(dirs.outside.join("a/b/x")).unwrap(), b"hello");
    assert!(dirs.outside.join("a/b/x.info").exists());
}

#[tokio::test]
async fn path_in_a_description_does_not_lead_outside() {
    let dirs = TestDirs::new();
    let store = open(&dirs.inside);
    let secret = dirs.outside.join("secret");
    let outside = dirs.outside.display();
    for (name, path, info) in [
        (
            "a",
            secret.to_str().unwrap().to_owned(),
            "/elsewhere/a.info".to_owned(),
        ),
        ("b", "../outside/secret".into(), format!("{outside}/b.info")),
        // A forged `InfoPath` that makes the secret look like a file of a moved directory.
        (
            "c",
            secret.to_str().unwrap().to_owned(),
            format!("{outside}/c.info"),
        ),
    ] {
        let description = format!(
            r#"{{"ID":"{name}","Size":6,"Storage":{{"Path":"{path}","InfoPath":"{info}"}}}}"#
        );
        fs::write(dirs.inside.join(format!("{name}.info")), description).unwrap();
        let found = store.load(&id(name)).await;
        match name {
            "a" => assert_not_served(found),
            // The path names no file of this directory.
            _ => assert!(matches!(found, Err(StoreError::NotFound(_))), "{found:?}"),
        }
        fs::write(dirs.inside.join(name), b"ours").unwrap();
        let snapshot = store.load(&id(name)).await.unwrap();
        assert_eq!(snapshot.offset, 4, "{name}");
        store.terminate(&snapshot.upload, Fence(1)).await.unwrap();
    }
    dirs.assert_untouched();
}

/// Opening a pipe waits for the other side; a store must not.
#[tokio::test]
async fn pipes_and_directories_in_place_of_files_are_rejected_at_once() {
    let dirs = TestDirs::new();
    let store = open(&dirs.inside);
    for (id, name) in [("x", "x.info"), ("y", "y")] {
        let upload = make(&store, id, 100, &Bytes::from_static(b"hello"))
            .await
            .upload;
        let path = dirs.inside.join(name);
        for pipe in [true, false] {
            if fs::remove_file(&path).is_err() {
                fs::remove_dir(&path).unwrap();
            }
            if pipe {
                let made = std::process::Command::new("mkfifo")
                    .arg(&path)
                    .status()
                    .unwrap();
                assert!(made.success());
            } else {
                fs::create_dir(&path).unwrap();
            }
            store.load(&upload.id).await.unwrap_err();
            store.resume(&upload.id, Fence(2)).await.unwrap_err();
            assert!(store.read(&upload, 0..5).await.is_err());
        }
        fs::remove_dir(&path).unwrap();
        store.terminate(&upload, Fence(2)).await.unwrap();
    }
}

#[tokio::test]
async fn listing_does_not_follow_links() {
    let dirs = TestDirs::new();
    let elsewhere = open(&dirs.outside);
    make(&elsewhere, "theirs", 10, &Bytes::from_static(b"hello")).await;
    symlink(&dirs.outside, dirs.inside.join("link")).unwrap();
    symlink(dirs.outside.join("theirs"), dirs.inside.join("x")).unwrap();
    symlink(dirs.outside.join("theirs.info"), dirs.inside.join("x.info")).unwrap();
    symlink(".", dirs.inside.join("loop")).unwrap();
    let store = open(&dirs.inside);
    make(&store, "ours", 10, &Bytes::from_static(b"hello")).await;
    let page = store.page(None, 100).await.unwrap();
    let ids: Vec<_> = page
        .uploads
        .iter()
        .map(|upload| upload.upload.id.as_str())
        .collect();
    assert_eq!(ids, ["ours"]);
    assert!(page.orphans.is_empty(), "{:?}", page.orphans);
    assert!(page.next.is_none());
}

/// The directory itself may be a link.
#[tokio::test]
async fn store_directory_may_be_a_link() {
    let dirs = TestDirs::new();
    let link = dirs.inside.parent().unwrap().join("link");
    symlink(&dirs.inside, &link).unwrap();
    make(&open(&link), "a/x", 10, &Bytes::from_static(b"hello")).await;
    let snapshot = super::append(&open(&dirs.inside), "a/x", &Bytes::from_static(b"world")).await;
    assert!(snapshot.is_complete());
    assert!(open(&link).load(&id("a/x")).await.unwrap().is_complete());
}
