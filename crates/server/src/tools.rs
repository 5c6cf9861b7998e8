//! The commands of the separate program `landfall-cli`, which `landfall` starts as if they were its own.
//!
//! Knows their names alone: flags, help and exit codes are those of that program, which takes the place of this process.

use std::env;
use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::Command;

/// The program.
const PROGRAM: &str = "landfall-cli";

/// Its commands, and what the help says of them.
pub(crate) const COMMANDS: [(&[&str], &str); 4] = [
    (
        &["upload"],
        "Upload files, folders or standard input, and resume after interruptions",
    ),
    (
        &["download"],
        "Download a file, and resume after interruptions",
    ),
    (
        &["conformance"],
        "Check a server against the specification of its protocol",
    ),
    (
        &["doctor", "proxy"],
        "Check the proxies in front of a server",
    ),
];

/// Returns whether `landfall-cli` has this command.
pub(crate) fn has(command: &[&str]) -> bool {
    COMMANDS.iter().any(|(path, _)| *path == command)
}

/// Becomes `landfall-cli` if this process's arguments are a command of it, or ask for its help. Returns only if they are not,
/// or with the reason why the program does not start.
pub(crate) fn run() -> Option<String> {
    let mut arguments: Vec<OsString> = env::args_os().skip(1).collect();
    if arguments.first().is_some_and(|first| first == "help") {
        arguments.rotate_left(1);
        if let Some(last) = arguments.last_mut() {
            *last = "--help".into();
        }
    }
    let named = |(path, _): &&(&[&str], _)| {
        arguments.len() >= path.len()
            && path
                .iter()
                .zip(&arguments)
                .all(|(name, given)| given == name)
    };
    let command = COMMANDS.iter().find(named)?.0.join(" ");
    let start = |program: PathBuf| {
        // Its help calls it as the user did.
        Command::new(program)
            .arg0("landfall")
            .args(&arguments)
            .exec()
    };
    let mut error = match env::current_exe() {
        Ok(program) => start(program.with_file_name(PROGRAM)),
        Err(_) => ErrorKind::NotFound.into(),
    };
    if error.kind() == ErrorKind::NotFound {
        error = start(PROGRAM.into());
    }
    Some(match error.kind() {
        ErrorKind::NotFound => format!(
            "landfall: \"{command}\" is a command of the program {PROGRAM}, which is neither in the folder of this program nor in PATH; \
             install the package {PROGRAM}, or run: cargo install --locked --path tools/cli"
        ),
        _ => format!("landfall: cannot run {PROGRAM}: {error}"),
    })
}
