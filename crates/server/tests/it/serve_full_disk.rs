//! A disk that is full: the client is told so, the offset stays true, and the upload goes on when
//! there is room again.

use std::{
    ffi::OsStr,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use crate::serve_harness::{Answer, KIB, Landfall, MIB, Request, URL_LINE, content, program};

/// Starts a server on a small disk, in a separate mount namespace: only
/// the server sees it.
fn on_a_small_disk(dir: &Path, mebibytes: u32, args: &[&str]) -> Landfall {
    on_a_disk(dir, &format!("size={mebibytes}m"), args)
}

/// The same with other limits of tmpfs.
fn on_a_disk(dir: &Path, limits: &str, args: &[&str]) -> Landfall {
    let mut command = Command::new("unshare");
    command
        .args(["--user", "--map-root-user", "--mount", "sh", "-c"])
        .arg(format!(
            "mount -t tmpfs -o {limits},mode=0755 tmpfs \"$0\" && exec \"$@\""
        ))
        .arg(dir);
    through(command, dir, args)
}

fn through(mut command: Command, dir: &Path, args: &[&str]) -> Landfall {
    let serve = program();
    command.arg(serve.get_program());
    command.args(["-host", "127.0.0.1", "-port", "0", "-upload-dir"]);
    command.arg(dir).args(args.iter().map(OsStr::new));
    let server = Landfall::spawn(command, dir);
    server.says(URL_LINE);
    server
}

#[test]
fn a_full_disk_returns_507_and_the_upload_resumes() {
    for durability in ["none", "complete", "every"] {
        let dir = tempfile::tempdir().unwrap();
        let server = on_a_small_disk(dir.path(), 12, &["-durability", durability]);
        let mut client = server.client();
        let filler = client.upload(&content(1, 8 * MIB));
        let bytes = content(2, 8 * MIB);
        let path = client.create(8 * MIB);
        assert_eq!(client.patch(&path, 0, &bytes[..1000]).status, 204);

        let answer = server.client().patch(&path, 1000, &bytes[1000..]);
        answer.refuses(507, "ERR_STORAGE_FULL");
        assert!(answer.number("Retry-After") > 0);
        // The stored bytes are those sent.
        let kept = client.offset(&path);
        assert!((1000..8 * MIB).contains(&kept), "{kept}");
        client.holds(&path, &bytes[..kept as usize]);

        // Still full: nothing is lost by trying again.
        let answer = server.client().patch(&path, kept, &bytes[kept as usize..]);
        answer.refuses(507, "ERR_STORAGE_FULL");
        let kept = client.offset(&path);
        client.holds(&path, &bytes[..kept as usize]);

        // Finished uploads can be read, and the server is running.
        client.holds(&filler, &content(1, 8 * MIB));
        assert_eq!(client.ask(Request::get("/readyz")).status, 200);

        assert_eq!(client.ask(Request::new("DELETE", &filler)).status, 204);
        assert_eq!(client.offset(&path), kept);
        client.resumes_to(&path, &bytes);
        server.stop();
    }
}

/// Returns the directory in the mount namespace of the server.
fn bytes_seen_by(server: &Landfall, dir: &Path) -> PathBuf {
    let root = format!("/proc/{}/root", server.pid().as_raw_pid());
    Path::new(&root).join(dir.strip_prefix("/").unwrap())
}

/// Fills a disk to its last byte and inode. Returns the files that fill it.
fn fill(dir: &Path) -> Vec<PathBuf> {
    let mut fillers = Vec::new();
    let block = vec![7; 64 * KIB as usize];
    for n in 0.. {
        let path = dir.join(format!("filler-{n}"));
        let Ok(mut file) = fs::File::create(&path) else {
            break;
        };
        fillers.push(path);
        let mut size = block.len();
        while size > 0 {
            if file.write_all(&block[..size]).is_err() {
                size /= 2;
            }
        }
    }
    fillers
}

/// Checks the response to a request on a full disk.
#[track_caller]
fn asks_to_retry(answer: &Answer) {
    assert!(matches!(answer.status, 503 | 507), "{answer:?}");
    assert!(answer.number("Retry-After") > 0);
}

/// Data, descriptions and leases are all on the full disk.
#[test]
fn a_disk_without_inodes_returns_507_and_uploads_resume_later() {
    for args in [
        &["-lease", "store"][..],
        &["-lease", "memory", "-durability", "every"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let server = on_a_disk(dir.path(), "size=2m,nr_inodes=40", args);
        let bytes = content(7, 128 * KIB);
        let mut client = server.client();
        let path = client.create(128 * KIB);
        assert_eq!(client.patch(&path, 0, &bytes[..1000]).status, 204);
        let fillers = fill(&bytes_seen_by(&server, dir.path()));

        let creation = Request::post().with("Upload-Length", 10);
        for _ in 0..3 {
            let created = client.ask(creation.clone());
            created.refuses(507, "ERR_STORAGE_FULL");
            asks_to_retry(&created);
            let kept = client.offset(&path);
            let answer = server.client().patch(&path, kept, &bytes[kept as usize..]);
            asks_to_retry(&answer);
            assert!(client.offset(&path) >= kept);
        }
        let kept = client.offset(&path);
        client.holds(&path, &bytes[..kept as usize]);

        for filler in fillers {
            fs::remove_file(filler).unwrap();
        }
        let since = Instant::now();
        loop {
            let answer = client.ask(creation.clone());
            if answer.status == 201 {
                break;
            }
            asks_to_retry(&answer);
            let waited = since.elapsed();
            assert!(
                waited < Duration::from_secs(5),
                "{waited:?}: {}",
                server.log()
            );
        }
        client.resumes_to(&path, &bytes);
        server.stop();
    }
}
