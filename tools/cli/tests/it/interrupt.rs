//! Interrupted and killed programs, which resume.

use std::fs;

use nix::sys::signal::Signal;

use crate::{
    program::{Home, bytes},
    server::Server,
};

const SIZE: usize = 8 << 20;
/// Data that a killed program has sent, and the server has not stored: the buffers of a connection.
const MAX_SENT_TWICE: u64 = 2 << 20;

fn interrupt(server: &Server, home: &Home, signal: Signal) -> Option<i32> {
    let endpoint = server.endpoint();
    let mut running = home.start(&["upload", "a.bin", &endpoint, "--limit", "4MiB"]);
    running.wait_for_bytes(2 << 20);
    running.signal(signal);
    running.wait().code()
}

#[test]
fn an_interrupted_upload_resumes() {
    for (signal, code) in [
        (Signal::SIGINT, Some(130)),
        (Signal::SIGTERM, Some(130)),
        (Signal::SIGKILL, None),
    ] {
        let (server, home) = (Server::start(), Home::new());
        home.file("a.bin", SIZE, 1);
        assert_eq!(interrupt(&server, &home, signal), code);
        let (code, events) = home.events(&["upload", "a.bin", &server.endpoint()]);
        assert_eq!(code, Some(0), "{events:?}");
        let completed = events
            .iter()
            .find(|event| event["event"] == "completed")
            .unwrap();
        assert!(
            completed["resumed_from"].as_u64().unwrap() >= 1 << 20,
            "{signal}: {completed}"
        );
        assert!(
            server.body_bytes() <= SIZE as u64 + MAX_SENT_TWICE,
            "{signal}"
        );
        assert_eq!(
            server.bytes(completed["url"].as_str().unwrap()),
            bytes(SIZE, 1)
        );
        assert_eq!(server.uploads(), 1);
    }
}

#[test]
fn a_changed_file_starts_anew() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.bin", SIZE, 1);
    interrupt(&server, &home, Signal::SIGINT);
    home.file("a.bin", SIZE, 2);
    let (code, events) = home.events(&["upload", "a.bin", &server.endpoint()]);
    assert_eq!(code, Some(0), "{events:?}");
    let completed = events
        .iter()
        .find(|event| event["event"] == "completed")
        .unwrap();
    assert_eq!(completed["resumed_from"], 0);
    assert!(
        events.iter().any(|event| event["event"] == "started-anew"),
        "{events:?}"
    );
    assert_eq!(
        server.bytes(completed["url"].as_str().unwrap()),
        bytes(SIZE, 2)
    );
}

#[test]
fn the_message_names_the_same_command() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.bin", SIZE, 1);
    let endpoint = server.endpoint();
    let mut command = home.command(&["upload", "a.bin", &endpoint, "--limit", "1MiB"]);
    let child = command
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped());
    let child = child.spawn().unwrap();
    while server.body_bytes() == 0 {
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, Signal::SIGINT).unwrap();
    let output = child.wait_with_output().unwrap();
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("a.bin: stopped at "), "{stderr}");
    assert!(
        stderr.ends_with("interrupted; run the same command again to resume\n"),
        "{stderr}"
    );
    assert_eq!(output.stdout, b"");
}

#[test]
fn an_interrupted_folder_uploads_the_rest() {
    let (server, home) = (Server::start(), Home::new());
    for number in 0..40 {
        home.file(&format!("album/{number:02}.bin"), 256 << 10, number);
    }
    let endpoint = server.endpoint();
    let mut running = home.start(&["upload", "album", &endpoint, "--limit", "4MiB"]);
    for _ in 0..8 {
        running.wait_for(|event| event["event"] == "completed");
    }
    running.signal(Signal::SIGINT);
    assert_eq!(running.wait().code(), Some(130));

    let urls = home.lines(&["upload", "album", &endpoint]);
    assert_eq!(urls.len(), 40);
    // The creation of a small file has all its bytes: one whose response was not received is repeated.
    assert!(
        (40..=44).contains(&server.uploads()),
        "{}",
        server.uploads()
    );
    assert!(server.body_bytes() <= (40 << 18) + 4 * MAX_SENT_TWICE);
    let mut stored: Vec<_> = urls.iter().map(|url| server.bytes(url)).collect();
    let mut expected: Vec<_> = (0..40).map(|number| bytes(256 << 10, number)).collect();
    stored.sort();
    expected.sort();
    assert!(stored == expected);
    let runs = fs::read_dir(home.path().join(".local/state/landfall/runs")).unwrap();
    assert_eq!(runs.count(), 0);
}
