//! Directories of tusd are taken over as they are, and can be given back.

use std::{fs, path::Path};

use serde_json::Value;

use crate::serve_harness::{Landfall, Request, assert_same, content, id_of};

const ID: &str = "14b1c4c77771671a8479bc0444bbc5ce";

/// The `.info` of tusd 2 for an upload in `dir`.
fn info_v2(dir: &Path, size: u64, meta: &str) -> String {
    let path = dir.join(ID);
    let path = path.display();
    format!(
        "{{\"ID\":\"{ID}\",\"Size\":{size},\"SizeIsDeferred\":false,\"Offset\":0,\"MetaData\":{meta},\
         \"IsPartial\":false,\"IsFinal\":false,\"PartialUploads\":null,\
         \"Storage\":{{\"InfoPath\":\"{path}.info\",\"Path\":\"{path}\",\"Type\":\"filestore\"}}}}"
    )
}

/// The `.info` of tusd 1, which has no `InfoPath`.
fn info_v1(dir: &Path, size: u64, meta: &str) -> String {
    let path = dir.join(ID);
    let path = path.display();
    format!(
        "{{\"ID\":\"{ID}\",\"Size\":{size},\"SizeIsDeferred\":false,\"Offset\":0,\"MetaData\":{meta},\
         \"IsPartial\":false,\"IsFinal\":false,\"PartialUploads\":null,\
         \"Storage\":{{\"Path\":\"{path}\",\"Type\":\"filestore\"}}}}"
    )
}

fn put(dir: &Path, id: &str, bytes: &[u8], info: &str) {
    fs::write(dir.join(id), bytes).unwrap();
    fs::write(dir.join(format!("{id}.info")), info).unwrap();
}

/// What tusd reads of an `.info`: these keys in any order, all others ignored; and the size of the
/// file that `Storage.Path` names as it stands.
#[derive(serde::Deserialize, Debug)]
#[serde(rename_all = "PascalCase")]
struct ReadByTusd {
    #[serde(rename = "ID")]
    id: String,
    size: i64,
    size_is_deferred: bool,
    meta_data: std::collections::BTreeMap<String, String>,
    is_partial: bool,
    is_final: bool,
    partial_uploads: Option<Vec<String>>,
    storage: std::collections::BTreeMap<String, String>,
}

fn read_as_tusd(dir: &Path, id: &str) -> (ReadByTusd, Vec<u8>) {
    let info = fs::read(dir.join(format!("{id}.info"))).unwrap();
    let info: ReadByTusd = serde_json::from_slice(&info).unwrap();
    assert_eq!(info.id, id);
    assert_eq!(info.storage["Type"], "filestore");
    let bytes = fs::read(&info.storage["Path"]).unwrap();
    (info, bytes)
}

#[test]
fn unfinished_uploads_of_tusd_resume() {
    for info in [info_v2, info_v1] {
        let dir = tempfile::tempdir().unwrap();
        let bytes = content(1, 46_205);
        let before = info(
            dir.path(),
            46_205,
            r#"{"filename":"grün \"1\".png","filetype":"image/png","flag":""}"#,
        );
        put(dir.path(), ID, &bytes[..20_000], &before);

        let server = Landfall::on(dir.path(), &[]);
        let mut client = server.client();
        let path = format!("/files/{ID}");
        let head = client.head(&path);
        assert_eq!(head.status, 200, "{head:?}");
        assert_eq!(
            (head.offset(), head.number("Upload-Length")),
            (20_000, 46_205)
        );
        let mut metadata: Vec<&str> = head
            .header("Upload-Metadata")
            .unwrap()
            .split(',')
            .map(str::trim)
            .collect();
        metadata.sort_unstable();
        assert_eq!(
            metadata,
            [
                "filename Z3LDvG4gIjEiLnBuZw==",
                "filetype aW1hZ2UvcG5n",
                "flag"
            ]
        );
        client.resumes_to(&path, &bytes);
        let answer = client.ask(Request::get(&path));
        assert_eq!(answer.header("Content-Type"), Some("image/png"));
        server.stop();

        // And back: tusd finds a complete upload with all its fields.
        let (after, stored) = read_as_tusd(dir.path(), ID);
        assert_same(&stored, &bytes);
        assert_eq!((after.size, after.size_is_deferred), (46_205, false));
        assert_eq!(after.meta_data["filename"], "grün \"1\".png");
        assert_eq!(after.meta_data["flag"], "");
        assert!(!after.is_partial && !after.is_final && after.partial_uploads.is_none());
    }
}

