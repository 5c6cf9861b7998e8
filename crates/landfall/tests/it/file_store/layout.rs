//! The file layout of tusd, in both directions.

use std::{fs, path::Path, time::Duration};

use bytes::Bytes;
use landfall::{
    lease::Fence,
    store::{
        DeferLength, Store, StoreError, Terminate,
        file::{FileOptions, FileStore},
    },
    upload::{Completion, Metadata, Upload, UploadKind},
};

use super::{append, id, make, open, read};

fn info(dir: &Path, name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(dir.join(format!("{name}.info"))).unwrap()).unwrap()
}

/// A description of tusd 2.
fn tusd2(dir: &Path, name: &str, rest: &str) -> String {
    let dir = dir.display();
    format!(
        r#"{{"ID":"{name}",{rest},"Storage":{{"InfoPath":"{dir}/{name}.info","Path":"{dir}/{name}","Type":"filestore"}}}}"#
    )
}

/// Go escapes `&`.
const WHOLE: &str = r#""Size":11,"SizeIsDeferred":false,"Offset":0,"MetaData":{"filename":"a\u0026b.png"},"IsPartial":false,"IsFinal":false,"PartialUploads":null"#;

#[tokio::test]
async fn tusd_can_continue_uploads_of_landfall() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut upload = Upload::new(id("2026/11/x"), Some(11));
    upload.metadata = Metadata::from_header("filename YSZiLnBuZw==").unwrap();
    store.create(upload).await.unwrap();
    append(&store, "2026/11/x", &Bytes::from_static(b"hello ")).await;

    assert_eq!(fs::read(dir.path().join("2026/11/x")).unwrap(), b"hello ");
    let written = fs::read_to_string(dir.path().join("2026/11/x.info")).unwrap();
    let theirs = tusd2(dir.path(), "2026/11/x", WHOLE);
    assert!(
        written.starts_with(theirs.strip_suffix('}').unwrap()),
        "{written}"
    );
    assert!(!written.contains('\n'));

    // tusd opens with O_APPEND and writes. When it rewrites the description, the `Landfall` object
    // is lost.
    fs::write(dir.path().join("2026/11/x"), b"hello world").unwrap();
    fs::write(dir.path().join("2026/11/x.info"), theirs).unwrap();
    let snapshot = store.load(&id("2026/11/x")).await.unwrap();
    assert!(snapshot.is_complete());
    assert_eq!(
        snapshot.upload.metadata.get("filename"),
        Some(&b"a&b.png"[..])
    );
}

/// A client cannot change the template: no name of its file is too long.
#[tokio::test]
async fn names_of_templates_are_cut_to_what_the_file_system_takes() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = FileOptions::default();
    options.names = Some("{date}/{id}-{filename}".into());
    let store = FileStore::open(dir.path(), options.clone()).unwrap();
    let hex = "0123456789abcdef0123456789abcdef";
    let other = "fedcba9876543210fedcba9876543210";
    for (name, end) in [
        ("x".repeat(250), "x"),
        ("写".repeat(80) + ".jpeg", "写.jpeg"),
        ("🎉".repeat(63) + ".tar.gz", ".gz"),
        (format!("a.{}", "extension".repeat(30)), "exte"),
        (".".repeat(255), "."),
        ("y".repeat(194) + ".info", ".info_"),
    ] {
        let mut paths = Vec::new();
        // They differ only by their ids.
        for id_text in [hex, other] {
            let mut upload = Upload::new(id(id_text), Some(5));
            let pairs = [("filename", name.clone())];
            upload.metadata = Metadata::from_pairs(pairs);
            let upload = store.create(upload).await.unwrap();
            let snapshot = append(&store, id_text, &Bytes::from_static(b"hello")).await;
            assert_eq!(read(&store, &snapshot).await, b"hello"[..]);
            // As after a restart.
            assert!(
                open(dir.path())
                    .load(&id(id_text))
                    .await
                    .unwrap()
                    .is_complete()
            );
            let path = upload.storage.get("Path").unwrap().clone();
            let file = Path::new(&path).file_name().unwrap().to_str().unwrap();
            let is_cut = file
                .trim_start_matches('_')
                .starts_with(&format!("{id_text}-"))
                && file.len() <= 230;
            assert!(is_cut && file.ends_with(end), "{file}");
            paths.push(path);
            store
                .terminate(&snapshot.upload, Fence(u64::MAX))
                .await
                .unwrap();
        }
        assert_ne!(paths[0], paths[1]);
    }

    // Without the id, names that are equal once they are cut are refused as equal ones are.
    options.names = Some("{filename}".into());
    let store = FileStore::open(dir.path(), options).unwrap();
    for (n, end) in ["a", "b"].into_iter().enumerate() {
        let mut upload = Upload::new(id(&format!("n{n}")), Some(5));
        let name = format!("{}{end}.png", "z".repeat(240));
        upload.metadata = Metadata::from_pairs([("filename", name)]);
        match store.create(upload).await {
            Ok(_) => assert_eq!(n, 0),
            Err(error) => {
                assert!(
                    n == 1 && matches!(error, StoreError::AlreadyExists(_)),
                    "{error}"
                );
            }
        }
    }
}

