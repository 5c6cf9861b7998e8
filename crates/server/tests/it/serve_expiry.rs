//! Lifetimes, and removal of expired uploads.

use std::{
    fs::File,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, SystemTime},
};

use crate::serve_harness::{Answer, Landfall, Request, content, eventually, id_of, program, run};

/// Sets back the times of an upload's files.
fn age(server: &Landfall, path: &str, hours: u64) {
    for file in files(server.dir(), path) {
        age_file(&file, hours);
    }
}

fn age_file(file: &Path, hours: u64) {
    let then = SystemTime::now() - Duration::from_secs(hours * 3600);
    let file = File::options().append(true).open(file).unwrap();
    file.set_modified(then).unwrap();
}

fn files(dir: &Path, path: &str) -> [PathBuf; 2] {
    let id = id_of(path);
    [dir.join(id), dir.join(format!("{id}.info"))]
}

fn exists(dir: &Path, path: &str) -> bool {
    let [data, info] = files(dir, path).map(|file| file.exists());
    assert_eq!(data, info, "{path} is half gone");
    data
}

fn sweep(dir: &Path) -> Command {
    let mut command = program();
    command.args(["sweep", "-upload-dir"]).arg(dir);
    command
}

/// `Upload-Expires` as the time from now, in seconds.
#[track_caller]
fn expires_in(answer: &Answer) -> i64 {
    let date = answer
        .header("Upload-Expires")
        .unwrap_or_else(|| panic!("{answer:?}"));
    assert!(date.ends_with(" GMT") && date.len() == 29, "{date}");
    let at = httpdate::parse_http_date(date).unwrap();
    match at.duration_since(SystemTime::now()) {
        Ok(ahead) => ahead.as_secs() as i64,
        Err(behind) => -(behind.duration().as_secs() as i64),
    }
}

#[test]
fn the_server_sweeps_periodically_with_both_lifetimes() {
    let server = Landfall::start(&[
        "-expire-unfinished",
        "2h",
        "-expire-finished",
        "5h",
        "-sweep-interval",
        "50ms",
    ]);
    let mut client = server.client();
    let fresh = client.create(10);
    let young = client.upload(b"hello");
    let old = client.upload(b"hello");
    let stale = client.create(10);
    assert_eq!(client.patch(&stale, 0, b"hello").status, 204);
    let seconds = expires_in(&client.head(&young));
    assert!((17_900..=18_000).contains(&seconds), "{seconds}");
    age(&server, &fresh, 1);
    age(&server, &young, 3);
    age(&server, &old, 6);
    age(&server, &stale, 3);
    eventually("the stale upload stays", || !server.file(&stale).exists());
    eventually("the old upload stays", || !server.file(&old).exists());
    thread::sleep(Duration::from_millis(300));
    for (path, stays) in [
        (&fresh, true),
        (&young, true),
        (&old, false),
        (&stale, false),
    ] {
        eventually("it is half gone", || {
            let [data, info] = files(server.dir(), path).map(|file| file.exists());
            data == info
        });
        assert_eq!(exists(server.dir(), path), stays, "{path}");
        assert_eq!(client.head(path).status, if stays { 200 } else { 404 });
    }
    assert_eq!(server.metric("landfall_uploads_expired_total"), 2.0);
    server.says("SweepFinished");
}

#[test]
fn a_clock_that_has_stepped_forward_is_a_condition_and_expires_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let args = ["-expire-unfinished", "7d", "-sweep-interval", "50ms"];
    let server = Landfall::on(dir.path(), &args);
    let path = server.client().create(10);
    server.stop();
    let then = SystemTime::now() - Duration::from_secs(8 * 24 * 3600);
    for file in files(dir.path(), &path) {
        age_file(&file, 8 * 24);
    }
    // As if the clock had been right until a moment ago, and eight days earlier.
    let seconds = then
        .duration_since(SystemTime::UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let memory = format!("{seconds} {seconds} 0 0 0\n");
    std::fs::create_dir_all(dir.path().join(".landfall")).unwrap();
    std::fs::write(dir.path().join(".landfall/clock"), memory).unwrap();

    let server = Landfall::on(dir.path(), &args);
    let mut client = server.client();
    assert_eq!(client.head(&path).status, 200);
    eventually("the condition is raised", || {
        server.metric("landfall_clock_step_seconds") > 600_000.0
            && client
                .ask(Request::get("/readyz"))
                .text()
                .contains("the clock has stepped forward")
    });
    server.says("clock-stepped");
    assert_eq!(client.patch(&path, 0, &content(3, 10)).status, 204);
    assert!(exists(dir.path(), &path));
}

