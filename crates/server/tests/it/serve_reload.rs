//! SIGHUP: all changes of the settings are applied, or none.

use std::fs;
use std::process::Command;

use rustix::process::Signal;

use crate::hooks_harness::with_hook;
use crate::serve_harness::{Landfall, Request, program, remove_settings, run};

const ALLOW: &str = "exit 0";
const DENY: &str = r#"echo '{"RejectUpload": true, "HTTPResponse": {"StatusCode": 451}}'"#;

struct Configured {
    server: Landfall,
    dir: tempfile::TempDir,
    reloads: usize,
}

impl Configured {
    fn start(settings: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let config = dir.path().join("landfall.toml");
        fs::write(&config, settings).unwrap();
        let mut command = program();
        command.args(["-host=127.0.0.1", "-port=0", "-upload-dir"]);
        command.arg(dir.path().join("up"));
        command.arg("-config").arg(config);
        let server = Landfall::spawn(command, dir.path());
        Self {
            server,
            dir,
            reloads: 0,
        }
    }

    /// Returns the line in the log about the reload.
    fn reload(&mut self, settings: &str) -> String {
        fs::write(self.dir.path().join("landfall.toml"), settings).unwrap();
        self.server.signal(Signal::HUP);
        self.reloads += 1;
        let mut line = String::new();
        crate::serve_harness::eventually("the settings are not reloaded", || {
            let lines = self.server.lines();
            let mut reloads = lines
                .iter()
                .filter(|line| line.contains("event=\"settings "));
            let found = reloads.nth(self.reloads - 1);
            found.inspect(|found| line.clone_from(found)).is_some()
        });
        line
    }

    fn creation(&self) -> u16 {
        let request = Request::post().with("Upload-Length", 10);
        self.server.client().ask(request).status
    }
}

#[test]
fn sighup_applies_hooks_the_log_level_and_limits_while_an_upload_runs() {
    let (allow, deny) = (
        with_hook("pre-create", ALLOW),
        with_hook("pre-create", DENY),
    );
    let dir = |hooks: &tempfile::TempDir| format!("hooks-dir = {:?}\n", hooks.path());
    let fixed = "behind-proxy = true\n";
    let mut configured = Configured::start(&(dir(&allow) + fixed));
    assert_eq!(configured.creation(), 201);
    let mut running = configured.server.client();
    let path = running.create(10);
    running.begin(Request::patch(&path, 0), 10);
    running.send(b"hello");
    configured.server.client().reaches(&path, 5);

    let limits = "max-requests-per-address = 1\nlog-level = \"debug\"\n";
    let line = configured.reload(&(dir(&deny) + fixed + limits));
    assert!(line.contains("event=\"settings reloaded\""), "{line}");
    for name in ["hooks-dir", "log-level", "max-requests-per-address"] {
        assert!(line.contains(name), "{line}");
    }
    assert_eq!(configured.creation(), 451);
    let head = || Request::new("HEAD", &path).with("X-Forwarded-For", "192.0.2.1");
    let statuses: Vec<_> = (0..30)
        .map(|_| configured.server.client().ask(head()).status)
        .collect();
    assert!(
        statuses.contains(&200) && statuses.contains(&423),
        "{statuses:?}"
    );
    configured.server.says("level=DEBUG");
    let line = configured.reload(&(dir(&deny) + fixed + limits));
    assert!(line.ends_with("changed=nothing"), "{line}");

    running.send(b"world");
    assert_eq!(running.answer().status, 204);

    let line = configured.reload(&(dir(&allow) + fixed + "max-requests-per-address = 0\n"));
    assert!(line.contains("event=\"settings reloaded\""), "{line}");
    assert_eq!(configured.creation(), 201);
    let statuses: Vec<_> = (0..30)
        .map(|_| configured.server.client().ask(head()).status)
        .collect();
    assert!(!statuses.contains(&423), "{statuses:?}");
}

