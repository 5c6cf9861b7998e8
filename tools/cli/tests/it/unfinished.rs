//! The list of unfinished uploads, and their removal.

use nix::sys::signal::Signal;

use crate::{program::Home, server::Server};

/// Leaves an unfinished upload of `a.bin`; returns its URL.
fn interrupt(server: &Server, home: &Home) -> String {
    home.file("a.bin", 8 << 20, 1);
    let endpoint = server.endpoint();
    let mut running = home.start(&["upload", "a.bin", &endpoint, "--limit", "4MiB"]);
    let created = running.wait_for(|event| event["event"] == "created");
    running.wait_for_bytes(1 << 20);
    running.signal(Signal::SIGINT);
    running.wait();
    created["url"].as_str().unwrap().to_owned()
}

#[test]
fn unfinished_uploads_are_listed() {
    let (server, home) = (Server::start(), Home::new());
    let finished = home.run(&["upload", "--list"]);
    assert_eq!((finished.code, finished.stdout.as_str()), (Some(0), ""));
    assert_eq!(finished.stderr, "no unfinished uploads\n");

    let url = interrupt(&server, &home);
    let (_, events) = home.events(&["upload", "--list"]);
    let path = home.path().join("a.bin");
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["url"], *url);
    assert_eq!(events[0]["file"], path.to_str().unwrap());
    assert_eq!(events[0]["length"], 8 << 20);
    let lines = home.lines(&["upload", "--list"]);
    assert!(
        lines[0].contains(&url) && lines[0].contains(" of 8.39 MB"),
        "{lines:?}"
    );

    // As after pre-finish has denied it.
    server.respond_with(422);
    let lines = home.lines(&["upload", "--list"]);
    let rejected = "\t8.39 MB, rejected (422";
    assert!(lines[0].contains(rejected), "{lines:?}");
    server.respond_with(0);

    // Another client removes it.
    let other = Home::new();
    assert_eq!(other.run(&["upload", "--abort", &url]).code, Some(0));
    let lines = home.lines(&["upload", "--list"]);
    assert!(
        lines[0].contains("\t8.39 MB, not on the server\t"),
        "{lines:?}"
    );
}

#[test]
fn an_unfinished_upload_is_removed_by_its_file_or_url() {
    for by_url in [false, true] {
        let (server, home) = (Server::start(), Home::new());
        let url = interrupt(&server, &home);
        let target = if by_url { &url } else { "a.bin" };
        let finished = home.run(&["upload", "--abort", target]);
        assert_eq!(finished.code, Some(0), "{finished:?}");
        assert_eq!(finished.stderr, format!("removed {url}\n"));
        assert_eq!(server.uploads(), 0);
        assert_eq!(home.events(&["upload", "--list"]).1.len(), 0);
    }
}

#[test]
fn the_unfinished_uploads_of_a_folder_are_removed() {
    let (server, home) = (Server::start(), Home::new());
    let endpoint = server.endpoint();
    for folder in ["album", "album/2026", "album2"] {
        home.file(&format!("{folder}/a.bin"), 8 << 20, 1);
    }
    for folder in ["album", "album2"] {
        let mut running = home.start(&["upload", folder, &endpoint, "--limit", "4MiB"]);
        running.wait_for_bytes(1 << 20);
        running.signal(Signal::SIGINT);
        running.wait();
    }
    assert_eq!(server.uploads(), 3);
    let finished = home.run(&["upload", "--abort", "album/"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert_eq!(finished.stderr.matches("removed http").count(), 2);
    assert_eq!(server.uploads(), 1);
    let (_, left) = home.events(&["upload", "--list"]);
    let path = home.path().join("album2/a.bin");
    assert_eq!(left.len(), 1, "{left:?}");
    assert_eq!(left[0]["file"], path.to_str().unwrap());
    let finished = home.run(&["upload", "--abort", "album"]);
    let none = "no unfinished upload of album; --list shows all";
    assert!(finished.stderr.contains(none), "{finished:?}");
}

#[test]
fn only_known_files_are_aborted() {
    let home = Home::new();
    let finished = home.run(&["upload", "--abort", "b.bin"]);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(
        finished.stderr.contains("no unfinished upload of b.bin"),
        "{finished:?}"
    );
}
