//! Listing uploads and orphans.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use bytes::Bytes;
use landfall::{
    lease::Fence,
    removal::{self, RemovalClock},
    store::{
        Enumerate, Orphan, OrphanKind, Store,
        file::{FileOptions, FileStore},
    },
    upload::Upload,
};

use super::{append, id, make, open};

const RANDOM: &str = "0123456789abcdef0123456789abcdef";

/// Lists a whole store in pages; no entry may occur twice.
async fn list(store: &FileStore, limit: usize) -> (BTreeSet<String>, Vec<Orphan>) {
    let (mut uploads, mut orphans) = (BTreeSet::new(), Vec::new());
    let mut cursor = None;
    loop {
        let page = store.page(cursor, limit).await.unwrap();
        assert!(page.uploads.len() + page.orphans.len() <= limit);
        for upload in page.uploads {
            let id = upload.upload.id.as_str().to_owned();
            assert!(uploads.insert(id.clone()), "{id} was listed twice");
        }
        orphans.extend(page.orphans);
        match page.next {
            Some(next) => cursor = Some(next),
            None => return (uploads, orphans),
        }
    }
}

fn names(orphans: &[Orphan]) -> BTreeSet<&str> {
    orphans.iter().map(|orphan| orphan.name.as_str()).collect()
}

/// As the sweeper does.
async fn remove(store: &FileStore, orphan: &Orphan) {
    let now = RemovalClock::new().now();
    if let Ok(permission) =
        removal::Removable::orphan(orphan.kind, orphan.modified, Duration::ZERO, now)
    {
        store.remove_orphan(orphan, permission).await.unwrap();
    }
}

#[tokio::test]
async fn directories_are_walked_whatever_the_page_size() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut expected = BTreeSet::new();
    for name in [
        "a",
        "a-",
        "b/a",
        "b/b/c",
        "b/b.x",
        "b0",
        "c/d/e/f/g",
        "c/d/e/f/h",
        "c/d!",
        "z",
        "z.z/1",
    ] {
        make(&store, name, 5, &Bytes::from_static(b"hello")).await;
        expected.insert(name.to_owned());
    }
    fs::create_dir_all(dir.path().join("empty/er")).unwrap();
    fs::create_dir_all(dir.path().join(".landfall")).unwrap();
    fs::write(dir.path().join(".landfall/x.info"), "").unwrap();
    fs::write(dir.path().join(".hidden"), "").unwrap();
    for limit in 1..15 {
        let (uploads, orphans) = list(&store, limit).await;
        assert_eq!(uploads, expected, "pages of {limit}");
        assert!(orphans.is_empty(), "{orphans:?}");
    }
}

#[tokio::test]
async fn only_orphans_are_listed_and_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    make(&store, "upload", 5, &Bytes::from_static(b"hello")).await;
    make(&store, "locked", 5, &Bytes::from_static(b"hello")).await;
    let mut placed = Upload::new(id("placed"), Some(5));
    placed
        .storage
        .insert("Path".into(), format!("by/hook/{RANDOM}"));
    store.create(placed).await.unwrap();
    let mut placed = Upload::new(id("started"), Some(5));
    placed
        .storage
        .insert("Path".into(), "by/hook/begun.bin".into());
    store.create(placed).await.unwrap();
    append(&store, "started", &Bytes::from_static(b"hel")).await;

    let this = std::process::id();
    let gone = 4_194_305; // above the largest process id there is
    let orphan = [
        (RANDOM, "bytes"), // the application removed the description
        (
            "sub/half.info",
            r#"{"ID":"sub/half","Size":5,"Landfall":{}}"#,
        ), // removal: description without data
        ("theirs.info", r#"{"ID":"theirs","Size":5}"#), // of tusd, or of another program
        ("torn.info", r#"{"ID":"torn","Si"#), // creation: nothing acknowledged
        (
            ".upload.info.0123abcd.tmp",
            r#"{"ID":"upload","Size":5,"Landfall":{}}"#,
        ),
        (".upload.info.00000001.tmp", "half written"),
        ("sub/.half.info.00000000.tmp", ""),
        ("sub/.x.info.00000000.tmp", ""),
    ];
    let proven = [
        "sub/half.info",
        ".upload.info.0123abcd.tmp",
        "sub/.half.info.00000000.tmp",
    ];
    let kept = [
        ("locked.lock", format!("{this}\n")), // tusd is at work there
        ("locked.stop", String::new()),
        ("upload.lock", format!("{gone}\n")), // tusd removes it
        ("interrupted", String::new()),       // creation, or an empty file of the application
        ("unused.lock", format!("{gone}\n")),
        ("free.stop", String::new()),
        ("daemon.lock", format!("{this}\n")),
        ("train.stop", "not a request of tusd's".into()),
        ("my-notes.txt", "not ours".into()),
        ("sub/Cargo.lock", "[[package]]".into()),
        (".upload.info.tmp", "not a name of ours".into()),
    ];
    for (name, content) in orphan
        .iter()
        .map(|(name, text)| (*name, *text))
        .chain(kept.iter().map(|(name, text)| (*name, text.as_str())))
    {
        let path = dir.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }
    // The data of an interrupted creation is removed after its description.
    fs::write(dir.path().join("torn"), "").unwrap();
    let expected: BTreeSet<_> = orphan.iter().map(|(name, _)| *name).collect();
    for limit in [1, 3, 100] {
        let (uploads, orphans) = list(&store, limit).await;
        assert_eq!(names(&orphans), expected, "pages of {limit}");
        assert_eq!(uploads.len(), 4);
    }
    let (_, orphans) = list(&store, 100).await;
    let of = |name| orphans.iter().find(|orphan| orphan.name == name).unwrap();
    assert_eq!(of(".upload.info.0123abcd.tmp").id, Some(id("upload")));
    assert_eq!(of("sub/half.info").id, Some(id("sub/half")));
    for orphan in &orphans {
        let is_proven = orphan.kind != OrphanKind::Unproven;
        assert_eq!(is_proven, proven.contains(&&*orphan.name), "{orphan:?}");
    }

    // One of them has become an upload meanwhile.
    fs::write(dir.path().join("sub/half"), "").unwrap();
    for orphan in &orphans {
        remove(&store, orphan).await;
        remove(&store, orphan).await;
    }
    assert!(dir.path().join("sub/half.info").exists());
    let (uploads, orphans) = list(&store, 100).await;
    assert_eq!(uploads.len(), 5);
    let mut left = expected.clone();
    left.retain(|name| !proven.contains(name));
    assert_eq!(names(&orphans), left);
    assert_eq!(fs::read(dir.path().join(RANDOM)).unwrap(), b"bytes");
    for (name, content) in kept {
        assert_eq!(
            fs::read_to_string(dir.path().join(name)).unwrap(),
            content,
            "{name}"
        );
    }
    assert!(store.load(&id("placed")).await.is_ok());
    assert_eq!(store.load(&id("started")).await.unwrap().offset, 3);
}

/// A description that cannot be read may refer to any file.
#[tokio::test]
async fn bytes_are_not_removed_while_a_description_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fs::write(dir.path().join("damaged.info"), "nonsense").unwrap();
    fs::write(dir.path().join(RANDOM), "bytes").unwrap();
    let page = store.page(None, 100).await.unwrap();
    assert!(page.uploads.is_empty() && page.orphans.is_empty());
    assert_eq!(page.damaged.len(), 1);
}

