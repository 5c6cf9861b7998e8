//! Compilation and calls of a plugin.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use landfall_messages::HookName;
use parking_lot::Mutex;
use wasmi::{
    Caller, CompilationMode, Config, Engine, Error, ExternType, FuncType, Instance, Linker, Module,
    Store, StoreLimits, StoreLimitsBuilder, TrapCode, ValType,
};

use super::WasmSettings;

const MAX_RESPONSE_BYTES: usize = 64 * 1024;

/// Far more than a plugin has functions.
const MAX_TABLE_ENTRIES: usize = 64 * 1024;
const MAX_TABLES: usize = 4;

pub(super) struct Plugin {
    engine: Engine,
    module: Module,
    linker: Linker<Host>,
    log: Arc<Log>,
    fuel: u64,
    memory: usize,
}

struct Host {
    hook: Option<HookName>,
    log: Arc<Log>,
    limits: StoreLimits,
}

impl Plugin {
    /// Creates an instance as a test.
    pub(super) fn load(settings: &WasmSettings, module: &[u8]) -> Result<Self, String> {
        let mut config = Config::default();
        config
            .consume_fuel(true)
            .compilation_mode(CompilationMode::Eager)
            .set_max_cached_stacks(settings.max_concurrency)
            .wasm_multi_memory(false);
        let engine = Engine::new(&config);
        let module = Module::new(&engine, module).map_err(|error| error.to_string())?;
        check_imports(&module)?;
        check_exports(&module, settings.memory)?;
        let mut linker = Linker::new(&engine);
        linker
            .func_wrap("landfall", "log", log)
            .map_err(|error| error.to_string())?;
        let name = settings.path.file_name().unwrap_or_default();
        let plugin = Self {
            engine,
            module,
            linker,
            log: Arc::new(Log::new(name.to_string_lossy().into_owned())),
            fuel: settings.fuel,
            memory: settings.memory,
        };
        plugin.instance(None)?;
        Ok(plugin)
    }

    /// Creates a new instance. Blocks until it returns or its fuel is used up.
    pub(super) fn call(&self, hook: HookName, body: &[u8]) -> Result<String, String> {
        let (instance, mut store) = self.instance(Some(hook))?;
        let explain = |error: Error| self.explain(&error);
        let alloc = instance.get_typed_func::<u32, u32>(&store, ALLOC);
        let alloc = alloc.map_err(explain)?;
        let hook = instance.get_typed_func::<(u32, u32), u64>(&store, HOOK);
        let hook = hook.map_err(explain)?;
        let memory = instance.get_memory(&store, MEMORY);
        let memory = memory.ok_or_else(|| format!("it has no {MEMORY}"))?;

        let length = u32::try_from(body.len()).map_err(|_| "the message is too long")?;
        let pointer = alloc.call(&mut store, length).map_err(explain)?;
        let out_of_bounds =
            || format!("its {ALLOC} returned {pointer}, but {length} bytes do not fit there");
        memory
            .data_mut(&mut store)
            .get_mut(pointer as usize..)
            .and_then(|target| target.get_mut(..body.len()))
            .ok_or_else(out_of_bounds)?
            .copy_from_slice(body);

        let response = hook.call(&mut store, (pointer, length)).map_err(explain)?;
        let (pointer, length) = ((response >> 32) as usize, (response & 0xffff_ffff) as usize);
        if length > MAX_RESPONSE_BYTES {
            let text =
                format!("its response has {length} bytes; the limit is {MAX_RESPONSE_BYTES}");
            return Err(text);
        }
        let bytes = slice(memory.data(&store), pointer, length).ok_or_else(|| {
            format!("its response of {length} bytes at {pointer} is outside its memory")
        })?;
        String::from_utf8(bytes.to_vec()).map_err(|_| "its response is not UTF-8".to_owned())
    }

    fn instance(&self, hook: Option<HookName>) -> Result<(Instance, Store<Host>), String> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(self.memory)
            .table_elements(MAX_TABLE_ENTRIES)
            .instances(1)
            .tables(MAX_TABLES)
            .memories(1)
            .trap_on_grow_failure(true)
            .build();
        let host = Host {
            hook,
            log: Arc::clone(&self.log),
            limits,
        };
        let mut store = Store::new(&self.engine, host);
        store.limiter(|host| &mut host.limits);
        let explain = |error: Error| self.explain(&error);
        store.set_fuel(self.fuel).map_err(explain)?;
        let instance = self.linker.instantiate_and_start(&mut store, &self.module);
        Ok((instance.map_err(explain)?, store))
    }

    fn explain(&self, error: &Error) -> String {
        match error.as_trap_code() {
            Some(TrapCode::OutOfFuel) => format!("it used up its {} units of fuel", self.fuel),
            Some(TrapCode::GrowthOperationLimited) => format!(
                "it needs more than {} bytes of memory, or more than {MAX_TABLE_ENTRIES} table entries",
                self.memory
            ),
            Some(TrapCode::UnreachableCodeReached) => {
                "it panicked (unreachable instruction)".to_owned()
            }
            Some(trap) => format!("it trapped: {trap}"),
            None => error.to_string(),
        }
    }
}