#[test]
fn uploads_have_the_file_layout_of_tusd() {
    let server = Landfall::start(&[]);
    let mut client = server.client();
    let request = Request::post().with("Upload-Length", 46_205).with(
        "Upload-Metadata",
        "filename YSZiLnBuZw==,filetype aW1hZ2UvcG5n",
    );
    let path = client.ask(request).created();
    let id = id_of(&path);
    assert!(
        id.len() == 32 && id.bytes().all(|b| b"0123456789abcdef".contains(&b)),
        "{id}"
    );
    let bytes = content(2, 46_205);
    assert_eq!(client.patch(&path, 0, &bytes[..20_000]).status, 204);
    let dir = fs::canonicalize(server.dir()).unwrap();
    let place = dir.join(id);
    let place = place.display();
    // Byte for byte, Go's escape of `&` included.
    let wanted = format!(
        "{{\"ID\":\"{id}\",\"Size\":46205,\"SizeIsDeferred\":false,\"Offset\":0,\
         \"MetaData\":{{\"filename\":\"a\\u0026b.png\",\"filetype\":\"image/png\"}},\
         \"IsPartial\":false,\"IsFinal\":false,\"PartialUploads\":null,\
         \"Storage\":{{\"InfoPath\":\"{place}.info\",\"Path\":\"{place}\",\"Type\":\"filestore\"}}"
    );
    let info = || fs::read_to_string(dir.join(format!("{id}.info"))).unwrap();
    let rest = |info: &str| {
        let rest = info
            .strip_prefix(&wanted)
            .unwrap_or_else(|| panic!("{info}\nis not\n{wanted}"));
        assert!(
            rest == "}" || rest.starts_with(",\"Landfall\":{") && rest.ends_with("}}"),
            "{info}"
        );
    };
    rest(&info());
    // Unfinished, as tusd would resume it: the file's size is the offset.
    let (read, stored) = read_as_tusd(&dir, id);
    assert_eq!(read.size, 46_205);
    assert_same(&stored, &bytes[..20_000]);

    client.resumes_to(&path, &bytes);
    rest(&info());
    let json: Value = serde_json::from_str(&info()).unwrap();
    assert_eq!(json["Offset"], 0);
    let (_, stored) = read_as_tusd(&dir, id);
    assert_same(&stored, &bytes);
    // Nothing else lies among the uploads.
    let mut names: Vec<String> = fs::read_dir(&dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.'))
        .collect();
    names.sort();
    assert_eq!(names, [id.to_owned(), format!("{id}.info")]);
}

#[test]
fn deferred_lengths_and_partial_uploads_are_stored_as_by_tusd() {
    let server = Landfall::start(&[]);
    let mut client = server.client();
    let dir = server.dir();
    let deferred = client
        .ask(Request::post().with("Upload-Defer-Length", 1))
        .created();
    let (read, _) = read_as_tusd(dir, id_of(&deferred));
    assert_eq!((read.size, read.size_is_deferred), (0, true));
    let request = Request::patch(&deferred, 0).with("Upload-Length", 5);
    assert_eq!(client.ask(request.body(b"he")).status, 204);
    let (read, stored) = read_as_tusd(dir, id_of(&deferred));
    assert_eq!((read.size, read.size_is_deferred), (5, false));
    assert_eq!(stored, b"he");

    let mut parts = Vec::new();
    for text in ["hello ", "world"] {
        let request = Request::post()
            .with("Upload-Concat", "partial")
            .with("Upload-Length", text.len())
            .with("Content-Type", "application/offset+octet-stream")
            .body(text.as_bytes());
        let part = client.ask(request).created();
        let (read, _) = read_as_tusd(dir, id_of(&part));
        assert!(read.is_partial && !read.is_final && read.partial_uploads.is_none());
        parts.push(part);
    }
    let list = format!("final;{}", parts.join(" "));
    let joined = client
        .ask(Request::post().with("Upload-Concat", list))
        .created();
    let (read, stored) = read_as_tusd(dir, id_of(&joined));
    assert!(read.is_final && !read.is_partial);
    assert_eq!((read.size, read.size_is_deferred), (11, false));
    let ids: Vec<&str> = parts.iter().map(|part| id_of(part)).collect();
    assert_eq!(read.partial_uploads.unwrap(), ids);
    assert_eq!(stored, b"hello world");
}

#[test]
fn deferred_partial_and_final_uploads_of_tusd_are_read() {
    let dir = tempfile::tempdir().unwrap();
    let info = |id: &str, rest: &str| {
        let path = dir.path().join(id);
        let path = path.display();
        format!(
            "{{\"ID\":\"{id}\",{rest},\"Storage\":{{\"InfoPath\":\"{path}.info\",\
             \"Path\":\"{path}\",\"Type\":\"filestore\"}}}}"
        )
    };
    let deferred = info(
        "deferred",
        "\"Size\":0,\"SizeIsDeferred\":true,\"Offset\":0,\"MetaData\":{},\"IsPartial\":false,\
         \"IsFinal\":false,\"PartialUploads\":null",
    );
    let part = |id| {
        info(
            id,
            "\"Size\":3,\"SizeIsDeferred\":false,\"Offset\":0,\"MetaData\":{},\"IsPartial\":true,\
             \"IsFinal\":false,\"PartialUploads\":null",
        )
    };
    let whole = info(
        "whole",
        "\"Size\":6,\"SizeIsDeferred\":false,\"Offset\":0,\"MetaData\":{},\"IsPartial\":false,\
         \"IsFinal\":true,\"PartialUploads\":[\"one\",\"two\"]",
    );
    put(dir.path(), "deferred", b"abc", &deferred);
    put(dir.path(), "one", b"abc", &part("one"));
    put(dir.path(), "two", b"de", &part("two"));
    put(dir.path(), "whole", b"abcdef", &whole);

    let server = Landfall::on(dir.path(), &[]);
    let mut client = server.client();
    let head = client.head("/files/deferred");
    assert_eq!((head.offset(), head.header("Upload-Length")), (3, None));
    assert_eq!(head.header("Upload-Defer-Length"), Some("1"));
    let request = Request::patch("/files/deferred", 3).with("Upload-Length", 6);
    assert_eq!(client.ask(request.body(b"def")).status, 204);
    client.holds("/files/deferred", b"abcdef");

    let head = client.head("/files/two");
    assert_eq!(head.header("Upload-Concat"), Some("partial"));
    client.resumes_to("/files/two", b"def");
    let list = "final;/files/one /files/two";
    let joined = client
        .ask(Request::post().with("Upload-Concat", list))
        .created();
    client.holds(&joined, b"abcdef");

    let head = client.head("/files/whole");
    assert_eq!((head.status, head.offset()), (200, 6));
    assert!(head.header("Upload-Concat").unwrap().starts_with("final;"));
    client.holds("/files/whole", b"abcdef");
    client
        .patch("/files/whole", 6, b"x")
        .refuses(403, "ERR_MODIFY_FINAL");
}

#[test]
fn a_moved_directory_works_and_stays_readable_by_tusd() {
    let parent = tempfile::tempdir().unwrap();
    let (old, new) = (parent.path().join("old"), parent.path().join("new"));
    fs::create_dir(&old).unwrap();
    let bytes = content(3, 30_000);
    put(&old, ID, &bytes[..10_000], &info_v2(&old, 30_000, "{}"));
    let server = Landfall::on(&old, &[]);
    let ours = server.client().create(30_000);
    assert_eq!(server.client().patch(&ours, 0, &bytes[..5]).status, 204);
    server.stop();

    fs::rename(&old, &new).unwrap();
    let server = Landfall::on(&new, &[]);
    let mut client = server.client();
    let tusds = format!("/files/{ID}");
    for (path, offset) in [(&tusds, 10_000), (&ours, 5)] {
        assert_eq!(client.offset(path), offset);
        client.resumes_to(path, &bytes);
    }
    let fresh = client.upload(&bytes);
    server.stop();
    assert!(!old.exists());
    // New descriptions contain the new path, which tusd uses.
    let (_, stored) = read_as_tusd(&new, id_of(&fresh));
    assert_same(&stored, &bytes);
    assert_same(&fs::read(new.join(ID)).unwrap(), &bytes);
}

#[test]
fn stale_lock_files_of_tusd_are_ignored() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(4, 1000);
    put(
        dir.path(),
        ID,
        &bytes[..300],
        &info_v2(dir.path(), 1000, "{}"),
    );
    // In a container tusd is process 1, as is its successor.
    fs::write(dir.path().join(format!("{ID}.lock")), "1\n").unwrap();
    fs::write(dir.path().join(format!("{ID}.stop")), "").unwrap();
    let server = Landfall::on(dir.path(), &[]);
    server.client().resumes_to(&format!("/files/{ID}"), &bytes);
}

