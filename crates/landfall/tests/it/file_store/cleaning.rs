//! What sweeps remove from directories as other programs leave them, and what they never remove.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    os::unix::fs::symlink,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime},
};

use landfall::{
    Composer, Config, Handler, Lifetimes,
    removal::{ClockMemory, Reading, RemovalClock},
    store::{
        Enumerate as _,
        file::{FileOptions, FileStore},
    },
};
use parking_lot::Mutex;
use tokio::{runtime::Handle, task::block_in_place};

use crate::harness::Site;

const DAY: Duration = Duration::from_secs(24 * 3600);
const HEX: [&str; 4] = [
    "00000000000000000000000000000001",
    "00000000000000000000000000000002",
    "00000000000000000000000000000003",
    "00000000000000000000000000000004",
];

fn store(dir: &Path) -> FileStore {
    let mut options = FileOptions::default();
    options.orphan_age = Duration::ZERO;
    FileStore::open(dir, options).unwrap()
}

fn config(dir: &Path) -> Config {
    let mut config = Config::new(Composer::join(store(dir)));
    config.lifetimes = Lifetimes {
        unfinished: Some(7 * DAY),
        finished: None,
    };
    config
}

/// A server whose completions are tracked by nothing, as without hooks.
async fn site() -> (Site, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().to_owned();
    (Site::start(config(&path), Some(dir)).await, path)
}

/// The clocks of a machine, which tests set.
#[derive(Clone)]
struct Machine(Arc<Mutex<Reading>>);

impl Machine {
    fn new() -> Self {
        Self(Arc::new(Mutex::new(Reading {
            wall: SystemTime::now(),
            monotonic: DAY,
        })))
    }

    fn clock(&self) -> RemovalClock {
        let shared = self.0.clone();
        RemovalClock::with_source(move || *shared.lock())
    }

    fn pass(&self, time: Duration) {
        let mut reading = self.0.lock();
        reading.wall += time;
        reading.monotonic += time;
    }
}

/// Every name below the directory, with the content of files and the targets of links.
fn content(dir: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut found = BTreeMap::new();
    let mut dirs = vec![dir.to_owned()];
    while let Some(at) = dirs.pop() {
        for entry in fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(dir).unwrap().to_str().unwrap().to_owned();
            if name == ".landfall" {
                continue;
            }
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            let bytes = match kind {
                kind if kind.is_dir() => {
                    dirs.push(path);
                    Vec::new()
                }
                kind if kind.is_symlink() => {
                    let target = fs::read_link(&path).unwrap();
                    target.into_os_string().into_encoded_bytes()
                }
                _ => fs::read(&path).unwrap(),
            };
            found.insert(name, bytes);
        }
    }
    found
}

/// Sweeps every day for a year; returns the names that are gone. Nothing else may have changed.
async fn swept_for_a_year(handler: &Handler, dir: &Path) -> BTreeSet<String> {
    let before = content(dir);
    let machine = Machine::new();
    let sweeper = handler.sweeper().orphan_age(Duration::ZERO);
    let sweeper = sweeper.clock(machine.clock());
    for _ in 0..366 {
        machine.pass(DAY);
        let swept = sweeper.run(|_| {}).await.unwrap();
        assert_eq!(swept.failed, 0, "{swept:?}");
    }
    let after = content(dir);
    for (name, bytes) in &after {
        assert!(before.get(name) == Some(bytes), "{name} has changed");
    }
    let gone = before.into_keys().filter(|name| !after.contains_key(name));
    gone.collect()
}

async fn nothing_is_removed(dir: &Path) {
    let handler = Handler::new(config(dir)).unwrap();
    let gone = swept_for_a_year(&handler, dir).await;
    assert!(gone.is_empty(), "removed: {gone:?}");
}

fn name(path: &str) -> &str {
    path.strip_prefix("/files/").unwrap()
}

fn info_of_tusd(dir: &Path, id: &str, size: u64, rest: &str) {
    let path = dir.join(id);
    let path = path.display();
    let json = format!(
        "{{\"ID\":\"{id}\",\"Size\":{size},\"SizeIsDeferred\":false,\"Offset\":0,\"MetaData\":{{}},{rest}\
         \"Storage\":{{\"InfoPath\":\"{path}.info\",\"Path\":\"{path}\",\"Type\":\"filestore\"}}}}"
    );
    fs::write(dir.join(format!("{id}.info")), json).unwrap();
}