/// An application may have `.info` files of its own.
#[tokio::test]
async fn other_programs_info_files_are_never_removed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    for (name, text) in [
        ("readme", "of the application"),
        ("readme.info", "its own text"),
        ("news", "of the application"),
        ("news.info", ""),
        ("half.info", "{\"name\":"),
        ("empty.info", ""),
    ] {
        fs::write(dir.path().join(name), text).unwrap();
    }
    let page = store.page(None, 100).await.unwrap();
    let damaged: Vec<_> = page.damaged.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(damaged, ["news", "readme"]);
    let orphans = page.orphans;
    let expected = ["empty.info", "half.info"];
    assert_eq!(names(&orphans), BTreeSet::from(expected));
    for orphan in &orphans {
        assert_eq!(orphan.kind, OrphanKind::Unproven, "{orphan:?}");
    }

    // Descriptions of uploads whose bytes are at the default path are damaged, not orphans.
    fs::write(dir.path().join(RANDOM), "bytes").unwrap();
    fs::write(dir.path().join(format!("{RANDOM}.info")), "").unwrap();
    let page = store.page(None, 100).await.unwrap();
    let damaged: Vec<_> = page.damaged.iter().map(|one| one.id.as_str()).collect();
    assert_eq!(damaged, [RANDOM, "news", "readme"]);
    assert_eq!(page.orphans.len(), 2);
}

#[tokio::test]
async fn recent_files_are_no_orphans() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = FileOptions::default();
    options.orphan_age = Duration::from_millis(700);
    let store = FileStore::open(dir.path(), options).unwrap();
    let path = dir.path().join(RANDOM);
    fs::write(&path, "").unwrap();
    // An old modification time may come from a copy in progress.
    let file = fs::File::options().write(true).open(&path).unwrap();
    file.set_modified(std::time::SystemTime::UNIX_EPOCH)
        .unwrap();
    assert!(list(&store, 10).await.1.is_empty());
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(names(&list(&store, 10).await.1), BTreeSet::from([RANDOM]));
}

/// More names than one pass caches, and removals in between.
#[tokio::test]
async fn large_directory_is_listed_once_during_removals() {
    const COUNT: usize = 20_000;
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let description = |n: usize| format!(r#"{{"ID":"{n:05}","Size":5}}"#);
    for n in 0..COUNT {
        fs::write(dir.path().join(format!("{n:05}.info")), description(n)).unwrap();
        fs::write(dir.path().join(format!("{n:05}")), "").unwrap();
    }
    let (mut seen, mut cursor) = (BTreeSet::new(), None);
    loop {
        let page = store.page(cursor, 1000).await.unwrap();
        for upload in page.uploads {
            let name = upload.upload.id.as_str().to_owned();
            if name.ends_with('7') {
                remove_files(dir.path(), &name);
            }
            assert!(seen.insert(name));
        }
        match page.next {
            Some(next) => cursor = Some(next),
            None => break,
        }
    }
    assert_eq!(seen.len(), COUNT);
}

fn remove_files(dir: &Path, name: &str) {
    fs::remove_file(dir.join(name)).unwrap();
    fs::remove_file(dir.join(format!("{name}.info"))).unwrap();
}

#[tokio::test]
async fn lease_belongs_to_its_directory() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (open(dir.path()), open(dir.path()));
    let lease = one.locker().unwrap().try_acquire(&id("x")).await.unwrap();
    other
        .locker()
        .unwrap()
        .try_acquire(&id("x"))
        .await
        .unwrap_err();
    assert!(lease.fence() > Fence(0));
    drop(lease);
    other.locker().unwrap().try_acquire(&id("x")).await.unwrap();
}
