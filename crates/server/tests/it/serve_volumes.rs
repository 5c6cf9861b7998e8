//! Kinds of volumes: each is used by a server that starts, stops and starts again, and none loses a file.

use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, geteuid, kill_process};

use crate::{
    hooks_harness::with_hook,
    serve_harness::{Landfall, Request, content, eventually, id_of, run},
    serve_start::program_for_anybody,
};

/// A user and groups without rights; only root can run a server as it.
const USER: u32 = 65_534;
const VOLUME_GROUP: u32 = 54_321;
const OTHER_USER: u32 = 54_322;

/// A check may be that old.
const PLACE_INTERVAL: Duration = Duration::from_millis(50);

fn is_root() -> bool {
    geteuid().is_root()
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

/// A FUSE file system that shows a directory with other owners and modes, until it is dropped.
struct Mount {
    bindfs: Child,
    at: PathBuf,
}

impl Mount {
    fn new(backing: &Path, at: &Path, options: &[&str]) -> Self {
        let device = || fs::metadata(at).map(|found| found.dev()).ok();
        let before = device();
        let version = Command::new("bindfs").arg("--fuse-version").output();
        let version = version.expect("bindfs, which the tests need").stdout;
        // FUSE 3 has no such option, and does not need it.
        let is_2 = String::from_utf8_lossy(&version).contains("version 2");
        let over = is_2.then_some(["-o", "nonempty"]).into_iter().flatten();
        let bindfs = Command::new("bindfs")
            .arg("-f")
            .args(over)
            .args(options)
            .args([backing, at])
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        let at = at.to_owned();
        let mount = Self { bindfs, at };
        eventually("nothing is mounted", || {
            fs::metadata(&mount.at).map(|found| found.dev()).ok() != before
        });
        mount
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = kill_process(Pid::from_child(&self.bindfs), Signal::TERM);
        // A file that is open keeps it mounted.
        let _ = Command::new("fusermount3")
            .arg("-uz")
            .arg(&self.at)
            .status();
        let _ = self.bindfs.wait();
    }
}

/// Runs a server that stores events, as a user without rights where this is root.
struct Service {
    _copy: tempfile::TempDir,
    program: PathBuf,
    hooks: tempfile::TempDir,
}

impl Service {
    fn new() -> Self {
        let (copy, command) = program_for_anybody();
        let hooks = with_hook("post-finish", "cat > /dev/null");
        set_mode(hooks.path(), 0o755);
        Self {
            program: command.get_program().into(),
            _copy: copy,
            hooks,
        }
    }

    fn command(&self) -> Command {
        let mut command = match is_root() {
            true => {
                let mut command = Command::new("setpriv");
                let user = format!("--reuid={USER}");
                let group = format!("--regid={USER}");
                let groups = format!("--groups={USER},{VOLUME_GROUP}");
                command.args([user, group, groups]).arg(&self.program);
                command
            }
            false => Command::new(&self.program),
        };
        command.env_clear().env("PATH", "/usr/bin:/bin");
        command
    }

    fn start(&self, dir: &Path) -> Landfall {
        let mut command = self.command();
        self.add_args(&mut command, dir);
        Landfall::spawn(command, dir)
    }

    fn add_args(&self, command: &mut Command, dir: &Path) {
        command
            .args(["-host=127.0.0.1", "-port=0", "-hooks-dir"])
            .arg(self.hooks.path())
            .arg("-upload-dir")
            .arg(dir);
    }

    /// Starts, stops, starts again, is killed, and starts again.
    fn restarts_on(&self, dir: &Path, mut between: impl FnMut()) -> Vec<String> {
        let bytes = content(7, 300_000);
        let server = self.start(dir);
        let upload = server.client().create(bytes.len() as u64);
        let answer = server.client().patch(&upload, 0, &bytes[..100_000]);
        assert_eq!(answer.status, 204, "{}", answer.text());
        let first = server.log();
        server.stop();
        between();

        let server = self.start(dir);
        let answer = server
            .client()
            .patch(&upload, 100_000, &bytes[100_000..200_000]);
        assert_eq!(answer.status, 204, "{}", answer.text());
        let second = server.log();
        server.kill();
        between();

        let server = self.start(dir);
        server.client().resumes_to(&upload, &bytes);
        assert_eq!(server.client().ask(Request::get("/readyz")).status, 200);
        let third = server.log();
        server.stop();
        vec![first, second, third]
    }
}

/// A directory in which the user of the service may do anything.
fn volume() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    if is_root() {
        chown(dir.path(), Some(USER), Some(USER)).unwrap();
    }
    set_mode(dir.path(), 0o755);
    dir
}

