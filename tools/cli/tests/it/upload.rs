//! Uploads of one file and of standard input.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    net::TcpListener,
    os::unix::process::CommandExt as _,
    process::Stdio,
    thread,
    time::Instant,
};

use axum::http::Method;

use crate::{
    program::{Home, bytes},
    server::Server,
};

const MIB: usize = 1 << 20;

#[test]
fn a_file_is_uploaded_and_its_url_printed() {
    let (server, home) = (Server::start(), Home::new());
    home.file("video.mp4", 3 * MIB, 1);
    let finished = home.run(&["upload", "video.mp4", &server.endpoint()]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let url = finished.stdout.strip_suffix('\n').unwrap();
    assert!(url.starts_with(&server.endpoint()), "{finished:?}");
    assert!(
        finished
            .stderr
            .starts_with("video.mp4: uploaded, 3.15 MB in "),
        "{finished:?}"
    );
    assert_eq!(server.bytes(url), bytes(3 * MIB, 1));
    let metadata = server.metadata(url);
    assert_eq!(metadata["filename"], "video.mp4");
    assert_eq!(metadata["filetype"], "video/mp4");
    assert_eq!(metadata.get("relativePath"), None);
    // A finished upload leaves no state.
    let state = home.path().join(".local/state/landfall/uploads");
    assert!(fs::read_dir(state).is_ok_and(|mut entries| entries.next().is_none()));
}

#[test]
fn an_empty_file_is_uploaded() {
    let (server, home) = (Server::start(), Home::new());
    home.file("empty", 0, 1);
    let urls = home.lines(&["upload", "empty", &server.endpoint(), "--quiet"]);
    assert_eq!(server.bytes(&urls[0]), b"");
}

#[test]
fn metadata_and_headers_are_sent() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.txt", 10, 1);
    fs::write(home.path().join("token"), "secret\n").unwrap();
    let urls = home.lines(&[
        "upload",
        "a.txt",
        &server.endpoint(),
        "--metadata",
        "filename=b.txt",
        "-m",
        "album=Sommer ☀",
        "--bearer",
        "@token",
        "--token",
        "grant",
        "--cookie",
        "a=1",
        "--cookie",
        "b=2",
        "-H",
        "X-Api-Key: k",
    ]);
    let metadata = server.metadata(&urls[0]);
    assert_eq!(metadata["filename"], "b.txt");
    assert_eq!(metadata["album"], "Sommer ☀");
    let creations = server.requests(Method::POST);
    let header = |name| creations[0].get(name).unwrap().to_str().unwrap();
    assert_eq!(header("authorization"), "Bearer secret");
    assert_eq!(header("upload-token"), "grant");
    assert_eq!(header("cookie"), "a=1; b=2");
    assert_eq!(header("x-api-key"), "k");
    assert!(header("user-agent").starts_with("landfall/"));
}

#[test]
fn standard_input_is_uploaded_without_a_length_and_with_one() {
    let (server, home) = (Server::start(), Home::new());
    let data = bytes(9 * MIB + 7, 2);
    let size = data.len().to_string();
    for flags in [
        &["--name", "dump.sql"][..],
        &["--name", "dump.sql", "--size", &size],
    ] {
        let endpoint = server.endpoint();
        let mut command = home.command(&[&["upload", "-", &endpoint], flags].concat());
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&data).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{flags:?}");
        let url = String::from_utf8(output.stdout).unwrap();
        assert_eq!(server.bytes(url.trim()), data, "{flags:?}");
        assert_eq!(server.metadata(url.trim())["filename"], "dump.sql");
    }
}