impl std::fmt::Debug for Plugin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Plugin")
            .field("log", &self.log)
            .field("fuel", &self.fuel)
            .field("memory", &self.memory)
            .finish_non_exhaustive()
    }
}

const PAGE_SIZE: u64 = 64 * 1024;

const MEMORY: &str = "memory";
const ALLOC: &str = "landfall_alloc";
const HOOK: &str = "landfall_hook";

/// `landfall.log`. Ignores text outside the memory.
fn log(caller: Caller<'_, Host>, level: u32, pointer: u32, length: u32) {
    let Some(memory) = caller
        .get_export(MEMORY)
        .and_then(wasmi::Extern::into_memory)
    else {
        return;
    };
    let length = (length as usize).min(MAX_LINE_LEN);
    if let Some(bytes) = slice(memory.data(&caller), pointer as usize, length) {
        let host = caller.data();
        host.log.line(level, host.hook, bytes);
    }
}

fn slice(memory: &[u8], pointer: usize, length: usize) -> Option<&[u8]> {
    memory.get(pointer..)?.get(..length)
}

fn check_imports(module: &Module) -> Result<(), String> {
    let known = FuncType::new([ValType::I32; 3], []);
    for import in module.imports() {
        let (from, name) = (import.module(), import.name());
        if (from, name) != ("landfall", "log") {
            return Err(format!(
                "it imports {from}.{name}; only landfall.log is available (build it for \
                 wasm32-unknown-unknown)"
            ));
        }
        if import.ty().func() != Some(&known) {
            return Err("it imports landfall.log with a type other than (i32, i32, i32)".into());
        }
    }
    Ok(())
}

fn check_exports(module: &Module, limit: usize) -> Result<(), String> {
    let alloc = FuncType::new([ValType::I32], [ValType::I32]);
    let hook = FuncType::new([ValType::I32; 2], [ValType::I64]);
    let export = |name| module.get_export(name);
    let Some(ExternType::Memory(memory)) = export(MEMORY) else {
        return Err(format!("it exports no memory named {MEMORY}"));
    };
    let bytes = memory.minimum().saturating_mul(PAGE_SIZE);
    if bytes > limit as u64 {
        let text = format!("its initial memory has {bytes} bytes; the limit is {limit}");
        return Err(text);
    }
    for (name, ty, signature) in [
        (ALLOC, alloc, "(i32) -> i32"),
        (HOOK, hook, "(i32, i32) -> i64"),
    ] {
        match export(name) {
            Some(ExternType::Func(found)) if found == ty => {}
            Some(_) => return Err(format!("its {name} must be a function {signature}")),
            None => return Err(format!("it exports no function {name} {signature}")),
        }
    }
    Ok(())
}

/// Bytes; the rest is dropped.
pub(super) const MAX_LINE_LEN: usize = 1024;

/// Per window; further lines of a plugin are counted only.
const MAX_LINES: u32 = 100;
const WINDOW: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Log {
    plugin: String,
    window: Mutex<LogWindow>,
}

#[derive(Debug)]
struct LogWindow {
    since: Instant,
    lines: u32,
    dropped: u64,
}

impl Log {
    pub(super) fn new(plugin: String) -> Self {
        let window = LogWindow {
            since: Instant::now(),
            lines: 0,
            dropped: 0,
        };
        Self {
            plugin,
            window: Mutex::new(window),
        }
    }

    pub(super) fn line(&self, level: u32, hook: Option<HookName>, bytes: &[u8]) {
        let Some(dropped) = self.window.lock().admit(Instant::now()) else {
            return;
        };
        let plugin = self.plugin.as_str();
        if dropped > 0 {
            tracing::warn!(plugin, dropped, "dropped log lines of a plugin");
        }
        let text = String::from_utf8_lossy(bytes.get(..MAX_LINE_LEN).unwrap_or(bytes));
        let (text, hook) = (&*text, hook.map_or("", HookName::as_str));
        match level {
            0 => tracing::error!(plugin, hook, text, "plugin log"),
            1 => tracing::warn!(plugin, hook, text, "plugin log"),
            2 => tracing::info!(plugin, hook, text, "plugin log"),
            _ => tracing::debug!(plugin, hook, text, "plugin log"),
        }
    }
}

impl LogWindow {
    /// Returns how many lines were dropped before this one, or `None` if it is dropped, too.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if now.saturating_duration_since(self.since) >= WINDOW {
            self.since = now;
            self.lines = 0;
        }
        if self.lines == MAX_LINES {
            self.dropped += 1;
            return None;
        }
        self.lines += 1;
        Some(std::mem::take(&mut self.dropped))
    }
}

#[cfg(test)]
mod log_tests {
    use super::*;

    #[test]
    fn lines_above_the_limit_are_dropped_and_counted() {
        let start = Instant::now();
        let mut window = LogWindow {
            since: start,
            lines: 0,
            dropped: 0,
        };
        for _ in 0..MAX_LINES {
            assert_eq!(window.admit(start), Some(0));
        }
        assert_eq!(window.admit(start), None);
        assert_eq!(window.admit(start + WINDOW / 2), None);
        assert_eq!(window.admit(start + WINDOW), Some(2));
        assert_eq!(window.admit(start + WINDOW), Some(0));
    }
}
