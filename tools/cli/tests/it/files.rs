//! Uploads of several files.

use std::{collections::BTreeMap, os::unix::fs::symlink};

use crate::{
    program::{Home, bytes},
    server::Server,
};

const FILES: u64 = 300;

#[test]
fn a_folder_of_300_files_is_uploaded_with_relative_paths() {
    let (server, home) = (Server::start(), Home::new());
    for number in 0..FILES {
        home.file(
            &format!("album/{}/{number}.txt", number % 7),
            number as usize * 10,
            number,
        );
    }
    symlink("0/0.txt", home.path().join("album/link")).unwrap();
    let finished = home.run(&["upload", "album", &server.endpoint(), "--parallel", "8"]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.stderr.contains("skipped 1 symbolic links"),
        "{finished:?}"
    );
    assert!(
        finished.stderr.contains("300 files uploaded, "),
        "{finished:?}"
    );
    let urls = finished.stdout.lines();
    let by_path: BTreeMap<String, &str> = urls
        .map(|url| {
            (
                server.metadata(url)["relativePath"]
                    .as_str()
                    .unwrap()
                    .to_owned(),
                url,
            )
        })
        .collect();
    assert_eq!(by_path.len(), 300);
    for number in 0..FILES {
        let url = by_path[&format!("album/{}/{number}.txt", number % 7)];
        assert_eq!(server.bytes(url), bytes(number as usize * 10, number));
        assert_eq!(server.metadata(url)["filename"], format!("{number}.txt"));
    }
}

#[test]
fn files_that_cannot_be_read_fail_and_others_are_uploaded() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.txt", 10, 1);
    home.file("b.txt", 20, 2);
    let endpoint = server.endpoint();
    let arguments = ["upload", "a.txt", "missing.txt", "c*", "b.txt", &endpoint];
    let finished = home.run(&arguments);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert_eq!(finished.stdout.lines().count(), 2);
    assert!(
        finished.stderr.contains("failed to read missing.txt: "),
        "{finished:?}"
    );
    assert!(
        finished.stderr.contains("no file matches c*"),
        "{finished:?}"
    );
    assert!(
        finished.stderr.contains("2 files uploaded, 30 B in "),
        "{finished:?}"
    );
    assert!(finished.stderr.ends_with(", 2 failed\n"), "{finished:?}");

    // The next run uploads the rest alone.
    home.file("missing.txt", 30, 3);
    home.file("c.txt", 40, 4);
    let urls = home.lines(&arguments);
    assert_eq!(urls.len(), 4);
    assert!(
        finished
            .stdout
            .lines()
            .all(|url| urls.iter().any(|one| one == url))
    );
    assert_eq!(server.uploads(), 4);
    // A command that was complete uploads all files again.
    assert_eq!(home.lines(&arguments).len(), 4);
    assert_eq!(server.uploads(), 8);
}

#[test]
fn an_empty_folder_is_reported() {
    let (server, home) = (Server::start(), Home::new());
    std::fs::create_dir(home.path().join("album")).unwrap();
    let finished = home.run(&["upload", "album", &server.endpoint()]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(
        finished.stderr.contains("nothing to upload"),
        "{finished:?}"
    );
}