const REGULAR: &str = "\"IsPartial\":false,\"IsFinal\":false,\"PartialUploads\":null,";
const PARTIAL: &str = "\"IsPartial\":true,\"IsFinal\":false,\"PartialUploads\":null,";

#[tokio::test]
async fn only_our_unfinished_expired_uploads_are_removed() {
    let (site, dir) = site().await;
    let unfinished = site.create(10).await;
    site.patch(&unfinished, 0, "hello").await.expect(204);
    let empty = site.create(10).await;
    let part = site.partial("hello").await;
    let whole = site.create(5).await;
    site.patch(&whole, 0, "hello").await.expect(204);
    let at_once = site.create(0).await;
    let expected: BTreeSet<_> = [&unfinished, &empty, &part]
        .iter()
        .flat_map(|path| [name(path).to_owned(), format!("{}.info", name(path))])
        .collect();
    assert_eq!(swept_for_a_year(&site.handler, &dir).await, expected);
    assert_eq!(site.bytes(&whole).await, "hello");
    site.head(&at_once).await.expect(200);
}

/// An application may do with a finished file what it likes.
#[tokio::test]
async fn finished_upload_whose_file_changes_stays_finished() {
    for tracked in [false, true] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().to_owned();
        let mut config = config(&path);
        if tracked {
            let (sink, mut events) = landfall::event::channel(landfall::event::EventKinds::ALL, 64);
            config = config.sink(sink);
            tokio::spawn(async move { while events.next().await.is_some() {} });
        }
        let site = Site::start(config, Some(dir)).await;
        let elsewhere = tempfile::tempdir().unwrap();
        let target = elsewhere.path().join("archived");
        fs::write(&target, "archived").unwrap();
        let change = |file: &Path, kind| match kind {
            "shorter" => fs::write(file, "hel").unwrap(),
            "longer" => fs::write(file, "hello, with tags").unwrap(),
            "empty" => fs::write(file, "").unwrap(),
            "replaced" => {
                fs::write(file.with_extension("new"), "other").unwrap();
                fs::rename(file.with_extension("new"), file).unwrap();
            }
            _ => {
                fs::remove_file(file).unwrap();
                symlink(&target, file).unwrap();
            }
        };
        for kind in ["shorter", "longer", "empty", "replaced", "link"] {
            let upload = site.create(5).await;
            site.patch(&upload, 0, "hello").await.expect(204);
            let file = path.join(name(&upload));
            change(&file, kind);
            if kind == "link" {
                // Not followed outside of data directories; and kept.
                site.head(&upload).await.expect(423);
                continue;
            }
            let reply = site.head(&upload).await.expect(200);
            assert_eq!(reply.number("upload-offset"), 5, "{kind}");
            assert_eq!(reply.number("upload-length"), 5, "{kind}");
            // A repeated last request is answered as before.
            let again = site.patch(&upload, 5, "").await.expect(204);
            assert_eq!(again.number("upload-offset"), 5, "{kind}");
            site.patch(&upload, 3, "lo").await.expect(409);
            site.patch(&upload, 5, "more").await.expect(413);
            let stored = fs::read_to_string(&file).unwrap();
            assert_eq!(site.bytes(&upload).await, stored, "{kind}");
        }
        let gone = swept_for_a_year(&site.handler, &path).await;
        assert!(gone.is_empty(), "removed: {gone:?}");
    }
}

