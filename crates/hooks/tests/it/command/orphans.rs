//! Orphans of commands, in a process that is their reaper.

use std::{env, process, sync::Arc};

use landfall_hooks::command::reap_orphans;

use super::*;

#[cfg(target_os = "linux")]
#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_reaped_and_exit_codes_of_commands_are_kept() {
    const INNER: &str = "LANDFALL_TEST_ORPHANS";
    if env::var_os(INNER).is_none() {
        // In a process without the children of other tests.
        let this = "command::orphans::orphans_are_reaped_and_exit_codes_of_commands_are_kept";
        let mut inner = process::Command::new(env::current_exe().unwrap());
        let run = inner.args(["--exact", this]).env(INNER, "1").status();
        assert!(run.unwrap().success());
        return;
    }
    rustix::process::set_child_subreaper(Some(rustix::process::getpid())).unwrap();
    let reaping = tokio::spawn(reap_orphans());
    // The child outlives the command, so that this process becomes its parent.
    let hooks = Hooks::sh(
        HookName::PostFinish,
        "sh -c 'echo $$ >>children; while [ ! -e go ]; do sleep 0.05; done' >/dev/null &\nexit 7",
    );
    let command = Arc::new(hooks.command());
    let calls: Vec<_> = (0..20)
        .map(|_| {
            let command = Arc::clone(&command);
            tokio::spawn(async move { command.deliver(&message(HookName::PostFinish)).await })
        })
        .collect();
    for call in calls {
        let error = call.await.unwrap().unwrap_err();
        assert!(error.message.contains("return code 7"), "{error}");
    }
    let children = || fs::read_to_string(hooks.path("children")).unwrap_or_default();
    eventually("all children run", || children().lines().count() == 20).await;
    fs::write(hooks.path("go"), "").unwrap();
    for child in children().lines() {
        let child = Pid::from_raw(child.parse().unwrap()).unwrap();
        eventually("the orphan is gone", || is_gone(child)).await;
    }
    reaping.abort();
}