#[tokio::test]
async fn uploads_of_tusd_2_continue() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x"), b"hello ").unwrap();
    fs::write(dir.path().join("x.info"), tusd2(dir.path(), "x", WHOLE)).unwrap();
    let store = open(dir.path());
    let snapshot = store.load(&id("x")).await.unwrap();
    assert_eq!((snapshot.offset, snapshot.upload.length), (6, Some(11)));
    assert!(snapshot.upload.created_by_tusd);
    let snapshot = append(&store, "x", &Bytes::from_static(b"world")).await;
    assert!(snapshot.is_complete());
    assert_eq!(read(&store, &snapshot).await, b"hello world");
}

#[tokio::test]
async fn uploads_of_tusd_1_continue() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x"), b"hello ").unwrap();
    let info = format!(
        r#"{{"ID":"x",{WHOLE},"Storage":{{"Path":"{}/x","Type":"filestore"}}}}"#,
        dir.path().display()
    );
    fs::write(dir.path().join("x.info"), info).unwrap();
    // tusd's locks are not uploads.
    fs::write(dir.path().join("x.lock"), "1\n").unwrap();
    fs::write(dir.path().join("x.stop"), "").unwrap();
    let store = open(dir.path());
    let snapshot = append(&store, "x", &Bytes::from_static(b"world")).await;
    assert!(snapshot.is_complete());
}

#[tokio::test]
async fn deferred_length_is_stored_as_tusd_does() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let upload = store.create(Upload::new(id("x"), None)).await.unwrap();
    assert_eq!(info(dir.path(), "x")["SizeIsDeferred"], true);
    assert_eq!(info(dir.path(), "x")["Size"], 0);
    store.declare_length(&upload, 11, Fence(1)).await.unwrap();
    assert_eq!(info(dir.path(), "x")["SizeIsDeferred"], false);
    assert_eq!(info(dir.path(), "x")["Size"], 11);
    store.declare_length(&upload, 11, Fence(1)).await.unwrap();
    store
        .declare_length(&upload, 12, Fence(1))
        .await
        .unwrap_err();
    assert_eq!(store.load(&id("x")).await.unwrap().upload.length, Some(11));
}

#[tokio::test]
async fn kinds_are_read_and_stored_as_by_tusd() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let rest = |size: u64, is_deferred: bool, is_partial: bool| {
        format!(
            r#""Size":{size},"SizeIsDeferred":{is_deferred},"Offset":0,"MetaData":{{}},"IsPartial":{is_partial},"IsFinal":false,"PartialUploads":null"#
        )
    };
    for (name, rest, length) in [
        ("deferred", rest(0, true, false), None),
        ("part", rest(3, false, true), Some(3)),
    ] {
        fs::write(dir.path().join(name), b"abc").unwrap();
        let description = tusd2(dir.path(), name, &rest);
        fs::write(dir.path().join(format!("{name}.info")), description).unwrap();
        let snapshot = store.load(&id(name)).await.unwrap();
        assert_eq!((snapshot.offset, snapshot.upload.length), (3, length));
        let is_partial = matches!(snapshot.upload.kind, UploadKind::Partial);
        assert_eq!(is_partial, name == "part");
    }
    let parts = vec![id("part"), id("ours")];
    let joined = UploadKind::Final {
        parts,
        header: "final;/files/part /files/ours".into(),
        concatenated: false,
    };
    for (name, kind, is_partial, parts) in [
        ("ours", UploadKind::Partial, true, serde_json::json!(null)),
        ("whole", joined, false, serde_json::json!(["part", "ours"])),
    ] {
        let mut upload = Upload::new(id(name), Some(6));
        upload.kind = kind;
        store.create(upload).await.unwrap();
        let written = info(dir.path(), name);
        assert_eq!(written["IsPartial"], is_partial);
        assert_eq!(written["IsFinal"], !is_partial);
        assert_eq!(written["PartialUploads"], parts);
    }
}