#[tokio::test]
async fn uploads_with_a_damaged_description_are_kept() {
    let (site, dir) = site().await;
    let elsewhere = tempfile::tempdir().unwrap();
    for (at, damage) in ["empty", "half", "zeros", "missing", "link"]
        .iter()
        .enumerate()
    {
        for length in [5, 10] {
            let upload = site.create(length).await;
            site.patch(&upload, 0, "hello").await.expect(204);
            let info = dir.join(format!("{}.info", name(&upload)));
            let json = fs::read(&info).unwrap();
            match *damage {
                "empty" => fs::write(&info, "").unwrap(),
                "half" => fs::write(&info, &json[..json.len() / 2]).unwrap(),
                "zeros" => fs::write(&info, vec![0; json.len()]).unwrap(),
                "missing" => fs::remove_file(&info).unwrap(),
                _ => {
                    let target = elsewhere.path().join(format!("{at}-{length}"));
                    fs::rename(&info, &target).unwrap();
                    symlink(target, &info).unwrap();
                }
            }
        }
    }
    let gone = swept_for_a_year(&site.handler, &dir).await;
    assert!(gone.is_empty(), "removed: {gone:?}");
}

/// An unfinished upload of ours has no link in place of its file.
#[tokio::test]
async fn a_link_in_place_of_an_unfinished_file_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let elsewhere = tempfile::tempdir().unwrap();
    let mut options = FileOptions::default();
    options.data_dirs = vec!["/".into()];
    let store = FileStore::open(dir.path(), options).unwrap();
    let path = dir.path().to_owned();
    let mut config = config(&path);
    config.store = Composer::join(store);
    let site = Site::start(config, Some(dir)).await;
    let upload = site.create(10).await;
    site.patch(&upload, 0, "hello").await.expect(204);
    let (file, target) = (path.join(name(&upload)), elsewhere.path().join("x"));
    fs::rename(&file, &target).unwrap();
    symlink(&target, &file).unwrap();
    site.head(&upload).await.expect(200);
    let gone = swept_for_a_year(&site.handler, &path).await;
    assert!(gone.is_empty(), "removed: {gone:?}");
}

#[tokio::test]
async fn nothing_of_tusd_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (id, size, bytes, rest) in [
        ("finished", 5, "hello", REGULAR),
        ("unfinished", 10, "hello", REGULAR),
        ("untouched", 10, "", REGULAR),
        ("shortened", 10, "optimized", REGULAR),
        ("tagged", 5, "hello and more", REGULAR),
        ("part", 5, "hello", PARTIAL),
        (HEX[0], 10, "hello", REGULAR),
        (HEX[1], 5, "hello and more", REGULAR),
    ] {
        info_of_tusd(dir, id, size, rest);
        fs::write(dir.join(id), bytes).unwrap();
    }
    // The application has moved the file.
    info_of_tusd(dir, HEX[2], 5, REGULAR);
    let rest = "\"IsPartial\":false,\"IsFinal\":true,\"PartialUploads\":[\"part\"],";
    info_of_tusd(dir, "final", 5, rest);
    fs::write(dir.join("final"), "hello").unwrap();
    for (name, text) in [
        ("finished.lock", "4194305\n"),
        ("gone.lock", "4194305\n"),
        ("empty.lock", ""),
        ("gone.stop", ""),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
    nothing_is_removed(dir).await;
}

/// tuspyserver names its files by `uuid4().hex`, and describes them in `.info` files of its own.
#[tokio::test]
async fn nothing_of_tuspyserver_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for (id, offset) in [(HEX[0], 5), (HEX[1], 3), (HEX[2], 0)] {
        let info = format!(
            "{{\"metadata\": {{\"filename\": \"a.txt\"}}, \"size\": 5, \"offset\": {offset}, \"upload_part\": 1, \
             \"created_at\": \"2026-01-02 03:04:05.678901\", \"defer_length\": false, \"upload_chunk_size\": 0, \
             \"expires\": \"Wed, 07 Jan 2026 03:04:05 GMT\", \"error\": null, \"is_partial\": false, \
             \"is_final\": false, \"partial_uploads\": null}}"
        );
        fs::write(dir.join(format!("{id}.info")), info).unwrap();
        fs::write(dir.join(id), &"hello"[..offset]).unwrap();
    }
    fs::write(dir.join(format!("{}.lock", HEX[0])), "").unwrap();
    nothing_is_removed(dir).await;
}

