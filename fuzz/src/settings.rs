//! What the server is started with.

use std::{ffi::OsString, fs, path::PathBuf, process, sync::OnceLock};

use landfall_server::settings::{Failure, Invocation, Loaded, read};

use crate::head::text;

/// A file of this process alone, in memory where there is such a place.
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

/// What was read can be printed as a configuration file that means the same, but for secrets.
fn accepted(loaded: &Loaded) {
    let printed = loaded.to_toml();
    let mut settings = loaded.settings.clone();
    settings.admin.key = None;
    match read_file(printed.as_bytes()) {
        Ok(Invocation::Serve(again)) => assert_eq!(again.settings, settings, "{printed}"),
        Ok(other) => panic!("{other:?} from {printed}"),
        Err(failure) => panic!("{failure}\nfrom\n{printed}"),
    }
}

/// A refusal says something, one line for each problem.
fn refused(failure: &Failure) {
    assert!(!failure.problems.is_empty());
    for problem in &failure.problems {
        let line = problem.to_string();
        assert!(!line.trim().is_empty());
        assert!(!line.contains(['\n', '\r']), "{line:?}");
    }
}

/// A command line: one word in each line. Flags that name files to be read are left out.
pub fn arguments(data: &[u8]) {
    let Some(sent) = text(data) else { return };
    let words = sent.split('\n').filter(|word| !word.contains("config"));
    match read(words.map(OsString::from), []) {
        Ok(Invocation::Serve(loaded)) => accepted(&loaded),
        Ok(
            Invocation::Sweep { loaded, .. }
            | Invocation::DoctorS3 { loaded, .. }
            | Invocation::SetCors { loaded, .. }
            | Invocation::Events { loaded, .. }
            | Invocation::Keys { loaded, .. }
            | Invocation::Migrate(loaded)
            | Invocation::DoctorFiles(loaded)
            | Invocation::ConfigCheck(loaded),
        ) => accepted(&loaded),
        Ok(Invocation::Print(shown)) => assert!(shown.ends_with('\n')),
        Err(failure) => refused(&failure),
    }
}

/// A configuration file.
pub fn config_file(data: &[u8]) {
    match read_file(data) {
        Ok(Invocation::Serve(loaded)) => accepted(&loaded),
        Ok(other) => panic!("{other:?}"),
        Err(failure) => refused(&failure),
    }
}
