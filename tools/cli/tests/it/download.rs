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
fn a_url_without_a_name_says_why() {
    let (server, home) = (Server::start(), Home::new());
    let endpoint = server.endpoint();
    for (url, reason) in [
        (
            endpoint.as_str(),
            "the URL is not of an upload (405 Method Not Allowed); check it",
        ),
        (
            endpoint.trim_end_matches("files/"),
            "the URL does not end with a name; name the file with -o",
        ),
    ] {
        let finished = home.run(&["download", url]);
        let expected = format!("landfall: {reason}\n");
        assert_eq!((finished.code, finished.stderr), (Some(2), expected));
    }
}

/// Uploads a small file with this name, and returns its URL.
fn named(server: &Server, home: &Home, name: &str) -> String {
    home.file("source", 100, 1);
    let name = format!("--name={name}");
    let endpoint = server.endpoint();
    home.lines(&["upload", "source", &endpoint, &name, "--no-resume"])
        .remove(0)
}

#[test]
fn names_of_uploaders_do_no_harm() {
    let (server, home) = (Server::start(), Home::new());
    for (name, file) in [
        ("-", "_"),
        ("-rf", "_rf"),
        ("a\u{1b}[2J\u{9b}b", "a_[2J_b"),
        ("gpj\u{202e}.exe", "gpj_.exe"),
        ("../../b.bin", "b.bin"),
        (".profile", "_profile"),
    ] {
        let url = named(&server, &home, name);
        let (code, events) = home.events(&["download", &url]);
        assert_eq!(code, Some(0), "{name:?} {events:?}");
        assert!(
            fs::read(home.path().join(file)).unwrap() == bytes(100, 1),
            "{name:?}"
        );
        fs::remove_file(home.path().join(file)).unwrap();
        // Nothing of it is on standard output, which may be a terminal.
        let finished = home.run(&["download", &url]);
        assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), ""));
        assert!(
            !finished.stderr.trim_end().contains(char::is_control),
            "{finished:?}"
        );
        let again = home.run(&["download", &url]);
        assert_eq!(again.code, Some(2), "{again:?}");
        assert!(
            !again.stderr.trim_end().contains(char::is_control),
            "{again:?}"
        );
    }
    let long = "ä".repeat(125) + ".jpeg";
    let url = named(&server, &home, &long);
    home.lines(&["download", &url]);
    let cut = "ä".repeat(117) + ".jpeg";
    assert!(fs::read(home.path().join(cut)).unwrap() == bytes(100, 1));
}

#[test]
fn files_of_the_user_are_neither_followed_nor_replaced() {
    let (server, home) = (Server::start(), Home::new());
    let url = uploaded(&server, &home);
    fs::remove_file(home.path().join("a.bin")).unwrap();
    let victim = home.path().join("victim");
    fs::write(&victim, "of the user").unwrap();
    std::os::unix::fs::symlink(&victim, home.path().join("a.bin.part")).unwrap();
    fs::write(home.path().join("a.bin.part-state"), "of the user").unwrap();
    home.lines(&["download", &url]);
    assert!(fs::read(home.path().join("a.bin")).unwrap() == bytes(SIZE, 1));
    for name in ["victim", "a.bin.part", "a.bin.part-state"] {
        let text = fs::read_to_string(home.path().join(name)).unwrap();
        assert_eq!(text, "of the user", "{name}");
    }
    // A link that leads nowhere is a file, too.
    fs::remove_file(home.path().join("a.bin")).unwrap();
    std::os::unix::fs::symlink("nowhere", home.path().join("a.bin")).unwrap();
    let finished = home.run(&["download", &url]);
    assert_eq!(finished.code, Some(2), "{finished:?}");
    assert!(!home.path().join("nowhere").exists());
}

#[test]
fn a_pipe_that_is_named_receives_the_bytes() {
    let (server, home) = (Server::start(), Home::new());
    let url = uploaded(&server, &home);
    let pipe = home.path().join("pipe");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let path = pipe.clone();
    let reader = std::thread::spawn(move || fs::read(path).unwrap());
    home.lines(&["download", &url, "-o", "pipe"]);
    assert!(reader.join().unwrap() == bytes(SIZE, 1));
    assert!(!pipe.metadata().unwrap().is_file());
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