const EXPOSED: &str = "condition=state-directory-exposed";

#[test]
fn a_server_starts_again_on_every_kind_of_directory() {
    let service = Service::new();
    for mode in [0o755, 0o777, 0o1777, 0o2775] {
        let dir = volume();
        set_mode(dir.path(), mode);
        for log in service.restarts_on(dir.path(), || {}) {
            assert!(!log.contains(EXPOSED), "{mode:o}: {log}");
        }
    }
    // A link, and a path with a slash at its end.
    let parent = volume();
    let (real, link) = (parent.path().join("real"), parent.path().join("link"));
    fs::create_dir(&real).unwrap();
    set_mode(&real, 0o777);
    symlink(&real, &link).unwrap();
    service.restarts_on(&link.join(""), || {});
    // An administrator has made the directory for the state, too open.
    let dir = volume();
    let state = dir.path().join(".landfall");
    fs::create_dir(&state).unwrap();
    if is_root() {
        chown(&state, Some(USER), Some(USER)).unwrap();
    }
    set_mode(&state, 0o777);
    let [first, second, _] = &service.restarts_on(dir.path(), || {})[..] else {
        panic!("three starts");
    };
    assert!(first.contains("(mode 0777); corrected"), "{first}");
    assert!(!second.contains("corrected"), "{second}");
    assert_eq!(fs::metadata(&state).unwrap().mode() & 0o7777, 0o755);
}

#[test]
fn a_server_starts_again_where_the_orchestrator_changes_groups_and_modes() {
    let service = Service::new();
    // As Kubernetes does it for fsGroup, with the policy Always.
    fn give_to_group(path: &Path, owner: Option<u32>) {
        let found = fs::symlink_metadata(path).unwrap();
        if is_root() {
            chown(path, owner, Some(VOLUME_GROUP)).unwrap();
        }
        let setgid = if found.is_dir() { 0o2070 } else { 0o060 };
        set_mode(path, found.mode() & 0o7777 | setgid);
        if found.is_dir() {
            for entry in fs::read_dir(path).unwrap() {
                give_to_group(&entry.unwrap().path(), owner);
            }
        }
    }
    for owner in [None, is_root().then_some(OTHER_USER)] {
        let dir = volume();
        give_to_group(dir.path(), owner);
        let logs = service.restarts_on(dir.path(), || give_to_group(dir.path(), owner));
        for log in logs {
            assert!(
                !log.contains(EXPOSED) && !log.contains("can be written"),
                "{log}"
            );
        }
        let state = fs::metadata(dir.path().join(".landfall")).unwrap();
        assert_eq!(state.mode() & 0o7070, 0o2070);
    }
}

