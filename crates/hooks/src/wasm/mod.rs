//! WebAssembly hooks: plugins that run in a sandbox inside the server.
//!
//! # Interface
//! A plugin is a module for `wasm32-unknown-unknown` (no WASI, no component) that exports
//!
//! | export | type | purpose |
//! | --- | --- | --- |
//! | `memory` | memory | |
//! | `landfall_alloc` | `(length: i32) -> pointer: i32` | allocates memory for a message |
//! | `landfall_hook` | `(pointer: i32, length: i32) -> i64` | reads the message and returns the response |
//!
//! The message is the JSON of tusd 2 ([`Format::V2`]). The response is `pointer << 32 | length` of
//! the JSON of a tusd 2 response, at most 64 KiB of UTF-8. Length 0 is the default response. The
//! module may import
//!
//! | import | type | purpose |
//! | --- | --- | --- |
//! | `landfall` `log` | `(level: i32, pointer: i32, length: i32)` | logs UTF-8 text: 0 error, 1 warning, 2 information, other levels debug |
//!
//! and nothing else: it has no clock, no network, no files and no randomness.
//!
//! # Limits
//! Each message gets a new instance, so that messages do not share state. A call has limited fuel
//! (about one unit per instruction), and an instance limited memory. A failing plugin fails its
//! message only.

mod plugin;

use std::{path::PathBuf, sync::Arc, thread::available_parallelism};

use async_trait::async_trait;
use landfall_messages::{DeliveryError, HookResponse, Message, Transport};
use tokio::sync::Semaphore;

use self::plugin::Plugin;
use crate::{
    SettingsError,
    format::{self, Format},
};

/// Settings of [`Wasm`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WasmSettings {
    /// The path of the plugin.
    pub path: PathBuf,
    /// Fuel per call, about one unit per instruction; 100 million by default, less than a second.
    pub fuel: u64,
    /// Maximum memory of an instance in bytes; 16 MiB by default.
    pub memory: usize,
    /// Maximum concurrent calls, each on a thread; the number of processors by default.
    pub max_concurrency: usize,
}

impl WasmSettings {
    /// Creates default settings for the plugin at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            fuel: 100_000_000,
            memory: 16 * 1024 * 1024,
            max_concurrency: available_parallelism().map_or(1, Into::into),
        }
    }
}

/// Calls a plugin.
#[derive(Debug)]
pub struct Wasm {
    plugin: Arc<Plugin>,
    calls: Arc<Semaphore>,
}

impl Wasm {
    /// Reads and compiles the plugin, and creates an instance as a test. Blocks meanwhile.
    ///
    /// # Errors
    /// The file cannot be read, or is not a valid plugin.
    pub fn new(settings: WasmSettings) -> Result<Self, SettingsError> {
        let module = std::fs::read(&settings.path).map_err(|error| {
            let path = settings.path.display();
            SettingsError(format!("cannot read the plugin {path}: {error}"))
        })?;
        Self::from_bytes(&settings, &module)
    }

    /// Compiles a plugin from bytes; `settings.path` is then only its name.
    ///
    /// # Errors
    /// The module is not a valid plugin.
    pub fn from_bytes(settings: &WasmSettings, module: &[u8]) -> Result<Self, SettingsError> {
        if settings.max_concurrency == 0 {
            let text = "the maximum concurrency of plugin calls must be at least 1";
            return Err(SettingsError(text.into()));
        }
        let max_concurrency = settings.max_concurrency.min(Semaphore::MAX_PERMITS);
        let plugin = Plugin::load(settings, module).map_err(|reason| {
            let path = settings.path.display();
            SettingsError(format!("invalid plugin {path}: {reason}"))
        })?;
        Ok(Self {
            plugin: Arc::new(plugin),
            calls: Arc::new(Semaphore::new(max_concurrency)),
        })
    }
}

#[async_trait]
impl Transport for Wasm {
    fn name(&self) -> &str {
        "wasm"
    }

    /// # Cancel safety
    /// A running call continues, and its response is dropped.
    async fn deliver(&self, message: &Message) -> Result<HookResponse, DeliveryError> {
        let permit = Arc::clone(&self.calls).acquire_owned().await;
        let (hook, plugin) = (message.hook, Arc::clone(&self.plugin));
        let body = format::body(Format::V2, message);
        let call = tokio::task::spawn_blocking(move || {
            let response = plugin.call(hook, &body);
            drop(permit);
            response
        });
        let lost = |error| DeliveryError::caused_by("the plugin task failed", error);
        let failed = |reason| DeliveryError::new(format!("the plugin failed in {hook}: {reason}"));
        let response = call.await.map_err(lost)?.map_err(failed)?;
        if response.is_empty() {
            return Ok(HookResponse::default());
        }
        format::parse_response(response.as_bytes()).map_err(|error| {
            let what = format!("failed to parse the plugin's response to {hook}");
            DeliveryError::caused_by(what, error)
        })
    }
}
