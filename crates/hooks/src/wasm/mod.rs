//! Plugins in WebAssembly: decisions without a network, in a sandbox.
//!
//! # What a plugin is
//! A module for `wasm32-unknown-unknown` (no WASI, no component) that exports
//!
//! | export | type | what it does |
//! | --- | --- | --- |
//! | `memory` | memory | |
//! | `landfall_alloc` | `(length: i32) -> pointer: i32` | makes room for a message |
//! | `landfall_hook` | `(pointer: i32, length: i32) -> i64` | reads the message there, and answers |
//!
//! The message is the JSON of tusd 2 ([`Format::V2`]). The answer is `pointer << 32 | length` of JSON as
//! a tusd 2 hook gives it, at most 64 KiB of UTF-8; a length of 0 says: go on. The module may import
//!
//! | import | type | what it does |
//! | --- | --- | --- |
//! | `landfall` `log` | `(level: i32, pointer: i32, length: i32)` | writes UTF-8 into the log: 0 error, 1 warning, 2 information, else for debugging |
//!
//! and nothing else: it has no clock, no network, no files and no chance.
//!
//! # What it may use
//! Each message gets a fresh instance, so that nothing of one is seen by another. A call ends with the
//! fuel it was given (about one unit for each instruction), and an instance with the memory it may have.
//! A plugin that fails fails its message, and nothing else.

mod log;
mod plugin;

use std::{io, path::PathBuf, sync::Arc, thread::available_parallelism};

use async_trait::async_trait;
use tokio::sync::Semaphore;

use self::plugin::Plugin;
use crate::{
    Failure, Message, Reaction, Transport,
    format::{self, Format},
};

/// What [`Wasm`] needs to know.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct WasmSettings {
    /// The plugin's file.
    pub path: PathBuf,
    /// How much fuel a call gets: about one unit for each instruction. 100 million, less than a second.
    pub fuel: u64,
    /// How many bytes of memory an instance may have. 16 MiB.
    pub memory: usize,
    /// How many calls may run at once, each on a thread. As many as there are processors.
    pub parallel: usize,
}

impl WasmSettings {
    /// The usual settings for the plugin at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            fuel: 100_000_000,
            memory: 16 * 1024 * 1024,
            parallel: available_parallelism().map_or(1, Into::into),
        }
    }
}

/// A plugin that can't be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WasmError {
    /// Its file can't be read.
    #[error("the plugin {} can't be read: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It isn't a module, lacks what it must have, or wants what there isn't.
    #[error("the plugin {} can't be used: {why}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// Why, in words.
        why: String,
    },
    /// None may run.
    #[error("at least one call of a plugin must be allowed")]
    NoCall,
}

/// Asks a plugin.
#[derive(Debug)]
pub struct Wasm {
    plugin: Arc<Plugin>,
    calls: Arc<Semaphore>,
}

impl Wasm {
    /// Reads and compiles the plugin, and makes an instance of it to see that it can be done. Takes as
    /// long as that takes.
    ///
    /// # Errors
    /// The file can't be read, or isn't a plugin.
    pub fn new(settings: WasmSettings) -> Result<Self, WasmError> {
        let module = std::fs::read(&settings.path).map_err(|source| WasmError::Read {
            path: settings.path.clone(),
            source,
        })?;
        Self::of_module(&settings, &module)
    }

    /// As [`new`](Self::new), if the module is at hand; `settings.path` is then only its name.
    ///
    /// # Errors
    /// It isn't a plugin.
    pub fn of_module(settings: &WasmSettings, module: &[u8]) -> Result<Self, WasmError> {
        if settings.parallel == 0 {
            return Err(WasmError::NoCall);
        }
        let parallel = settings.parallel.min(Semaphore::MAX_PERMITS);
        let plugin = Plugin::load(settings, module).map_err(|why| WasmError::Unfit {
            path: settings.path.clone(),
            why,
        })?;
        Ok(Self {
            plugin: Arc::new(plugin),
            calls: Arc::new(Semaphore::new(parallel)),
        })
    }
}

#[async_trait]
impl Transport for Wasm {
    fn name(&self) -> &str {
        "wasm"
    }

    /// # Cancel safety
    /// A call that has begun runs to its end; its answer is then lost.
    async fn deliver(&self, message: &Message) -> Result<Reaction, Failure> {
        let permit = Arc::clone(&self.calls).acquire_owned().await;
        let (hook, plugin) = (message.hook, Arc::clone(&self.plugin));
        let body = format::body(Format::V2, message);
        let call = tokio::task::spawn_blocking(move || {
            let answer = plugin.call(hook, &body);
            drop(permit);
            answer
        });
        let answer = call
            .await
            .map_err(|error| Failure::because(format!("the plugin was lost: {error}"), error))?
            .map_err(|why| Failure::new(format!("the plugin failed in {hook}: {why}")))?;
        if answer.is_empty() {
            return Ok(Reaction::default());
        }
        format::answer(answer.as_bytes()).map_err(|error| {
            let text = format!("the plugin's answer to {hook} can't be read: {error}");
            Failure::because(text, error)
        })
    }
}
