//! The plugin in `examples/wasm-plugin`, built as users build it.

use std::{path::Path, process::Command, sync::OnceLock};

use http::StatusCode;

use super::*;

/// The module, built once.
fn example() -> &'static WasmSettings {
    static BUILT: OnceLock<WasmSettings> = OnceLock::new();
    BUILT.get_or_init(|| {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wasm-plugin");
        let build = Command::new(std::env::var_os("CARGO").unwrap_or("cargo".into()))
            .args(["build", "--quiet", "--release", "--locked"])
            .args(["--target", "wasm32-unknown-unknown", "--target-dir"])
            .arg(&target)
            .arg("--manifest-path")
            .arg(root.join("examples/wasm-plugin/Cargo.toml"))
            // These flags are meant for this machine.
            .env_remove("RUSTFLAGS")
            .env_remove("CARGO_ENCODED_RUSTFLAGS")
            .status()
            .unwrap();
        assert!(
            build.success(),
            "it was not built; scripts/install-test-deps rust installs what it needs"
        );
        WasmSettings::new(target.join("wasm32-unknown-unknown/release/wasm_plugin.wasm"))
    })
}

fn plugin() -> Wasm {
    Wasm::new(example().clone()).unwrap()
}

fn named(name: &str, size: Option<u64>) -> Message {
    let mut message = message(HookName::PreCreate);
    let metadata = &mut message.upload.metadata;
    metadata.insert("filename".to_owned(), name.to_owned());
    message.upload.size = size;
    message
}

#[tokio::test]
async fn rejects_by_extension_and_logs_it() {
    log::listen();
    let response = plugin()
        .deliver(&named("a\n.b.EXE", Some(5)))
        .await
        .unwrap();
    assert!(response.reject_upload);
    assert_eq!(
        response.client_response.status,
        Some(StatusCode::UNSUPPORTED_MEDIA_TYPE)
    );
    assert_eq!(
        response.client_response.body.unwrap(),
        "no .exe files, please\n"
    );
    let lines = log::written_by("wasm_plugin.wasm");
    assert!(
        lines
            .iter()
            .any(|line| line.contains("INFO") && line.contains("refused"))
    );
}

#[tokio::test]
async fn rejects_by_size() {
    let plugin = plugin();
    let response = plugin
        .deliver(&named("a.png", Some((1 << 30) + 1)))
        .await
        .unwrap();
    assert!(response.reject_upload);
    assert_eq!(
        response.client_response.status,
        Some(StatusCode::PAYLOAD_TOO_LARGE)
    );
    for size in [Some(1 << 30), Some(0), None] {
        let response = plugin.deliver(&named("a.png", size)).await.unwrap();
        assert!(!response.reject_upload);
        assert_eq!(response.changes.max_size, Some(1 << 30));
    }
}

#[tokio::test]
async fn labels_accepted_uploads() {
    let plugin = plugin();
    for (name, kind) in [("a.PNG", "image"), ("b.mp4", "video"), ("c", "other")] {
        let response = plugin.deliver(&named(name, Some(1))).await.unwrap();
        assert_eq!(response.changes.labels["kind"], kind);
    }
}

#[tokio::test]
async fn ignores_other_messages() {
    let plugin = plugin();
    for message in samples() {
        let response = plugin.deliver(&message).await.unwrap();
        let is_asked = message.hook == HookName::PreCreate;
        assert_eq!(
            response != HookResponse::default(),
            is_asked,
            "{}",
            message.hook
        );
    }
}

#[tokio::test]
async fn concurrent_calls_get_the_same_responses() {
    let plugin = std::sync::Arc::new(plugin());
    let calls: Vec<_> = (0..200)
        .map(|nth| {
            let plugin = std::sync::Arc::clone(&plugin);
            let name = if nth % 2 == 0 { "a.exe" } else { "a.png" };
            let message = named(name, Some(nth));
            tokio::spawn(async move { plugin.deliver(&message).await.unwrap().reject_upload })
        })
        .collect();
    for (nth, call) in calls.into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), nth % 2 == 0);
    }
}

#[tokio::test]
async fn large_messages_are_limited_by_memory() {
    let mut message = named("a.exe", Some(1));
    let metadata = &mut message.upload.metadata;
    metadata.insert("note".to_owned(), "x".repeat(1 << 20));
    assert!(plugin().deliver(&message).await.unwrap().reject_upload);

    let mut settings = example().clone();
    settings.memory = 2 << 20;
    let plugin = Wasm::new(settings).unwrap();
    let text = plugin.deliver(&message).await.unwrap_err().message;
    assert!(
        text.contains("it needs more than 2097152 bytes of memory"),
        "{text}"
    );
}
