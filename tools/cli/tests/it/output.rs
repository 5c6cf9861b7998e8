//! Bars on a terminal, lines in a log, and JSON.

use std::{
    fs::File,
    io::Read as _,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use crate::{program::Home, server::Server};

/// Runs a command with standard error on a pseudo-terminal. Returns its standard output and the terminal's text.
fn run_on_terminal(command: &mut Command) -> (String, String) {
    run_on_terminal_to(command, Some(0))
}

/// The same for a command that ends with this code.
fn run_on_terminal_to(command: &mut Command, code: Option<i32>) -> (String, String) {
    let pty = nix::pty::openpty(None, None).unwrap();
    let command = command.env("TERM", "xterm").stdout(Stdio::piped());
    let child = command.stderr(Stdio::from(pty.slave)).spawn().unwrap();
    // It holds the other end of the terminal.
    command.stderr(Stdio::null());
    let mut terminal = File::from(pty.master);
    let shown = thread::spawn(move || {
        let (mut shown, mut buffer) = (Vec::new(), [0; 4096]);
        // The end of a terminal is an error.
        while let Ok(count @ 1..) = terminal.read(&mut buffer) {
            shown.extend_from_slice(&buffer[..count]);
        }
        String::from_utf8(shown).unwrap()
    });
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), code);
    (
        String::from_utf8(output.stdout).unwrap(),
        shown.join().unwrap(),
    )
}

#[test]
fn a_terminal_shows_bars() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.bin", 1 << 20, 1);
    home.file("b.bin", 1 << 20, 2);
    let endpoint = server.endpoint();
    let flags = ["upload", "a.bin", "b.bin", &endpoint, "--limit", "2MiB"];
    let (printed, shown) = run_on_terminal(&mut home.command(&flags));
    assert_eq!(printed.lines().count(), 2);
    assert!(!printed.contains('\x1b'), "{printed:?}");
    for text in [
        "a.bin [",
        "b.bin [",
        "total [",
        "0 of 2 files, ",
        "a.bin: uploaded, 1.05 MB",
    ] {
        assert!(shown.contains(text), "{text}: {shown:?}");
    }
    // The bars are removed in the end.
    let last = shown.rsplit("\x1b[2K").next().unwrap();
    assert!(
        last.starts_with("2 files uploaded, 2.1 MB in "),
        "{shown:?}"
    );

    let (_, shown) = run_on_terminal(home.command(&flags).arg("--quiet"));
    assert_eq!(shown, "");
}

#[test]
fn an_outage_is_in_the_bar() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.bin", 1 << 20, 1);
    home.file("b.bin", 1 << 20, 2);
    server.respond_with(503);
    let mut command = home.command(&["upload", "a.bin", "b.bin", &server.endpoint()]);
    let (_, shown) = thread::scope(|scope| {
        scope.spawn(|| {
            // The delays double from 50 ms, and those below a second are not shown.
            thread::sleep(Duration::from_secs(4));
            server.respond_with(0);
        });
        run_on_terminal(&mut command)
    });
    assert!(shown.contains("a.bin ["), "{shown:?}");
    let step = "the server failed, trying again in ";
    assert!(shown.contains(step), "{shown:?}");
    assert!(shown.contains(" s (503 Service Unavailable)"), "{shown:?}");
    assert!(shown.contains("a.bin: uploaded, 1.05 MB in "), "{shown:?}");
    let total = "0 of 2 files, 0 B of 2.1 MB, the server failed, trying again";
    assert!(shown.contains(total), "{shown:?}");
}

#[test]
fn the_last_bar_has_the_failed_files() {
    let server = Server::with(|config| config.limits.max_size = Some(1 << 20));
    let home = Home::new();
    home.file("a.bin", 1 << 20, 1);
    home.file("b.bin", 2 << 20, 2);
    let mut command = home.command(&["upload", "a.bin", "b.bin", &server.endpoint()]);
    let (_, shown) = run_on_terminal_to(&mut command, Some(1));
    let totals: Vec<_> = shown.split("total [").skip(1).collect();
    let last = totals.last().unwrap();
    assert!(last.contains(" files, 1 failed, "), "{shown:?}");
    assert!(last.contains(" of 1.05 MB, "), "{shown:?}");
}

#[test]
fn a_log_has_lines_without_control_characters() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a\x1b[2J.bin", 1 << 20, 1);
    let finished = home.run(&["upload", "a\x1b[2J.bin", &server.endpoint()]);
    assert_eq!(finished.code, Some(0), "{finished:?}");
    assert!(!finished.stderr.contains('\x1b'), "{finished:?}");
    assert_eq!(finished.stderr.lines().count(), 1, "{finished:?}");
}

#[test]
fn json_has_an_event_per_line() {
    let (server, home) = (Server::start(), Home::new());
    home.file("a.bin", 1 << 20, 1);
    let (code, events) = home.events(&["upload", "a.bin", &server.endpoint()]);
    assert_eq!(code, Some(0));
    let names: Vec<_> = events
        .iter()
        .map(|event| event["event"].as_str().unwrap())
        .collect();
    for name in ["created", "progress", "completed", "summary"] {
        assert!(names.contains(&name), "{names:?}");
    }
    let summary = events.last().unwrap();
    assert_eq!(
        (&summary["completed"], &summary["bytes"]),
        (&1.into(), &(1 << 20).into())
    );
}

#[test]
fn the_program_prints_completions_and_man_pages() {
    let home = Home::new();
    for shell in ["bash", "zsh", "fish"] {
        let script = home.lines(&["completions", shell]).join("\n");
        assert!(script.contains("delete-source"), "{shell}");
    }
    for (arguments, text) in [
        (&["man"][..], "landfall\\-cli"),
        (&["man", "upload"], "delete\\-source"),
        (&["man", "download"], "\\-\\-output"),
        (&["version"], "Version: "),
        (
            &["upload", "--help"],
            "Usage: landfall-cli upload [OPTIONS] FILE... URL",
        ),
        (&["download", "--help"], "  landfall-cli download http"),
        (&["help"], "  download "),
        (
            &["help", "upload"],
            "Usage: landfall-cli upload [OPTIONS] FILE... URL",
        ),
    ] {
        let printed = home.lines(arguments).join("\n");
        assert!(
            printed.contains(text) && !printed.contains("PROGRAM"),
            "{arguments:?}"
        );
    }
    assert_eq!(home.run(&["man", "serve"]).code, Some(2));
}
