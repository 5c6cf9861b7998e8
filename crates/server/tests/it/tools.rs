//! The commands of `landfall-cli`, which `landfall` starts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::serve_harness::{install, remove_settings, run};

/// Copies the program into an empty folder.
fn alone(folder: &Path) -> PathBuf {
    let program = folder.join("landfall");
    install(Path::new(env!("CARGO_BIN_EXE_landfall")), &program);
    program
}

/// Writes a `landfall-cli` that prints its path and its arguments.
fn tool(folder: &Path) {
    fs::create_dir_all(folder).unwrap();
    let text = folder.join("text");
    fs::write(&text, "#!/bin/sh\necho \"$0 $*\"\nexit 3\n").unwrap();
    install(&text, &folder.join("landfall-cli"));
}

#[test]
fn commands_of_the_tools_run_the_program_in_the_same_folder_or_in_path() {
    let dir = tempfile::tempdir().unwrap();
    let program = alone(dir.path());
    let elsewhere = dir.path().join("bin");
    let call = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        remove_settings(&mut command);
        run(command.args(arguments).env("PATH", &elsewhere))
    };
    let (code, _, told) = call(&["download", "http://uploads.invalid/1"]);
    assert_eq!(code, Some(1));
    assert!(
        told.contains("install the package landfall-cli, or run: cargo install"),
        "{told}"
    );
    tool(&elsewhere);
    let in_path = elsewhere.join("landfall-cli");
    for (arguments, passed) in [
        (&["upload", "a b", "--quiet"][..], "upload a b --quiet"),
        (&["help", "conformance"], "conformance --help"),
        (&["doctor", "proxy", "http://a/"], "doctor proxy http://a/"),
        (&["help", "doctor", "proxy"], "doctor proxy --help"),
    ] {
        let (code, told, _) = call(arguments);
        assert_eq!(code, Some(3));
        assert_eq!(told, format!("{} {passed}\n", in_path.display()));
    }
    tool(dir.path());
    let (_, told, _) = call(&["upload"]);
    let beside = dir.path().join("landfall-cli");
    assert_eq!(told, format!("{} upload\n", beside.display()));
    // Others are the server's own.
    assert_eq!(call(&["version"]).0, Some(0));
    let (code, told, _) = call(&["help", "doctor"]);
    assert_eq!(code, Some(0));
    assert!(told.contains("proxy  Check the proxies"), "{told}");
}