#[tokio::test]
async fn final_upload_of_tusd_is_concatenated_if_its_bytes_are_stored() {
    let dir = tempfile::tempdir().unwrap();
    let rest = r#""Size":6,"SizeIsDeferred":false,"Offset":0,"MetaData":{},"IsPartial":false,"IsFinal":true,"PartialUploads":["a","b"]"#;
    fs::write(dir.path().join("x.info"), tusd2(dir.path(), "x", rest)).unwrap();
    fs::write(dir.path().join("x"), b"hel").unwrap();
    let store = open(dir.path());
    let snapshot = store.load(&id("x")).await.unwrap();
    assert!(!snapshot.upload.is_concatenated() && !snapshot.is_complete());
    fs::write(dir.path().join("x"), b"hello!").unwrap();
    let snapshot = store.load(&id("x")).await.unwrap();
    assert!(snapshot.is_complete());
    let UploadKind::Final { parts, .. } = &snapshot.upload.kind else {
        panic!("{snapshot:?}")
    };
    assert_eq!(parts, &[id("a"), id("b")]);
}

#[tokio::test]
async fn moved_directory_still_works() {
    let base = tempfile::tempdir().unwrap();
    let (old, new) = (base.path().join("old"), base.path().join("new"));
    let store = open(&old);
    make(&store, "plain", 11, &Bytes::from_static(b"hello ")).await;
    let mut upload = Upload::new(id("placed"), Some(11));
    upload
        .storage
        .insert("Path".into(), "some/where/else.txt".into());
    store.create(upload).await.unwrap();
    append(&store, "placed", &Bytes::from_static(b"hello ")).await;
    drop(store);
    fs::rename(&old, &new).unwrap();

    let store = open(&new);
    for name in ["plain", "placed"] {
        let snapshot = append(&store, name, &Bytes::from_static(b"world")).await;
        assert!(snapshot.is_complete(), "{name}");
        assert!(snapshot.upload.storage["Path"].starts_with(new.to_str().unwrap()));
    }
    assert_eq!(
        fs::read(new.join("some/where/else.txt")).unwrap(),
        b"hello world"
    );
}

#[tokio::test]
async fn hook_may_choose_the_path() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let absolute = dir.path().join("deep/down/b.bin");
    for (name, wish) in [("a", "deep/a file.bin"), ("b", absolute.to_str().unwrap())] {
        let mut upload = Upload::new(id(name), Some(5));
        upload.storage.insert("Path".into(), wish.into());
        let upload = store.create(upload).await.unwrap();
        assert!(Path::new(&upload.storage["Path"]).is_absolute());
        assert_eq!(upload.storage["Type"], "filestore");
        assert_eq!(
            Path::new(&upload.storage["InfoPath"]),
            dir.path().join(format!("{name}.info"))
        );
        let snapshot = append(&store, name, &Bytes::from_static(b"hello")).await;
        assert_eq!(read(&store, &snapshot).await, b"hello");
        assert!(!dir.path().join(name).exists());
    }
    assert_eq!(
        fs::read(dir.path().join("deep/a file.bin")).unwrap(),
        b"hello"
    );
    assert_eq!(fs::read(absolute).unwrap(), b"hello");

    // Existing files of others are never used, and nothing is left of the attempt.
    let mut upload = Upload::new(id("c"), Some(5));
    upload
        .storage
        .insert("Path".into(), "deep/a file.bin".into());
    assert!(matches!(
        store.create(upload).await,
        Err(StoreError::AlreadyExists(_))
    ));
    assert!(!dir.path().join("c.info").exists());
    assert_eq!(
        fs::read(dir.path().join("deep/a file.bin")).unwrap(),
        b"hello"
    );

    let upload = store.load(&id("a")).await.unwrap().upload;
    store.terminate(&upload, Fence(u64::MAX)).await.unwrap();
    assert!(!dir.path().join("deep/a file.bin").exists());
    assert!(!dir.path().join("a.info").exists());
}

#[tokio::test]
async fn existing_files_are_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    fs::write(dir.path().join("data-only"), b"precious").unwrap();
    fs::write(dir.path().join("info-only.info"), b"precious").unwrap();
    for name in ["data-only", "info-only"] {
        let error = store
            .create(Upload::new(id(name), Some(1)))
            .await
            .unwrap_err();
        assert!(matches!(error, StoreError::AlreadyExists(_)), "{error}");
    }
    assert_eq!(fs::read(dir.path().join("data-only")).unwrap(), b"precious");
    assert_eq!(
        fs::read(dir.path().join("info-only.info")).unwrap(),
        b"precious"
    );
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2);
}