#[test]
fn a_server_starts_again_on_a_file_system_without_permissions() {
    let service = Service::new();
    let own = ["--create-as-mounter", "--perms=0777"];
    for (owner, chmod) in [
        (None, "--chmod-ignore"),
        (None, "--chmod-deny"),
        (Some("--force-user=root"), "--chmod-ignore"),
        (Some("--force-user=54322"), "--chmod-deny"),
    ] {
        let (backing, at) = (volume(), volume());
        let user = format!(
            "--force-user={}",
            if is_root() { USER } else { geteuid().as_raw() }
        );
        let owner = owner.unwrap_or(&user);
        let options = [&own[..], &[owner, chmod, "--force-group=54321"]].concat();
        let _mount = Mount::new(backing.path(), at.path(), &options);
        // The second start is as the first: no refusal, and one line that says what to do.
        for log in service.restarts_on(at.path(), || {}) {
            assert_eq!(log.matches(EXPOSED).count(), 1, "{options:?}: {log}");
            assert!(log.contains("--state-dir"), "{log}");
        }
        // Commands that check say the same before a start.
        let mut command = service.command();
        command.args(["config", "check"]);
        service.add_args(&mut command, at.path());
        let (code, _, errors) = run(&mut command);
        assert_eq!(code, Some(0), "{errors}");
        assert!(
            errors.contains("state directory") && errors.contains("umask"),
            "{errors}"
        );
        {
            // A private key that others can read is worse than no server.
            let mut command = service.command();
            service.add_args(&mut command, at.path());
            command.args([
                "-acme-domain=localhost",
                "-acme-directory=https://127.0.0.1:9/",
            ]);
            let (code, _, errors) = run(&mut command);
            assert_eq!(code, Some(1), "{errors}");
            let wanted = "--acme-domain stores private keys, but the state directory";
            assert!(
                errors.contains(wanted) && errors.contains("--state-dir"),
                "{errors}"
            );
        }
        // A private directory elsewhere ends the condition.
        let state = volume();
        let mut command = service.command();
        service.add_args(&mut command, at.path());
        command.arg("-state-dir").arg(state.path());
        let server = Landfall::spawn(command, at.path());
        assert!(!server.log().contains(EXPOSED), "{}", server.log());
        server.stop();
    }
}

#[test]
fn a_state_directory_of_others_is_rejected_where_the_file_system_has_permissions() {
    let service = Service::new();
    let (uploads, parent) = (volume(), volume());
    // As /tmp: of root, and everyone may write. The file system of a test that is not run by root is /tmp's.
    let state = match is_root() {
        true => {
            let state = parent.path().join("state");
            fs::create_dir(&state).unwrap();
            set_mode(&state, 0o1777);
            state
        }
        false => PathBuf::from("/tmp"),
    };
    for _ in 0..2 {
        let mut command = service.command();
        service.add_args(&mut command, uploads.path());
        command.arg("-state-dir").arg(&state);
        let (code, _, errors) = run(&mut command);
        assert_eq!(code, Some(1), "{errors}");
        let wanted = "can be written by all users of this machine (mode 1777)";
        assert!(errors.contains(wanted), "{errors}");
        assert!(
            errors.contains("name a directory that does not exist yet"),
            "{errors}"
        );
    }
    // The advice of the message works.
    let dir = state.join(format!("landfall-{}", std::process::id()));
    for _ in 0..2 {
        let mut command = service.command();
        service.add_args(&mut command, uploads.path());
        command.arg("-state-dir").arg(&dir);
        Landfall::spawn(command, uploads.path()).stop();
    }
    fs::remove_dir_all(dir).unwrap();
}

