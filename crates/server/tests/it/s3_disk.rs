//! Nothing of an upload to S3 touches a disk of this machine.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use crate::{
    s3_harness::Bucket,
    serve_harness::{Landfall, MIB, Request, content},
};

/// Returns the bytes that a process caused to be written to disks.
fn written(server: &Landfall) -> u64 {
    let pid = server.pid().as_raw_nonzero();
    let io = fs::read_to_string(format!("/proc/{pid}/io")).unwrap();
    let line = io
        .lines()
        .find_map(|line| line.strip_prefix("write_bytes: "));
    line.unwrap().parse().unwrap()
}

/// Returns the files that a process has open on disks.
fn open_files(server: &Landfall) -> Vec<String> {
    let pid = server.pid().as_raw_nonzero();
    fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok())
        .map(|target| target.display().to_string())
        .filter(|target| target.starts_with('/') && !target.starts_with("/dev/"))
        .collect()
}

#[test]
fn nothing_is_written_to_the_local_disk() {
    let bucket = Bucket::on_garage();
    // Neither the working directory nor the one for temporary files can be written.
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o555)).unwrap();
    let mut command = bucket.command(&["serve"]);
    command
        .current_dir(dir.path())
        .env("TMPDIR", dir.path())
        .args(["-host", "127.0.0.1", "-port", "0"]);
    let server = Landfall::spawn(command, Path::new("/nonexistent"));
    let before = written(&server);

    let whole = content(1, 40 * MIB + 3);
    let mut client = server.client();
    let path = client.create(whole.len() as u64);
    let mut offset = 0;
    for end in [6 * MIB, 6 * MIB + 1, 30 * MIB, whole.len() as u64] {
        let piece = &whole[offset as usize..end as usize];
        client.begin(Request::patch(&path, offset), piece.len() as u64);
        let (first, second) = piece.split_at(piece.len() / 2);
        client.send(first);
        let none = Vec::<String>::new();
        assert_eq!(open_files(&server), none, "a file is open in the middle");
        client.send(second);
        assert_eq!(client.answer().status, 204);
        offset = end;
    }
    client.holds(&path, &whole);
    assert_eq!(written(&server) - before, 0);
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    server.stop();
}
