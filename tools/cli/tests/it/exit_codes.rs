//! Exit codes and messages of failures.

use std::net::TcpListener;

use crate::{program::Home, server::Server};

#[test]
fn invalid_arguments_end_with_2() {
    let home = Home::new();
    home.file("a.txt", 10, 1);
    let url = "http://127.0.0.1:1/files/";
    for (arguments, message) in [
        (
            &["upload", "a.txt"][..],
            "\"a.txt\" is not the URL of a server",
        ),
        (&["upload", url], "no file is named"),
        (&["upload", "-", "a.txt", url], "cannot be combined"),
        (
            &["upload", "a.txt", url, "--limit", "1M"],
            "\"1M\" is ambiguous; write 1MiB",
        ),
        (
            &["upload", "a.txt", url, "--metadata", "x"],
            "write key=value",
        ),
        (
            &["upload", "a.txt", url, "--metadata", "x=1", "-m", "x=2"],
            "given twice",
        ),
        (&["upload", "a.txt", url, "--bearer", ""], "is empty"),
        (
            &["upload", "a.txt", url, "--bearer", "@missing"],
            "failed to read \"missing\"",
        ),
        (
            &["upload", "a.txt", url, "--checksum", "crc99"],
            "is not one of sha1",
        ),
        (
            &["upload", "a.txt", "a.txt", "--url", url],
            "are for one file",
        ),
        (&["upload"], "required"),
        (&["download", "a.txt"], "is not a URL"),
        (
            &["upload", "a.txt", url, "--cacert", "missing.pem"],
            "failed to read missing.pem",
        ),
    ] {
        let finished = home.run(arguments);
        assert_eq!(finished.code, Some(2), "{arguments:?} {finished:?}");
        assert!(
            finished.stderr.contains(message),
            "{arguments:?} {finished:?}"
        );
        assert_eq!(finished.stdout, "");
    }
}

#[test]
fn a_server_that_cannot_be_reached_ends_with_3() {
    let home = Home::new();
    for number in 0..20 {
        home.file(&format!("{number}.txt"), 10, number);
    }
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let url = format!("http://127.0.0.1:{port}/files/");
    let finished = home.run(&["upload", "*.txt", &url, "--retries", "2"]);
    assert_eq!(finished.code, Some(3), "{finished:?}");
    let reason = "gave up after 2 attempts without progress: connection refused; run the same command again to resume\n";
    assert!(finished.stderr.contains(reason), "{finished:?}");
    // The other files are not tried one after the other.
    assert!(
        finished.stderr.contains("16 files were not started"),
        "{finished:?}"
    );
    let same = "; run the same command again to upload them\n";
    assert!(finished.stderr.ends_with(same), "{finished:?}");
}

#[test]
fn responses_have_codes_by_class() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.txt", 10, 1);
    let endpoint = server.endpoint();
    for (status, code) in [(401, 4), (403, 4), (400, 1), (503, 3)] {
        server.respond_with(status);
        let (exit, events) = home.events(&["upload", "a.txt", &endpoint, "--retries", "2"]);
        assert_eq!(exit, Some(code), "{status} {events:?}");
        let failed = events
            .iter()
            .find(|event| event["event"] == "failed")
            .unwrap();
        assert_eq!(failed["status"], status, "{events:?}");
        assert_eq!(failed["file"], "a.txt");
    }
}

#[test]
fn missing_credentials_are_named() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.txt", 10, 1);
    let endpoint = server.endpoint();
    server.respond_with(401);
    let other = "check --bearer, --token, --header or --cookie; a server that grants uploads needs an API key (--key) or \
                 the URL of an upload link\n";
    for (flags, advice) in [
        (&[][..], other),
        (&["--bearer", "secret"], other),
        (
            &["--bearer", "lfk_right"],
            "--bearer is an API key: give it with --key\n",
        ),
        (
            &["--token", "lfk_right"],
            "--token is an API key: give it with --key\n",
        ),
    ] {
        let finished = home.run(&[&["upload", "a.txt", &endpoint], flags].concat());
        assert!(finished.stderr.ends_with(advice), "{flags:?} {finished:?}");
    }
}

#[test]
fn a_file_that_is_too_large_ends_with_1() {
    let server = Server::with(|config| config.limits.max_size = Some(100));
    let home = Home::new();
    home.file("large.txt", 101, 1);
    home.file("small.txt", 100, 2);
    let finished = home.run(&["upload", "large.txt", "small.txt", &server.endpoint()]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(finished.stdout.lines().count(), 1);
    assert!(
        finished.stderr.contains("landfall: large.txt: "),
        "{finished:?}"
    );
}

#[test]
fn a_url_that_creates_no_uploads_is_reported() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.txt", 10, 1);
    let url = server.endpoint().replace("/files/", "/wrong/");
    let finished = home.run(&["upload", "a.txt", &url]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("check the URL: the server creates no uploads there"),
        "{finished:?}"
    );
}

#[test]
fn a_wrong_size_of_standard_input_is_reported() {
    let (server, home) = (Server::start(), Home::new());
    let finished = home.run(&["upload", "-", &server.endpoint(), "--size", "30"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished
            .stderr
            .contains("the stream ended at 0 of 30 bytes; check --size"),
        "{finished:?}"
    );
}
