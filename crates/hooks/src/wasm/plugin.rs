//! A compiled plugin, and a call of it.

use std::sync::Arc;

use wasmi::{
    Caller, CompilationMode, Config, Engine, Error, ExternType, FuncType, Instance, Linker, Memory,
    Module, Store, StoreLimits, StoreLimitsBuilder, TrapCode, TypedFunc, ValType,
};

use super::{
    WasmSettings,
    log::{LINE, Log},
};
use crate::HookName;

/// The most bytes of an answer.
const ANSWER_LIMIT: usize = 64 * 1024;

/// The most entries of a table: far more than a plugin has functions.
const TABLE_LIMIT: usize = 64 * 1024;
const TABLES: usize = 4;

/// A compiled plugin. Calls share nothing but the code.
pub(super) struct Plugin {
    engine: Engine,
    module: Module,
    linker: Linker<Host>,
    log: Arc<Log>,
    fuel: u64,
    memory: usize,
}

/// What there is of one instance on our side.
struct Host {
    hook: Option<HookName>,
    log: Arc<Log>,
    limits: StoreLimits,
}

impl Plugin {
    /// Compiles it, and makes an instance to see that it can be done.
    ///
    /// # Errors
    /// Why it isn't a plugin, in words.
    pub(super) fn load(settings: &WasmSettings, module: &[u8]) -> Result<Self, String> {
        let mut config = Config::default();
        config
            .consume_fuel(true)
            .compilation_mode(CompilationMode::Eager)
            .set_max_cached_stacks(settings.parallel)
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

    /// Asks a fresh instance; `body` is the message. As long as the fuel lasts.
    ///
    /// # Errors
    /// Why there is no answer, in words.
    pub(super) fn call(&self, hook: HookName, body: &[u8]) -> Result<String, String> {
        let mut running = self.instance(Some(hook))?;
        let answer = running.ask(body)?;
        String::from_utf8(answer).map_err(|_| "its answer isn't UTF-8".to_owned())
    }

    fn instance(&self, hook: Option<HookName>) -> Result<Running<'_>, String> {
        let limits = StoreLimitsBuilder::new()
            .memory_size(self.memory)
            .table_elements(TABLE_LIMIT)
            .instances(1)
            .tables(TABLES)
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
        store
            .set_fuel(self.fuel)
            .map_err(|error| error.to_string())?;
        let instance = self
            .linker
            .instantiate_and_start(&mut store, &self.module)
            .map_err(|error| self.explain(&error))?;
        Ok(Running {
            plugin: self,
            instance,
            store,
        })
    }

    /// Why an instance didn't get to its end.
    fn explain(&self, error: &Error) -> String {
        match error.as_trap_code() {
            Some(TrapCode::OutOfFuel) => format!("it used up its {} units of fuel", self.fuel),
            Some(TrapCode::GrowthOperationLimited) => format!(
                "it wanted more than {} bytes of memory, or more than {TABLE_LIMIT} entries in a table",
                self.memory
            ),
            Some(TrapCode::UnreachableCodeReached) => {
                "it gave up (a panic, or an instruction that can't be reached)".to_owned()
            }
            Some(trap) => format!("it did what can't be done: {trap}"),
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

/// An instance that is being asked.
struct Running<'a> {
    plugin: &'a Plugin,
    instance: Instance,
    store: Store<Host>,
}

impl Running<'_> {
    fn ask(&mut self, body: &[u8]) -> Result<Vec<u8>, String> {
        let alloc: TypedFunc<u32, u32> = self.function(ALLOC)?;
        let hook: TypedFunc<(u32, u32), u64> = self.function(HOOK)?;
        let memory = self.memory()?;

        let length = u32::try_from(body.len()).map_err(|_| "the message is too long")?;
        let room = alloc.call(&mut self.store, length);
        let pointer = room.map_err(|error| self.plugin.explain(&error))?;
        let end = || format!("its {ALLOC} answered {pointer}, where {length} bytes have no room");
        memory
            .data_mut(&mut self.store)
            .get_mut(pointer as usize..)
            .and_then(|room| room.get_mut(..body.len()))
            .ok_or_else(end)?
            .copy_from_slice(body);

        let answer = hook.call(&mut self.store, (pointer, length));
        let answer = answer.map_err(|error| self.plugin.explain(&error))?;
        let (pointer, length) = ((answer >> 32) as usize, (answer & 0xffff_ffff) as usize);
        if length > ANSWER_LIMIT {
            return Err(format!(
                "its answer has {length} bytes; at most {ANSWER_LIMIT} are read"
            ));
        }
        let bytes = slice(memory.data(&self.store), pointer, length);
        bytes.map(<[u8]>::to_vec).ok_or_else(|| {
            format!("its answer is said to be {length} bytes at {pointer}, outside of its memory")
        })
    }

    fn function<P, R>(&self, name: &str) -> Result<TypedFunc<P, R>, String>
    where
        P: wasmi::WasmParams,
        R: wasmi::WasmResults,
    {
        let found = self.instance.get_typed_func(&self.store, name);
        found.map_err(|error| error.to_string())
    }

    fn memory(&self) -> Result<Memory, String> {
        let found = self.instance.get_memory(&self.store, MEMORY);
        found.ok_or_else(|| format!("it has no {MEMORY}"))
    }
}

/// The unit of memories.
const PAGE: u64 = 64 * 1024;

const MEMORY: &str = "memory";
const ALLOC: &str = "landfall_alloc";
const HOOK: &str = "landfall_hook";

/// `landfall.log`. What lies outside of the memory is no line.
fn log(caller: Caller<'_, Host>, level: u32, pointer: u32, length: u32) {
    let Some(memory) = caller
        .get_export(MEMORY)
        .and_then(wasmi::Extern::into_memory)
    else {
        return;
    };
    let length = (length as usize).min(LINE);
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
                "it imports {from}.{name}; there is landfall.log and nothing else (build it for \
                 wasm32-unknown-unknown)"
            ));
        }
        if import.ty().func() != Some(&known) {
            return Err("it imports landfall.log with another type than (i32, i32, i32)".into());
        }
    }
    Ok(())
}

fn check_exports(module: &Module, limit: usize) -> Result<(), String> {
    let alloc = FuncType::new([ValType::I32], [ValType::I32]);
    let hook = FuncType::new([ValType::I32; 2], [ValType::I64]);
    let export = |name| module.get_export(name);
    let Some(ExternType::Memory(memory)) = export(MEMORY) else {
        return Err(format!("it exports no memory called {MEMORY}"));
    };
    let bytes = memory.minimum().saturating_mul(PAGE);
    if bytes > limit as u64 {
        return Err(format!(
            "it begins with {bytes} bytes of memory; it may have {limit}"
        ));
    }
    for (name, ty, words) in [
        (ALLOC, alloc, "(i32) -> i32"),
        (HOOK, hook, "(i32, i32) -> i64"),
    ] {
        match export(name) {
            Some(ExternType::Func(found)) if found == ty => {}
            Some(_) => return Err(format!("its {name} must be a function {words}")),
            None => return Err(format!("it exports no function {name} {words}")),
        }
    }
    Ok(())
}
