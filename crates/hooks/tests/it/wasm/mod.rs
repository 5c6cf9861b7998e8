//! WebAssembly hooks: the example plugin, and faulty ones.

mod abi;
mod example;
mod exports;
mod limits;
mod log;

use landfall_hooks::{
    SettingsError,
    wasm::{Wasm, WasmSettings},
};
use landfall_messages::{DeliveryError, HookName, HookResponse, Message, Transport};

use crate::samples::samples;

/// The exports of every plugin: one page of memory, and allocation at 1024.
const DEFAULT: &str = r#"
    (memory (export "memory") 1)
    (func (export "landfall_alloc") (param i32) (result i32) (i32.const 1024))
"#;

fn settings() -> WasmSettings {
    let mut settings = WasmSettings::new("/plugins/test.wasm");
    settings.fuel = 1_000_000;
    settings.memory = 1 << 20;
    settings
}

/// Builds a plugin of these definitions.
fn module(definitions: &str) -> Result<Wasm, SettingsError> {
    let module = wat::parse_str(format!("(module {definitions})")).unwrap();
    Wasm::from_bytes(&settings(), &module)
}

/// Builds a plugin with this hook.
fn plugin(hook: &str) -> Wasm {
    module(&format!("{DEFAULT} {}", hooked(hook))).unwrap()
}

/// Returns a hook with this body.
fn hooked(body: &str) -> String {
    format!(r#"(func $again (export "landfall_hook") (param i32 i32) (result i64) {body})"#)
}

/// Builds a plugin with a constant response.
fn answering(answer: &[u8]) -> Wasm {
    let escaped: String = answer.iter().map(|byte| format!("\\{byte:02x}")).collect();
    let hook = hooked(&at(4096, answer.len()));
    module(&format!(
        r#"{DEFAULT} (data (i32.const 4096) "{escaped}") {hook}"#
    ))
    .unwrap()
}

/// Returns the encoded position of a response.
fn at(pointer: u64, length: usize) -> String {
    format!("(i64.const {})", pointer << 32 | length as u64)
}

fn message(hook: HookName) -> Message {
    samples().into_iter().find(|it| it.hook == hook).unwrap()
}

async fn ask(plugin: &Wasm) -> Result<HookResponse, DeliveryError> {
    plugin.deliver(&message(HookName::PreCreate)).await
}

/// Returns the error of a call.
async fn failure(plugin: &Wasm) -> String {
    ask(plugin).await.unwrap_err().message
}
