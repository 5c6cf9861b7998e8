//! Confinement: nothing outside the directory is read, written or removed.

use std::{
    fs,
    os::unix::{fs::symlink, net::UnixListener},
    path::{Path, PathBuf},
    time::Duration,
};

use bytes::Bytes;
use landfall::{
    Composer, Config,
    lease::Fence,
    store::{Concatenate, Enumerate, Finish, Read, Store, StoreError, Terminate},
    upload::{Snapshot, Upload},
};

use super::{id, make, open};
use crate::harness::Site;

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

/// Replaces a file by each other kind that a user can make.
fn replace_by_others(path: &Path) -> impl Iterator<Item = &'static str> {
    let kinds = ["pipe", "socket", "directory"].into_iter();
    kinds.inspect(move |kind| {
        fs::remove_file(path)
            .or_else(|_| fs::remove_dir(path))
            .unwrap();
        match *kind {
            "pipe" => {
                let made = std::process::Command::new("mkfifo").arg(path).status();
                assert!(made.unwrap().success());
            }
            "socket" => drop(UnixListener::bind(path).unwrap()),
            _ => fs::create_dir(path).unwrap(),
        }
    })
}

/// Opening a pipe waits for the other side; a store must not.
#[tokio::test]
async fn pipes_sockets_and_directories_in_place_of_files_are_not_served() {
    let dirs = TestDirs::new();
    let store = open(&dirs.inside);
    for (id, name) in [("x", "x.info"), ("y", "y")] {
        let upload = make(&store, id, 100, &Bytes::from_static(b"hello"))
            .await
            .upload;
        let path = dirs.inside.join(name);
        for kind in replace_by_others(&path) {
            println!("{kind} {name}");
            // With and without the description in the cache.
            for store in [&store, &open(&dirs.inside)] {
                assert_not_served(store.load(&upload.id).await);
                let resumed = store.resume(&upload.id, Fence(2)).await;
                assert_not_served(resumed.map(|(found, _)| found));
                let read = store.read(&upload, 0..5).await.err().unwrap();
                assert!(matches!(read, StoreError::Unavailable(_)), "{read}");
            }
            let page = store.page(None, 100).await.unwrap();
            assert_eq!((page.uploads.len(), page.damaged.len()), (0, 0));
            assert!(page.orphans.is_empty(), "{:?}", page.orphans);
            match name == "x.info" {
                // Nothing proves that there was an upload.
                true => assert!(page.unserved.is_empty(), "{:?}", page.unserved),
                false => assert_eq!(page.unserved[0].name, id, "{kind} {name}"),
            }
        }
        fs::remove_dir(&path).unwrap();
        store.terminate(&upload, Fence(2)).await.unwrap();
    }
}

/// A client must neither lose its upload nor send it again, and no sweep removes what is in its place.
#[tokio::test]
async fn clients_of_uploads_that_are_not_served_ask_again() {
    let dirs = TestDirs::new();
    let mut config = Config::new(Composer::join(open(&dirs.inside)));
    config.lifetimes.unfinished = Some(Duration::ZERO);
    let site = Site::start(config, None).await;
    for suffix in ["", ".info"] {
        // Not expired while it is created.
        let url = site.create(10).await;
        let name = format!("{}{suffix}", url.strip_prefix("/files/").unwrap());
        let path = dirs.inside.join(&name);
        for kind in replace_by_others(&path) {
            for (method, status) in [("HEAD", 423), ("GET", 503), ("PATCH", 503), ("DELETE", 503)] {
                let request = match method {
                    "PATCH" => site.patching(&url, 0).body("hello"),
                    method => site.request(method, &url),
                };
                let reply = request.send().await;
                assert_eq!(reply.status, status, "{method} {kind} {name}: {reply:?}");
                assert!(reply.header("retry-after").is_some(), "{reply:?}");
            }
            let swept = site.handler.sweeper().orphan_age(Duration::ZERO);
            let swept = swept.run(|_| {}).await.unwrap();
            assert_eq!((swept.removed, swept.failed), (0, 0), "{kind} {name}");
            assert!(path.exists(), "{kind} {name}");
        }
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