#[test]
fn data_without_a_description_is_reported_and_never_removed() {
    let server = Landfall::start(&["-sweep-interval", "50ms", "-expire-unfinished", "1ms"]);
    let orphan = server.dir().join("ffffffffffffffffffffffffffffffff");
    std::fs::write(&orphan, b"abc").unwrap();
    age_file(&orphan, 2);
    eventually("the sweeper counts it", || {
        server.metric("landfall_orphans") == 1.0
    });
    for words in [
        &["-expire-unfinished=1ms", "-dry-run"][..],
        &["-expire-unfinished=1ms"],
    ] {
        let (code, out, err) = run(sweep(server.dir()).args(words));
        assert_eq!((code, &*err), (Some(0), ""), "{out}");
        let line = out.lines().next().unwrap();
        assert!(line.starts_with("never removes ffffffff"), "{out}");
        assert!(line.contains("(3 bytes, "), "{out}");
        assert!(out.contains(" 1 without a description, 0 failed"), "{out}");
        assert!(orphan.exists());
    }
}

#[test]
fn a_dry_run_lists_uploads_with_reasons_and_removes_nothing() {
    let server = Landfall::start(&["-expire-unfinished", "0", "-sweep-interval", "0"]);
    let mut client = server.client();
    let unfinished = client.create(10);
    assert_eq!(client.patch(&unfinished, 0, b"hello").status, 204);
    let finished = client.upload(b"hello!");
    let young = client.create(10);
    // Belongs to no upload, but it is new: it may be one in the making.
    let orphan = server.dir().join("ffffffffffffffffffffffffffffffff");
    std::fs::write(&orphan, b"abc").unwrap();
    age(&server, &unfinished, 3);
    age(&server, &finished, 6);

    let args = ["-expire-unfinished", "2h", "-expire-finished", "5h"];
    let (code, out, err) = run(sweep(server.dir()).args(args).arg("-dry-run"));
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    let line = |id: &str| {
        let mut lines = out.lines().filter(|line| line.contains(id));
        let line = lines.next().unwrap_or_else(|| panic!("no {id} in {out}"));
        assert_eq!(lines.next(), None, "{out}");
        line
    };
    let words = line(id_of(&unfinished));
    assert!(words.starts_with("would remove "), "{words}");
    assert!(words.contains("(5 bytes, "), "{words}");
    assert!(words.ends_with(": unfinished and expired"), "{words}");
    let words = line(id_of(&finished));
    assert!(words.contains("(6 bytes, "), "{words}");
    assert!(words.ends_with(": finished and expired"), "{words}");
    assert!(!out.contains("ffffffff"), "{out}");
    assert!(!out.contains(id_of(&young)), "{out}");
    let summary = out.lines().last().unwrap();
    assert!(
        summary.starts_with("would remove 2 of 3 entries, 11 bytes"),
        "{summary}"
    );
    for path in [&unfinished, &finished, &young] {
        assert!(exists(server.dir(), path));
    }
    assert!(orphan.exists());

    let (code, out, err) = run(sweep(server.dir()).args(args));
    assert_eq!((code, &*err), (Some(0), ""), "{out}");
    assert!(
        out.contains(&format!("removed {}", id_of(&unfinished))),
        "{out}"
    );
    assert!(!exists(server.dir(), &unfinished) && !exists(server.dir(), &finished));
    assert!(exists(server.dir(), &young) && orphan.exists());
    // A concurrent server sees the same.
    assert_eq!(client.head(&unfinished).status, 404);
    assert_eq!(client.head(&young).status, 200);
}

#[test]
fn orphans_are_removed_at_the_configured_age() {
    let dir = tempfile::tempdir().unwrap();
    let orphan = dir.path().join(".x.info.01234567.tmp");
    std::fs::write(&orphan, "{\"ID\":\"x\",\"Size\":5,\"Landfall\":{}}").unwrap();
    // A finished upload whose description was removed, and a file of another program.
    let finished = dir.path().join("e".repeat(32));
    std::fs::write(&finished, b"abc").unwrap();
    let theirs = dir.path().join(".x.info.76543210.tmp");
    std::fs::write(&theirs, b"theirs").unwrap();
    thread::sleep(Duration::from_millis(1100));
    for (age, left) in [("0", true), ("1h", true), ("1s", false)] {
        let (code, out, _) = run(sweep(dir.path()).args(["-expire-unfinished", age]));
        assert_eq!(code, Some(0), "{out}");
        assert_eq!(orphan.exists(), left, "with {age}: {out}");
        for (file, content) in [(&finished, "abc"), (&theirs, "theirs")] {
            let kept = std::fs::read_to_string(file).unwrap();
            assert_eq!(kept, content, "with {age}: {out}");
        }
    }
}

