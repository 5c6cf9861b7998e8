//! Validation of modules at creation.

use super::*;

fn refusal(definitions: &str) -> String {
    module(definitions).unwrap_err().to_string()
}

#[track_caller]
fn refused(definitions: &str, why: &str) {
    let text = refusal(definitions);
    let expected = format!("invalid plugin /plugins/test.wasm: {why}");
    assert!(
        text.starts_with(&expected),
        "{text}\ninstead of\n{expected}"
    );
}

#[tokio::test]
async fn minimal_plugin_returns_the_default_response() {
    let response = ask(&plugin("(i64.const 0)")).await.unwrap();
    assert_eq!(response, HookResponse::default());
}

#[test]
fn missing_file_or_invalid_module_is_rejected() {
    let text = Wasm::new(WasmSettings::new("/no/such.wasm"))
        .unwrap_err()
        .to_string();
    assert!(
        text.starts_with("cannot read the plugin /no/such.wasm: "),
        "{text}"
    );
    // The text format is not accepted.
    for module in ["", "(module)", "\0asm\x01\0\0\0 and more"] {
        let error = Wasm::from_bytes(&settings(), module.as_bytes()).unwrap_err();
        assert!(error.to_string().starts_with("invalid plugin "), "{error}");
    }
}

#[test]
fn missing_or_wrong_exports_are_named() {
    let hook = hooked("(i64.const 0)");
    refused(&hook, "it exports no memory named memory");
    let memory = r#"(memory (export "memory") 1)"#;
    refused(
        &format!("{memory} {hook}"),
        "it exports no function landfall_alloc (i32) -> i32",
    );
    refused(
        DEFAULT,
        "it exports no function landfall_hook (i32, i32) -> i64",
    );
    refused(
        &format!(
            r#"{DEFAULT} (func (export "landfall_hook") (param i32 i32) (result i32) (i32.const 0))"#
        ),
        "its landfall_hook must be a function (i32, i32) -> i64",
    );
    refused(
        &format!(r#"{memory} (global (export "landfall_alloc") i32 (i32.const 0)) {hook}"#),
        "its landfall_alloc must be a function (i32) -> i32",
    );
}

#[test]
fn unknown_imports_are_named() {
    let rest = format!("{DEFAULT} {}", hooked("(i64.const 0)"));
    refused(
        &format!(r#"(import "wasi_snapshot_preview1" "fd_write" (func)) {rest}"#),
        "it imports wasi_snapshot_preview1.fd_write; only landfall.log is available (build it for wasm32-unknown-unknown)",
    );
    refused(
        &format!(r#"(import "landfall" "log" (func (param i32 i32))) {rest}"#),
        "it imports landfall.log with a type other than (i32, i32, i32)",
    );
    refused(
        &format!(r#"(import "landfall" "log" (global i32)) {rest}"#),
        "it imports landfall.log with a type other than (i32, i32, i32)",
    );
    refused(
        r#"(import "landfall" "memory" (memory 1)) (export "memory" (memory 0))"#,
        "it imports landfall.memory",
    );
}

#[test]
fn failing_instantiation_is_rejected() {
    let hook = hooked("(i64.const 0)");
    let alloc = r#"(func (export "landfall_alloc") (param i32) (result i32) (i32.const 0))"#;
    refused(
        &format!(r#"(memory (export "memory") 17) {alloc} {hook}"#),
        "its initial memory has 1114112 bytes; the limit is 1048576",
    );
    for tables in ["(table 100000 funcref)", &"(table 1 funcref)".repeat(5)] {
        let text = refusal(&format!("{DEFAULT} {tables} {hook}"));
        assert!(text.contains("table"), "{text}");
    }
    let text = refusal(&format!(
        r#"{DEFAULT} (data (i32.const 65530) "too long") {hook}"#
    ));
    assert!(text.contains("invalid plugin "), "{text}");
    refused(
        &format!("{DEFAULT} {hook} (func $start unreachable) (start $start)"),
        "it panicked",
    );
    refused(
        &format!("{DEFAULT} {hook} (func $start (loop br 0)) (start $start)"),
        "it used up its 1000000 units of fuel",
    );
}

#[test]
fn invalid_settings_are_rejected() {
    let mut settings = settings();
    settings.max_concurrency = 0;
    let error = Wasm::from_bytes(&settings, b"").unwrap_err();
    assert_eq!(
        error.to_string(),
        "the maximum concurrency of plugin calls must be at least 1"
    );
}