#[test]
fn uploads_wait_while_another_directory_is_in_place_of_theirs() {
    let parent = tempfile::tempdir().unwrap();
    let [dir, away, other] = ["up", "away", "other"].map(|name| parent.path().join(name));
    let server = Landfall::on(&dir, &[]);
    let mut client = server.client();
    let (bytes, half) = (content(3, 200_000), 100_000);
    let upload = client.create(bytes.len() as u64);
    assert_eq!(client.patch(&upload, 0, &bytes[..half]).status, 204);
    fs::create_dir(&other).unwrap();

    let rename = || {
        fs::rename(&dir, &away).unwrap();
        fs::create_dir(&dir).unwrap();
        None
    };
    let mount = || Some(Mount::new(&other, &dir, &[]));
    let replacements: [(&str, &dyn Fn() -> Option<Mount>); 2] =
        [("renamed", &rename), ("mounted over", &mount)];
    for (how, replace) in replacements {
        let mount = replace();
        thread::sleep(PLACE_INTERVAL);
        // No request but the one that is refused: the watch says it, too.
        server.says("level=ERROR event=\"the upload directory was replaced\"");
        // A connection ends with a response to a body that was not read.
        let ask = |request| server.client().ask(request);
        let answer = ask(Request::post().with("Upload-Length", 5));
        assert_eq!(answer.status, 503, "{how}: {}", answer.text());
        let rest = Request::patch(&upload, half as u64).body(&bytes[half..]);
        assert_eq!(ask(rest).status, 503, "{how}");
        assert_eq!(ask(Request::new("HEAD", &upload)).status, 423, "{how}");
        assert_eq!(ask(Request::get(&upload)).status, 503, "{how}");
        let ready = ask(Request::get("/readyz"));
        assert_eq!(ready.status, 503, "{how}");
        assert_eq!(ready.text(), "the upload directory was replaced\n");
        let names = fs::read_dir(&dir)
            .unwrap()
            .map(|one| one.unwrap().file_name());
        let stored = names.filter(|name| name != ".landfall").count();
        assert_eq!(
            stored, 0,
            "{how}: files are stored where no one looks for them"
        );

        match mount {
            Some(mount) => drop(mount),
            None => {
                fs::remove_dir_all(&dir).unwrap();
                fs::rename(&away, &dir).unwrap();
            }
        }
        assert_eq!(server.client().offset(&upload), half as u64, "{how}");
        let ready = || server.client().ask(Request::get("/readyz")).status == 200;
        eventually("the condition is not over", ready);
    }
    server.client().resumes_to(&upload, &bytes);
    // Both times within a minute: the log has one line, and one about its end.
    let logged = [
        "event=\"the upload directory was replaced\"",
        "event=ConditionOver",
    ];
    assert_eq!(
        logged.map(|line| server.log().matches(line).count()),
        [1, 1]
    );
}

#[test]
fn an_upload_is_not_completed_in_a_directory_that_was_moved_away() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, away) = (parent.path().join("up"), parent.path().join("away"));
    let hooks = with_hook("post-finish", "cat >> \"$(dirname \"$0\")/told\"");
    let server = Landfall::on(&dir, &["-hooks-dir", hooks.path().to_str().unwrap()]);
    let mut client = server.client();
    let upload = client.create(5);
    client.begin(Request::patch(&upload, 0), 5);
    client.send("he");
    let mut other = server.client();
    other.reaches(&upload, 2);
    fs::rename(&dir, &away).unwrap();
    thread::sleep(PLACE_INTERVAL);
    client.send("llo");
    assert_eq!(client.answer().status, 503);
    assert!(
        !hooks.path().join("told").exists(),
        "the event names a file that is not there"
    );
    fs::rename(&away, &dir).unwrap();
    // The client asks, and the completion is emitted.
    assert_eq!(other.offset(&upload), 5);
    eventually("no event", || {
        fs::read_to_string(hooks.path().join("told"))
            .is_ok_and(|told| told.contains(id_of(&upload)))
    });
}

/// A directory with three finished uploads: one archived behind a link, one where a hook put it, one in a
/// folder that was moved.
struct Archive {
    parent: tempfile::TempDir,
    dir: PathBuf,
    uploads: [String; 3],
}

const FILE: &[u8] = b"a finished file";