#[test]
fn sighup_applies_nothing_if_anything_cannot_be() {
    let (allow, deny) = (
        with_hook("pre-create", ALLOW),
        with_hook("pre-create", DENY),
    );
    let hooks = |dir: &tempfile::TempDir| format!("hooks-dir = {:?}\n", dir.path());
    let mut configured = Configured::start(&hooks(&allow));
    for (added, reason) in [
        (
            "max-size = \"1MiB\"\n",
            "--max-size: the change needs a restart",
        ),
        ("log-level = \"loud\"\n", "log-level"),
        ("max-sise = 5\n", "max-sise"),
        (
            "hooks-http = \"http://127.0.0.1:9/\"\n",
            "set of transports",
        ),
        (
            "hooks-enabled-events = [\"post-finish\"]\n",
            "--hooks-enabled-events: the change needs a restart",
        ),
    ] {
        let line = configured.reload(&(hooks(&deny) + added));
        assert!(
            line.contains("nothing has changed") && line.contains(reason),
            "{line}"
        );
        assert_eq!(configured.creation(), 201, "{added}");
    }
    let line = configured.reload("hooks-dir = \"/nowhere\"\n");
    assert!(line.contains("/nowhere does not exist"), "{line}");
    assert_eq!(configured.creation(), 201);

    let line = configured.reload(&hooks(&deny));
    assert!(line.contains("event=\"settings reloaded\""), "{line}");
    assert_eq!(configured.creation(), 451);
}

#[test]
fn sighup_changes_the_admin_key() {
    let (old, new) = ("admin-key-0123456789", "another-key-0123456789");
    let mut configured = Configured::start(&format!("admin-key = {old:?}\n"));
    let status = |configured: &Configured, key: &str| {
        let request = Request::get("/admin/api/overview");
        let request = request.with("Authorization", format!("Bearer {key}"));
        configured.server.client().ask(request).status
    };
    assert_eq!(
        (status(&configured, old), status(&configured, new)),
        (200, 401)
    );
    let line = configured.reload("");
    assert!(line.contains("needs a restart"), "{line}");
    assert_eq!(status(&configured, old), 200);
    let line = configured.reload(&format!("admin-key = {new:?}\n"));
    assert!(
        line.contains("changed=admin-key") && !line.contains(new),
        "{line}"
    );
    assert_eq!(
        (status(&configured, old), status(&configured, new)),
        (401, 200)
    );
}

#[test]
fn sighup_changes_the_page_and_the_allowed_origins() {
    let settings = |title: &str, host: &str| {
        format!("page-title = {title:?}\ncors-allow-origin = '^https://{host}\\.example$'\n")
    };
    let mut configured = Configured::start(&settings("Old page", "old"));
    let has_page = |configured: &Configured, text: &str| {
        let page = configured.server.client().ask(Request::get("/"));
        page.text().contains(text)
    };
    let statuses = |configured: &Configured| {
        ["old", "new"].map(|host| {
            let request = Request::post().with("Upload-Length", 10);
            let request = request.with("Origin", format!("https://{host}.example"));
            configured.server.client().ask(request).status
        })
    };
    assert!(has_page(&configured, "<h1>Old page</h1>"));
    assert_eq!(statuses(&configured), [201, 403]);
    let new = settings("New <page>", "new") + "page-text = \"Send us files\"\n";
    let line = configured.reload(&(new.clone() + "page-logo = \"/none.svg\"\n"));
    assert!(line.contains("nothing has changed"), "{line}");
    assert!(has_page(&configured, "<h1>Old page</h1>"));
    assert_eq!(statuses(&configured), [201, 403]);
    let line = configured.reload(&new);
    assert!(line.contains("cors-allow-origin"), "{line}");
    for text in ["<h1>New &lt;page&gt;</h1>", "Send us files"] {
        assert!(has_page(&configured, text), "{text}");
    }
    assert_eq!(statuses(&configured), [403, 201]);
}

/// Runs a command in a terminal, and closes that when the command prints the URL of the page.
const TERMINAL: &str = r#"
import os, pty, sys
child, terminal = pty.fork()
if child == 0:
    os.execv(sys.argv[1], sys.argv[1:])
printed = b""
while b"Upload page:" not in printed:
    printed += os.read(terminal, 4096)
os.close(terminal)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"#;

#[test]
fn closing_the_terminal_stops_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = Command::new("python3");
    remove_settings(&mut command);
    command.args(["-c", TERMINAL, env!("CARGO_BIN_EXE_landfall")]);
    command.args(["-host=127.0.0.1", "-port=0", "-upload-dir"]);
    let (code, out, err) = run(command.arg(dir.path()));
    assert_eq!(code, Some(0), "{out}{err}");
}
