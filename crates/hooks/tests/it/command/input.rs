//! Input of commands.

use std::{collections::BTreeMap, net::TcpListener};

use landfall_hooks::format::body;

use super::*;

#[tokio::test]
async fn message_is_on_stdin_and_in_the_environment() {
    let hooks = Hooks::sh(
        HookName::PostFinish,
        "cat >input; env >environment; pwd >folder; echo $# >arguments",
    );
    let mut message = traced(message(HookName::PostFinish));
    message.upload.labels = BTreeMap::from([
        ("tenant".to_owned(), "a b".to_owned()),
        ("scan.state".to_owned(), "zero\0byte".to_owned()),
    ]);
    hooks.command().deliver(&message).await.unwrap();

    let input = fs::read(hooks.path("input")).unwrap();
    assert_eq!(input, body(Format::V2, &message));
    assert_eq!(hooks.read("arguments"), "0\n");
    let folder = hooks.folder.path().canonicalize().unwrap();
    assert_eq!(hooks.read("folder"), format!("{}\n", folder.display()));
    let environment = hooks.read("environment");
    for line in [
        "TUS_ID=5d892c228ec8d0451dfec588697e8930",
        "TUS_SIZE=432724",
        "TUS_OFFSET=432724",
        "LANDFALL_HOOK=post-finish",
        &format!("LANDFALL_EVENT_ID={}", message.id),
        &format!("LANDFALL_SEQUENCE={}", message.sequence),
        "LANDFALL_LABEL_TENANT=a b",
        &format!("TRACEPARENT={TRACEPARENT}"),
        "TRACESTATE=vendor=1",
        "LANDFALL_LABEL_SCAN_STATE=zero\u{fffd}byte",
        // All variables of this process are inherited.
        &format!("PATH={}", std::env::var("PATH").unwrap()),
    ] {
        assert!(
            environment.lines().any(|found| found == line),
            "{line} is not in\n{environment}"
        );
    }
    assert!(!environment.contains("LANDFALL_INTENT="));
}

#[tokio::test]
async fn unknown_values_are_empty_or_zero() {
    let hooks = Hooks::none()
        .with(HookName::PreCreate, "env >environment")
        .with(HookName::PreAccess, "env >environment");
    let mut deferred = message(HookName::PreCreate);
    deferred.upload.size = None;
    hooks.command().deliver(&deferred).await.unwrap();
    let environment = hooks.read("environment");
    assert!(environment.contains("TUS_ID=\n"));
    assert!(environment.contains("TUS_SIZE=0\n"));
    assert!(!environment.contains("LANDFALL_LABEL_"));

    hooks.deliver(HookName::PreAccess).await.unwrap();
    assert!(
        hooks
            .read("environment")
            .contains("LANDFALL_INTENT=write\n")
    );
}

#[tokio::test]
async fn v1_input_is_the_event_alone() {
    let hooks = Hooks::sh(HookName::PreCreate, "cat >input");
    let message = message(HookName::PreCreate);
    hooks.v1().deliver(&message).await.unwrap();
    let input = hooks.read("input");
    assert!(input.starts_with(r#"{"Upload":{"ID":"","Size":"#));
    assert_eq!(input.into_bytes(), body(Format::V1, &message));
}

#[tokio::test]
async fn relative_directory_is_resolved_at_creation() {
    let hooks = Hooks::sh(HookName::PreCreate, "pwd >folder");
    let here = std::env::current_dir().unwrap();
    let mut relative: PathBuf = here.components().skip(1).map(|_| "..").collect();
    relative.push(hooks.folder.path().strip_prefix("/").unwrap());
    let command = Command::new(CommandSettings::new(relative)).unwrap();
    command
        .deliver(&message(HookName::PreCreate))
        .await
        .unwrap();
    assert!(hooks.path("folder").exists());
}

/// A message larger than any pipe buffer.
fn huge() -> Message {
    let mut message = message(HookName::PreCreate);
    let value = "x".repeat(4 << 20);
    message.upload.metadata.insert("huge".to_owned(), value);
    message
}

#[tokio::test]
async fn large_message_is_complete() {
    let hooks = Hooks::sh(HookName::PreCreate, "wc -c >count");
    let message = huge();
    hooks.command().deliver(&message).await.unwrap();
    let count: usize = hooks.read("count").trim().parse().unwrap();
    assert_eq!(count, body(Format::V2, &message).len());
}

#[tokio::test]
async fn unread_large_message_does_not_block() {
    let hooks = Hooks::sh(HookName::PreCreate, r#"echo '{"RejectUpload":true}'"#);
    let response = hooks.command().deliver(&huge()).await.unwrap();
    assert!(response.reject_upload);
    // Not even if another process keeps the pipe open.
    let hooks = Hooks::sh(
        HookName::PreCreate,
        "exec 3<&0; sleep 30 <&3 >/dev/null & echo $! >pid",
    );
    hooks.command().deliver(&huge()).await.unwrap();
    let sleeper = pid_in(&hooks.path("pid")).await;
    assert!(!is_dead(sleeper));
    rustix::process::kill_process(sleeper, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn commands_start_with_default_signals_and_no_open_files() {
    let _socket = TcpListener::bind("127.0.0.1:0").unwrap();
    let hooks = Hooks::none();
    let _file = fs::File::create(hooks.path("open-here")).unwrap();
    let hooks = hooks.with(
        HookName::PreCreate,
        "grep -E 'Sig(Ign|Blk)' /proc/self/status >signals; ls -l /proc/self/fd >files",
    );
    hooks.deliver(HookName::PreCreate).await.unwrap();
    let theirs = hooks.read("signals");
    let ours = fs::read_to_string("/proc/self/status").unwrap();
    // Rust programs ignore SIGPIPE; signals that the parent ignored are not checked.
    let pipe = 1 << (rustix::process::Signal::PIPE.as_raw() - 1);
    assert_eq!(mask(&ours, "SigIgn") & pipe, pipe);
    // glibc reserves two signals, and ignores them in children.
    let rest = !(pipe | 0b11 << (32 - 1));
    assert_eq!(mask(&theirs, "SigIgn") & pipe, 0);
    assert_eq!(mask(&theirs, "SigIgn") & rest, mask(&ours, "SigIgn") & rest);
    assert_eq!(mask(&theirs, "SigBlk"), 0);
    let files = hooks.read("files");
    assert!(!files.contains("socket:"), "{files}");
    assert!(!files.contains("/open-here"), "{files}");
}

/// Parses a signal set of `/proc/<pid>/status`.
fn mask(status: &str, name: &str) -> u64 {
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    u64::from_str_radix(line.split_whitespace().last().unwrap(), 16).unwrap()
}