impl Archive {
    fn new() -> Self {
        let parent = tempfile::tempdir().unwrap();
        let [dir, archive, elsewhere] =
            ["up", "archive", "elsewhere"].map(|name| parent.path().join(name));
        let server = Landfall::on(&dir, &[]);
        let mut client = server.client();
        let [linked, outside, folder] = std::array::from_fn(|_| client.upload(FILE));
        server.stop();
        for one in [&archive, &elsewhere] {
            fs::create_dir(one).unwrap();
        }
        fs::rename(dir.join(id_of(&linked)), archive.join("file")).unwrap();
        symlink(archive.join("file"), dir.join(id_of(&linked))).unwrap();

        let info = dir.join(format!("{}.info", id_of(&outside)));
        let told = fs::read_to_string(&info).unwrap();
        let (from, to) = (dir.join(id_of(&outside)), elsewhere.join("file"));
        fs::rename(&from, &to).unwrap();
        let paths = [from, to].map(|path| format!("\"Path\":\"{}\"", path.display()));
        fs::write(&info, told.replace(&paths[0], &paths[1])).unwrap();

        let (id, into) = (id_of(&folder), archive.join("folder"));
        fs::create_dir(&into).unwrap();
        fs::rename(dir.join(id), into.join(id)).unwrap();
        let info = dir.join(format!("{id}.info"));
        let told = fs::read_to_string(&info).unwrap();
        let (own, inside) = (
            format!("{}/{id}", dir.display()),
            format!("{}/folder/{id}", dir.display()),
        );
        let told = told.replace(&own, &inside).replace(
            &format!("\"ID\":\"{id}\""),
            &format!("\"ID\":\"folder/{id}\""),
        );
        fs::write(into.join(format!("{id}.info")), told).unwrap();
        fs::remove_file(info).unwrap();
        symlink(&into, dir.join("folder")).unwrap();

        let uploads = [linked, outside, format!("/files/folder/{id}")];
        Self {
            parent,
            dir,
            uploads,
        }
    }

