//! Downloads.

use std::{fs, net::TcpListener};

use nix::sys::signal::Signal;

use crate::{
    program::{Home, bytes},
    server::Server,
};

const SIZE: usize = 8 << 20;

fn uploaded(server: &Server, home: &Home) -> String {
    home.file("a.bin", SIZE, 1);
    home.lines(&["upload", "a.bin", &server.endpoint()])
        .remove(0)
}

#[test]
fn a_file_is_downloaded_in_one_range_or_several() {
    let (server, home) = (Server::start(), Home::new());
    let url = uploaded(&server, &home);
    for parallel in ["1", "4"] {
        let target = format!("{parallel}.bin");
        home.lines(&["download", &url, "-o", &target, "--parallel", parallel]);
        assert!(
            fs::read(home.path().join(&target)).unwrap() == bytes(SIZE, 1),
            "{parallel}"
        );
    }
}

#[test]
fn a_download_has_the_name_of_the_upload_and_replaces_no_other_file() {
    let (server, home) = (Server::start(), Home::new());
    let url = uploaded(&server, &home);
    let finished = home.run(&["download", &url]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(finished.stderr.contains("a.bin exists"), "{finished:?}");
    fs::remove_file(home.path().join("a.bin")).unwrap();
    home.lines(&["download", &url]);
    assert!(fs::read(home.path().join("a.bin")).unwrap() == bytes(SIZE, 1));
}

#[test]
fn standard_output_gets_the_bytes_in_order() {
    let (server, home) = (Server::start(), Home::new());
    let url = uploaded(&server, &home);
    let output = home
        .command(&["download", &url, "-o", "-", "--parallel", "4"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0), "{:?}", output.stderr);
    assert!(output.stdout == bytes(SIZE, 1));
}

#[test]
fn an_interrupted_download_resumes() {
    let (server, home) = (Server::start(), Home::new());
    let url = uploaded(&server, &home);
    for (signal, code) in [(Signal::SIGINT, Some(130)), (Signal::SIGKILL, None)] {
        let target = format!("{signal}.bin");
        let mut running = home.start(&["download", &url, "-o", &target, "--limit", "2MiB"]);
        // The state is stored every two seconds.
        running.wait_for_bytes(6 << 20);
        running.signal(signal);
        assert_eq!(running.wait().code(), code);
        assert!(!home.path().join(&target).exists());
        let (code, events) = home.events(&["download", &url, "-o", &target]);
        assert_eq!(code, Some(0), "{events:?}");
        let completed = events
            .iter()
            .find(|event| event["event"] == "completed")
            .unwrap();
        assert!(
            completed["bytes"].as_u64().unwrap() < SIZE as u64,
            "{completed}"
        );
        assert!(fs::read(home.path().join(&target)).unwrap() == bytes(SIZE, 1));
    }
}

#[test]
fn failures_have_codes_by_class() {
    let (server, home) = (Server::start(), Home::new());
    let url = uploaded(&server, &home);
    let missing = format!("{}missing", server.endpoint());
    assert_eq!(
        home.run(&["download", &missing, "-o", "b.bin"]).code,
        Some(1)
    );
    server.respond_with(403);
    assert_eq!(home.run(&["download", &url, "-o", "b.bin"]).code, Some(4));
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let closed = format!("http://127.0.0.1:{port}/a");
    let finished = home.run(&["download", &closed, "-o", "b.bin", "--retries", "2"]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    assert!(!home.path().join("b.bin").exists());
}
