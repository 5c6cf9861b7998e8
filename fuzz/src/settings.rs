//! Command lines and configuration files.

use std::{ffi::OsString, fs, path::PathBuf, process, sync::OnceLock};

use landfall_server::settings::{Failure, Invocation, Loaded, read};

use crate::head::text;

/// Returns a file of this process, in memory if possible.
fn scratch() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() {
            memory
        } else {
            std::env::temp_dir()
        };
        folder.join(format!("landfall-fuzz-{}.toml", process::id()))
    })
}

fn read_file(toml: &[u8]) -> Result<Invocation, Failure> {
    let file = scratch();
    fs::write(file, toml).expect("the scratch file can be written");
    read([OsString::from("--config"), file.into()], [])
}

/// Valid settings can be printed as an equivalent configuration file, without secrets.
fn accepted(loaded: &Loaded) {
    let printed = loaded.to_toml(false);
    let mut settings = loaded.settings.clone();
    settings.admin.key = None;
    match read_file(printed.as_bytes()) {
        Ok(Invocation::Run(again, _)) => assert_eq!(again.settings, settings, "{printed}"),
        Ok(other) => panic!("{other:?} from {printed}"),
        Err(failure) => panic!("{failure}\nfrom\n{printed}"),
    }
}

/// Every problem is one line.
fn rejected(failure: &Failure) {
    assert!(!failure.problems.is_empty());
    for problem in &failure.problems {
        let line = problem.to_string();
        assert!(!line.trim().is_empty());
        assert!(!line.contains(['\n', '\r']), "{line:?}");
    }
}

/// A command line: one argument per line. Flags that name files are omitted.
pub fn arguments(data: &[u8]) {
    let Some(sent) = text(data) else { return };
    let args = sent.split('\n').filter(|arg| !arg.contains("config"));
    match read(args.map(OsString::from), []) {
        Ok(Invocation::Run(loaded, _)) => accepted(&loaded),
        Ok(Invocation::Print(shown)) => assert!(shown.ends_with('\n')),
        Err(failure) => rejected(&failure),
    }
}

/// A configuration file.
pub fn config_file(data: &[u8]) {
    match read_file(data) {
        Ok(Invocation::Run(loaded, _)) => accepted(&loaded),
        Ok(other) => panic!("{other:?}"),
        Err(failure) => rejected(&failure),
    }
}
