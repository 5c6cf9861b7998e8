//! Concurrency, timeouts and termination of commands.

use std::{sync::Arc, time::Instant};

use super::*;

/// A command, and its child, that ignore SIGTERM.
const STUBBORN: &str = r#"trap '' TERM
sh -c 'trap "" TERM; echo $$ >child.pid; while :; do sleep 1; done' &
echo $$ >pid
while :; do sleep 1; done"#;

#[tokio::test]
async fn timeout_terminates_command_and_children() {
    let hooks = Hooks::sh(HookName::PreCreate, STUBBORN);
    let mut settings = hooks.settings();
    settings.timeout = Duration::from_secs(2);
    let command = Command::new(settings).unwrap();
    let start = Instant::now();
    let failure = command.deliver(&message(HookName::PreCreate)).await;
    assert_eq!(
        failure.unwrap_err().message,
        "the hook pre-create timed out after 2s and was terminated"
    );
    assert!(start.elapsed() >= Duration::from_secs(2));
    let (program, child) = pids(&hooks).await;
    eventually("the program is gone", || is_gone(program)).await;
    eventually("its child is dead", || is_dead(child)).await;
}

#[tokio::test]
async fn dropped_call_terminates_command_and_children() {
    let hooks = Hooks::sh(HookName::PreCreate, STUBBORN);
    let command = hooks.command();
    let call = tokio::spawn(async move { command.deliver(&message(HookName::PreCreate)).await });
    let (program, child) = pids(&hooks).await;
    assert!(!is_dead(program) && !is_dead(child));
    call.abort();
    eventually("the program is gone", || is_gone(program)).await;
    eventually("its child is dead", || is_dead(child)).await;
}

#[test]
fn runtime_shutdown_terminates_commands() {
    let hooks = Hooks::sh(HookName::PreCreate, STUBBORN);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let command = hooks.command();
    runtime.spawn(async move { command.deliver(&message(HookName::PreCreate)).await });
    let (program, child) = runtime.block_on(pids(&hooks));
    runtime.shutdown_timeout(Duration::from_secs(5));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(eventually("all is dead", || {
        is_dead(program) && is_dead(child)
    }));
}

async fn pids(hooks: &Hooks) -> (Pid, Pid) {
    (
        pid_in(&hooks.path("pid")).await,
        pid_in(&hooks.path("child.pid")).await,
    )
}

#[tokio::test]
async fn terminated_command_can_clean_up() {
    let hooks = Hooks::sh(
        HookName::PreCreate,
        "trap 'touch cleared; exit' TERM; echo $$ >pid; while :; do sleep 0.05; done",
    );
    let command = hooks.command();
    let call = tokio::spawn(async move { command.deliver(&message(HookName::PreCreate)).await });
    let program = pid_in(&hooks.path("pid")).await;
    call.abort();
    eventually("the program is gone", || is_gone(program)).await;
    assert!(hooks.path("cleared").exists());
}

#[tokio::test]
async fn background_processes_survive_their_command() {
    let hooks = Hooks::sh(
        HookName::PostFinish,
        "echo $$ >pid; (sleep 1; touch done) >/dev/null 2>&1 &",
    );
    hooks.deliver(HookName::PostFinish).await.unwrap();
    assert!(!hooks.path("done").exists());
    assert!(is_gone(pid_in(&hooks.path("pid")).await));
    eventually("the rest is done", || hooks.path("done").exists()).await;
}

#[tokio::test]
async fn children_that_keep_the_output_open_do_not_delay_the_response() {
    let hooks = Hooks::sh(
        HookName::PreCreate,
        r#"(while [ ! -e go ]; do sleep 0.05; done; echo later; touch done) &
printf '%9000s{"RejectUpload":true}'"#,
    );
    let response = hooks.deliver(HookName::PreCreate).await.unwrap();
    assert!(response.reject_upload);
    assert!(!hooks.path("done").exists());
    // It can still write.
    fs::write(hooks.path("go"), "").unwrap();
    eventually("the rest is done", || hooks.path("done").exists()).await;
}

