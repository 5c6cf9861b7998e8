//! Full disks.

use std::{
    env, fs,
    path::Path,
    process::{Command, ExitStatus},
};

use landfall::{
    lease::Fence,
    store::{Append, Concatenate, Store, StoreError},
    upload::{Snapshot, Upload},
};
use landfall_testkit::test_data;

use super::{append, id, make, open, read};

/// Environment variable of a child process: the directory.
const DIR: &str = "LANDFALL_TEST_FULL_DIR";
const LENGTH: usize = 1024 * 1024;

/// Runs a test of this file again, as a child of a shell that limits space first: by the maximum
/// file size, or by a small file system for the directory.
fn run(test: &str, shell: &str, dir: &Path) -> ExitStatus {
    let test = format!("file_store::full::{test}");
    Command::new("sh")
        .args(["-c", &format!("{shell} && exec \"$@\""), "sh"])
        .arg(env::current_exe().unwrap())
        .args([&test, "--exact", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .status()
        .unwrap()
}

/// Writes until nothing more fits, and checks the offset.
async fn fill(store: &impl Store, append: &mut dyn Append) -> Snapshot {
    let bytes = test_data::bytes(1, LENGTH);
    let begin = usize::try_from(append.offset()).unwrap();
    for chunk in bytes[begin..].chunks(3 * 7000) {
        let mut chunks: Vec<_> = chunk
            .chunks(7000)
            .map(|part| bytes.slice_ref(part))
            .collect();
        let before = append.offset();
        match append.write(&mut chunks).await {
            Ok(()) => assert_eq!(append.offset(), before + chunk.len() as u64),
            Err(StoreError::Full(_)) => {
                let kept = append.commit().await.unwrap();
                assert_eq!(kept, append.offset());
                assert!((before..before + chunk.len() as u64).contains(&kept));
                let snapshot = store.load(&id("x")).await.unwrap();
                assert_eq!(snapshot.offset, kept);
                return snapshot;
            }
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the disk never became full")
}

#[tokio::test]
async fn bytes_that_fit_are_kept() {
    if let Ok(dir) = env::var(DIR) {
        let store = open(Path::new(&dir));
        let upload = Upload::new(id("x"), Some(LENGTH as u64));
        let (_, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
        let snapshot = fill(&store, &mut *append).await;
        let bytes = test_data::bytes(1, LENGTH);
        let expected = &bytes[..usize::try_from(snapshot.offset).unwrap()];
        assert_eq!(read(&store, &snapshot).await, expected);
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    // In blocks of 512 or 1024 bytes, and not a multiple of the write size.
    let status = run(
        "bytes_that_fit_are_kept",
        "trap '' XFSZ; ulimit -f 301",
        dir.path(),
    );
    assert!(status.success(), "{status}");
    // Space is available again.
    let store = open(dir.path());
    let snapshot = store.load(&id("x")).await.unwrap();
    assert!(
        snapshot.offset > 100_000 && snapshot.offset < 400_000,
        "{snapshot:?}"
    );
    let bytes = test_data::bytes(1, LENGTH);
    let rest = bytes.slice(usize::try_from(snapshot.offset).unwrap()..);
    let snapshot = append(&store, "x", &rest).await;
    assert!(snapshot.is_complete());
    assert_eq!(read(&store, &snapshot).await, bytes);
}

/// The same on a full file system, with all other operations that may need space. Requires the
/// permission to mount in a user namespace; otherwise the limit on file sizes is used instead.
#[tokio::test]
async fn creation_and_concatenation_that_do_not_fit_leave_nothing() {
    if let Ok(dir) = env::var(DIR) {
        return in_a_full_directory(Path::new(&dir)).await;
    }
    let dir = tempfile::tempdir().unwrap();
    let test = "creation_and_concatenation_that_do_not_fit_leave_nothing";
    let may_mount = Command::new("unshare").args(["-rm", "true"]).status();
    let status = if may_mount.is_ok_and(|status| status.success()) {
        let mount = format!(
            "mount -t tmpfs -o size=512k landfall {}",
            dir.path().display()
        );
        let exe = env::current_exe().unwrap();
        Command::new("unshare")
            .args(["-rm", "sh", "-c", &format!("{mount} && exec \"$@\""), "sh"])
            .arg(exe)
            .args([
                &format!("file_store::full::{test}"),
                "--exact",
                "--nocapture",
            ])
            .env(DIR, dir.path())
            .status()
            .unwrap()
    } else {
        run(test, "trap '' XFSZ; ulimit -f 301", dir.path())
    };
    assert!(status.success(), "{status}");
}

async fn in_a_full_directory(dir: &Path) {
    let store = open(dir);
    let bytes = test_data::bytes(1, LENGTH);
    let part = make(&store, "part", 150_000, &bytes.slice(..150_000))
        .await
        .upload;
    let upload = Upload::new(id("x"), Some(LENGTH as u64));
    let (upload, mut append) = store.create_append(upload, Fence(1)).await.unwrap();
    let snapshot = fill(&store, &mut *append).await;

    // After a concatenation that does not fit, the target is empty.
    let target = match store.create(Upload::new(id("final"), None)).await {
        Ok(target) => target,
        // Not even a description fits: nothing of it is left.
        Err(StoreError::Full(_)) => {
            assert!(!dir.join("final").exists() && !dir.join("final.info").exists());
            fs::remove_file(dir.join("part.info")).unwrap();
            fs::remove_file(dir.join("part")).unwrap();
            let snapshot = super::append(
                &store,
                "x",
                &bytes.slice(
                    usize::try_from(snapshot.offset).unwrap()
                        ..usize::try_from(snapshot.offset).unwrap() + 100_000,
                ),
            )
            .await;
            let expected = &bytes[..usize::try_from(snapshot.offset).unwrap()];
            assert_eq!(read(&store, &snapshot).await, expected);
            return;
        }
        Err(error) => panic!("{error}"),
    };
    let parts = [part.clone(), part.clone(), part.clone(), part];
    let error = store
        .concatenate(&target, &parts, Fence(1))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Full(_)), "{error}");
    assert_eq!(fs::metadata(dir.join("final")).unwrap().len(), 0);

    // The mark of unverified bytes may need space, too; bytes stored before still count.
    let mut append = store.resume(&upload.id, Fence(2)).await.unwrap().1;
    append.begin_unverified().await.unwrap();
    let written = append.write(&mut vec![bytes.slice(..200_000)]).await;
    assert!(matches!(written, Err(StoreError::Full(_))), "{written:?}");
    drop(append);
    assert_eq!(store.load(&id("x")).await.unwrap().offset, snapshot.offset);
}