/// rsync and others write under names of their own, keep times, and copy descriptions before the bytes.
#[tokio::test]
async fn of_a_copy_only_our_unfinished_uploads_are_removed() {
    let (site, original) = site().await;
    let whole = site.create(5).await;
    site.patch(&whole, 0, "hello").await.expect(204);
    let unfinished = site.create(10).await;
    site.patch(&unfinished, 0, "hello").await.expect(204);
    let copy = tempfile::tempdir().unwrap();
    let copy = copy.path();
    let old = SystemTime::now() - 300 * DAY;
    for (file, bytes) in content(&original) {
        let path = copy.join(file);
        fs::write(&path, bytes).unwrap();
        let file = fs::File::options().write(true).open(&path).unwrap();
        file.set_modified(old).unwrap();
    }
    for name in [
        format!(".{}.a1B2c3", name(&whole)),
        format!(".{}.info.a1B2c3", name(&whole)),
        // As ours, but not by us.
        format!(".{}.info.0123abcd.tmp", HEX[0]),
        format!("{}.part", name(&whole)),
        HEX[1].to_owned(),
    ] {
        fs::write(copy.join(name), "a part of a copy").unwrap();
    }
    let handler = Handler::new(config(copy)).unwrap();
    let id = name(&unfinished);
    let expected = BTreeSet::from([id.to_owned(), format!("{id}.info")]);
    assert_eq!(swept_for_a_year(&handler, copy).await, expected);

    // The description arrives first: it waits for the bytes as long as an unfinished upload for its client.
    let copy = tempfile::tempdir().unwrap();
    let copy = copy.path();
    let info = format!("{}.info", name(&whole));
    fs::copy(original.join(&info), copy.join(&info)).unwrap();
    let file = fs::File::options()
        .write(true)
        .open(copy.join(&info))
        .unwrap();
    file.set_modified(old).unwrap();
    let handler = Handler::new(config(copy)).unwrap();
    let machine = Machine::new();
    let sweeper = handler.sweeper().orphan_age(Duration::ZERO);
    let sweeper = sweeper.clock(machine.clock());
    for day in 0..8 {
        assert_eq!(copy.join(&info).exists(), day < 8, "on day {day}");
        sweeper.run(|_| {}).await.unwrap();
        machine.pass(DAY);
    }
    sweeper.run(|_| {}).await.unwrap();
    assert!(!copy.join(&info).exists());
}

#[tokio::test]
async fn nothing_of_a_mail_folder_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    let dir = dir.path();
    for folder in ["cur", "new", "tmp", ".Sent/cur"] {
        fs::create_dir_all(dir.join(folder)).unwrap();
    }
    for (name, text) in [
        ("cur/1700000000.M1P2.host:2,S", "From: a"),
        ("new/1700000001.M3P4.host", "From: b"),
        ("tmp/1700000002.M5P6.host", ""),
        ("new/00000000000000000000000000000001", "From: c"),
        ("new/00000000000000000000000000000001.info", "flags"),
        ("new/00000000000000000000000000000002.info", ""),
        (
            "new/.00000000000000000000000000000002.info.01234567.tmp",
            "",
        ),
        (".Sent/maildirfolder", ""),
        ("maildirfolder", ""),
        ("dovecot.index.lock", "4194305\n"),
        ("dovecot-uidlist.lock", ""),
        ("subscriptions", "Sent"),
        ("mail.info", "{\"ID\":\"mail\",\"Size\":5}"),
        ("mail", "longer than five"),
        ("x.stop", ""),
    ] {
        fs::write(dir.join(name), text).unwrap();
    }
    nothing_is_removed(dir).await;
}

/// Two servers on one directory.
#[tokio::test(flavor = "multi_thread")]
async fn a_sweep_skips_what_another_process_has_removed() {
    let (site, dir) = site().await;
    for _ in 0..3 {
        let upload = site.create(10).await;
        fs::remove_file(dir.join(name(&site.create(10).await))).unwrap();
        let temporary = dir.join(format!(".{}.info.0123abcd.tmp", name(&upload)));
        fs::copy(dir.join(format!("{}.info", name(&upload))), temporary).unwrap();
    }
    let machine = Machine::new();
    let other = Handler::new(config(&dir)).unwrap();
    let [sweeper, other] = [&site.handler, &other].map(|handler| {
        let sweeper = handler.sweeper().orphan_age(Duration::ZERO);
        sweeper.clock(machine.clock())
    });
    machine.pass(8 * DAY);
    let mut removed = Vec::new();
    let swept = sweeper.run(|entry| {
        if removed.is_empty() {
            let other = block_in_place(|| Handle::current().block_on(other.run(|_| {})));
            let other = other.unwrap();
            assert_eq!((other.removed, other.failed), (8, 0), "{other:?}");
        }
        removed.push(entry.name.clone());
    });
    let swept = swept.await.unwrap();
    assert_eq!(swept.failed, 0, "{swept:?}");
    assert_eq!((swept.removed, swept.skipped), (1, 8), "{removed:?}");
    assert!(site.files().is_empty());
}