#[tokio::test]
async fn children_that_keep_the_output_open_do_not_use_up_the_processes() {
    let hooks = Hooks::sh(
        HookName::PreCreate,
        "(while [ ! -e go ]; do sleep 0.05; done; echo >>ended) &",
    );
    let mut settings = hooks.settings();
    settings.max_processes = 2;
    let command = Command::new(settings).unwrap();
    for _ in 0..6 {
        let response = command.deliver(&message(HookName::PreCreate)).await;
        assert_eq!(response.unwrap(), HookResponse::default());
    }
    fs::write(hooks.path("go"), "").unwrap();
    // They run until they see it, also when their directory is gone.
    eventually("all children have ended", || {
        fs::read(hooks.path("ended")).is_ok_and(|ended| ended.len() == 6)
    })
    .await;
}

#[tokio::test]
async fn concurrent_processes_are_limited() {
    let hooks = Hooks::sh(
        HookName::PreCreate,
        r#"mkdir -p running; touch running/$$; ls running | wc -l >>counts; sleep 0.02
rm running/$$; echo $$ >>pids"#,
    );
    let mut settings = hooks.settings();
    settings.max_processes = 4;
    let command = Arc::new(Command::new(settings).unwrap());
    let calls: Vec<_> = (0..100)
        .map(|_| {
            let command = Arc::clone(&command);
            tokio::spawn(async move { command.deliver(&message(HookName::PreCreate)).await })
        })
        .collect();
    for call in calls {
        call.await.unwrap().unwrap();
    }
    let counts = hooks.read("counts");
    let counts: Vec<u32> = counts
        .lines()
        .map(|it| it.trim().parse().unwrap())
        .collect();
    assert_eq!(counts.len(), 100);
    let most = counts.into_iter().max().unwrap();
    assert!((2..=4).contains(&most), "{most} ran at once");
    for pid in hooks.read("pids").lines() {
        let pid = Pid::from_raw(pid.parse().unwrap()).unwrap();
        assert!(is_gone(pid), "{pid} was not waited for");
    }
}

#[tokio::test]
async fn events_leave_capacity_for_blocking_hooks() {
    let hooks = Hooks::none()
        .with(
            HookName::PostFinish,
            "echo >>started; while [ ! -e go ]; do sleep 0.05; done; echo >>ended",
        )
        .with(HookName::PreCreate, r#"echo '{"RejectUpload":true}'"#);
    let mut settings = hooks.settings();
    settings.max_processes = 4;
    let command = Arc::new(Command::new(settings).unwrap());
    let events: Vec<_> = (0..8)
        .map(|_| {
            let command = Arc::clone(&command);
            tokio::spawn(async move { command.deliver(&message(HookName::PostFinish)).await })
        })
        .collect();
    let lines = |name: &str| {
        let text = fs::read_to_string(hooks.path(name)).unwrap_or_default();
        text.lines().count()
    };
    eventually("three have begun", || lines("started") == 3).await;
    let response = command.deliver(&message(HookName::PreCreate)).await;
    assert!(response.unwrap().reject_upload);
    assert_eq!((lines("started"), lines("ended")), (3, 0));
    fs::write(hooks.path("go"), "").unwrap();
    for event in events {
        event.await.unwrap().unwrap();
    }
    assert_eq!((lines("started"), lines("ended")), (8, 8));
}

#[tokio::test]
async fn busy_file_is_retried() {
    let hooks = Hooks::sh(HookName::PreCreate, "echo '{\"RejectUpload\":true}'");
    let path = hooks.path("pre-create");
    let writer = fs::OpenOptions::new()
        .append(true)
        .mode(0o755)
        .open(&path)
        .unwrap();
    let command = hooks.command();
    let call = tokio::spawn(async move { command.deliver(&message(HookName::PreCreate)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(writer);
    assert!(call.await.unwrap().unwrap().reject_upload);
}

#[tokio::test]
async fn file_that_stays_busy_is_a_failure() {
    let hooks = Hooks::none();
    let path = hooks.path("pre-create");
    fs::copy("/bin/true", &path).unwrap();
    let writer = fs::OpenOptions::new().append(true).open(&path).unwrap();
    let failure = hooks.deliver(HookName::PreCreate).await.unwrap_err();
    assert!(
        failure.message.ends_with("is being written to"),
        "{}",
        failure.message
    );
    drop(writer);
    hooks.deliver(HookName::PreCreate).await.unwrap();
}