#[test]
fn ids_with_slashes_and_custom_paths_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let bytes = content(5, 1000);
    fs::create_dir_all(dir.path().join("team/7")).unwrap();
    fs::create_dir_all(dir.path().join("elsewhere")).unwrap();
    let (path, info) = (
        dir.path().join("elsewhere/data.bin"),
        dir.path().join("team/7/report"),
    );
    let json = format!(
        "{{\"ID\":\"team/7/report\",\"Size\":1000,\"SizeIsDeferred\":false,\"Offset\":0,\
         \"MetaData\":{{}},\"IsPartial\":false,\"IsFinal\":false,\"PartialUploads\":null,\
         \"Storage\":{{\"InfoPath\":\"{}.info\",\"Path\":\"{}\",\"Type\":\"filestore\"}}}}",
        info.display(),
        path.display()
    );
    fs::write(dir.path().join("team/7/report.info"), json).unwrap();
    fs::write(&path, &bytes[..10]).unwrap();
    let server = Landfall::on(dir.path(), &[]);
    let mut client = server.client();
    assert_eq!(client.offset("/files/team/7/report"), 10);
    client.resumes_to("/files/team/7/report", &bytes);
    assert_same(&fs::read(&path).unwrap(), &bytes);
}

#[test]
fn other_files_are_not_found_and_damaged_descriptions_are_not_disclosed() {
    let dir = tempfile::tempdir().unwrap();
    put(
        dir.path(),
        "broken",
        b"abc",
        "{\"ID\":\"broken\",\"Size\":\"three\"}",
    );
    fs::write(dir.path().join("alone"), b"abc").unwrap();
    let outside = tempfile::NamedTempFile::new().unwrap();
    std::os::unix::fs::symlink(outside.path(), dir.path().join("link")).unwrap();
    let json = info_v2(dir.path(), 3, "{}").replace(ID, "link");
    fs::write(dir.path().join("link.info"), json).unwrap();
    let server = Landfall::on(dir.path(), &[]);
    let mut client = server.client();
    for path in [
        "/files/alone",
        "/files/alone.info",
        "/files/broken.info",
        "/files/..%2fetc%2fpasswd",
        "/files/.landfall/leases-00",
    ] {
        assert_eq!(client.ask(Request::get(path)).status, 404, "{path}");
        assert_eq!(client.patch(path, 0, b"x").status, 404, "{path}");
    }
    // A link could lead to anything the server may read: none is followed.
    fs::write(outside.path(), b"abc").unwrap();
    let answer = client.ask(Request::get("/files/link"));
    assert!(answer.status >= 400, "{answer:?}");
    assert!(!answer.text().contains("abc"), "{answer:?}");
    assert!(client.patch("/files/link", 3, b"x").status >= 400);
    assert_eq!(fs::read(outside.path()).unwrap(), b"abc");

    let answer = client.ask(Request::get("/files/broken"));
    answer.refuses(500, "ERR_UPLOAD_DAMAGED");
    let text = answer.text();
    assert!(!text.contains("three") && !text.contains('/'), "{text}");
    // The log names the upload and the cause.
    let line = server.says("id=broken");
    assert!(line.contains("event=InternalServerError"), "{line}");
    assert!(line.contains("error="), "{line}");
}
