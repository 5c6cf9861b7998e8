//! Log messages of plugins.

use std::{
    io,
    sync::{Mutex, OnceLock},
};

use tracing_subscriber::fmt::MakeWriter;

use super::*;

/// The log of this process: calls run on other threads.
#[derive(Debug, Clone, Copy)]
struct Lines;

static LOGGED: Mutex<Vec<u8>> = Mutex::new(Vec::new());

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        LOGGED.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl MakeWriter<'_> for Lines {
    type Writer = Self;

    fn make_writer(&self) -> Self {
        *self
    }
}

/// Returns the log lines of the plugin with this name.
pub(super) fn written_by(plugin: &str) -> Vec<String> {
    let logged = LOGGED.lock().unwrap();
    let text = String::from_utf8_lossy(&logged);
    let name = format!("plugin=\"{plugin}\"");
    let lines = text.lines().filter(|line| line.contains(&name));
    lines.map(str::to_owned).collect()
}

pub(super) fn listen() {
    static ONCE: OnceLock<()> = OnceLock::new();
    ONCE.get_or_init(|| {
        tracing_subscriber::fmt()
            .with_max_level(tracing_subscriber::filter::LevelFilter::DEBUG)
            .with_ansi(false)
            .with_writer(Lines)
            .init();
    });
}

/// A plugin with the import `log` whose hook runs `hook`.
fn logging(name: &str, hook: &str) -> Wasm {
    listen();
    let module = wat::parse_str(format!(
        r#"(module
        (import "landfall" "log" (func $log (param i32 i32 i32)))
        {DEFAULT}
        (data (i32.const 4096) "hello\0aworld\ff")
        {})"#,
        hooked(hook)
    ))
    .unwrap();
    let mut settings = settings();
    settings.path = name.into();
    Wasm::from_bytes(&settings, &module).unwrap()
}

#[tokio::test]
async fn lines_have_level_hook_and_plugin_name() {
    let plugin = logging(
        "/plugins/levels.wasm",
        "(call $log (i32.const 0) (i32.const 4096) (i32.const 5))
        (call $log (i32.const 1) (i32.const 4096) (i32.const 11))
        (call $log (i32.const 2) (i32.const 4096) (i32.const 12))
        (call $log (i32.const -1) (i32.const 4096) (i32.const 0))
        (i64.const 0)",
    );
    ask(&plugin).await.unwrap();
    let lines = written_by("levels.wasm");
    let says = |nth: usize, level: &str, text: &str| {
        let line: &String = &lines[nth];
        assert!(
            line.contains(level) && line.contains("hook=\"pre-create\""),
            "{line}"
        );
        assert!(line.ends_with(&format!("text=\"{text}\"")), "{line}");
    };
    // One line per message, whatever it contains.
    assert_eq!(lines.len(), 4);
    says(0, "ERROR", "hello");
    says(1, "WARN", "hello\\nworld");
    says(2, "INFO", "hello\\nworld\u{fffd}");
    says(3, "DEBUG", "");
}

#[tokio::test]
async fn text_outside_the_memory_is_ignored() {
    let plugin = logging(
        "/plugins/outside.wasm",
        "(call $log (i32.const 0) (i32.const 65530) (i32.const 7))
        (call $log (i32.const 0) (i32.const -1) (i32.const -1))
        (i64.const 0)",
    );
    ask(&plugin).await.unwrap();
    assert_eq!(written_by("outside.wasm").len(), 0);
}

#[tokio::test]
async fn long_lines_are_truncated_and_excess_lines_dropped() {
    let plugin = logging(
        "/plugins/much.wasm",
        "(loop (call $log (i32.const 0) (i32.const 4096) (i32.const 50000)) (br 0)) unreachable",
    );
    let text = failure(&plugin).await;
    assert!(
        text.ends_with("it used up its 1000000 units of fuel"),
        "{text}"
    );
    let lines = written_by("much.wasm");
    // 100 per second; the test may have taken more than one.
    assert!((100..=1000).contains(&lines.len()), "{} lines", lines.len());
    // A zero byte is escaped as \0.
    assert!(lines.iter().all(|line| line.len() < 2 * 1024 + 200));
}