    fn names(&self) -> Vec<String> {
        let names = fs::read_dir(&self.dir).unwrap();
        let names = names.map(|one| one.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }

    fn data_dirs(&self) -> String {
        let shown = self.parent.path().display();
        format!("-data-dirs={shown}/archive,{shown}/elsewhere")
    }
}

#[test]
fn files_outside_the_upload_directory_are_kept_and_reported() {
    let archive = Archive::new();
    let names = archive.names();
    let expiry = ["-expire-unfinished=1ms", "-sweep-interval=50ms"];
    let server = Landfall::on(&archive.dir, &expiry);
    let mut client = server.client();
    for upload in &archive.uploads {
        // Not gone, and not damaged: the operator can mend it, and the client waits.
        assert_eq!(client.head(upload).status, 423, "{upload}");
        assert_eq!(client.ask(Request::get(upload)).status, 503, "{upload}");
        assert_eq!(
            client.ask(Request::new("DELETE", upload)).status,
            503,
            "{upload}"
        );
    }
    let line = server.says("condition=upload-not-served");
    assert!(
        line.contains("level=WARN") && line.contains("--data-dirs"),
        "{line}"
    );
    let ready = client.ask(Request::get("/readyz"));
    assert_eq!(ready.status, 200);
    assert!(
        ready.text().contains("an upload is not served"),
        "{}",
        ready.text()
    );
    // A later upload expires: the sweeper has seen the others before.
    let stale = client.create(5);
    eventually("nothing expires", || client.head(&stale).status == 404);
    assert_eq!(archive.names(), names);
    server.stop();

    let doctor = |args: &[&str]| {
        let mut command = crate::serve_harness::program();
        command
            .args(["doctor", "files", "-upload-dir"])
            .arg(&archive.dir)
            .args(args);
        let (code, told, errors) = run(&mut command);
        assert_eq!(code, Some(0), "{told}{errors}");
        told
    };
    let told = doctor(&[]);
    for name in [
        id_of(&archive.uploads[0]),
        id_of(&archive.uploads[1]),
        ": folder: ",
    ] {
        let found = told.lines().find(|line| line.contains(name));
        let found = found.unwrap_or_else(|| panic!("{name}: {told}"));
        assert!(
            found.starts_with("warn") && found.contains("--data-dirs"),
            "{found}"
        );
    }
    assert!(doctor(&[&archive.data_dirs()]).contains("no problems found"));
    let (code, told, errors) = run(crate::serve_harness::program()
        .args(["config", "check", "-upload-dir"])
        .arg(&archive.dir));
    assert_eq!(code, Some(0), "{told}{errors}");
    assert!(
        errors.contains("--upload-dir: 3 uploads or directories are not served"),
        "{errors}"
    );
}

#[test]
fn files_in_data_directories_are_served() {
    let archive = Archive::new();
    let names = archive.names();
    let allowed = archive.data_dirs();
    for args in [vec![allowed.as_str()], vec!["-compat=tusd"]] {
        let sweeping = ["-expire-unfinished=1ms", "-sweep-interval=50ms"];
        let server = Landfall::on(&archive.dir, &[&args[..], &sweeping].concat());
        let mut client = server.client();
        for upload in &archive.uploads {
            assert_eq!(
                client.offset(upload),
                FILE.len() as u64,
                "{args:?}: {upload}"
            );
            client.holds(upload, FILE);
        }
        let stale = client.create(5);
        eventually("nothing expires", || client.head(&stale).status == 404);
        assert_eq!(archive.names(), names, "{args:?}");
        server.stop();
    }
    // The link ends with its upload, and the archived file stays.
    let server = Landfall::on(&archive.dir, &[&allowed]);
    let mut client = server.client();
    assert_eq!(
        client
            .ask(Request::new("DELETE", &archive.uploads[0]))
            .status,
        204
    );
    assert_eq!(client.head(&archive.uploads[0]).status, 404);
    assert_eq!(
        fs::read(archive.parent.path().join("archive/file")).unwrap(),
        FILE
    );
    // An archive that is not mounted is not lost.
    server.stop();
    let away = archive.parent.path().join("unmounted");
    for name in ["archive", "elsewhere"] {
        fs::rename(archive.parent.path().join(name), away.with_extension(name)).unwrap();
    }
    let names = archive.names();
    let sweeping = ["-expire-unfinished=1ms", "-sweep-interval=50ms"];
    let server = Landfall::on(&archive.dir, &[&[allowed.as_str()][..], &sweeping].concat());
    let mut client = server.client();
    for upload in &archive.uploads[1..] {
        assert_eq!(client.head(upload).status, 423, "{upload}");
    }
    let stale = client.create(5);
    eventually("nothing expires", || client.head(&stale).status == 404);
    assert_eq!(archive.names(), names);
}

#[test]
fn a_hook_chooses_a_path_in_a_data_directory() {
    let parent = tempfile::tempdir().unwrap();
    let (dir, big) = (parent.path().join("up"), parent.path().join("big"));
    fs::create_dir(&big).unwrap();
    let chosen = big.join("new/file.bin");
    let answer = format!(
        "cat > /dev/null; echo '{{\"ChangeFileInfo\":{{\"Storage\":{{\"Path\":\"{}\"}}}}}}'",
        chosen.display()
    );
    let hooks = with_hook("pre-create", &answer);
    let hooks = ["-hooks-dir", hooks.path().to_str().unwrap()];
    let server = Landfall::on(&dir, &hooks);
    let answer = server
        .client()
        .ask(Request::post().with("Upload-Length", 5));
    assert_eq!(answer.status, 500);
    let line = server.says("is outside the upload directory");
    assert!(line.contains("file.bin"), "{line}");
    assert!(!chosen.exists());
    server.stop();
    let allowed = format!("-data-dirs={}", big.display());
    for (n, args) in [allowed.as_str(), "-compat=tusd"].into_iter().enumerate() {
        let durable = ["-durability", ["every", "complete"][n]];
        let server = Landfall::on(&dir, &[&hooks[..], &durable, &[args]].concat());
        let mut client = server.client();
        let upload = client.upload(b"hello");
        assert_eq!(fs::read(&chosen).unwrap(), b"hello", "{args}");
        assert_eq!(client.offset(&upload), 5);
        client.holds(&upload, b"hello");
        assert_eq!(client.ask(Request::new("DELETE", &upload)).status, 204);
        assert!(!chosen.exists(), "{args}");
        server.stop();
    }
}
