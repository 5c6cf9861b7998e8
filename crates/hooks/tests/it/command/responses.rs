//! Output and exit codes of commands.

use http::StatusCode;

use super::*;

fn default(answer: Result<HookResponse, DeliveryError>) {
    assert_eq!(answer.unwrap(), HookResponse::default());
}

/// Returns why the output was ignored.
fn ignored(answer: Result<HookResponse, DeliveryError>) -> String {
    let mut response = answer.unwrap();
    let why = response.ignored.take();
    default(Ok(response));
    why.unwrap()
}

fn sentence(answer: Result<HookResponse, DeliveryError>) -> String {
    answer.unwrap_err().message
}

#[tokio::test]
async fn output_is_the_response() {
    let hooks = Hooks::sh(
        HookName::PreCreate,
        r#"cat <<END
{"RejectUpload":true,"HTTPResponse":{"StatusCode":403,"Body":"no $TUS_SIZE"}}
END"#,
    );
    let response = hooks.deliver(HookName::PreCreate).await.unwrap();
    assert!(response.reject_upload);
    assert_eq!(response.client_response.status, Some(StatusCode::FORBIDDEN));
    assert_eq!(response.client_response.body.unwrap(), "no 432724");
}

#[tokio::test]
async fn python_command_responds() {
    let hooks = Hooks::none().file(
        HookName::PreCreate,
        0o700,
        r#"#!/usr/bin/env python3
import json, sys
upload = json.load(sys.stdin)["Event"]["Upload"]
json.dump({"ChangeFileInfo": {"ID": "x-" + upload["MetaData"]["filename"]}}, sys.stdout)
"#,
    );
    let response = hooks.deliver(HookName::PreCreate).await.unwrap();
    assert_eq!(response.changes.id.as_deref(), Some("x-a.png"));
}

#[tokio::test]
async fn binaries_and_symlinks_work() {
    // It echoes the message, which has no response fields.
    let hooks = Hooks::none();
    fs::copy("/bin/cat", hooks.path("pre-create")).unwrap();
    std::os::unix::fs::symlink("/bin/false", hooks.path("pre-finish")).unwrap();
    let why = ignored(hooks.deliver(HookName::PreCreate).await);
    assert_eq!(why, "unknown field Type, Event");
    let text = sentence(hooks.deliver(HookName::PreFinish).await);
    let silent = "no output; its standard error, if any, is in the log of the server";
    assert_eq!(
        text,
        format!("unexpected return code 1 from hook endpoint: {silent}")
    );
}

#[tokio::test]
async fn empty_output_allows() {
    let hooks = Hooks::sh(HookName::PreCreate, "echo told on stderr >&2");
    default(hooks.deliver(HookName::PreCreate).await);
}

#[tokio::test]
async fn event_without_command_is_ignored() {
    let hooks = Hooks::none();
    default(hooks.deliver(HookName::PreCreate).await);
    default(hooks.deliver(HookName::PostFinish).await);
    let command = hooks.command();
    command.check().await.unwrap();
}

#[tokio::test]
async fn missing_directory_is_a_failure() {
    let hooks = Hooks::sh(HookName::PreCreate, "true");
    let command = hooks.command();
    command.check().await.unwrap();
    fs::remove_dir_all(hooks.folder.path()).unwrap();
    for hook in [HookName::PreCreate, HookName::PostFinish] {
        let text = sentence(command.deliver(&message(hook)).await);
        assert!(text.starts_with("the directory /"), "{text}");
    }
    command.check().await.unwrap_err();
}

#[tokio::test]
async fn spawn_errors_name_the_remedy() {
    let hooks = Hooks::sh(HookName::PreCreate, "true").chmod(HookName::PreCreate, 0o644);
    let text = sentence(hooks.deliver(HookName::PreCreate).await);
    let path = hooks.path("pre-create").display().to_string();
    assert_eq!(
        text,
        format!("the hook {path} is not executable: chmod +x {path}")
    );

    let hooks = Hooks::none().file(HookName::PreCreate, 0o755, "#!/no/such/shell\n");
    let text = sentence(hooks.deliver(HookName::PreCreate).await);
    assert!(
        text.starts_with("the interpreter in the first line of the hook /")
            && text.ends_with(" is missing"),
        "{text}"
    );

    let hooks = Hooks::none().file(HookName::PreCreate, 0o755, "\x7fELF, not really\n");
    let text = sentence(hooks.deliver(HookName::PreCreate).await);
    assert!(text.contains("begin with #!"), "{text}");

    let hooks = Hooks::none();
    fs::create_dir(hooks.path("pre-create")).unwrap();
    let text = sentence(hooks.deliver(HookName::PreCreate).await);
    assert!(text.contains("is not executable"), "{text}");
}

#[tokio::test]
async fn nonzero_exit_code_is_a_failure_with_the_output() {
    let hooks = Hooks::sh(
        HookName::PreCreate,
        "echo '{\"RejectUpload\":true}'; exit 3",
    );
    let text = sentence(hooks.deliver(HookName::PreCreate).await);
    assert_eq!(
        text,
        "unexpected return code 3 from hook endpoint: {\"RejectUpload\":true}\n"
    );
    let hooks = Hooks::sh(HookName::PostFinish, "kill -9 $$");
    let text = sentence(hooks.deliver(HookName::PostFinish).await);
    assert!(text.starts_with("unexpected return code -1 from hook endpoint: no output;"));
}