#[tokio::test]
async fn id_below_a_file_is_rejected() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    make(&store, "a", 5, &Bytes::from_static(b"hello")).await;
    let error = store
        .create(Upload::new(id("a/b"), Some(1)))
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::InvalidPath(_)), "{error}");
    assert!(matches!(
        store.load(&id("a/b")).await,
        Err(StoreError::NotFound(_))
    ));
}

#[tokio::test]
async fn truncated_and_malformed_descriptions_are_detected() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let whole = tusd2(dir.path(), "x", WHOLE);
    for (description, data, found) in [
        ("", Some(""), "none"),
        (&whole[..40], Some(""), "none"),
        (&whole[..40], None, "none"),
        (&whole[..40], Some("bytes"), "damaged"),
        ("nonsense", Some(""), "damaged"),
        (&whole, None, "none"),
        (&whole, Some("more bytes than its length"), "damaged"),
        (&whole, Some("hello"), "upload"),
    ] {
        fs::write(dir.path().join("x.info"), description).unwrap();
        match data {
            Some(data) => fs::write(dir.path().join("x"), data).unwrap(),
            None => fs::remove_file(dir.path().join("x")).unwrap(),
        }
        let loaded = match store.load(&id("x")).await {
            Ok(_) => "upload",
            Err(StoreError::NotFound(_)) => "none",
            Err(StoreError::Damaged { .. }) => "damaged",
            Err(error) => panic!("{error}"),
        };
        assert_eq!(loaded, found, "{description:?} with {data:?}");
    }
}

/// The parsed description is cached; a change by another process must be seen nevertheless.
#[tokio::test]
async fn changes_by_another_process_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let (one, other) = (open(dir.path()), open(dir.path()));
    let mut upload = (*make(&one, "x", 5, &Bytes::from_static(b"hel")).await.upload).clone();
    // Long enough for the description to be cached.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for round in 0..20 {
        assert!(
            !one.load(&id("x"))
                .await
                .unwrap()
                .upload
                .completion
                .is_done()
        );
        upload.completion = Completion::Done(None);
        other.save(&upload, Fence(round)).await.unwrap();
        assert!(
            one.load(&id("x"))
                .await
                .unwrap()
                .upload
                .completion
                .is_done()
        );
        upload.completion = Completion::Pending;
        other.save(&upload, Fence(round)).await.unwrap();
    }
    append(&other, "x", &Bytes::from_static(b"lo")).await;
    assert!(one.load(&id("x")).await.unwrap().is_complete());
    other.terminate(&upload, Fence(u64::MAX)).await.unwrap();
    assert!(matches!(
        one.load(&id("x")).await,
        Err(StoreError::NotFound(_))
    ));
}

/// Its content is cached until the time of its last change proves more.
#[tokio::test]
async fn changes_right_after_the_creation_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let created = store.create(Upload::new(id("x"), Some(5))).await.unwrap();
    let loaded = store.load(&id("x")).await.unwrap().upload;
    assert_eq!(loaded, created);
    let path = dir.path().join("x.info");
    let json = fs::read_to_string(&path).unwrap();
    for pause in [0, 0, 0, 200, 0, 0] {
        for length in [7, 6, 5] {
            let changed = json.replace(r#""Size":5,"#, &format!(r#""Size":{length},"#));
            fs::write(&path, changed).unwrap();
            let loaded = store.load(&id("x")).await.unwrap().upload;
            assert_eq!(loaded.length, Some(length));
        }
        tokio::time::sleep(Duration::from_millis(pause)).await;
    }
}

#[tokio::test]
async fn files_have_the_configured_permissions() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().unwrap();
    let mut options = landfall::store::file::FileOptions::default();
    (options.dir_mode, options.file_mode) = (0o700, 0o600);
    let store = landfall::store::file::FileStore::open(dir.path().join("new"), options).unwrap();
    let upload = store.create(Upload::new(id("a/b"), Some(1))).await.unwrap();
    store.save(&upload, Fence(1)).await.unwrap();
    for (name, mode) in [
        ("", 0o700),
        ("a", 0o700),
        ("a/b", 0o600),
        ("a/b.info", 0o600),
    ] {
        let found = fs::metadata(dir.path().join("new").join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(found & 0o777, mode, "{name:?}");
    }
}
