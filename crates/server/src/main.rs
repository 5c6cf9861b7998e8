//! The `landfall` program.

use std::process::ExitCode;

// glibc's allocator releases no memory below the highest object in use, so the process would keep the
// memory of a burst of connections.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    landfall_server::command::run()
}