#[tokio::test]
async fn invalid_output_fails_blocking_hooks() {
    let binary = r"printf '\377\376\000\001'";
    for (hook, lines, says) in [
        (HookName::PreCreate, "echo moved", "response was: moved\n"),
        (HookName::PreFinish, "echo '[1]'", "response was: [1]\n"),
        (HookName::PostReceive, "echo moved", "response was: moved\n"),
        (
            HookName::PreTerminate,
            binary,
            "response was: \u{fffd}\u{fffd}\0\u{1}",
        ),
    ] {
        let text = sentence(Hooks::sh(hook, lines).deliver(hook).await);
        assert!(
            text.starts_with("failed to parse hook response: "),
            "{text}"
        );
        assert!(text.ends_with(says), "{text}");
    }
    // The command succeeded: do not run it again for its output.
    for lines in ["echo moved", binary] {
        let hooks = Hooks::sh(HookName::PostFinish, lines);
        let why = ignored(hooks.deliver(HookName::PostFinish).await);
        assert!(why.starts_with("failed to parse hook response: "), "{why}");
    }
}

#[tokio::test]
async fn oversized_output_is_a_failure_but_the_command_finishes() {
    let lines = "head -c 3000000 /dev/zero; touch done";
    let hooks = Hooks::none()
        .with(HookName::PreCreate, lines)
        .with(HookName::PostFinish, lines);
    let text = sentence(hooks.deliver(HookName::PreCreate).await);
    assert_eq!(
        text,
        "the response of the hook pre-create is larger than 1048576 bytes"
    );
    fs::remove_file(hooks.path("done")).unwrap();
    let why = ignored(hooks.deliver(HookName::PostFinish).await);
    assert!(why.ends_with("is larger than 1048576 bytes"), "{why}");
    assert!(hooks.path("done").exists());
}

#[tokio::test]
async fn output_of_the_maximum_size_is_parsed() {
    let hooks = Hooks::sh(
        HookName::PreCreate,
        r#"printf '{"RejectUpload":true}'; head -c 1048555 /dev/zero | tr '\0' ' '"#,
    );
    let response = hooks.deliver(HookName::PreCreate).await.unwrap();
    assert!(response.reject_upload);
}

#[tokio::test]
async fn error_message_contains_the_start_of_long_output() {
    let hooks = Hooks::sh(HookName::PreCreate, "head -c 500000 /dev/zero; exit 1");
    let text = sentence(hooks.deliver(HookName::PreCreate).await);
    assert!(text.ends_with('…') && text.len() < 20_000);
}

#[tokio::test]
async fn v1_denies_by_exit_code() {
    for hook in [HookName::PreCreate, HookName::PreFinish] {
        let hooks = Hooks::sh(hook, "echo not today; exit 7");
        let response = hooks.v1().deliver(&message(hook)).await.unwrap();
        assert!(response.failed && !response.reject_upload);
        assert_eq!(
            response.client_response.status,
            Some(StatusCode::INTERNAL_SERVER_ERROR)
        );
        assert_eq!(
            response.client_response.headers["content-type"],
            "text/plain; charset=utf-8"
        );
        let body = response.client_response.body.unwrap();
        assert_eq!(
            body,
            format!("{hook} hook failed: exit status 7\nnot today\n\n")
        );
    }
    let hooks = Hooks::sh(HookName::PreCreate, "kill -TERM $$");
    let answer = hooks.v1().deliver(&message(HookName::PreCreate)).await;
    let body = answer.unwrap().client_response.body.unwrap();
    assert_eq!(body, "pre-create hook failed: signal: terminated\n\n");
}

#[tokio::test]
async fn v1_ignores_output_of_successful_commands() {
    let hooks = Hooks::none()
        .with(HookName::PreCreate, r#"echo '{"RejectUpload":true}'"#)
        .with(HookName::PostFinish, "exit 42")
        .with(HookName::PostReceive, "exit $CODE");
    let v1 = hooks.v1();
    default(v1.deliver(&message(HookName::PreCreate)).await);
    // The code stops uploads in post-receive only.
    let text = sentence(v1.deliver(&message(HookName::PostFinish)).await);
    assert_eq!(text, "the hook post-finish failed: exit status 42");
}

#[tokio::test]
async fn v1_stops_by_stop_code() {
    let hooks = Hooks::sh(HookName::PostReceive, "exit $(cat code)");
    let message = message(HookName::PostReceive);
    for (code, stops) in [(0, Some(false)), (42, Some(true)), (41, None)] {
        fs::write(hooks.path("code"), code.to_string()).unwrap();
        let answer = hooks.v1().deliver(&message).await;
        assert_eq!(answer.ok().map(|response| response.stop_upload), stops);
    }
    // Without a stop code, nothing stops.
    fs::write(hooks.path("code"), "42").unwrap();
    let mut settings = hooks.settings();
    settings.format = Format::V1;
    let text = sentence(Command::new(settings).unwrap().deliver(&message).await);
    assert_eq!(text, "the hook post-receive failed: exit status 42");
}

#[tokio::test]
async fn invalid_settings_are_rejected() {
    let hooks = Hooks::none();
    std::fs::write(hooks.path("file"), "").unwrap();
    for dir in ["".into(), hooks.path("none"), hooks.path("file")] {
        let text = Command::new(CommandSettings::new(&dir)).unwrap_err();
        let text = text.to_string();
        let start = format!(
            "cannot use the directory {} for command hooks: ",
            dir.display()
        );
        assert!(text.starts_with(&start), "{text}");
    }
    let mut settings = hooks.settings();
    settings.max_processes = 0;
    let text = Command::new(settings).unwrap_err().to_string();
    assert_eq!(
        text,
        "the maximum number of command hook processes must be at least 1"
    );
}