#[tokio::test]
async fn a_wrong_clock_removes_no_acknowledged_byte() {
    let (site, dir) = site().await;
    let upload = site.create(10).await;
    site.patch(&upload, 0, "hello").await.expect(204);
    let machine = Machine::new();
    let sweeper = site.handler.sweeper().clock(machine.clock());
    let sweep = async || sweeper.run(|_| {}).await.unwrap().removed;
    assert_eq!(sweep().await, 0);
    machine.0.lock().wall += 30 * DAY;
    for _ in 0..8 {
        machine.pass(Duration::from_secs(1));
        assert_eq!(sweep().await, 0);
    }
    // The server restarts, with this clock.
    let restarted = Handler::new(config(&dir)).unwrap();
    let again = restarted.sweeper().clock(machine.clock());
    for _ in 0..8 {
        machine.pass(Duration::from_secs(1));
        assert_eq!(again.run(|_| {}).await.unwrap().removed, 0);
    }
    machine.0.lock().wall -= 30 * DAY;
    assert_eq!(sweep().await, 0);
    site.patch(&upload, 5, "world").await.expect(204);
    // What is due by both clocks goes.
    let abandoned = site.create(10).await;
    machine.pass(8 * DAY);
    assert_eq!(sweep().await, 1);
    site.head(&abandoned).await.expect(404);
    assert_eq!(site.bytes(&upload).await, "helloworld");
}

/// What a sweep keeps because the clock may be wrong, clients can use.
#[tokio::test]
async fn requests_doubt_the_clock_as_sweeps_do() {
    for is_in_doubt in [true, false] {
        let (site, dir) = site().await;
        let unfinished = site.create(10).await;
        site.patch(&unfinished, 0, "hello").await.expect(204);
        let then = SystemTime::now() - 8 * DAY;
        for suffix in ["", ".info"] {
            let file = dir.join(format!("{}{suffix}", name(&unfinished)));
            let file = fs::File::options().append(true).open(file).unwrap();
            file.set_modified(then).unwrap();
        }
        if is_in_doubt {
            // The process before this one ran until a moment ago, by a clock that was eight days behind.
            let memory = ClockMemory::last_used(then);
            store(&dir).save_clock(memory).await.unwrap();
        }
        // The first one owns the directory.
        let next = Site::start(config(&dir), None).await;
        let status = |doubted, otherwise| if is_in_doubt { doubted } else { otherwise };
        next.head(&unfinished).await.expect(status(200, 410));
        let got = next.request("GET", &unfinished).send().await;
        got.expect(status(200, 410));
        let draft = next.request("HEAD", &unfinished).without("Tus-Resumable");
        let draft = draft.with("Upload-Draft-Interop-Version", "8").send().await;
        if is_in_doubt {
            let limit = draft.header("upload-limit").unwrap();
            let (_, left) = limit.split_once("max-age=").unwrap();
            let left: u64 = left.split(',').next().unwrap().parse().unwrap();
            // The step may be believed after a day.
            assert!((80_000..=86_400).contains(&left), "{limit}");
        }
        let step = next.handler.stats().clock_step;
        assert_eq!(step > 7 * 86_400, is_in_doubt, "{step}");
        let swept = next.handler.sweeper().dry_run().run(|_| {}).await.unwrap();
        assert_eq!(swept.removed, u64::from(!is_in_doubt));
        let patched = next.patch(&unfinished, 5, "world").await;
        patched.expect(status(204, 410));
        let other = next.create(10).await;
        next.delete(&other).await.expect(204);
    }
}