#[test]
fn checksums_and_parts_are_used() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.bin", 9 * MIB, 3);
    let endpoint = server.endpoint();
    let urls = home.lines(&["upload", "a.bin", &endpoint, "--checksum", "sha1"]);
    assert_eq!(server.bytes(&urls[0]), bytes(9 * MIB, 3));
    let appends = server.requests(Method::PATCH);
    assert!(
        appends
            .iter()
            .all(|headers| headers.contains_key("upload-checksum"))
    );
    assert_eq!(appends.len(), 2);

    let urls = home.lines(&["upload", "a.bin", &endpoint, "--concat", "3", "--no-resume"]);
    assert_eq!(server.bytes(&urls[0]), bytes(9 * MIB, 3));
    let creations = server.requests(Method::POST);
    let concat = creations
        .iter()
        .filter_map(|headers| headers.get("upload-concat"));
    assert_eq!(concat.filter(|value| *value == "partial").count(), 3);

    let urls = home.lines(&[
        "upload",
        "a.bin",
        &endpoint,
        "--protocol",
        "draft",
        "--chunk-size",
        "4MiB",
    ]);
    assert_eq!(server.bytes(&urls[0]), bytes(9 * MIB, 3));
    let creations = server.requests(Method::POST);
    assert!(!creations.last().unwrap().contains_key("tus-resumable"));
}

#[test]
fn the_rate_is_limited_over_all_files() {
    let (server, home) = (Server::start(), Home::new());
    for number in 0..4 {
        home.file(&format!("{number}.bin"), MIB / 2, number);
    }
    let started = Instant::now();
    let endpoint = server.endpoint();
    home.lines(&[
        "upload",
        "*.bin",
        &endpoint,
        "--limit",
        "1MiB",
        "--parallel",
        "4",
    ]);
    // 2 MiB, of which each file may send a first piece of 0.1 seconds at once.
    assert!(
        started.elapsed().as_secs_f64() >= 1.4,
        "{:?}",
        started.elapsed()
    );
}

#[test]
fn an_upload_is_created_and_continued_by_its_url() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.bin", 2 * MIB, 4);
    let endpoint = server.endpoint();
    let urls = home.lines(&["upload", "a.bin", &endpoint, "--create-only"]);
    assert_eq!(server.bytes(&urls[0]), b"");
    assert_eq!(server.body_bytes(), 0);
    let other = Home::new();
    other.file("copy.bin", 2 * MIB, 4);
    assert_eq!(
        other.lines(&["upload", "copy.bin", "--url", &urls[0]]),
        urls
    );
    assert_eq!(server.bytes(&urls[0]), bytes(2 * MIB, 4));
    assert_eq!(server.uploads(), 1);
}

#[test]
fn a_source_is_deleted_after_its_upload() {
    let (server, home) = (Server::start(), Home::new());
    let paths = [
        home.file("a.bin", MIB, 5),
        home.file("folder/b.bin", MIB, 6),
    ];
    let urls = home.lines(&[
        "upload",
        "a.bin",
        "folder",
        &server.endpoint(),
        "--delete-source",
    ]);
    assert_eq!(urls.len(), 2);
    assert!(paths.iter().all(|path| !path.exists()));

    let path = home.file("c.bin", MIB, 7);
    server.respond_with(500);
    let endpoint = server.endpoint();
    let finished = home.run(&[
        "upload",
        "c.bin",
        &endpoint,
        "--delete-source",
        "--retries",
        "1",
    ]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(path.exists());
}

#[test]
fn uploads_go_through_the_proxy_of_the_environment() {
    let proxy = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = proxy.local_addr().unwrap();
    let seen = thread::spawn(move || {
        let (stream, _) = proxy.accept().unwrap();
        let mut request_line = String::new();
        BufReader::new(stream).read_line(&mut request_line).unwrap();
        request_line
    });
    let home = Home::new();
    home.file("a.bin", 10, 8);
    let mut command = home.command(&["upload", "a.bin", "http://uploads.invalid/files/"]);
    command.env("HTTP_PROXY", format!("http://{address}"));
    let mut client = command.spawn().unwrap();
    let request_line = seen.join().unwrap();
    client.kill().unwrap();
    client.wait().unwrap();
    let url = " http://uploads.invalid/files/ HTTP/1.1";
    assert!(request_line.contains(url), "{request_line}");
}

#[test]
fn help_calls_the_program_as_the_user_did() {
    let home = Home::new();
    for (name, usage) in [
        ("/opt/bin/landfall", "Usage: landfall upload "),
        ("landfall-cli", "Usage: landfall-cli upload "),
    ] {
        let mut command = home.command(&["upload", "--help"]);
        let help = command.arg0(name).output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains(usage), "{help}");
    }
}