#[test]
fn a_damaged_description_is_a_condition_and_is_kept() {
    let server = Landfall::start(&["-sweep-interval", "50ms", "-expire-unfinished", "1s"]);
    let path = server.client().create(10);
    let [_, info] = files(server.dir(), &path);
    let description = std::fs::read(&info).unwrap();
    std::fs::write(&info, &b"{\"ID\":\"nonsense"[..]).unwrap();
    std::fs::write(server.file(&path), b"hello").unwrap();
    age(&server, &path, 48);
    eventually("the sweeper counts it", || {
        server.metric("landfall_damaged_uploads") == 1.0
    });
    server.says("condition=damaged-uploads");
    let (code, out, _) = run(sweep(server.dir()).args(["-expire-unfinished", "1s"]));
    assert_eq!(code, Some(0), "{out}");
    let kept = format!("never removes {} (5 bytes", id_of(&path));
    assert!(out.contains(&kept), "{out}");
    assert!(exists(server.dir(), &path));
    // Mended.
    std::fs::write(&info, description).unwrap();
    eventually("it expires", || !server.file(&path).exists());
    eventually("the condition is over", || {
        server.metric("landfall_damaged_uploads") == 0.0
    });
}

#[test]
fn an_upload_in_progress_is_never_swept() {
    let server = Landfall::start(&["-expire-unfinished", "1s", "-sweep-interval", "20ms"]);
    let bytes = content(1, 500_000);
    let mut client = server.client();
    let path = client.create(500_000);
    client.begin(Request::patch(&path, 0), 500_000);
    client.send(&bytes[..100_000]);
    server.client().reaches(&path, 100_000);
    // Silent for longer than its lifetime, while the server and another process sweep.
    for _ in 0..8 {
        age(&server, &path, 48);
        let (code, out, _) = run(sweep(server.dir()).args(["-expire-unfinished", "1s"]));
        assert_eq!(code, Some(0));
        assert!(!out.contains(id_of(&path)), "{out}");
        thread::sleep(Duration::from_millis(100));
    }
    client.send(&bytes[100_000..]);
    assert_eq!(client.answer().status, 204);
    client.holds(&path, &bytes);
}

#[test]
fn a_sweep_of_a_missing_directory_fails_and_creates_none() {
    let parent = tempfile::tempdir().unwrap();
    let dir = parent.path().join("missing");
    let (code, _, err) = run(&mut sweep(&dir));
    assert_eq!(code, Some(1));
    assert!(err.contains(dir.to_str().unwrap()), "{err}");
    assert!(!dir.exists());
}

#[test]
fn uploads_of_tusd_never_expire() {
    let dir = tempfile::tempdir().unwrap();
    let json = "{\"ID\":\"old\",\"Size\":10,\"SizeIsDeferred\":false,\"Offset\":0,\"MetaData\":{},\
                \"IsPartial\":false,\"IsFinal\":false,\"PartialUploads\":null,\"Storage\":{}}";
    std::fs::write(dir.path().join("old"), b"hello").unwrap();
    std::fs::write(dir.path().join("old.info"), json).unwrap();
    for file in files(dir.path(), "old") {
        age_file(&file, 24 * 90);
    }
    // tusd removes nothing, and does not record what was finished: an application may have shortened this.
    let server = Landfall::on(dir.path(), &["-sweep-interval", "20ms"]);
    let mut client = server.client();
    thread::sleep(Duration::from_millis(200));
    assert_eq!(client.offset("/files/old"), 5);
    let command = || {
        let mut command = sweep(dir.path());
        command.args(["-expire-unfinished", "30d"]);
        command
    };
    for words in [&["-dry-run"][..], &[]] {
        let (code, out, _) = run(command().args(words));
        assert_eq!(code, Some(0));
        assert!(out.contains("never removes old (5 bytes"), "{out}");
    }
    assert_eq!(client.offset("/files/old"), 5);
    client.resumes_to("/files/old", b"helloworld");
    // An upload that was finished here stays finished.
    std::fs::write(dir.path().join("old"), b"hello").unwrap();
    for file in files(dir.path(), "old") {
        age_file(&file, 24 * 90);
    }
    let (_, out, _) = run(&mut command());
    assert!(out.starts_with("removed 0 of 1 "), "{out}");
    assert_eq!(client.offset("/files/old"), 10);
}
