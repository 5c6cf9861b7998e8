//! The `landfall` program.

use std::{
    future::Future,
    io::{self, Write as _},
    process::ExitCode,
};

use landfall_server::{
    app, log,
    settings::{self, Failure, Invocation},
};

// glibc's allocator releases no memory below the highest object in use, so the process would keep the
// memory of a burst of connections.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match settings::read(std::env::args_os().skip(1), std::env::vars_os()) {
        Ok(Invocation::Print(text)) => print(&text),
        Ok(Invocation::ConfigCheck(loaded)) => run(app::config_check(loaded)),
        Ok(Invocation::Serve(loaded)) => {
            let settings = &loaded.settings;
            log::init(&settings.log, settings.s3.log_api_calls);
            run(app::serve(loaded))
        }
        Ok(Invocation::DoctorFiles(loaded)) => run(app::doctor_files(loaded)),
        #[cfg(feature = "s3")]
        Ok(Invocation::DoctorS3 {
            loaded,
            json,
            origins,
        }) => run(landfall_server::s3::doctor::run(loaded, json, origins)),
        #[cfg(feature = "s3")]
        Ok(Invocation::SetCors {
            loaded,
            origins,
            dry_run,
        }) => run(landfall_server::s3::cors::set(loaded, origins, dry_run)),
        Ok(Invocation::Events { loaded, command }) => run(app::events(loaded, command)),
        #[cfg(feature = "grants")]
        Ok(Invocation::Keys {
            loaded,
            command,
            json,
        }) => run(app::keys(loaded, command, json)),
        Ok(Invocation::Migrate(loaded)) => run(app::migrate(loaded)),
        Ok(Invocation::Sweep { loaded, dry_run }) => run(app::sweep(loaded, dry_run)),
        Err(failure) => fail(&failure),
    }
}

/// Runs a command; an error is printed on one line with its causes.
fn run(command: impl Future<Output = anyhow::Result<ExitCode>>) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("landfall: cannot start the runtime: {error}");
            return ExitCode::FAILURE;
        }
    };
    match runtime.block_on(command) {
        Ok(code) => code,
        Err(error) => match error.downcast_ref::<Failure>() {
            Some(failure) => fail(failure),
            None => {
                eprintln!("landfall: {error:#}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Prints the errors of the settings.
fn fail(failure: &Failure) -> ExitCode {
    eprintln!("{failure}");
    ExitCode::from(failure.exit_code())
}

/// Prints a text; a closed pipe, such as that of `head`, is no error.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
